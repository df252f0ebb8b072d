//! What it takes for a store to count: the acknowledgement levels and the number of replicas aimed at.
//!
//! Two ways to get a quorum wrong are avoided. Taken from the configured k alone, a mesh of 5 nodes could
//! never reach it. Taken from the nodes that happen to be known at the moment, a node that has just been cut
//! off would ask for one replica, or none, and acknowledge everything. So the number of replicas aimed at
//! follows the largest cluster seen lately, up to k, and only other nodes count.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::planted::{Bug, is_planted};

/// How long the size of a cluster is remembered: 10 minutes.
pub const CLUSTER_MEMORY: Duration = Duration::from_secs(10 * 60);

/// How many replicas must have acknowledged before a store returns. This node's own copy never counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ack {
    /// None: the record is in the own publication log and is sent in the background.
    Local,
    /// One: the record survives the loss of the writer.
    One,
    /// More than half of the target, at least 2 where there are 2.
    #[default]
    Quorum,
    /// The whole target; fails when one replica is down.
    All,
}

/// There are fewer replicas than the acknowledgement level needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{required} replicas must acknowledge and {available} can")]
pub struct NotEnoughReplicas {
    /// How many must acknowledge.
    pub required: usize,
    /// How many there are.
    pub available: usize,
}

/// How many replicas a record should have: the larger of the other nodes known now and the largest number
/// of them seen lately ([`LargestSeen`]), but at most `k`.
pub fn target(k: usize, other_nodes: usize, largest_recent: usize) -> usize {
    if is_planted(Bug::QuorumOfFound) {
        return k.min(other_nodes);
    }
    k.min(other_nodes.max(largest_recent))
}

/// How many acknowledgements `ack` takes when a record should have `target` replicas.
///
/// # Errors
///
/// [`NotEnoughReplicas`] when `target` is 0, except for [`Ack::Local`].
pub fn required(ack: Ack, target: usize) -> Result<usize, NotEnoughReplicas> {
    let required = match ack {
        Ack::Local => return Ok(0),
        Ack::One => 1,
        Ack::Quorum => (target / 2 + 1).max(target.min(2)),
        Ack::All => target.max(1),
    };
    if target == 0 {
        return Err(NotEnoughReplicas { required, available: 0 });
    }
    Ok(required)
}

/// The largest number of other nodes within [`CLUSTER_MEMORY`].
///
/// A size counts for as long as it lasted and for [`CLUSTER_MEMORY`] after it shrank.
#[derive(Debug, Clone, Default)]
pub struct LargestSeen {
    current: usize,
    /// Earlier, larger sizes, strictly falling, each with the instant at which it ended.
    past: VecDeque<(usize, Instant)>,
}

impl LargestSeen {
    /// A memory of nothing: no other node has been seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `others` other nodes are known from `now` on.
    pub fn observe(&mut self, now: Instant, others: usize) {
        self.forget(now);
        if others < self.current {
            self.past.push_back((self.current, now));
        }
        while self.past.back().is_some_and(|(size, _)| *size <= others) {
            self.past.pop_back();
        }
        self.current = others;
    }

    /// The largest size that lasted into the [`CLUSTER_MEMORY`] before `now`.
    pub fn largest(&mut self, now: Instant) -> usize {
        self.forget(now);
        self.past.front().map_or(self.current, |(size, _)| *size)
    }

    fn forget(&mut self, now: Instant) {
        while self.past.front().is_some_and(|(_, end)| now.saturating_duration_since(*end) > CLUSTER_MEMORY) {
            self.past.pop_front();
        }
    }
}
