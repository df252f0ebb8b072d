//! Which of two connections between the same two nodes stays.
//!
//! Both ends see both connections, but not in the same order, and each must pick the same one without
//! asking the other. So only what both ends know alike may count: who dialed, and the dialer's own number
//! for the dial. The greater rank stays; as ranks are totally ordered, any number of connections that
//! become ready in any order leave the same one at both ends.

use crate::id::NodeId;

use super::types::Side;

/// The claim of one connection to be the one that stays; greater wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    dialer: NodeId,
    seq: u64,
}

impl Rank {
    /// The rank of a connection between `local` and `peer` that `dialer` dialed as its dial number `seq`.
    pub(crate) fn new(local: NodeId, peer: NodeId, dialer: Side, seq: u64) -> Self {
        let dialer = match dialer {
            Side::Us => local,
            Side::Them => peer,
        };
        Self { dialer, seq }
    }

    /// The dialer's number for the dial.
    pub(crate) fn seq(self) -> u64 {
        self.seq
    }
}

/// Whether a connection that became ready replaces the resident one.
///
/// Equal ranks mean that a dialer used a number twice, which only a broken peer does: the resident stays.
pub(crate) fn replaces(candidate: Rank, resident: Rank) -> bool {
    candidate > resident
}

#[cfg(test)]
mod tests;
