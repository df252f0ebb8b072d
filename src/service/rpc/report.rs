//! What a call went through.

use std::time::Duration;

use super::error::CallError;
use crate::id::NodeId;

/// Where the providers of a call were known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// This node offers the service itself.
    Local,
    /// They were remembered.
    Cache,
    /// The DHT was asked.
    Dht,
    /// They were remembered for longer than they should be, because the DHT could not be asked.
    Stale,
    /// The caller named the node.
    Named,
}

/// How a provider was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Path {
    /// In this process.
    Local,
    /// Over a connection of its own.
    Direct,
    /// Through this many other nodes.
    Routed {
        /// How many times the call was passed on, ways that led nowhere included; 0 when it did not arrive.
        hops: u8,
    },
    /// It was not reached.
    None,
}

/// One attempt of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Who was asked.
    pub provider: NodeId,
    /// How it was reached.
    pub path: Path,
    /// How long it took.
    pub took: Duration,
    /// How long of that went into getting a connection.
    pub connecting: Duration,
    /// Why it had no result, if it had none.
    pub error: Option<CallError>,
}

/// What a call went through.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallReport {
    /// Where its providers were known from.
    pub source: Source,
    /// How long finding them took.
    pub discovery: Duration,
    /// The attempts, in the order in which they ended. One that was overtaken by another is not among them.
    pub attempts: Vec<Attempt>,
    /// Attempts that were given up because another one was answered first.
    pub overtaken: usize,
    /// How long the call took in all.
    pub total: Duration,
}

impl CallReport {
    pub(super) fn new() -> Self {
        Self {
            source: Source::Cache,
            discovery: Duration::ZERO,
            attempts: Vec::new(),
            overtaken: 0,
            total: Duration::ZERO,
        }
    }

    /// The provider that gave the result or the last error.
    pub fn provider(&self) -> Option<NodeId> {
        self.attempts.last().map(|attempt| attempt.provider)
    }

    /// How the last provider was reached.
    pub fn path(&self) -> Path {
        self.attempts.last().map_or(Path::None, |attempt| attempt.path)
    }
}
