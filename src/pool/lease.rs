//! Leases: uses of a connection that forbid its eviction.

use std::ops::Deref;
use std::sync::Arc;

use super::Inner;
use super::peer::Peer;
use super::policy::types::ConnId;

/// A use of a pooled connection; dropping it gives the use back.
#[derive(Debug)]
pub(crate) struct Lease {
    peer: Arc<Peer>,
    conn: ConnId,
    pool: Arc<Inner>,
}

impl Lease {
    pub(super) fn new(peer: Arc<Peer>, conn: ConnId, pool: Arc<Inner>) -> Self {
        Self { peer, conn, pool }
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
        self.pool.release(self.conn);
    }
}
