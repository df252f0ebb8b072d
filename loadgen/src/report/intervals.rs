//! The rows of the `intervals` of a report: what happened when.

use std::time::Duration;

use super::IntervalRow;
use crate::drive::Phase;
use crate::hist;
use crate::plan::Plan;
use crate::progress::Moment;
use crate::record::Interval;
use crate::schedule::Schedule;

/// One row for each interval of the phase.
pub fn rows(plan: &Plan, phase: &Phase) -> Vec<IntervalRow> {
    let schedule = plan.rate.map(Schedule::constant);
    let name = format!("{}.{}", plan.workload.key(), plan.lead());
    let row = |(i, interval): (usize, &Interval)| {
        let from = phase.interval * i as u32;
        let to = (from + phase.interval).min(phase.elapsed.max(from));
        let due = |at| schedule.map(|schedule| schedule.count(at).min(phase.intended));
        IntervalRow {
            t_s: from.as_secs_f64(),
            dur_s: (to - from).as_secs_f64(),
            intended: due(to).zip(due(from)).map(|(to, from)| to - from),
            ok: interval.ok,
            errors: interval.errors,
            in_flight: near(&phase.moments, to).map(|moment| moment.in_flight),
            cpu_self_pct: cpu_pct(&phase.moments, from, to),
            cpu_target_pct: None,
            hdr: interval.lead.iter().map(|hist| (name.clone(), hist::encode(hist))).collect(),
        }
    };
    phase.intervals.iter().enumerate().map(row).collect()
}

/// The look nearest to an instant.
fn near(moments: &[Moment], at: Duration) -> Option<&Moment> {
    moments.iter().min_by_key(|moment| moment.at.abs_diff(at))
}

fn cpu_pct(moments: &[Moment], from: Duration, to: Duration) -> Option<f64> {
    let (from, to) = (near(moments, from)?, near(moments, to)?);
    let span = to.at.checked_sub(from.at).filter(|span| !span.is_zero())?;
    Some(100.0 * to.cpu.saturating_sub(from.cpu).as_secs_f64() / span.as_secs_f64())
}
