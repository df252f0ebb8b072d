//! Who sends a copy of a record to whom, so that it stays on the k nodes closest to its key.
//!
//! A record lives on the k nodes closest to its key. When a node comes or goes, another one is new among them,
//! and the two closest of the others each send it a copy: one would do if it could be relied on, all k would
//! be k times the traffic. Who is pushed out by a node that came sends it a copy as well, because it may hold
//! the last one after a partition. Besides, every copy is sent to all k from time to time, by whoever is
//! first; those who receive it wait a whole period again (Maymounkov and Mazières, *Kademlia*, 2002, section
//! 2.5).
//!
//! Nodes that know the same neighbourhood come to the same plan without a word between them.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::store::REPLICATE_EVERY;
use crate::id::{Key, NodeId};

/// Default of [`ReplicationConfig::bytes_per_second`]: 1 MiB.
pub const BYTES_PER_SECOND: u64 = 1 << 20;

/// Default of [`ReplicationConfig::settle`]: 1 s.
pub const SETTLE: Duration = Duration::from_secs(1);

/// How a node keeps the records of others where they belong, and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicationConfig {
    /// The bytes of copies that are sent per second, over all peers. Default [`BYTES_PER_SECOND`].
    pub bytes_per_second: u64,
    /// How often a copy is sent to the other replicas if nobody else does, in whole seconds. Default
    /// [`REPLICATE_EVERY`].
    pub every: Duration,
    /// How often the node looks what is to be sent; nodes that come and go meanwhile are taken together.
    /// Default [`SETTLE`].
    pub settle: Duration,
}

impl Default for ReplicationConfig {
    fn default() -> Self {
        Self { bytes_per_second: BYTES_PER_SECOND, every: REPLICATE_EVERY, settle: SETTLE }
    }
}

/// How many of the closest nodes send a copy to a node that is new among the k closest.
pub const SENDERS: usize = 2;

/// The surroundings of one key as one node sees them.
#[derive(Debug, Clone, Copy)]
pub struct Neighbourhood<'a> {
    /// This node, which holds a copy.
    pub own: NodeId,
    /// The key of the copy.
    pub key: Key,
    /// The replicas that a record has.
    pub k: usize,
    /// The nodes closest to the key, closest first, without this one, after the change that is planned for:
    /// if there are as many, `k` and one more, and one more for each node that came.
    pub others: &'a [NodeId],
}

impl<'a> Neighbourhood<'a> {
    /// The nodes that this one sends a copy to after `came` have come and `lost` have gone.
    pub fn receivers(&self, came: &[NodeId], lost: &[NodeId]) -> Vec<NodeId> {
        let set = self.closest();
        let farthest = set.last().filter(|_| set.len() == self.k).map(|node| node.distance(&self.key));
        let gone = |node: &&NodeId| farthest.is_some_and(|farthest| node.distance(&self.key) < farthest);
        let kept = set.len() - lost.iter().filter(gone).count().min(set.len());
        let is_new = |(i, node): (usize, &NodeId)| i >= kept || came.contains(node);
        let new: Vec<_> =
            set.iter().enumerate().filter(|place| is_new(*place)).map(|(_, node)| *node).collect();
        let closer = |except: &[NodeId]| {
            self.others.iter().filter(|node| !except.contains(node) && !self.is_before(node)).count()
        };
        let mut receivers = if closer(&new) < SENDERS {
            new
        } else if !set.contains(&self.own) && closer(came) < self.k {
            new.into_iter().filter(|node| came.contains(node)).collect()
        } else {
            Vec::new()
        };
        receivers.retain(|node| *node != self.own);
        receivers
    }

    /// The node that takes the place of this one when it leaves, if it is among the k closest.
    pub fn heir(&self) -> Option<NodeId> {
        self.others.get(self.k.checked_sub(1)?).filter(|heir| self.is_before(heir)).copied()
    }

    /// Whether this node is among the k closest. Who is not knows the way to the key, but need not know who is
    /// there: before a [`round`](Self::round) it has to search.
    pub fn is_close(&self) -> bool {
        self.k
            .checked_sub(1)
            .is_some_and(|last| self.others.get(last).is_none_or(|last| self.is_before(last)))
    }

    /// The nodes to which a copy is sent when its time has come: the other ones of the k closest. A node
    /// that is not among the k closest any more tells the [`SENDERS`] closest, who tell the others.
    pub fn round(&self) -> &'a [NodeId] {
        let known = &self.others[..self.others.len().min(self.k)];
        match known.split_last() {
            Some((last, rest)) if known.len() == self.k => {
                if self.is_before(last) {
                    rest
                } else {
                    &known[..SENDERS.min(self.k)]
                }
            }
            _ => known,
        }
    }

    /// The k closest, this node counted.
    fn closest(&self) -> Vec<NodeId> {
        let own = self.others.partition_point(|node| !self.is_before(node));
        let (closer, farther) = self.others.split_at(own);
        closer.iter().chain([&self.own]).chain(farther).take(self.k).copied().collect()
    }

    /// Whether this node is closer to the key than `node`.
    fn is_before(&self, node: &NodeId) -> bool {
        self.own.distance(&self.key) < node.distance(&self.key)
    }
}
