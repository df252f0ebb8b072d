//! Who offers what, as far as this node remembers.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use moka::sync::Cache;

use super::discover::PROVIDERS_MAX;
use super::registry::Offer;
use super::{RpcService, lock};
use crate::id::{Key, NodeId};
use crate::pool::{Lease, Pool};
use crate::rpc::budget::RetryBudget;
use crate::rpc::config::RpcConfig;
use crate::rpc::freshness::{Freshness, RETRY_AFTER, STALE_MAX, Worth};
use crate::rpc::latencies::Latencies;
use crate::rpc::standing::{Begun, ProviderHealth, Standing};
use crate::runtime;
use crate::service::dht::FindError;

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

/// The providers of a service.
pub(super) type Providers = Arc<[Arc<Known>]>;

/// A service by its name: who offers it, and how its calls have gone.
pub(crate) struct Service {
    pub(super) name: Arc<str>,
    pub(super) key: Key,
    state: Mutex<State>,
    pub(super) latencies: Mutex<Latencies>,
    turn: AtomicU64,
    /// Held by the one who asks the DHT.
    pub(super) asking: tokio::sync::Mutex<()>,
}

struct State {
    freshness: Freshness,
    /// The retries that its calls have earned.
    budget: RetryBudget,
    providers: Providers,
    /// The directory was cleared since this was found, if it differs from the directory's.
    era: u64,
    /// Somebody asks the DHT in the background.
    asked: bool,
    /// Why the DHT could not be asked the last time.
    error: FindError,
    /// What this node offers itself, of which version of its registry.
    own: (u64, Option<Arc<Offer>>),
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is known of a service.
pub(super) enum View {
    /// This node offers it.
    Own(Arc<Offer>),
    /// These do; whether the DHT is to be asked again in the background.
    Fresh { providers: Providers, due: bool },
    /// Nobody does.
    Nobody,
    /// The DHT has to be asked. These may be used if it cannot be.
    Ask { stale: Option<Providers> },
    /// A moment ago the DHT could not be asked, for this reason. These may be used.
    Resting { stale: Option<Providers>, error: FindError },
}

impl Service {
    fn new(name: &str) -> Self {
        let providers: Providers = Arc::new([]);
        Self {
            name: name.into(),
            key: Key::of_name(name),
            state: Mutex::new(State {
                freshness: Freshness::unknown(),
                budget: RetryBudget::new(),
                providers,
                era: 0,
                asked: false,
                error: FindError::NoPeers,
                own: (u64::MAX, None),
            }),
            latencies: Mutex::new(Latencies::new()),
            turn: AtomicU64::new(0),
            asking: tokio::sync::Mutex::new(()),
        }
    }

    /// Counts the calls, for those who take the providers in turn.
    pub(super) fn turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// What is known now. Who is told that it is due has to ask, and to say so by
    /// [`found`](Self::found) or [`failed`](Self::failed).
    pub(super) fn view(&self, rpc: &RpcService, now: Instant) -> View {
        let mut state = lock(&self.state);
        if let Some(offer) = state.own(rpc, &self.name) {
            return View::Own(Arc::clone(offer));
        }
        state.look(rpc.directory.era(), now)
    }

    /// The provider of choice, if others offer it and are remembered; and whether the DHT is to be asked in
    /// the background, as of [`view`](Self::view).
    pub(super) fn pick(
        &self,
        rpc: &RpcService,
        now: Instant,
        choose: impl FnOnce(&[Arc<Known>]) -> Option<usize>,
    ) -> Option<(Arc<Known>, bool)> {
        let mut state = lock(&self.state);
        if state.own(rpc, &self.name).is_some() {
            return None;
        }
        let due = match state.worth(rpc.directory.era(), now) {
            Worth::Fresh => false,
            Worth::Due => !std::mem::replace(&mut state.asked, true),
            Worth::Negative | Worth::Expired { .. } | Worth::Resting { .. } => return None,
        };
        let place = choose(&state.providers)?;
        state.budget.earn();
        Some((Arc::clone(&state.providers[place]), due))
    }

    /// What the calls of the service may spend on retries.
    pub(super) fn budget<T>(&self, with: impl FnOnce(&mut RetryBudget) -> T) -> T {
        with(&mut lock(&self.state).budget)
    }

    /// As [`view`](Self::view), of what others offer.
    pub(super) fn others(&self, rpc: &RpcService, now: Instant) -> View {
        lock(&self.state).look(rpc.directory.era(), now)
    }

    /// The DHT has said who offers it, for `ttl`.
    pub(super) fn found(
        &self,
        era: u64,
        now: Instant,
        ttl: Duration,
        found: Vec<(NodeId, Vec<u8>)>,
    ) -> Providers {
        let mut state = lock(&self.state);
        let known = |id: &NodeId| state.providers.iter().find(|known| known.id == *id);
        let keep = |(id, metadata): (NodeId, Vec<u8>)| match known(&id) {
            Some(known) if known.metadata == metadata => Arc::clone(known),
            _ => Known::new(id, metadata),
        };
        let providers: Providers = found.into_iter().map(keep).collect();
        state.providers = Arc::clone(&providers);
        state.era = era;
        state.asked = false;
        if providers.is_empty() {
            state.freshness.nothing(now);
        } else {
            state.freshness.found(now, ttl);
        }
        providers
    }

