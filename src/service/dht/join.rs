//! Joining a mesh: HELLO with a known node, then one FIND_NODE of the own id.
//!
//! Nodes that are learnt this way are connected to, because only a completed handshake makes a node
//! one that is asked, or handed to others.

use std::sync::Arc;
use std::time::Duration;

use super::DhtService;
use crate::addr::{Endpoint, PeerAddr};
use crate::id::NodeId;
use crate::pool::AcquireError;
use crate::runtime;
use crate::service::request;
use crate::wire::{self, Class, FindNode, Kind};

/// Bytes of a FIND_NODE frame, at most.
const FIND_NODE_BYTES: usize = 96;

impl DhtService {
    /// Connects to the node at `address` and to the nodes that it knows close to this one.
    ///
    /// Returns who answered. Nodes that cannot be reached are left out.
    pub(crate) async fn join(
        self: &Arc<Self>,
        address: &PeerAddr,
        timeout: Duration,
    ) -> Result<NodeId, AcquireError> {
        let deadline = runtime::after(timeout);
        let id = self.pool.join(address, deadline).await?;
        let lease = self.pool.acquire(&id, deadline).await?;
        let ask = FindNode { target: self.local.to_key(), count: 20 };
        let reply =
            request(&lease, Class::Request, FIND_NODE_BYTES, deadline, Kind::FindNodeReply, |id, out| {
                let _ = ask.encode(id, out);
            });
        let body = reply.await.unwrap_or_default();
        let mut nodes = Vec::new();
        for contact in wire::decode_find_node_reply(&body).unwrap_or_default() {
            if contact.id == self.local {
                continue;
            }
            let endpoints = contact.endpoints.filter_map(|text| text.parse::<Endpoint>().ok());
            self.pool.hear(contact.id, endpoints.filter(is_dialable));
            nodes.push(contact.id);
        }
        // Dials to all of them begin at once; waiting for each in turn costs no more than the slowest.
        self.pool.try_acquire(&nodes, |_, lease| drop(lease));
        for node in nodes {
            let _ = self.pool.acquire(&node, deadline).await;
        }
        Ok(id)
    }
}

/// Whether one host could listen there.
fn is_dialable(endpoint: &Endpoint) -> bool {
    let multicast = endpoint.socket_addr().is_some_and(|addr| addr.ip().to_canonical().is_multicast());
    !endpoint.is_unspecified() && !multicast
}
