//! One provider of a service, as the calls of this node see it.

use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use super::lock;
use crate::id::NodeId;
use crate::pool::{Lease, Pool};
use crate::rpc::standing::{Begun, ProviderHealth, Standing};

/// One provider of a service, as this node sees it.
pub(super) struct Known {
    pub(super) id: NodeId,
    pub(super) metadata: Vec<u8>,
    state: Mutex<Use>,
}

/// What calls of a provider share, behind one lock: it is taken twice by each of them.
struct Use {
    standing: Standing,
    /// The use of its connection, as long as calls are in flight.
    lease: Weak<Lease>,
}

impl Known {
    pub(super) fn new(id: NodeId, metadata: Vec<u8>) -> Arc<Self> {
        let state = Use { standing: Standing::new(), lease: Weak::new() };
        Arc::new(Self { id, metadata, state: Mutex::new(state) })
    }

    pub(super) fn standing<T>(&self, with: impl FnOnce(&mut Standing) -> T) -> T {
        with(&mut lock(&self.state).standing)
    }

    /// Begins a call over the connection to it, if there is one: calls that overlap use it together.
    pub(super) fn begin(&self, now: Instant, pool: &Pool) -> Option<(Begun, Arc<Lease>)> {
        let mut state = lock(&self.state);
        let lease = match state.lease.upgrade() {
            Some(lease) => lease,
            None => {
                let lease = Arc::new(pool.resident(&self.id)?);
                state.lease = Arc::downgrade(&lease);
                lease
            }
        };
        Some((state.standing.begin(now), lease))
    }

    /// The connection that was used takes nothing more: the next call gets another one.
    pub(super) fn disconnected(&self) {
        lock(&self.state).lease = Weak::new();
    }

    pub(super) fn health(&self, now: Instant) -> ProviderHealth {
        lock(&self.state).standing.health(now)
    }
}
