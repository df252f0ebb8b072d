//! Finding out who offers a service.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::directory::{Providers, Search, Service, View};
use super::error::CallError;
use super::known::Known;
use super::registry::Offer;
use super::report::Source;
use super::{RpcCounts, RpcService};
use crate::addr::Endpoint;
use crate::dht::read::Level;
use crate::id::NodeId;
use crate::rpc::freshness::{DISCOVERY_TTL, NEGATIVE_TTL};
use crate::rpc::standing::ProviderHealth;
use crate::runtime;
use crate::service::dht::{FindError, FindOptions, Record};
use crate::wire::{ProviderEntry, RecordKind};

/// Providers of one service that are remembered: of more, those whose ids are closest to this node's, so
/// that each caller has its own.
pub(super) const PROVIDERS_MAX: usize = 256;

/// A node that offers a service.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Provider {
    /// Who it is.
    pub id: NodeId,
    /// What it says about its service.
    pub metadata: Vec<u8>,
    /// How calls to it have gone.
    pub health: ProviderHealth,
}

/// Where a call goes.
pub(super) enum Found {
    Own(Arc<Offer>),
    Others(Providers, Source),
}

impl RpcService {
    /// The service of this name, as it is remembered.
    pub(crate) fn service(&self, name: &str) -> Result<Arc<Service>, CallError> {
        crate::rpc::name::check(name)?;
        Ok(self.directory.get(name))
    }

    /// Services whose providers are remembered.
    pub(crate) fn remembered(&self) -> usize {
        self.directory.len()
    }

    /// Forgets who offers what.
    pub(crate) fn clear(&self) {
        self.directory.clear();
    }

    /// Forgets what is too old to be used.
    pub(crate) fn prune(&self) {
        self.directory.prune(runtime::now());
    }

    /// Who runs a call of `service`: this node, those it remembers, or those that the DHT knows.
    pub(super) async fn find(
        self: &Arc<Self>,
        service: &Arc<Service>,
        now: Instant,
        deadline: Instant,
    ) -> Result<Found, CallError> {
        match service.view(self, now) {
            View::Own(offer) => Ok(Found::Own(offer)),
            View::Fresh { providers, due } => {
                RpcCounts::add(&self.counts.hits);
                if due {
                    drop(self.discover_later(service));
                }
                Ok(Found::Others(providers, Source::Cache))
            }
            View::Nobody => {
                RpcCounts::add(&self.counts.hits);
                Err(CallError::NoProvider)
            }
            View::Resting { stale: Some(providers), .. } => {
                RpcCounts::add(&self.counts.stale);
                Ok(Found::Others(providers, Source::Stale))
            }
            View::Resting { stale: None, error } => Err(CallError::Discovery(error)),
            View::Ask { .. } => {
                let (providers, source) = self.discover(service, deadline).await?;
                Ok(Found::Others(providers, source))
            }
        }
    }

    /// Asks the DHT, unless somebody does already: then what that finds is the answer.
    pub(super) async fn discover(
        self: &Arc<Self>,
        service: &Arc<Service>,
        deadline: Instant,
    ) -> Result<(Providers, Source), CallError> {
        let now = runtime::now();
        let until = match service.others(self, now) {
            View::Resting { .. } => now,
            // Some of the time is for those that are remembered, should the DHT not be heard of.
            View::Ask { stale: Some(_) } => now + deadline.saturating_duration_since(now) / 2,
            _ => deadline,
        };
        if until > now {
            let mut search = self.discover_later(service);
            // It says nothing, but ends. Whoever waits no more leaves it to the others.
            let _ = tokio::time::timeout_at(until.into(), search.changed()).await;
        }
        match service.others(self, runtime::now()) {
            View::Fresh { providers, .. } => Ok((providers, Source::Dht)),
            View::Own(_) | View::Nobody => Err(CallError::NoProvider),
            _ if self.is_closing() => Err(CallError::Shutdown),
            View::Ask { stale: Some(providers) } | View::Resting { stale: Some(providers), .. } => {
                RpcCounts::add(&self.counts.stale);
                Ok((providers, Source::Stale))
            }
            View::Ask { stale: None } => Err(CallError::Timeout { provider: None, maybe_executed: false }),
            View::Resting { stale: None, error } => Err(CallError::Discovery(error)),
        }
    }

