//! Finding out who offers a service.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::directory::{Known, Providers, Service, View};
use super::error::CallError;
use super::registry::Offer;
use super::report::Source;
use super::{RpcCounts, RpcService};
use crate::addr::Endpoint;
use crate::dht::read::Level;
use crate::id::NodeId;
use crate::rpc::freshness::DISCOVERY_TTL;
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
                    self.discover_later(service);
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
        let timed_out = || CallError::Timeout { provider: None, maybe_executed: false };
        let turn = tokio::time::timeout_at(deadline.into(), service.asking.lock()).await;
        let _turn = turn.map_err(|_| timed_out())?;
        let now = runtime::now();
        let stale = match service.others(self, now) {
            View::Fresh { providers, due: false } => return Ok((providers, Source::Dht)),
            View::Nobody => return Err(CallError::NoProvider),
            View::Own(_) | View::Fresh { .. } => None,
            View::Ask { stale } => stale,
            View::Resting { stale: Some(providers), .. } => {
                RpcCounts::add(&self.counts.stale);
                return Ok((providers, Source::Stale));
            }
            View::Resting { stale: None, error } => return Err(CallError::Discovery(error)),
        };
        match self.ask(service, deadline.saturating_duration_since(now)).await {
            Ok(providers) if providers.is_empty() => Err(CallError::NoProvider),
            Ok(providers) => Ok((providers, Source::Dht)),
            Err(FindError::Shutdown) => Err(CallError::Shutdown),
            Err(error) => match stale {
                Some(providers) => {
                    RpcCounts::add(&self.counts.stale);
                    Ok((providers, Source::Stale))
                }
                None if error.is_timeout() && runtime::now() >= deadline => Err(timed_out()),
                None => Err(CallError::Discovery(error)),
            },
        }
    }

    /// Asks the DHT in the background.
    pub(super) fn discover_later(self: &Arc<Self>, service: &Arc<Service>) {
        let (rpc, service) = (Arc::clone(self), Arc::clone(service));
        self.tasks.spawn(async move {
            let Ok(_turn) = service.asking.try_lock() else { return };
            let _ = rpc.ask(&service, rpc.config.timeout).await;
        });
    }

    /// Asks the DHT.
    async fn ask(
        self: &Arc<Self>,
        service: &Arc<Service>,
        timeout: Duration,
    ) -> Result<Providers, FindError> {
        RpcCounts::add(&self.counts.discoveries);
        let era = self.directory.era();
        let timeout = timeout / 2;
        let options = FindOptions { kind: RecordKind::PROVIDER, from: None, level: None, timeout };
        let found = self.dht.find_value(service.key, options).await;
        let now = runtime::now();
        match found {
            Err(error) if error != FindError::Shutdown => {
                // Too few replicas answer to know of all: one may know of some.
                let options = FindOptions { level: Some(Level::First), ..options };
                let some = self.dht.find_value(service.key, options).await.unwrap_or_default();
                let now = runtime::now();
                if some.is_empty() {
                    service.failed(now, error.clone());
                    return Err(error);
                }
                Ok(service.found_some(era, now, self.read(some)))
            }
            Ok(records) => {
                let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(DISCOVERY_TTL);
                Ok(service.found(era, now, ttl.min(DISCOVERY_TTL), self.read(records)))
            }
            Err(error) => {
                service.failed(now, error.clone());
                Err(error)
            }
        }
    }

    /// The providers in `records`, whose addresses are remembered.
    fn read(&self, records: Vec<Record>) -> Vec<(NodeId, Vec<u8>)> {
        let mut found: Vec<_> = records
            .into_iter()
            .filter(|record| record.publisher != self.local)
            .filter_map(|record| Some((record.publisher, ProviderEntry::decode(&record.value).ok()?)))
            .collect();
        if found.len() > PROVIDERS_MAX {
            let near = self.local.to_key();
            found.sort_by_key(|(id, _)| near.distance(&id.to_key()));
            found.truncate(PROVIDERS_MAX);
        }
        found
            .into_iter()
            .map(|(id, ProviderEntry { endpoints, metadata })| {
                let endpoints: Vec<Endpoint> =
                    endpoints.iter().filter_map(|text| text.parse().ok()).collect();
                self.pool.hear(id, endpoints);
                (id, metadata)
            })
            .collect()
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
            service.expire();
        }
        let now = runtime::now();
        let own = match service.view(self, now) {
            View::Own(offer) => {
                let health = Known::new(self.local, Vec::new()).health(now);
                Some(Provider { id: self.local, metadata: offer.metadata.clone(), health })
            }
            _ => None,
        };
        let others = match service.others(self, now) {
            View::Fresh { providers, due } => {
                if due {
                    self.discover_later(service);
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
