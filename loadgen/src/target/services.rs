//! The services of a mesh: offered by its last nodes, called by its first, and what both say of it.

use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use foveola::{Advertisement, Caller, HandlerError, Node, NodeId, NodeStats, Request};
use serde::Serialize;

use super::failures;
use crate::errors::{Failure, Kind};
use crate::ledger::Ledger;
use crate::plan::{NUMBER_BYTES, Plan, RpcPlan, Workload};

/// Services that are taken back at a time.
const WITHDRAWALS: usize = 32;

/// What the callers, and the nodes that pass on for others, have counted of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallCounters {
    /// Attempts beyond the first of a call.
    pub failovers: u64,
    /// Those of them that began while an earlier attempt was under way.
    pub overlaps: u64,
    /// Calls whose providers were remembered.
    pub discovery_hits: u64,
    /// Times that the DHT was asked for providers.
    pub discovery_asks: u64,
    /// Calls that used what was remembered because the DHT could not be asked.
    pub discovery_stale: u64,
    /// Attempts that took a route through others.
    pub routed: u64,
    /// Requests that nodes have passed on, each counting it.
    pub relay_hops: u64,
    /// Replies that came when nobody waited any more.
    pub late_replies: u64,
}

impl CallCounters {
    pub(super) const fn add_caller(&mut self, stats: &NodeStats) {
        self.failovers += stats.failovers;
        self.overlaps += stats.overlaps;
        self.discovery_hits += stats.discovery_hits;
        self.discovery_asks += stats.discoveries;
        self.discovery_stale += stats.discovery_stale;
        self.routed += stats.calls_routed;
        self.late_replies += stats.late_replies;
    }

    /// What was counted after `before`.
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            failovers: self.failovers.saturating_sub(before.failovers),
            overlaps: self.overlaps.saturating_sub(before.overlaps),
            discovery_hits: self.discovery_hits.saturating_sub(before.discovery_hits),
            discovery_asks: self.discovery_asks.saturating_sub(before.discovery_asks),
            discovery_stale: self.discovery_stale.saturating_sub(before.discovery_stale),
            routed: self.routed.saturating_sub(before.routed),
            relay_hops: self.relay_hops.saturating_sub(before.relay_hops),
            late_replies: self.late_replies.saturating_sub(before.late_replies),
        }
    }
}

/// The services of one plan.
pub struct Services {
    offers: Vec<Offer>,
    callers: Vec<Handle>,
    offered: Mutex<Vec<Advertisement>>,
    ledger: Arc<Ledger>,
    delay: Duration,
    timeout: Duration,
}

/// What one node is to offer.
struct Offer {
    node: Node,
    name: String,
}

/// What one node is to call.
struct Handle {
    node: Node,
    name: String,
    caller: Caller,
}

impl Services {
    /// Many services have one provider and one caller each, in turn; a single one has all providers, and all
    /// callers.
    pub(super) fn new(plan: &Plan, rpc: &RpcPlan, nodes: &[Node]) -> Result<Self> {
        let (callers, providers) = (&nodes[..plan.callers], &nodes[nodes.len() - rpc.providers..]);
        let name = |n: usize| format!("loadgen/{}/{}", plan.label, n % rpc.services);
        let (offers, calls) = match plan.workload {
            Workload::Discovery => (rpc.services, rpc.services),
            _ => (rpc.providers, plan.callers),
        };
        let offer = |n: usize| Offer { node: providers[n % providers.len()].clone(), name: name(n) };
        let handle = |n: usize| {
            let (node, name) = (callers[n % callers.len()].clone(), name(n));
            let caller = node.rpc().caller(&name).context("the name of a service")?.timeout(plan.timeout);
            let caller = if rpc.idempotent { caller.idempotent() } else { caller };
            Ok(Handle { node, name, caller })
        };
        Ok(Self {
            offers: (0..offers).map(offer).collect(),
            callers: (0..calls).map(handle).collect::<Result<_>>()?,
            offered: Mutex::default(),
            ledger: Arc::default(),
            delay: rpc.handler_delay,
            timeout: plan.timeout,
        })
    }

