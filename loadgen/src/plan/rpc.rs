//! What the runs that offer and call services add to a plan.

use std::time::Duration;

use anyhow::{Result, ensure};
use foveola::rpc::config::SERVICES;

use super::{Plan, Transport, Workload};

/// Nodes between the caller and the providers with [`Route::MultiHop`].
pub const RELAYS: usize = 3;
/// The number of a call is in its arguments.
pub const NUMBER_BYTES: usize = 8;

/// How the calls reach their provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Route {
    /// Everybody reaches everybody.
    Direct,
    /// The sockets let nothing pass but along a line: the caller, three relays, and the providers, which only
    /// the last relay reaches.
    MultiHop,
}

impl Route {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::MultiHop => "multi-hop",
        }
    }
}

/// Who offers what, and how it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcPlan {
    /// The last nodes of the mesh: each offers the one service, or its share of many.
    pub providers: usize,
    /// Names under which something is offered.
    pub services: usize,
    pub route: Route,
    /// How long a handler waits before it answers.
    pub handler_delay: Duration,
    /// Whether a handler may run twice for one call.
    pub idempotent: bool,
}

impl RpcPlan {
    /// Refuses what cannot be run.
    pub(super) fn check(&self, plan: &Plan) -> Result<()> {
        let Self { providers, services, route, .. } = *self;
        ensure!(plan.transport == Transport::Pooled, "services are called over the pooled transport only");
        ensure!(!plan.has_faults(), "--churn and --kill know only records");
        ensure!(plan.size >= NUMBER_BYTES, "--size is at least {NUMBER_BYTES}: a call carries its number");
        ensure!(providers >= 1, "--providers must be at least 1");
        ensure!(plan.callers + providers <= plan.nodes, "--callers and --providers are more than --nodes");
        ensure!(services >= 1, "--services must be at least 1");
        ensure!(
            services.div_ceil(providers) <= SERVICES,
            "a node offers at most {SERVICES} services: use more --nodes"
        );
        if plan.workload == Workload::Discovery {
            let once = plan.duration.is_none() && plan.ops == Some(services as u64);
            ensure!(once, "--services says how often is searched: no --duration and no --ops");
        }
        if route == Route::MultiHop {
            ensure!(plan.callers == 1, "--route multi-hop has one caller");
            let least = 1 + RELAYS + providers;
            ensure!(plan.nodes >= least, "--route multi-hop needs {least} --nodes for so many providers");
        }
        Ok(())
    }
}
