//! Peers that are no members because too many members share their network.

use std::collections::{BTreeSet, VecDeque};

use crate::id::NodeId;

/// Peers remembered: more than are connected at a time. Each is judged again when it connects again.
const CROWD_MAX: usize = 4_096;

/// Who was refused last.
#[derive(Debug, Clone, Default)]
pub(super) struct Crowd {
    peers: BTreeSet<NodeId>,
    order: VecDeque<NodeId>,
}

impl Crowd {
    pub(super) fn add(&mut self, peer: NodeId) {
        if !self.peers.insert(peer) {
            return;
        }
        self.order.push_back(peer);
        if self.order.len() > CROWD_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.peers.remove(&oldest);
        }
    }

    pub(super) fn remove(&mut self, peer: &NodeId) {
        if self.peers.remove(peer) {
            self.order.retain(|other| other != peer);
        }
    }

    pub(super) fn contains(&self, peer: &NodeId) -> bool {
        self.peers.contains(peer)
    }

    /// Bytes of memory that it takes, about.
    pub(super) fn memory(&self) -> usize {
        (self.peers.len() + self.order.capacity()) * size_of::<NodeId>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let peer = |n: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            NodeId::from_bytes(id)
        };
        let mut crowd = Crowd::default();
        (0..=CROWD_MAX).for_each(|n| crowd.add(peer(n)));
        assert!(!crowd.contains(&peer(0)) && crowd.contains(&peer(1)) && crowd.contains(&peer(CROWD_MAX)));
        crowd.remove(&peer(1));
        assert_eq!((crowd.peers.len(), crowd.order.len()), (CROWD_MAX - 1, CROWD_MAX - 1));
    }
}
