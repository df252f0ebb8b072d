//! `loadgen run`: preload, warm up, measure, audit.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Result, anyhow};

use crate::audit::{self, Claim, Findings};
use crate::drive::{Part, drive};
use crate::host::Host;
use crate::plan::{Plan, Workload};
use crate::report::Report;
use crate::stop::{Signal, Stop};
use crate::target::{Mesh, Target};
use crate::workload::Data;

/// The first operation of a warm-up, out of reach of the measured ones.
const WARMUP_FIRST: u64 = 1 << 40;
/// Records in one call while the mesh is filled.
const PRELOAD_BATCH: usize = 256;

/// A finished run.
pub struct Done {
    pub report: Report,
    pub signal: Option<Signal>,
}

/// Runs `plan` on a mesh of its own. Says on stderr when the mesh is there: from then on a signal yields
/// partial results.
pub async fn run(plan: &Plan, host: &Host, stop: &mut Stop) -> Result<Done> {
    let mesh = Mesh::start(plan.nodes, plan.k, plan.seed, plan.limits()).await?;
    eprintln!("loadgen: {} on a mesh of {} nodes, seed {}", plan.workload.name(), plan.nodes, plan.seed);
    let done = measure(&mesh.target(plan)?, plan, host, "measure", stop).await;
    mesh.shutdown().await;
    done
}

/// Runs `plan` on a mesh that is there.
pub async fn measure(
    target: &Target,
    plan: &Plan,
    host: &Host,
    title: &'static str,
    stop: &mut Stop,
) -> Result<Done> {
    let data = Arc::new(Data::new(plan, |key| !plan.workload.reads() || target.is_remote(key)));
    if plan.workload.reads() {
        preload(target, &data).await?;
    }
    if !plan.warmup.is_zero() && stop.signal().is_none() {
        let part = Part { first: WARMUP_FIRST, duration: Some(plan.warmup), ops: None, title: "warm-up" };
        drive(target, &data, plan, part, stop).await?;
    }
    let started_at = SystemTime::now();
    let part = Part { first: 0, duration: plan.duration, ops: plan.ops, title };
    let mut phase = drive(target, &data, plan, part, stop).await?;
    let sample = std::mem::take(&mut phase.tally.sample);
    let findings = match plan.workload {
        Workload::Store | Workload::StoreMany => Some(check(target, &data, plan, sample).await),
        Workload::Find | Workload::FindMany | Workload::Connect => None,
    };
    let mut report = Report::new(plan, &phase, findings, host, started_at);
    if plan.workload.reads() && data.keys().iter().any(|key| !target.is_remote(key)) {
        report
            .validity
            .notes
            .push("the reader holds copies of what it reads: use --nodes above --k + 1".to_owned());
    }
    Ok(Done { report, signal: phase.signal })
}

async fn check(target: &Target, data: &Arc<Data>, plan: &Plan, sample: audit::Sample) -> Findings {
    let acknowledged = sample.seen();
    let mut claims = sample.into_claims();
    claims.extend((0..plan.plant_loss).map(|number| Claim::planted(number, target.a_peer())));
    audit::audit(target, data, acknowledged, claims).await
}

/// Stores a value under every key, so that a reader finds one.
async fn preload(target: &Target, data: &Data) -> Result<()> {
    for (chunk, keys) in data.keys().chunks(PRELOAD_BATCH).enumerate() {
        let first = (chunk * PRELOAD_BATCH) as u64;
        let items = (first..).zip(keys).map(|(n, key)| (*key, data.value(n))).collect();
        let stored = target.store_many(items).await;
        stored.map_err(|failure| anyhow!("the records to read could not be stored: {}", failure.message))?;
    }
    Ok(())
}
