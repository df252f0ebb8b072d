//! The part of a report that is about the DHT: lookups, acknowledgements, churn.

use serde::Serialize;

use crate::audit::Findings;
use crate::drive::Phase;
use crate::plan::Plan;
use crate::target::{Churned, Counters};

/// What the callers' lookups took and what their stores achieved. Their nodes also look up to keep their
/// tables; that is counted too.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DhtRow {
    pub lookups: u64,
    pub lookups_per_op: f64,
    /// `null`: there were no lookups.
    pub queries_per_lookup: Option<f64>,
    pub hops_mean: Option<f64>,
    /// Replicas that had acknowledged a record when its store returned; `null`: nothing was stored.
    pub acked_mean: Option<f64>,
    pub acked_least: Option<u64>,
    /// `null`: none was asked for.
    pub churn: Option<Churned>,
}

/// The audit after nodes went silent.
#[derive(Clone, Debug, Serialize)]
pub struct AfterKill {
    pub killed: usize,
    pub audit: Findings,
}

impl DhtRow {
    pub fn new(plan: &Plan, phase: &Phase, counted: &Counters) -> Self {
        let tally = &phase.tally;
        let mean = |sum: u64, of: u64| (of > 0).then(|| sum as f64 / of as f64);
        Self {
            lookups: counted.lookups,
            lookups_per_op: counted.lookups as f64 / tally.succeeded.max(1) as f64,
            queries_per_lookup: mean(counted.queries, counted.lookups),
            hops_mean: mean(counted.hops, counted.lookups),
            acked_mean: tally.acks.least.and_then(|_| mean(tally.acks.sum, tally.records)),
            acked_least: tally.acks.least,
            churn: (plan.churn > 0.0).then_some(phase.churned),
        }
    }
}