    /// What there is to offer.
    pub fn offers(&self) -> u64 {
        self.offers.len() as u64
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Offers number `i`: an echo that notes that it runs.
    pub(super) async fn advertise(&self, i: u64) -> Result<(), Failure> {
        let Offer { node, name } = &self.offers[(i % self.offers()) as usize];
        let ledger = Arc::clone(&self.ledger);
        let note = move |args: &Bytes| {
            if let Some(number) = args.first_chunk::<NUMBER_BYTES>() {
                ledger.executed(u64::from_le_bytes(*number));
            }
        };
        let delay = self.delay;
        let offered = if delay.is_zero() {
            let echo = move |request: Request| {
                note(&request.args);
                ready(Ok::<_, HandlerError>(request.args))
            };
            node.rpc().advertise_raw(name.as_str(), echo).await
        } else {
            let echo = move |request: Request| {
                note(&request.args);
                async move {
                    tokio::time::sleep(delay).await;
                    Ok::<_, HandlerError>(request.args)
                }
            };
            node.rpc().advertise_raw(name.as_str(), echo).await
        };
        let offered = offered.map_err(|error| Failure::new(Kind::Remote, error))?;
        let published = offered.published();
        self.offered.lock().unwrap_or_else(PoisonError::into_inner).push(offered);
        published.map(drop).map_err(|error| failures::store(&error))
    }

    fn handle(&self, i: u64) -> &Handle {
        &self.callers[(i % self.callers.len() as u64) as usize]
    }

    /// Asks who offers what call `i` is for, and expects all who do.
    pub(super) async fn discover(&self, i: u64) -> Result<(), Failure> {
        let Handle { node, name, .. } = self.handle(i);
        let found = node.rpc().find_providers(name).timeout(self.timeout).await;
        let found = found.map_err(|error| failures::call(&error))?;
        let is_found = |id: NodeId| found.iter().any(|provider| provider.id == id);
        if self.offers.iter().filter(|offer| offer.name == *name).all(|offer| is_found(offer.node.id())) {
            return Ok(());
        }
        Err(Failure::new(Kind::NoProvider, "not all who offer the service were found"))
    }

    /// Whether the DHT knows anybody who offers what call `i` is for.
    pub(super) async fn is_known(&self, i: u64) -> Result<bool, Failure> {
        let Handle { node, name, .. } = self.handle(i);
        let found = node.rpc().find_providers(name).fresh().timeout(self.timeout).await;
        found.map(|found| !found.is_empty()).map_err(|error| failures::call(&error))
    }

    /// Makes the call number `i`, whose arguments bear its number.
    pub(super) async fn call(&self, i: u64, args: Bytes) -> Result<(), Failure> {
        match self.handle(i).caller.call_raw(args.clone()).await {
            Ok(result) if result == args => {
                self.ledger.acknowledged(i);
                Ok(())
            }
            Ok(_) => {
                self.ledger.failed(i, true);
                Err(Failure::new(Kind::Remote, "the echo is not what was called"))
            }
            Err(error) => {
                self.ledger.failed(i, error.maybe_executed());
                Err(failures::call(&error))
            }
        }
    }

    /// Takes everything back that was offered. Returns how much that was, and of how much too few replicas
    /// know it.
    pub async fn withdraw(&self) -> (u64, u64) {
        let offered = std::mem::take(&mut *self.offered.lock().unwrap_or_else(PoisonError::into_inner));
        let count = offered.len() as u64;
        let mut failed = 0;
        let mut under_way = tokio::task::JoinSet::new();
        for one in offered {
            if under_way.len() >= WITHDRAWALS {
                failed += u64::from(!matches!(under_way.join_next().await, Some(Ok(Ok(())))));
            }
            under_way.spawn(one.withdraw());
        }
        while let Some(ended) = under_way.join_next().await {
            failed += u64::from(!matches!(ended, Ok(Ok(()))));
        }
        (count, failed)
    }
}
