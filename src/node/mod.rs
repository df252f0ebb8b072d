//! The public API: a [`Node`] of the mesh and the handles of its services.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::addr::{Endpoint as Address, PeerAddr};
use crate::id::NodeId;
use crate::identity::Identity;
use crate::pool::{AcquireError, Pool, RequestError};
use crate::runtime::{self, Tasks};
use crate::service;
use crate::service::dht::DhtService;
use crate::service::path::PathService;
use crate::service::rpc::RpcService;
use crate::transport::Endpoint;

mod builder;
mod config;
mod dht;
mod peers;
mod rpc;
mod stats;

pub use builder::{Builder, SpawnError};
pub use config::{
    ALPHA, Config, ConfigError, DRAIN, JOIN_TIMEOUT, K_MAX, QUERY_TIMEOUT, REQUEST_TIMEOUT, TTL,
};
pub use dht::{Dht, FindMany, FindValue, QueryPeer, Remove, Store, StoreMany};
pub use peers::{PeerLease, Peers};
pub use rpc::{Advertise, Call, CallRaw, Caller, FindProviders, Rpc};
pub use stats::NodeStats;

/// A running node; clones are the same node.
///
/// Dropping the last clone stops it at once. [`shutdown`](Self::shutdown) lets it finish its work first.
#[derive(Debug, Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    identity: Identity,
    bound: SocketAddr,
    endpoint: Endpoint,
    pool: Pool,
    path: Arc<PathService>,
    dht: Arc<DhtService>,
    rpc: Arc<RpcService>,
    tasks: Tasks,
    config: Config,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("id", &self.identity.node_id()).finish_non_exhaustive()
    }
}

impl Node {
    /// Begins a new node.
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The identity of the node.
    pub fn id(&self) -> NodeId {
        self.inner.identity.node_id()
    }

    /// The address that its socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.bound
    }

    /// The address under which others reach it, if it listens on a specified address.
    pub fn peer_addr(&self) -> PeerAddr {
        PeerAddr::node(self.id(), Address::from(self.inner.bound))
    }

    /// Storing and finding records.
    pub fn dht(&self) -> Dht<'_> {
        Dht::new(&self.inner)
    }

    /// Offering and calling services.
    pub fn rpc(&self) -> Rpc<'_> {
        Rpc::new(&self.inner)
    }

    /// The connections to peers.
    pub fn pool(&self) -> Peers<'_> {
        Peers::new(&self.inner.pool)
    }

    /// Connects to the node at `address` and to those it knows close to this one; returns who answered.
    ///
    /// # Errors
    ///
    /// [`AcquireError`] when nobody answered as expected within
    /// [`join_timeout`](Config::join_timeout).
    ///
    /// # Cancel safety
    ///
    /// Connections that were begun go on.
    pub async fn join(&self, address: &PeerAddr) -> Result<NodeId, AcquireError> {
        self.inner.dht.join(address, self.inner.config.join_timeout).await
    }

    /// Asks `peer` for a sign of life and returns the round-trip time, connecting first if need be.
    ///
    /// # Errors
    ///
    /// [`RequestError`] when no answer came within [`request_timeout`](Config::request_timeout).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ping(&self, peer: NodeId) -> Result<Duration, RequestError> {
        service::ping(&self.inner.pool, &peer, self.inner.config.request_timeout).await
    }

    /// Counters and gauges of the node.
    pub fn stats(&self) -> NodeStats {
        NodeStats::of(&self.inner)
    }

    /// Stops taking work, withdraws the services that it offers (for at most a quarter of
    /// [`drain`](Config::drain)), gives the records that it holds to the nodes that take its place (for at most
    /// half of it), lets the work in flight finish for at most [`drain`](Config::drain), tells the
    /// peers, and ends every task.
    ///
    /// Operations that begin after it fail with their `Shutdown` error. Every other one has a definite
    /// result.
    ///
    /// # Cancel safety
    ///
    /// A dropped future leaves the node half stopped; dropping the node then ends it.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        let deadline = runtime::after(inner.config.drain);
        inner.rpc.shutdown(inner.config.drain / 4).await;
        inner.dht.close();
        inner.dht.hand_over(inner.config.drain / 2).await;
        inner.pool.shutdown(deadline.saturating_duration_since(runtime::now())).await;
        #[cfg(feature = "persist")]
        inner.dht.close_file().await;
        // The peers are told at once; how long quinn lingers for lost packets is bounded by a second.
        let _ = tokio::time::timeout(Duration::from_secs(1), inner.endpoint.wait_idle()).await;
        inner.stop();
        inner.tasks.ended().await;
    }
}

/// What a client beside the pool has to know.
#[cfg(feature = "baseline")]
impl Node {
    pub(crate) fn config(&self) -> &Config {
        &self.inner.config
    }

    /// What the node says about itself.
    pub(crate) fn hello(&self) -> &crate::wire::Hello {
        self.inner.pool.hello()
    }

    /// The nodes on which it stores what is stored under `key`.
    pub(crate) fn replicas(&self, key: &crate::id::Key) -> Vec<NodeId> {
        self.inner.dht.closest(key, self.inner.config.k)
    }

    /// Where `peer` was last known to listen, best first.
    pub(crate) fn addresses(&self, peer: &NodeId) -> Vec<Address> {
        self.inner.pool.addresses(peer)
    }
}

#[cfg(feature = "test-util")]
impl Node {
    /// The members of its routing table that answer, those that share the least with its id first.
    pub fn table(&self) -> Vec<NodeId> {
        self.inner.dht.table()
    }

    /// Ends the node at once, as a crash would.
    pub(crate) fn abort(&self) {
        self.inner.stop();
    }

    /// As [`abort`](Self::abort), and waits until its socket is free.
    pub(crate) async fn stop_now(&self) {
        self.abort();
        self.inner.tasks.ended().await;
        #[cfg(feature = "persist")]
        self.inner.dht.abort_file().await;
        let _ = tokio::time::timeout(Duration::from_secs(5), self.inner.endpoint.wait_idle()).await;
    }
}

impl Inner {
    fn stop(&self) {
        self.rpc.close();
        self.dht.close();
        self.tasks.abort();
        self.pool.abort();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}
