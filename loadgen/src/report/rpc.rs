//! The part of a report that is about services: how they were found and called, and whether what callers
//! were told is true.

use serde::Serialize;

use super::Latency;
use crate::drive::Phase;
use crate::ledger::CallFindings;
use crate::plan::Plan;
use crate::stats::Throughput;
use crate::target::CallCounters;

#[derive(Clone, Debug, Serialize)]
pub struct RpcRow {
    pub counted: CallCounters,
    /// Nodes that have passed on a call, in the mean of the calls that have a result.
    pub relay_hops_per_call: f64,
    pub audit: CallFindings,
    /// `null`: one service was called, and not many looked up.
    pub discovery: Option<DiscoveryRow>,
}

/// What became of many services. The operations of the report itself are the searches for services that the
/// callers had not heard of.
#[derive(Clone, Debug, Serialize)]
pub struct DiscoveryRow {
    pub services: u64,
    pub advertise: Step,
    /// One call of each service by whoever has found it.
    pub call: Step,
    /// Services that were not found, or found and could not be called.
    pub lost: u64,
    /// Services that were taken back, and those of them of which too few replicas know it.
    pub withdrawn: u64,
    pub not_withdrawn: u64,
    /// Services that the DHT still knew when they had been taken back, or that could be called.
    pub left: u64,
    /// Services of which the DHT could not be asked then.
    pub unknown: u64,
}

/// A part of a run beside the one that is measured.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    pub ok: u64,
    pub failed: u64,
    pub ops_per_s: f64,
    /// The time of the successes, from the intended start if there was one; missing if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<Latency>,
    pub counted: CallCounters,
}

impl RpcRow {
    pub fn new(counted: CallCounters, audit: CallFindings, discovery: Option<DiscoveryRow>) -> Self {
        let per_call = counted.relay_hops as f64 / audit.acknowledged.max(1) as f64;
        Self { counted, relay_hops_per_call: per_call, audit, discovery }
    }

    /// What was promised and is not true.
    pub fn broken(&self) -> u64 {
        let discovery = self.discovery.as_ref();
        self.audit.wrong + discovery.map_or(0, |row| row.lost + row.left + row.unknown)
    }
}

impl Step {
    pub fn of(plan: &Plan, phase: &Phase) -> Self {
        let ok = &phase.tally.ok;
        Self {
            ok: phase.tally.succeeded,
            failed: phase.intended - phase.tally.succeeded,
            ops_per_s: Throughput::of(plan, phase).ops_per_s,
            latency_ns: ok.response.as_ref().or(ok.service.as_ref()).map(Latency::of),
            counted: phase.traffic.unwrap_or_default().calls,
        }
    }
}
