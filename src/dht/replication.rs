//! Who sends a copy of a record to whom, so that it stays on the k nodes closest to its key.
//!
//! A record lives on the k nodes closest to its key. When a node comes or goes, exactly one node is new among
//! them, and the two closest of the others each send it a copy: one would do if it could be relied on, all k
//! would be k times the traffic. Besides, every copy is sent to all k from time to time, by whoever is first;
//! those who receive it wait a whole period again (Maymounkov and Mazières, *Kademlia*, 2002, section 2.5).
//!
//! Nodes that know the same neighbourhood come to the same plan without a word between them.

#[cfg(test)]
mod tests;

use crate::id::{Key, NodeId};

/// How many nodes send a copy to a node that is new among the k closest.
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
    /// one more than `k` if there are as many.
    pub others: &'a [NodeId],
}

impl<'a> Neighbourhood<'a> {
    /// Whether this node sends a copy to `came`, which is new in the mesh: it is among the k closest, and
    /// this node is among the [`SENDERS`] closest of the others.
    pub fn sends_to(&self, came: &NodeId) -> bool {
        let closer = self.others.iter().take(self.k).position(|node| node == came);
        closer.is_some_and(|closer| closer + usize::from(self.is_before(came)) < self.k)
            && self.is_sender(came)
    }

    /// The node that takes the place of `lost`, if `lost` was among the k closest and it is this node's turn
    /// to send to it.
    pub fn successor(&self, lost: &NodeId) -> Option<NodeId> {
        let last = self.last()?;
        let was_in = lost.distance(&self.key) < last.distance(&self.key);
        (was_in && last != self.own && self.is_sender(&last)).then_some(last)
    }

    /// The node that takes the place of this one when it leaves, if it is among the k closest.
    pub fn heir(&self) -> Option<NodeId> {
        self.others.get(self.k.checked_sub(1)?).filter(|heir| self.is_before(heir)).copied()
    }

    /// The nodes to which a copy is sent when its time has come: those of the k closest that are not this
    /// one.
    pub fn all(&self) -> &'a [NodeId] {
        let known = &self.others[..self.others.len().min(self.k)];
        match known.split_last() {
            Some((last, rest)) if known.len() == self.k && self.is_before(last) => rest,
            _ => known,
        }
    }

    /// Whether this node is closer to the key than `node`.
    fn is_before(&self, node: &NodeId) -> bool {
        self.own.distance(&self.key) < node.distance(&self.key)
    }

    /// The farthest of the k closest, this node counted; nothing when there are fewer.
    fn last(&self) -> Option<NodeId> {
        let last = self.k.checked_sub(1)?;
        match self.others.iter().take(self.k).filter(|node| !self.is_before(node)).count() {
            closer if closer > last => self.others.get(last).copied(),
            closer if closer == last => Some(self.own),
            _ => self.others.get(last - 1).copied(),
        }
    }

    /// Whether this node is among the [`SENDERS`] closest, `receiver` not counted.
    fn is_sender(&self, receiver: &NodeId) -> bool {
        let closer = self.others.iter().filter(|node| *node != receiver && !self.is_before(node));
        closer.count() < SENDERS.min(self.k)
    }
}
