//! The settings that all nodes of a run share.

/// Replicas of a record, and queries at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    pub(crate) k: usize,
    pub(crate) alpha: usize,
}

impl Config {
    /// The defaults of the library with `k` replicas.
    pub(crate) fn new(k: usize) -> Self {
        Self { k, alpha: foveola::dht::lookup::ALPHA }
    }
}
