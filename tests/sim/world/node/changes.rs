//! Who has come and gone since copies were last sent for it.

use std::collections::BTreeMap;

use foveola::id::NodeId;

/// A peer by its number and its id.
type Peer = (u32, NodeId);

/// Nodes that came, and as many that went, as in the library.
const CHANGES_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Changes {
    came: Vec<NodeId>,
    lost: Vec<NodeId>,
    /// The process of every peer that is there; one that restarted has come with an empty store.
    boots: BTreeMap<u32, u32>,
}

impl Changes {
    /// A peer has completed its handshake in the process `boot`.
    pub(super) fn connected(&mut self, (peer, id): Peer, boot: u32) {
        if self.boots.insert(peer, boot) != Some(boot) {
            self.lost.retain(|other| *other != id);
            note(&mut self.came, id);
        }
    }

    /// A peer cannot be reached.
    pub(super) fn gone(&mut self, (peer, id): Peer) {
        if self.boots.remove(&peer).is_some() {
            self.came.retain(|other| *other != id);
            note(&mut self.lost, id);
        }
    }

    /// Whether a peer has completed its handshake and is not known to have gone since.
    pub(super) fn is_here(&self, peer: u32) -> bool {
        self.boots.contains_key(&peer)
    }

    pub(super) fn take(&mut self) -> (Vec<NodeId>, Vec<NodeId>) {
        (std::mem::take(&mut self.came), std::mem::take(&mut self.lost))
    }
}

fn note(nodes: &mut Vec<NodeId>, node: NodeId) {
    if nodes.len() < CHANGES_MAX && !nodes.contains(&node) {
        nodes.push(node);
    }
}
