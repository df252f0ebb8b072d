//! Keeps the routing table true: carries out what [`crate::dht::upkeep`] says is due.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::{DhtService, lock};
use crate::dht::upkeep::{Duty, Upkeep, UpkeepConfig};
use crate::id::{Key, NodeId};
use crate::pool::RequestError;
use crate::runtime;

/// Pings in a row that a busy node may miss before it counts as gone.
const PINGS: u32 = 2;

/// The upkeep of one node, and who waits for it.
#[derive(Debug)]
pub(super) struct Keeper {
    upkeep: Mutex<Upkeep>,
    /// Something may be due earlier than it was said to be.
    changed: Notify,
}

impl Keeper {
    pub(super) fn new(seed: u64, config: UpkeepConfig) -> Self {
        Self { upkeep: Mutex::new(Upkeep::new(seed, runtime::now(), config)), changed: Notify::new() }
    }
}

impl DhtService {
    /// Joins through the bootstrap addresses, each tried once, and begins to keep the table up.
    pub(crate) async fn settle(self: &Arc<Self>) {
        self.rejoin().await;
        let service = Arc::clone(self);
        self.tasks.spawn(async move {
            while !service.is_closing() {
                while let Some(duty) = service.duty() {
                    service.carry_out(duty);
                }
                let next = lock(&service.keeper.upkeep).next();
                tokio::select! {
                    () = tokio::time::sleep_until(next.into()) => {}
                    () = service.keeper.changed.notified() => {}
                }
            }
        });
    }

    fn duty(&self) -> Option<Duty> {
        lock(&self.keeper.upkeep).due(runtime::now(), &lock(&self.members))
    }

    /// Begins a duty, which goes on in a task of its own.
    fn carry_out(self: &Arc<Self>, duty: Duty) {
        let service = Arc::clone(self);
        match duty {
            Duty::Ping(peer) => self.check(peer),
            Duty::Lookup(key) => self.tasks.spawn(async move {
                // The search itself says that it is over.
                service.lookup(key, runtime::after(service.config.query_timeout)).await;
            }),
            Duty::Bootstrap => self.tasks.spawn(async move { service.rejoin().await }),
        }
    }

    /// Tries all bootstrap addresses at once, then the peers of the last run. Names are resolved anew on each
    /// try.
    async fn rejoin(self: &Arc<Self>) {
        let seeds = self.config.bootstrap.clone();
        if self.bootstrap(seeds, self.config.join_timeout).await > 0 {
            return;
        }
        #[cfg(feature = "persist")]
        if self.join_known().await {
            return;
        }
        lock(&self.keeper.upkeep).bootstrapped(runtime::now(), false);
        self.keeper.changed.notify_one();
    }

    /// Somebody has let this node join, and its own neighbourhood was searched for: the buckets beyond it
    /// come next.
    pub(super) fn joined(&self) {
        let (now, own) = (runtime::now(), self.local.to_key());
        let mut upkeep = lock(&self.keeper.upkeep);
        upkeep.bootstrapped(now, true);
        upkeep.looked_up(now, &own, &lock(&self.members));
        drop(upkeep);
        self.keeper.changed.notify_one();
    }

    /// The network was searched for `key`.
    pub(super) fn searched(&self, key: &Key) {
        if lock(&self.keeper.upkeep).looked_up(runtime::now(), key, &lock(&self.members)) {
            self.keeper.changed.notify_one();
        }
    }

    /// Asks a peer for a sign of life; without one, somebody else may have its place.
    pub(super) fn check(self: &Arc<Self>, peer: NodeId) {
        let service = Arc::clone(self);
        self.tasks.spawn(async move {
            for _ in 0..PINGS {
                match crate::service::ping(&service.pool, &peer, service.config.request_timeout).await {
                    Ok(_) => {
                        lock(&service.members).confirm(runtime::now(), &peer);
                        return;
                    }
                    Err(RequestError::Timeout) => {}
                    // That says nothing of the peer.
                    Err(RequestError::Backpressure | RequestError::Shutdown) => return,
                    Err(_) => break,
                }
            }
            service.unreachable(&peer);
        });
    }
}
