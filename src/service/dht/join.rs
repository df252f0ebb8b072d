//! Joining a mesh: HELLO with a known node, then a search for the own neighbourhood.
//!
//! The search connects to the nodes that it asks, because only a completed handshake makes a node one that
//! is asked later, or handed to others (Maymounkov and Mazières, *Kademlia*, 2002, section 2.3).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::DhtService;
use crate::addr::PeerAddr;
use crate::id::NodeId;
use crate::pool::AcquireError;
use crate::runtime;

impl DhtService {
    /// Connects to the node at `address` and to the nodes closest to this one.
    ///
    /// Returns who answered. Nodes that cannot be reached are left out.
    pub(crate) async fn join(
        self: &Arc<Self>,
        address: &PeerAddr,
        timeout: Duration,
    ) -> Result<NodeId, AcquireError> {
        let deadline = runtime::after(timeout);
        let id = self.pool.join(address, deadline).await?;
        self.look_around(&[id], deadline).await;
        self.joined();
        Ok(id)
    }

    /// Connects to the nodes at all of `addresses` at once and then to the nodes closest to this one.
    /// Returns how many of them answered.
    pub(crate) async fn bootstrap(self: &Arc<Self>, addresses: Vec<PeerAddr>, timeout: Duration) -> usize {
        let deadline = runtime::after(timeout);
        let (ended, mut joined) = mpsc::channel(addresses.len().max(1));
        for address in addresses {
            let (pool, ended) = (self.pool.clone(), ended.clone());
            self.tasks.spawn(async move {
                let result = pool.join(&address, deadline).await;
                if let Err(error) = &result {
                    tracing::warn!(%address, %error, "bootstrap node not reached");
                }
                let _ = ended.send(result.ok()).await;
            });
        }
        drop(ended);
        let mut peers = Vec::new();
        while let Some(joined) = joined.recv().await {
            peers.extend(joined);
        }
        if !peers.is_empty() {
            self.look_around(&peers, deadline).await;
            self.joined();
        }
        peers.len()
    }
}
