//! The flags of the runs that offer and call services.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use super::count;
use crate::plan::{RELAYS, Route, RpcPlan, Workload};

/// Where the help shows the flags.
const HEADING: &str = "Services";
/// The services of `run discovery` when `--services` is not given.
const SERVICES: u64 = 100;
/// The nodes of `run discovery` when `--nodes` is not given.
const DISCOVERY_NODES: usize = 16;

#[derive(Clone, Debug, Args)]
pub struct RpcArgs {
    /// rpc: nodes that offer the service. [default: 1]
    #[arg(long, value_name = "N", env = "LOADGEN_PROVIDERS", help_heading = HEADING)]
    providers: Option<usize>,
    /// rpc: how calls reach the providers. [default: direct]
    #[arg(long, value_enum, env = "LOADGEN_ROUTE", help_heading = HEADING)]
    route: Option<Route>,
    /// rpc: how long the handler waits before it answers. [default: not at all]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, env = "LOADGEN_HANDLER_DELAY", help_heading = HEADING)]
    handler_delay: Option<Duration>,
    /// rpc: a call may go to another provider although the first may have run it.
    #[arg(long, env = "LOADGEN_IDEMPOTENT", help_heading = HEADING)]
    idempotent: bool,
    /// discovery: services, offered by one half of the nodes and looked up from the other. [default: 100]
    #[arg(long, value_name = "N", value_parser = count, env = "LOADGEN_SERVICES", help_heading = HEADING)]
    services: Option<u64>,
}

impl RpcArgs {
    /// How many nodes a run has that does not say.
    pub fn nodes(&self, workload: Workload) -> Option<usize> {
        let providers = self.providers.unwrap_or(1);
        match (workload, self.route) {
            (Workload::Rpc, Some(Route::MultiHop)) => Some(1 + RELAYS + providers),
            (Workload::Rpc, _) => Some(providers.saturating_add(1).max(5)),
            (Workload::Discovery, _) => Some(DISCOVERY_NODES),
            _ => None,
        }
    }

    /// How many nodes make calls in a run of `nodes` that does not say.
    pub const fn callers(workload: Workload, nodes: usize) -> Option<usize> {
        match workload {
            Workload::Rpc => Some(1),
            Workload::Discovery if nodes < 2 => Some(1),
            Workload::Discovery => Some(nodes / 2),
            _ => None,
        }
    }

    /// The calls in flight over the route, if not the usual number: a relay passes on 64 requests of one peer.
    pub fn concurrency(&self) -> Option<usize> {
        (self.route == Some(Route::MultiHop)).then_some(32)
    }

    /// Who offers what in a run of `nodes`, `callers` of which make calls.
    pub fn plan(&self, workload: Workload, nodes: usize, callers: usize) -> Result<Option<RpcPlan>> {
        let calls = self.providers.is_some()
            || self.route.is_some()
            || self.handler_delay.is_some()
            || self.idempotent;
        if calls && workload != Workload::Rpc {
            bail!("--providers, --route, --handler-delay and --idempotent are for run rpc");
        }
        if self.services.is_some() && workload != Workload::Discovery {
            bail!("--services is for run discovery");
        }
        let (providers, services) = match workload {
            Workload::Rpc => (self.providers.unwrap_or(1), 1),
            Workload::Discovery => (nodes.saturating_sub(callers), self.services.unwrap_or(SERVICES)),
            _ => return Ok(None),
        };
        Ok(Some(RpcPlan {
            providers,
            services: usize::try_from(services)?,
            route: self.route.unwrap_or(Route::Direct),
            handler_delay: self.handler_delay.unwrap_or_default(),
            idempotent: self.idempotent,
        }))
    }

    /// How many operations a run of `workload` has, if that follows from its services.
    pub fn ops(&self, workload: Workload) -> Option<u64> {
        (workload == Workload::Discovery).then(|| self.services.unwrap_or(SERVICES))
    }
}