    /// Asks the DHT in the background, unless somebody does already; returns what ends with that.
    pub(super) fn discover_later(self: &Arc<Self>, service: &Arc<Service>) -> watch::Receiver<()> {
        let (end, search) = service.search(runtime::now());
        if let Some(search) = search {
            let (rpc, service) = (Arc::clone(self), Arc::clone(service));
            self.tasks.spawn(async move { rpc.ask(&service, &search).await });
        }
        end
    }

    /// Asks the DHT, for as long as a call may take by default, whoever waits for it.
    async fn ask(self: &Arc<Self>, service: &Arc<Service>, search: &Search) {
        RpcCounts::add(&self.counts.discoveries);
        let era = self.directory.era();
        let timeout = self.config.timeout / 2;
        let options = FindOptions { kind: RecordKind::PROVIDER, from: None, level: None, timeout };
        match self.dht.find_value(service.key, options).await {
            Ok(records) => {
                let (found, ttl) = self.read(records);
                service.found(search, era, runtime::now(), ttl, found);
            }
            Err(FindError::Shutdown) => service.failed(search, runtime::now(), FindError::Shutdown),
            Err(error) => {
                // Too few replicas answer to know of all: one may know of some.
                let options = FindOptions { level: Some(Level::First), ..options };
                let some = self.dht.find_value(service.key, options).await.unwrap_or_default();
                let now = runtime::now();
                match self.read(some) {
                    (some, _) if some.is_empty() => service.failed(search, now, error),
                    (some, _) => service.found_some(search, era, now, some),
                }
            }
        }
    }

    /// The providers in `records`, whose addresses are remembered, and for how long they are believed.
    fn read(&self, records: Vec<Record>) -> (Vec<(NodeId, Vec<u8>)>, Duration) {
        let mut ttl = DISCOVERY_TTL;
        let mut found: Vec<_> = records
            .into_iter()
            .filter(|record| record.publisher != self.local)
            .filter_map(|record| {
                let entry = ProviderEntry::decode(&record.value).ok()?;
                ttl = ttl.min(record.ttl.max(NEGATIVE_TTL));
                Some((record.publisher, entry))
            })
            .collect();
        if found.len() > PROVIDERS_MAX {
            let near = self.local.to_key();
            found.sort_by_key(|(id, _)| near.distance(&id.to_key()));
            found.truncate(PROVIDERS_MAX);
        }
        let found = found
            .into_iter()
            .map(|(id, ProviderEntry { endpoints, metadata })| {
                let endpoints: Vec<Endpoint> =
                    endpoints.iter().filter_map(|text| text.parse().ok()).collect();
                self.pool.hear(id, endpoints);
                (id, metadata)
            })
            .collect();
        (found, ttl)
    }

    /// Who offers `service`, this node included; `fresh` asks the DHT although somebody is remembered.
    pub(crate) async fn find_providers(
        self: &Arc<Self>,
        service: &Arc<Service>,
        fresh: bool,
        timeout: Duration,
    ) -> Result<Vec<Provider>, CallError> {
        if self.is_closing() {
            return Err(CallError::Shutdown);
        }
        let deadline = runtime::after(timeout);
        if fresh {
            service.renew(runtime::now());
        }
        let now = runtime::now();
        let own = service.own(self).map(|offer| {
            let health = Known::new(self.local, Vec::new()).health(now);
            Provider { id: self.local, metadata: offer.metadata.clone(), health }
        });
        let others = match service.others(self, now) {
            View::Fresh { providers, due } => {
                if due {
                    drop(self.discover_later(service));
                }
                Ok(providers)
            }
            View::Nobody => Err(CallError::NoProvider),
            _ => match self.discover(service, deadline).await {
                // Who forces an answer wants none that is remembered.
                Ok((_, Source::Stale)) if fresh => Err(CallError::Discovery(service.error())),
                found => found.map(|(found, _)| found),
            },
        };
        let others = match others {
            Ok(providers) => providers,
            Err(CallError::NoProvider) => Arc::new([]),
            Err(_) if own.is_some() => Arc::new([]),
            Err(error) => return Err(error),
        };
        let now = runtime::now();
        let each = |known: &Arc<Known>| Provider {
            id: known.id,
            metadata: known.metadata.clone(),
            health: known.health(now),
        };
        Ok(own.into_iter().chain(others.iter().map(each)).collect())
    }
}
