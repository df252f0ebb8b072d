//! `loadgen run`: preload, warm up, measure, audit.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Result, anyhow};

use crate::audit::{self, Audited, Claim};
use crate::drive::{Part, drive};
use crate::host::Host;
use crate::ledger::CallFindings;
use crate::plan::{Plan, Workload};
use crate::report::{Report, RpcRow};
use crate::stop::{Signal, Stop};
use crate::target::{Mesh, Services, Target};
use crate::workload::Data;

mod discovery;

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
    let mut mesh = Mesh::start(plan).await?;
    eprintln!("loadgen: {} on a mesh of {} nodes, seed {}", plan.workload.name(), plan.nodes, plan.seed);
    measure(&mut mesh, plan, host, "measure", stop).await
}

/// Runs `plan` on a mesh that is there.
pub async fn measure(
    mesh: &mut Mesh,
    plan: &Plan,
    host: &Host,
    title: &'static str,
    stop: &mut Stop,
) -> Result<Done> {
    if plan.workload == Workload::Discovery {
        return discovery::measure(mesh, plan, host, stop).await;
    }
    let target = mesh.target(plan)?;
    let data = Arc::new(Data::new(plan, |key| !plan.workload.reads() || target.has_reader(key)));
    if plan.workload.reads() {
        preload(&target, &data).await?;
    }
    if plan.workload == Workload::Rpc {
        for i in 0..target.services()?.offers() {
            target.advertise(i).await?;
        }
    }
    if !plan.warmup.is_zero() && stop.signal().is_none() {
        let part = Part { first: WARMUP_FIRST, duration: Some(plan.warmup), ops: None, title: "warm-up" };
        drive(&target, &data, plan, part, stop).await?;
    }
    let started_at = SystemTime::now();
    let part = Part { first: 0, duration: plan.duration, ops: plan.ops, title };
    let (phase, churned) = mesh.churn_while(plan, drive(&target, &data, plan, part, stop)).await;
    let mut phase = phase?;
    phase.churned = churned;
    let sample = std::mem::take(&mut phase.tally.sample);
    let audited = match plan.workload {
        Workload::Store | Workload::StoreMany => Some(check(mesh, &target, &data, plan, sample).await),
        _ => None,
    };
    let mut report = Report::new(plan, &phase, audited, host, started_at);
    if plan.workload == Workload::Rpc {
        let counted = phase.traffic.unwrap_or_default().calls;
        report.add_rpc(RpcRow::new(counted, audit_calls(target.services()?, plan), None));
    }
    if plan.workload.reads() && data.keys().iter().any(|key| !target.has_reader(key)) {
        report
            .validity
            .notes
            .push("the reader holds copies of what it reads: use --nodes above --k + 1".to_owned());
    }
    Ok(Done { report, signal: phase.signal })
}

/// Compares what callers were told with what the handlers have done.
fn audit_calls(services: &Services, plan: &Plan) -> CallFindings {
    services.ledger().plant(plan.plant_loss);
    services.ledger().audit(plan.rpc.is_some_and(|rpc| rpc.idempotent))
}

/// Audits what was acknowledged; again after some nodes have gone silent, if the plan says so.
async fn check(
    mesh: &mut Mesh,
    target: &Target,
    data: &Arc<Data>,
    plan: &Plan,
    sample: audit::Sample,
) -> Audited {
    let acknowledged = sample.seen();
    let mut claims = sample.into_claims();
    claims.extend((0..plan.plant_loss).map(|number| Claim::planted(number, target.planted())));
    let claims = Arc::new(claims);
    let findings = audit::audit(target, data, acknowledged, &claims).await;
    let killed = mesh.kill(plan);
    let after = if killed == 0 {
        None
    } else {
        Some((killed, audit::audit(target, data, acknowledged, &claims).await))
    };
    Audited { findings, after }
}

/// Stores a value under every key, so that a reader finds one.
async fn preload(target: &Target, data: &Data) -> Result<()> {
    let mut by_writer = std::collections::BTreeMap::<usize, Vec<_>>::new();
    for (n, key) in (0..).zip(data.keys()) {
        by_writer.entry(target.writer_of(key)).or_default().push((*key, data.value(n)));
    }
    for chunk in by_writer.values().flat_map(|items| items.chunks(PRELOAD_BATCH)) {
        let stored = target.store_many(chunk.to_vec()).await;
        stored.map_err(|failure| anyhow!("the records to read could not be stored: {}", failure.message))?;
    }
    Ok(())
}
