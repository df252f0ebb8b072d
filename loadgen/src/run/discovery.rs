//! `loadgen run discovery`: offer many services, find each from afar, call it, take all back, look again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use tokio::task::JoinSet;

use super::{Done, audit_calls};
use crate::drive::{Part, Phase, drive};
use crate::host::Host;
use crate::plan::{Plan, Workload};
use crate::report::{DiscoveryRow, Report, RpcRow, Step};
use crate::stop::Stop;
use crate::target::{Mesh, Target};
use crate::workload::Data;

/// After so long nobody finds what was taken back.
const FORGOTTEN: Duration = Duration::from_secs(2);
/// Searches in flight for what was taken back.
const CONCURRENCY: usize = 32;

/// Runs `plan` on a mesh that is there.
pub async fn measure(mesh: &Mesh, plan: &Plan, host: &Host, stop: &mut Stop) -> Result<Done> {
    let target = mesh.target(plan)?;
    let data = Arc::new(Data::new(plan, |_| true));
    let services = target.services()?.offers();
    let step = |workload, rate| Plan { workload, rate, ..plan.clone() };
    let part = |title| Part { first: 0, duration: None, ops: plan.ops, title };

    let advertise = step(Workload::Advertise, None);
    let advertised = drive(&target, &data, &advertise, part("advertise"), stop).await?;
    let before = target.counters();
    let started_at = SystemTime::now();
    let cold = drive(&target, &data, plan, part("discover"), stop).await?;
    let call = step(Workload::Rpc, plan.rate);
    let called = drive(&target, &data, &call, part("call"), stop).await?;
    let counted = target.counters().since(&before).calls;
    let signal = [&advertised, &cold, &called].into_iter().find_map(|phase| phase.signal);

    let found = cold.tally.succeeded.min(called.tally.succeeded);
    let mut row = DiscoveryRow {
        services,
        advertise: Step::of(&advertise, &advertised),
        call: Step::of(&call, &called),
        lost: if signal.is_some() { 0 } else { services - found.min(services) },
        withdrawn: 0,
        not_withdrawn: 0,
        left: 0,
        unknown: 0,
    };
    if signal.is_none() {
        withdraw(&target, &data, &mut row).await?;
    }
    let audit = audit_calls(target.services()?, plan);
    let mut report = Report::new(plan, &Phase { signal, ..cold }, None, host, started_at);
    report.add_rpc(RpcRow::new(counted, audit, Some(row)));
    Ok(Done { report, signal })
}

/// Takes everything back, and tries to find and to call it all the same.
async fn withdraw(target: &Target, data: &Arc<Data>, row: &mut DiscoveryRow) -> Result<()> {
    let (withdrawn, not_withdrawn) = target.services()?.withdraw().await;
    (row.withdrawn, row.not_withdrawn) = (withdrawn, not_withdrawn);
    tokio::time::sleep(FORGOTTEN).await;
    let next = Arc::new(AtomicU64::new(0));
    let mut askers = JoinSet::new();
    for _ in 0..CONCURRENCY {
        let (target, data, next, services) = (target.clone(), data.clone(), next.clone(), row.services);
        askers.spawn(async move {
            let (mut left, mut unknown) = (0, 0);
            let asked = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < services);
            while let Some(i) = asked() {
                // The number of a call that was not made yet; whoever remembers the provider still asks it.
                let call = services + i;
                let called = target.call(call, data.numbered(call)).await.is_ok();
                match target.is_known(i).await {
                    Ok(known) => left += u64::from(known || called),
                    Err(_) => unknown += 1,
                }
            }
            (left, unknown)
        });
    }
    while let Some(found) = askers.join_next().await {
        let (left, unknown) = found?;
        row.left += left;
        row.unknown += unknown;
    }
    Ok(())
}
