//! The demo: the same STORE through three transports, and the pooled one at a steady rate, on one mesh.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::audit::{Findings, SAMPLE};
use crate::host::Host;
use crate::plan::{Acks, KeyDist, Plan, Transport, Workload};
use crate::report::{Report, SCHEMA_VERSION};
use crate::run::measure;
use crate::stop::{Signal, Stop};
use crate::target::Mesh;

/// The share of the closed loop's rate that the steady arm offers.
const STEADY_SHARE: f64 = 0.7;
/// Nodes of the mesh.
const NODES: usize = 5;
/// Replicas of a record.
const K: usize = 4;
/// Operations in flight, except in the legacy arm.
const IN_FLIGHT: usize = 64;

/// What the demo found.
#[derive(Debug, Serialize)]
pub struct Demo {
    pub schema_version: u32,
    pub kind: &'static str,
    /// False: a signal ended it early, and arms may be missing.
    pub complete: bool,
    pub arms: Vec<Arm>,
    pub audit: Total,
}

#[derive(Debug, Serialize)]
pub struct Arm {
    pub name: &'static str,
    pub report: Report,
}

impl Arm {
    /// What the arm does, for the table.
    pub fn about(&self) -> &'static str {
        match self.name {
            "legacy" => "new conn + 100 ms",
            "fresh" => "new conn, no wait",
            "pooled" => "reused connections",
            _ => "steady 70 %",
        }
    }
}

/// The audits of all arms.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Total {
    pub acknowledged: u64,
    pub sampled: u64,
    pub asked: u64,
    pub reads: u64,
    pub missing: u64,
}

impl Total {
    const fn add(&mut self, findings: &Findings) {
        self.acknowledged += findings.acknowledged;
        self.sampled += findings.sampled;
        self.asked += findings.asked;
        self.reads += findings.reads;
        self.missing += findings.missing;
    }
}

/// Runs the arms one after another.
pub async fn run(
    seed: u64,
    plant_loss: usize,
    host: &Host,
    stop: &mut Stop,
) -> Result<(Demo, Option<Signal>)> {
    let mut mesh = Mesh::start(&plan("legacy", seed, 0.0)).await?;
    arms(&mut mesh, seed, plant_loss, host, stop).await
}

async fn arms(
    mesh: &mut Mesh,
    seed: u64,
    plant_loss: usize,
    host: &Host,
    stop: &mut Stop,
) -> Result<(Demo, Option<Signal>)> {
    let mut demo = Demo {
        schema_version: SCHEMA_VERSION,
        kind: "loadgen.demo",
        complete: true,
        arms: Vec::new(),
        audit: Total::default(),
    };
    let mut pooled_rate = 0.0;
    for name in ["legacy", "fresh", "pooled", "pooled-open"] {
        let mut plan = plan(name, seed, pooled_rate);
        plan.plant_loss = if name == "pooled" { plant_loss } else { 0 };
        let done = measure(mesh, &plan, host, name, stop).await?;
        if let Some(findings) = &done.report.audit {
            demo.audit.add(findings);
        }
        if name == "pooled" {
            pooled_rate = done.report.throughput.ops_per_s;
        }
        let ok = done.report.totals.ok;
        let why = done.report.error_samples.first().map(|sample| sample.message.clone()).unwrap_or_default();
        demo.arms.push(Arm { name, report: done.report });
        if done.signal.is_some() {
            demo.complete = false;
            return Ok((demo, done.signal));
        }
        ensure!(ok > 0, "no store of the arm {name} succeeded: {why}");
    }
    Ok((demo, None))
}

/// The canonical workload; numbers of different versions of it are not comparable.
fn plan(name: &str, seed: u64, pooled_rate: f64) -> Plan {
    let (transport, concurrency, rate, millis, warmup) = match name {
        "legacy" => (Transport::Legacy, 1, None, 2200, 0),
        "fresh" => (Transport::Fresh, IN_FLIGHT, None, 2500, 0),
        "pooled" => (Transport::Pooled, IN_FLIGHT, None, 3000, 300),
        _ => (Transport::Pooled, 4 * IN_FLIGHT, Some(pooled_rate * STEADY_SHARE), 2500, 200),
    };
    Plan {
        label: name.to_owned(),
        workload: Workload::Store,
        transport,
        nodes: NODES,
        k: K,
        callers: 1,
        churn: 0.0,
        kill: 0.0,
        duration: Some(Duration::from_millis(millis)),
        ops: None,
        concurrency,
        rate,
        warmup: Duration::from_millis(warmup),
        size: 256,
        keys: 10_000,
        key_dist: KeyDist::Uniform,
        seed,
        batch: 1,
        ack: Acks::Quorum,
        drain: Duration::from_secs(1),
        timeout: Duration::from_secs(5),
        audit: SAMPLE,
        rpc: None,
        plant_loss: 0,
    }
}