    /// Some of those who offer it were found: there may be others, also among those that were known.
    pub(super) fn found_some(&self, era: u64, now: Instant, mut some: Vec<(NodeId, Vec<u8>)>) -> Providers {
        for known in lock(&self.state).providers.iter() {
            if some.iter().all(|(id, _)| *id != known.id) {
                some.push((known.id, known.metadata.clone()));
            }
        }
        some.truncate(PROVIDERS_MAX);
        self.found(era, now, RETRY_AFTER, some)
    }

    /// The DHT could not be asked.
    pub(super) fn failed(&self, now: Instant, error: FindError) {
        let mut state = lock(&self.state);
        state.asked = false;
        state.error = error;
        state.freshness.failed(now);
    }

    /// What is known of `node` as a provider.
    pub(super) fn known(&self, node: NodeId) -> Arc<Known> {
        let known = lock(&self.state).providers.iter().find(|known| known.id == node).cloned();
        known.unwrap_or_else(|| Known::new(node, Vec::new()))
    }

    /// `provider` has said that it does not offer it.
    pub(super) fn disowned(&self, provider: &NodeId) {
        let mut state = lock(&self.state);
        state.freshness.doubt(runtime::now());
        if state.providers.iter().any(|known| known.id == *provider) {
            state.providers = state.providers.iter().filter(|known| known.id != *provider).cloned().collect();
            if state.providers.is_empty() {
                state.freshness.expire();
            }
        }
    }

    /// A provider is silent or gone: there may be others.
    pub(super) fn doubt(&self, now: Instant) {
        lock(&self.state).freshness.doubt(now);
    }

    /// Who offers it is to be asked again.
    pub(super) fn expire(&self) {
        lock(&self.state).freshness.expire();
    }

    /// Why the DHT could not be asked the last time.
    pub(super) fn error(&self) -> FindError {
        lock(&self.state).error.clone()
    }

    /// The providers that are remembered, and how they do.
    pub(crate) fn health(&self, now: Instant) -> Vec<(NodeId, ProviderHealth)> {
        let providers = Arc::clone(&lock(&self.state).providers);
        providers.iter().map(|known| (known.id, known.health(now))).collect()
    }

    fn is_worthless(&self, era: u64, now: Instant) -> bool {
        matches!(
            lock(&self.state).look(era, now),
            View::Ask { stale: None } | View::Resting { stale: None, .. } | View::Nobody
        )
    }
}

impl State {
    /// What this node offers itself by this name.
    fn own(&mut self, rpc: &RpcService, name: &str) -> Option<&Arc<Offer>> {
        let version = rpc.registry.version();
        if self.own.0 != version {
            self.own = (version, rpc.registry.get(name));
        }
        self.own.1.as_ref()
    }

    fn worth(&mut self, era: u64, now: Instant) -> Worth {
        if self.era != era {
            self.era = era;
            self.freshness = Freshness::unknown();
        }
        self.freshness.state(now)
    }

    fn look(&mut self, era: u64, now: Instant) -> View {
        let worth = self.worth(era, now);
        let providers = || Arc::clone(&self.providers);
        let usable = |stale: bool| stale.then(providers).filter(|providers| !providers.is_empty());
        match worth {
            Worth::Fresh => View::Fresh { providers: providers(), due: false },
            Worth::Due => {
                let due = !self.asked;
                self.asked = true;
                View::Fresh { providers: providers(), due }
            }
            Worth::Negative => View::Nobody,
            Worth::Expired { stale } => View::Ask { stale: usable(stale) },
            Worth::Resting { stale } => View::Resting { stale: usable(stale), error: self.error.clone() },
        }
    }
}

/// The services that are remembered; the least recently used are forgotten first.
pub(super) struct Directory {
    services: Cache<Box<str>, Arc<Service>>,
    era: AtomicU64,
}

impl Directory {
    pub(super) fn new(config: &RpcConfig) -> Self {
        let max = u64::try_from(config.remembered).unwrap_or(u64::MAX);
        let services = Cache::builder().max_capacity(max).time_to_idle(STALE_MAX).build();
        Self { services, era: AtomicU64::new(1) }
    }

    pub(super) fn get(&self, name: &str) -> Arc<Service> {
        if let Some(known) = self.services.get(name) {
            return known;
        }
        self.services.get_with(name.into(), || Arc::new(Service::new(name)))
    }

    pub(super) fn era(&self) -> u64 {
        self.era.load(Ordering::Acquire)
    }

    pub(super) fn len(&self) -> usize {
        usize::try_from(self.services.entry_count()).unwrap_or(usize::MAX)
    }

    /// Forgets all, also what handles of callers refer to.
    pub(super) fn clear(&self) {
        self.era.fetch_add(1, Ordering::AcqRel);
        self.services.invalidate_all();
    }

    /// Forgets what is of no use any more.
    pub(super) fn prune(&self, now: Instant) {
        let era = self.era();
        for (name, service) in &self.services {
            if service.is_worthless(era, now) {
                self.services.invalidate(name.as_ref());
            }
        }
        self.services.run_pending_tasks();
    }
}
