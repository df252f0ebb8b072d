//! What it takes for a store to count: the acknowledgement levels and the number of replicas aimed at.
//!
//! Two ways to get a quorum wrong are avoided. Taken from the configured k alone, a mesh of 5 nodes could
//! never reach it. Taken from the nodes that happen to be known at the moment, a node that has just been cut
//! off would ask for one replica, or none, and acknowledge everything. So the number of replicas aimed at
//! follows the largest cluster seen lately, up to k, and only other nodes count.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: Instant, minutes: u64) -> Instant {
        epoch + Duration::from_secs(60 * minutes)
    }

    #[test]
    fn the_levels_by_target() {
        let cases = [
            // target, one, quorum, all
            (1, 1, 1, 1),
            (2, 1, 2, 2),
            (3, 1, 2, 3),
            (4, 1, 3, 4),
            (5, 1, 3, 5),
            (19, 1, 10, 19),
            (20, 1, 11, 20),
        ];
        for (target, one, quorum, all) in cases {
            assert_eq!(required(Ack::Local, target), Ok(0), "local of {target}");
            assert_eq!(required(Ack::One, target), Ok(one), "one of {target}");
            assert_eq!(required(Ack::Quorum, target), Ok(quorum), "quorum of {target}");
            assert_eq!(required(Ack::All, target), Ok(all), "all of {target}");
        }
        assert_eq!(Ack::default(), Ack::Quorum);
    }

    #[test]
    fn a_node_that_never_saw_another_can_only_store_locally() {
        let none = target(20, 0, LargestSeen::new().largest(Instant::now()));
        assert_eq!(none, 0);
        assert_eq!(required(Ack::Local, none), Ok(0));
        for ack in [Ack::One, Ack::Quorum, Ack::All] {
            assert_eq!(required(ack, none), Err(NotEnoughReplicas { required: 1, available: 0 }));
        }
    }

    #[test]
    fn the_target_is_the_cluster_up_to_k() {
        assert_eq!(target(20, 4, 4), 4);
        assert_eq!(target(4, 100, 100), 4);
        assert_eq!(target(20, 5, 3), 5, "growth counts at once");
        assert_eq!(target(20, 0, 9), 9, "a node that was cut off still aims at the cluster it knew");
        assert_eq!(target(0, 9, 9), 0);
    }

    #[test]
    fn a_size_is_remembered_for_ten_minutes_after_it_ended() {
        let epoch = Instant::now();
        let mut seen = LargestSeen::new();
        seen.observe(epoch, 9);
        assert_eq!(seen.largest(at(epoch, 60)), 9, "a size lasts until another is noted");
        seen.observe(at(epoch, 60), 2);
        seen.observe(at(epoch, 65), 5);
        seen.observe(at(epoch, 66), 0);
        assert_eq!(seen.largest(at(epoch, 70)), 9);
        assert_eq!(seen.largest(at(epoch, 71)), 5);
        assert_eq!(seen.largest(at(epoch, 76)), 5);
        assert_eq!(seen.largest(at(epoch, 77)), 0);
    }

    #[test]
    fn a_flapping_cluster_needs_no_memory() {
        let epoch = Instant::now();
        let mut seen = LargestSeen::new();
        for second in 0..500 {
            let size = if second % 2 == 0 { 7 } else { 3 };
            seen.observe(epoch + Duration::from_secs(second), size);
        }
        assert_eq!(seen.largest(epoch + Duration::from_secs(500)), 7);
        assert!(seen.past.len() <= 2, "{} sizes kept", seen.past.len());
    }
}
