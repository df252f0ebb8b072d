//! The part of a report that says what was run.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::drive::Phase;
use crate::plan::{Limits, Plan, RpcPlan};

#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub id: String,
    pub started_at: String,
    pub duration_s: f64,
    pub warmup_s: f64,
    pub seed: u64,
    pub labels: BTreeMap<String, String>,
    pub shard: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub struct Config {
    pub workload: &'static str,
    pub model: &'static str,
    pub arrival: Option<&'static str>,
    pub rate: Option<f64>,
    pub concurrency: usize,
    pub transport: &'static str,
    pub nodes: usize,
    pub k: usize,
    pub callers: usize,
    pub churn: f64,
    pub kill: f64,
    pub ack: &'static str,
    pub batch: usize,
    pub size: Size,
    pub keys: usize,
    pub key_dist: String,
    /// What each node may hold, where the run raised it; `null`: the default.
    pub store_limits: Option<Limits>,
    pub duration_s: Option<f64>,
    pub ops: Option<u64>,
    pub drain_s: f64,
    pub timeout_s: f64,
    /// `null`: no service was called.
    pub rpc: Option<RpcConfigRow>,
    pub tls: Tls,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Size {
    pub fixed: usize,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tls {
    pub verify: bool,
}

/// Who offers what, and how it is called.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RpcConfigRow {
    pub providers: usize,
    pub services: usize,
    pub route: &'static str,
    pub handler_delay_s: f64,
    pub idempotent: bool,
}

impl Run {
    pub(super) fn new(plan: &Plan, phase: &Phase, started_at: SystemTime) -> Self {
        let millis = started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self {
            id: format!("{millis:x}-{}-{}", plan.label, std::process::id()),
            started_at: humantime::format_rfc3339_millis(started_at).to_string(),
            duration_s: phase.elapsed.as_secs_f64(),
            warmup_s: plan.warmup.as_secs_f64(),
            seed: plan.seed,
            labels: BTreeMap::new(),
            shard: "0/1",
        }
    }
}

impl Config {
    pub(super) fn of(plan: &Plan) -> Self {
        Self {
            workload: plan.workload.name(),
            model: if plan.is_open() { "open" } else { "closed" },
            arrival: plan.is_open().then_some("constant"),
            rate: plan.rate,
            concurrency: plan.concurrency,
            transport: plan.transport.name(),
            nodes: plan.nodes,
            k: plan.k,
            callers: plan.callers,
            churn: plan.churn,
            kill: plan.kill,
            ack: plan.ack.name(),
            batch: plan.batch,
            size: Size { fixed: plan.size },
            keys: plan.keys,
            key_dist: plan.key_dist.to_string(),
            store_limits: plan.limits(),
            duration_s: plan.duration.map(|duration| duration.as_secs_f64()),
            ops: plan.ops,
            drain_s: plan.drain.as_secs_f64(),
            timeout_s: plan.timeout.as_secs_f64(),
            rpc: plan.rpc.as_ref().map(RpcConfigRow::of),
            tls: Tls { verify: true },
        }
    }
}

impl RpcConfigRow {
    fn of(plan: &RpcPlan) -> Self {
        Self {
            providers: plan.providers,
            services: plan.services,
            route: plan.route.name(),
            handler_delay_s: plan.handler_delay.as_secs_f64(),
            idempotent: plan.idempotent,
        }
    }
}
