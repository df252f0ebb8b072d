//! Failures by kind: a closed list, so that reports of different runs and versions can be added up.

use std::fmt;

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    Timeout,
    Connect,
    Tls,
    Reset,
    Backpressure,
    Exhausted,
    NotEnoughReplicas,
    StorageFull,
    NotFound,
    Remote,
    Cancelled,
    NoProvider,
    Discovery,
    NoService,
    Overloaded,
    Refused,
    Handler,
}

impl Kind {
    /// Every kind, in the order of its discriminant.
    pub const ALL: [Self; 17] = [
        Self::Timeout,
        Self::Connect,
        Self::Tls,
        Self::Reset,
        Self::Backpressure,
        Self::Exhausted,
        Self::NotEnoughReplicas,
        Self::StorageFull,
        Self::NotFound,
        Self::Remote,
        Self::Cancelled,
        Self::NoProvider,
        Self::Discovery,
        Self::NoService,
        Self::Overloaded,
        Self::Refused,
        Self::Handler,
    ];

    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::Backpressure => "backpressure",
            Self::Exhausted => "exhausted",
            Self::NotEnoughReplicas => "not_enough_replicas",
            Self::StorageFull => "storage_full",
            Self::NotFound => "not_found",
            Self::Remote => "remote",
            Self::Cancelled => "cancelled",
            Self::NoProvider => "no_provider",
            Self::Discovery => "discovery",
            Self::NoService => "no_service",
            Self::Overloaded => "overloaded",
            Self::Refused => "refused",
            Self::Handler => "handler",
        }
    }
}

/// A failed operation: its kind, and the message of the library for the few that are shown.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
}

impl Failure {
    pub fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string() }
    }
}

/// How many failures there were of each kind, with the first few messages.
#[derive(Debug, Default, Clone)]
pub struct Failures {
    counts: [u64; Kind::ALL.len()],
    samples: Vec<(Kind, String)>,
}

impl Failures {
    /// Messages kept; more would only repeat them.
    pub const SAMPLES: usize = 10;

    pub fn add(&mut self, failure: Failure) {
        self.counts[failure.kind as usize] += 1;
        self.keep(failure.kind, failure.message);
    }

    pub fn merge(&mut self, other: Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        for (kind, message) in other.samples {
            self.keep(kind, message);
        }
    }

    #[cfg(test)]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The kinds that occurred.
    pub fn by_kind(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        Kind::ALL.into_iter().zip(self.counts).filter(|(_, count)| *count > 0)
    }

    pub fn samples(&self) -> &[(Kind, String)] {
        &self.samples
    }

    fn keep(&mut self, kind: Kind, message: String) {
        if self.samples.len() < Self::SAMPLES && !self.samples.iter().any(|(_, known)| *known == message) {
            self.samples.push((kind, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbered_as_listed() {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{}", kind.name());
        }
    }

    #[test]
    fn failures_add_up_and_keep_few_messages() {
        let mut all = Failures::default();
        for i in 0..30 {
            let mut one = Failures::default();
            one.add(Failure::new(if i % 3 == 0 { Kind::Tls } else { Kind::Reset }, format!("no {i}")));
            all.merge(one);
        }
        assert_eq!(all.total(), 30);
        assert_eq!(all.by_kind().collect::<Vec<_>>(), [(Kind::Tls, 10), (Kind::Reset, 20)]);
        assert_eq!(all.samples().len(), Failures::SAMPLES);
    }
}
