//! What happened in a run, as one number that two runs of a seed share, and as lines for a reader.

use std::fmt;
use std::io::Write;

use super::clock::{Micros, SECOND};

/// The running hash of everything that happened.
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    lines: Option<Box<dyn Write>>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("hash", &self.hash)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

impl Trace {
    /// A trace that also writes a line for each event if it is told where to.
    pub(crate) fn new(lines: Option<Box<dyn Write>>) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, lines }
    }

    /// Notes an event: when, and the words that tell it from others.
    pub(crate) fn note(&mut self, at: Micros, words: [u64; 3]) {
        self.events += 1;
        for word in [at, words[0], words[1], words[2]] {
            self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.hash ^= self.hash >> 29;
        }
    }

    /// Writes a line, if anybody reads.
    pub(crate) fn line(&mut self, at: Micros, text: impl FnOnce() -> String) {
        if let Some(out) = &mut self.lines {
            // Whoever stopped reading has seen enough.
            let _ = writeln!(out, "{:>5}.{:06} {}", at / SECOND, at % SECOND, text());
        }
    }

    /// The hash of everything so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }
}
