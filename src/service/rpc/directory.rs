//! Who offers what, as far as this node remembers.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::watch;

use super::discover::PROVIDERS_MAX;
use super::known::Known;
use super::registry::Offer;
use super::{RpcService, lock};
use crate::id::{Key, NodeId};
use crate::rpc::budget::RetryBudget;
use crate::rpc::config::RpcConfig;
use crate::rpc::freshness::{Freshness, RETRY_AFTER, STALE_MAX, Worth};
use crate::rpc::latencies::Latencies;
use crate::rpc::standing::ProviderHealth;
use crate::runtime;
use crate::service::dht::FindError;

/// The providers of a service.
pub(super) type Providers = Arc<[Arc<Known>]>;

/// A service by its name: who offers it, and how its calls have gone.
pub(crate) struct Service {
    pub(super) name: Arc<str>,
    pub(super) key: Key,
    state: Mutex<State>,
    pub(super) latencies: Mutex<Latencies>,
    turn: AtomicU64,
}

struct State {
    freshness: Freshness,
    /// The retries that its calls have earned.
    budget: RetryBudget,
    providers: Providers,
    /// The directory was cleared since this was found, if it differs from the directory's.
    era: u64,
    /// Ends with the search of the DHT that began last, which has the number `searches`; and when it began.
    search: Option<(watch::Receiver<()>, Instant)>,
    searches: u64,
    /// The newest search that has ended.
    heard: u64,
    /// Why the DHT could not be asked the last time.
    error: FindError,
    /// What this node offers itself, of which version of its registry.
    own: (u64, Weak<Offer>),
}

/// The right to search the DHT for the providers of a service, and the duty to say what was found.
pub(super) struct Search {
    number: u64,
    /// Dropped, it tells those who wait.
    _ends: watch::Sender<()>,
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
                search: None,
                searches: 0,
                heard: 0,
                error: FindError::NoPeers,
                own: (u64::MAX, Weak::new()),
            }),
            latencies: Mutex::new(Latencies::new()),
            turn: AtomicU64::new(0),
        }
    }

    /// Counts the calls, for those who take the providers in turn.
    pub(super) fn turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// What is known now.
    pub(super) fn view(&self, rpc: &RpcService, now: Instant) -> View {
        let mut state = lock(&self.state);
        if let Some(offer) = state.own(rpc, &self.name) {
            return View::Own(offer);
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
            Worth::Due => !state.is_searched(),
            Worth::Negative | Worth::Expired { .. } | Worth::Resting { .. } => return None,
        };
        let place = choose(&state.providers)?;
        state.budget.earn();
        Some((Arc::clone(&state.providers[place]), due))
    }

    /// What this node offers itself by this name.
    pub(super) fn own(&self, rpc: &RpcService) -> Option<Arc<Offer>> {
        lock(&self.state).own(rpc, &self.name)
    }

    /// The end of the search that is under way, or of one that begins: then the right to it comes with it.
    pub(super) fn search(&self, now: Instant) -> (watch::Receiver<()>, Option<Search>) {
        let mut state = lock(&self.state);
        if let Some((running, _)) = state.search.clone().filter(|_| state.is_searched()) {
            return (running, None);
        }
        let (ends, end) = watch::channel(());
        state.search = Some((end.clone(), now));
        state.searches += 1;
        (end, Some(Search { number: state.searches, _ends: ends }))
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
        search: &Search,
        era: u64,
        now: Instant,
        ttl: Duration,
        found: Vec<(NodeId, Vec<u8>)>,
    ) {
        let mut state = lock(&self.state);
        if !state.hears(search) {
            return;
        }
        let known = |id: &NodeId| state.providers.iter().find(|known| known.id == *id);
        let keep = |(id, metadata): (NodeId, Vec<u8>)| match known(&id) {
            Some(known) if known.metadata == metadata => Arc::clone(known),
            _ => Known::new(id, metadata),
        };
        let providers: Providers = found.into_iter().map(keep).collect();
        state.era = era;
        if providers.is_empty() {
            state.freshness.nothing(now);
        } else {
            state.freshness.found(now, ttl);
        }
        state.providers = providers;
    }

    /// Some of those who offer it were found: there may be others, also among those that were known.
    pub(super) fn found_some(
        &self,
        search: &Search,
        era: u64,
        now: Instant,
        mut some: Vec<(NodeId, Vec<u8>)>,
    ) {
        for known in lock(&self.state).providers.iter() {
            if some.iter().all(|(id, _)| *id != known.id) {
                some.push((known.id, known.metadata.clone()));
            }
        }
        some.truncate(PROVIDERS_MAX);
        self.found(search, era, now, RETRY_AFTER, some);
    }

    /// The DHT could not be asked.
    pub(super) fn failed(&self, search: &Search, now: Instant, error: FindError) {
        let mut state = lock(&self.state);
        if !state.hears(search) {
            return;
        }
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

    /// Who offers it is to be asked again, by a search that has begun after `since`.
    pub(super) fn renew(&self, since: Instant) {
        let mut state = lock(&self.state);
        state.freshness.expire();
        state.search.take_if(|(_, began)| *began < since);
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
            lock(&self.state).worth(era, now),
            Worth::Expired { stale: false } | Worth::Resting { stale: false } | Worth::Negative
        )
    }
}

impl State {
    /// What this node offers itself by this name.
    fn own(&mut self, rpc: &RpcService, name: &str) -> Option<Arc<Offer>> {
        let version = rpc.registry.version();
        if self.own.0 != version {
            self.own = (version, rpc.registry.get(name).as_ref().map_or_else(Weak::new, Arc::downgrade));
        }
        self.own.1.upgrade()
    }

    /// Whether the search that began last is under way.
    fn is_searched(&self) -> bool {
        // It says nothing: either it goes on, or it has ended.
        self.search.as_ref().is_some_and(|(search, _)| search.has_changed().is_ok())
    }

    /// Whether what `search` has to say is news: a later one may have ended before it.
    fn hears(&mut self, search: &Search) -> bool {
        let news = search.number > self.heard;
        self.heard = self.heard.max(search.number);
        news
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
            Worth::Due => View::Fresh { providers: providers(), due: !self.is_searched() },
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
