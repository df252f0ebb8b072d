//! The RPC service: drives the pure parts of [`crate::rpc`] with the peers in the pool.
//!
//! What this node offers is in the [`registry`] and runs where the call was read ([`serve`]);
//! [`advertise`] keeps its entries in the DHT. What others offer is found by [`discover`] and remembered
//! in the [`directory`]; [`hot`] asks a provider that is at hand, and [`call`] goes to another when one fails,
//! and says what happened.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::dht::DhtService;
use super::path::PathService;
use crate::id::NodeId;
use crate::pool::Pool;
use crate::rpc::config::RpcConfig;
use crate::runtime::Tasks;

mod advertise;
mod attempt;
mod call;
mod directory;
mod discover;
mod error;
mod hot;
mod known;
mod registry;
mod report;
mod serve;
mod typed;

pub(crate) use advertise::AdvertiseOptions;
pub use advertise::{AdvertiseError, Advertisement};
pub(crate) use call::CallOptions;
pub(crate) use directory::Service;
pub use discover::Provider;
pub use error::{CallError, HandlerError};
pub(crate) use registry::Handler;
pub use registry::Request;
pub use report::{Attempt, CallReport, Path, Source};
pub(crate) use typed::{raw, typed};

/// Calls the services of others, and runs those of this node.
pub(crate) struct RpcService {
    local: NodeId,
    pool: Pool,
    path: Arc<PathService>,
    dht: Arc<DhtService>,
    tasks: Tasks,
    config: RpcConfig,
    /// Where this node listens, as its entries say.
    endpoints: Vec<String>,
    registry: registry::Registry,
    directory: directory::Directory,
    draws: Mutex<ChaCha8Rng>,
    closing: AtomicBool,
    counts: RpcCounts,
}

/// What the service has done so far.
#[derive(Debug, Default)]
pub(crate) struct RpcCounts {
    /// Calls that this node has made.
    pub(crate) calls: AtomicU64,
    /// How many of them ended in an error.
    pub(crate) failed: AtomicU64,
    /// How many of them were served by the node itself.
    pub(crate) local: AtomicU64,
    /// Attempts that took a route through others.
    pub(crate) routed: AtomicU64,
    /// Attempts beyond the first of a call.
    pub(crate) failovers: AtomicU64,
    /// How many of [`failovers`](Self::failovers) began while an earlier attempt was still under way.
    pub(crate) overlaps: AtomicU64,
    /// Calls that were more than a request to a provider at hand.
    whole: AtomicU64,
    /// How many of them had their providers remembered.
    hits: AtomicU64,
    /// Times that the DHT was asked for providers.
    pub(crate) discoveries: AtomicU64,
    /// Calls that used what was remembered because the DHT could not be asked.
    pub(crate) stale: AtomicU64,
    /// Calls that arrived.
    pub(crate) served: AtomicU64,
    /// How many of them were turned away: no such service, no room, or the node shuts down.
    pub(crate) refused: AtomicU64,
    /// Handlers that panicked.
    pub(crate) panics: AtomicU64,
    /// Handlers that were stopped because their caller had given up.
    pub(crate) cancelled: AtomicU64,
}

impl RpcCounts {
    /// Calls whose providers were remembered. Those at hand are not counted one by one.
    pub(crate) fn hits(&self) -> u64 {
        let [whole, hits, calls] =
            [&self.whole, &self.hits, &self.calls].map(|it| it.load(Ordering::Relaxed));
        calls.saturating_sub(whole) + hits
    }

    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for RpcService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RpcService").field("local", &self.local).finish_non_exhaustive()
    }
}

/// What the service stands on.
pub(crate) struct Below {
    pub(crate) local: NodeId,
    pub(crate) pool: Pool,
    pub(crate) path: Arc<PathService>,
    pub(crate) dht: Arc<DhtService>,
    pub(crate) tasks: Tasks,
}

impl RpcService {
    pub(crate) fn new(below: Below, config: RpcConfig, endpoints: Vec<String>, seed: u64) -> Arc<Self> {
        let Below { local, pool, path, dht, tasks } = below;
        Arc::new(Self {
            local,
            pool,
            path,
            dht,
            tasks,
            endpoints,
            registry: registry::Registry::default(),
            directory: directory::Directory::new(&config),
            config,
            draws: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
            closing: AtomicBool::new(false),
            counts: RpcCounts::default(),
        })
    }

    pub(crate) fn counts(&self) -> &RpcCounts {
        &self.counts
    }

    /// Services that this node offers.
    pub(crate) fn offered(&self) -> usize {
        self.registry.len()
    }

    /// Handlers that are running.
    pub(crate) fn running(&self) -> usize {
        self.registry.running()
    }

    /// Takes no calls and makes none, from now on.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn draw(&self) -> u64 {
        lock(&self.draws).next_u64()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
