//! The pool, as users see it.

use std::time::Duration;

use crate::id::NodeId;
use crate::pool::{AcquireError, Explain, Lease, Pool, PoolStats};
use crate::runtime;
use crate::transport::Lost;

/// The connections of a node to its peers.
#[derive(Debug, Clone, Copy)]
pub struct Peers<'a> {
    pool: &'a Pool,
}

/// A use of a connection: as long as it lives, the connection is not evicted.
#[derive(Debug)]
pub struct PeerLease {
    _lease: Lease,
}

impl<'a> Peers<'a> {
    pub(super) fn new(pool: &'a Pool) -> Self {
        Self { pool }
    }

    /// Keeps the connection to `peer` from eviction, dialing it if there is none.
    ///
    /// # Errors
    ///
    /// [`AcquireError`] when no connection could be had within `timeout`.
    ///
    /// # Cancel safety
    ///
    /// A dial that was begun goes on for others that wait for it.
    pub async fn lease(&self, peer: NodeId, timeout: Duration) -> Result<PeerLease, AcquireError> {
        let lease = self.pool.acquire(&peer, runtime::after(timeout)).await?;
        Ok(PeerLease { _lease: lease })
    }

    /// The peers with a connection that takes requests.
    pub fn residents(&self) -> Vec<NodeId> {
        self.pool.residents()
    }

    /// What the pool has done so far.
    pub fn stats(&self) -> PoolStats {
        self.pool.stats()
    }

    /// Why there is a connection to `peer` or not: who dialed it, who uses it, when it goes, and why the
    /// last ones ended.
    pub fn explain(&self, peer: NodeId) -> Explain {
        self.pool.explain(&peer)
    }

    /// How the last inbound attempts failed, oldest first; a bounded number of them.
    pub fn refusals(&self) -> Vec<Lost> {
        self.pool.refusals()
    }

    /// Whether `peer` has lately left requests unanswered.
    pub fn is_suspect(&self, peer: NodeId) -> bool {
        self.pool.is_suspect(&peer)
    }
}
