//! Leases: uses of a connection that forbid its eviction.

use std::ops::Deref;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Inner;
use super::peer::Peer;

/// A use of a pooled connection; dropping it gives the use back.
#[derive(Debug)]
pub(crate) struct Lease {
    peer: Arc<Peer>,
    pool: Arc<Inner>,
}

impl Lease {
    /// A use of the connection that the policy has counted.
    pub(super) fn new(peer: Arc<Peer>, pool: Arc<Inner>) -> Self {
        Self { peer, pool }
    }

    /// The connection, which may be lost at any time.
    pub(crate) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }
}

impl Deref for Lease {
    type Target = Arc<Peer>;

    fn deref(&self) -> &Arc<Peer> {
        &self.peer
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.release([&self.peer]);
    }
}

/// Uses of the connections to several peers, which are had and given back together: a use of each would
/// take the lock of the pool as often as there are peers.
#[derive(Debug)]
pub(crate) struct Leases {
    peers: SmallVec<[Option<Arc<Peer>>; 4]>,
    pool: Arc<Inner>,
}

impl Leases {
    pub(super) fn new(peers: SmallVec<[Option<Arc<Peer>>; 4]>, pool: Arc<Inner>) -> Self {
        Self { peers, pool }
    }

    /// The connections in the order in which they were asked for; none to a peer that is not resident.
    pub(crate) fn peers(&self) -> &[Option<Arc<Peer>>] {
        &self.peers
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.pool.release(self.peers.iter().flatten());
    }
}
