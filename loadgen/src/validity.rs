//! Whether a measurement deserves trust, judged by the measurement itself.

use serde::Serialize;

use crate::drive::Phase;
use crate::hist;
use crate::host::Host;
use crate::plan::Plan;
use crate::stats::Throughput;

/// The least achieved share of a target rate.
const TARGET_RATIO: f64 = 0.98;
/// The largest p99 of waiting, as a share of the median service time...
const WAIT_SHARE: f64 = 1.0;
/// ... or this, a few slices of a scheduler: nodes, workers and pacer share the cores of one process, so the
/// pacer waits for a core like everybody else.
const WAIT_NS: f64 = 1e7;
/// The largest standard error of the throughput, as a share of it.
const STEADY: f64 = 0.1;
/// Successes in an interval below which its rate is chance.
const STEADY_OPS: u64 = 20;
/// Intervals below which their spread says nothing.
const STEADY_INTERVALS: usize = 4;

/// The largest number of replacements behind the pace of the churn, as a share of those that were due...
const CHURN_LAG: f64 = 0.1;
/// ... or this: the last one may be under way.
const CHURN_OPEN: f64 = 1.0;
/// The largest share of operations that may fail while nodes come and go.
const CHURN_ERRORS: f64 = 0.01;

/// The receive buffer with which bursts of handshakes survive.
const RMEM: u64 = 1 << 20;

/// The verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Validity {
    pub ok: bool,
    pub checks: Vec<Check>,
    /// What a reader should know, and no reason to distrust.
    pub notes: Vec<String>,
}

/// One condition: the value is at least `min` and at most `max`.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    pub pass: bool,
}

impl Check {
    fn at_least(name: &'static str, value: f64, min: f64) -> Self {
        Self { name, value, min: Some(min), max: None, pass: value >= min }
    }

    fn at_most(name: &'static str, value: f64, max: f64) -> Self {
        Self { name, value, min: None, max: Some(max), pass: value <= max }
    }
}

impl Validity {
    /// Judges a phase that ran in the same process as its target.
    pub fn of(plan: &Plan, phase: &Phase, throughput: &Throughput, host: &Host) -> Self {
        let mut checks = vec![
            Check::at_most("udp_rcvbuf_errors", phase.udp_rcvbuf_errors as f64, 0.0),
            Check::at_most("dropped", phase.dropped as f64, 0.0),
        ];
        if let Some(ratio) = throughput.target_ratio {
            checks.push(Check::at_least("target_ratio", ratio, TARGET_RATIO));
        }
        let ok = &phase.tally.ok;
        if let (Some(wait), Some(service)) = (&ok.wait, &ok.service)
            && let (Some(wait), Some(service)) = (hist::quantile(wait, 0.99), hist::quantile(service, 0.5))
        {
            let limit = (service as f64 * WAIT_SHARE).max(WAIT_NS);
            checks.push(Check::at_most("wait_p99_ns", wait as f64, limit));
        }
        let busy = phase.intervals.iter().filter(|interval| interval.ok >= STEADY_OPS).count();
        if let Some(error) = throughput.std_err
            && busy >= STEADY_INTERVALS
        {
            checks.push(Check::at_most("throughput_error_share", error / throughput.ops_per_s, STEADY));
        }
        if plan.churn > 0.0 {
            checks.extend(churn(phase));
        }
        if cfg!(debug_assertions) {
            checks.push(Check::at_least("release_build", 0.0, 1.0));
        }
        let mut notes =
            vec![format!("nodes and loadgen share {} cores: compare arms, not absolutes", host.cores)];
        if plan.churn > 0.0 {
            notes.push(
                "the callers are not replaced, and other nodes may read what they hold themselves".to_owned(),
            );
        }
        if host.rmem_max < RMEM {
            notes.push(format!(
                "the kernel grants sockets {} KiB: raise net.core.rmem_max",
                host.rmem_max >> 10
            ));
        }
        Self { ok: checks.iter().all(|check| check.pass), checks, notes }
    }

    /// Adds the condition that there is none of what was counted.
    pub fn require_none(&mut self, name: &'static str, count: u64) {
        self.checks.push(Check::at_most(name, count as f64, 0.0));
        self.ok &= count == 0;
    }

    /// The checks that failed, for a reader.
    pub fn complaints(&self) -> Vec<String> {
        let complaint = |check: &Check| {
            let value = (check.value * 1000.0).round() / 1000.0;
            match (check.min, check.max) {
                (Some(min), _) => format!("{} is {value}, less than {min}", check.name),
                (None, max) => format!("{} is {value}, more than {}", check.name, max.unwrap_or_default()),
            }
        };
        self.checks.iter().filter(|check| !check.pass).map(complaint).collect()
    }
}

/// Churn that the run could not keep up is another churn; callers are to notice little of it.
fn churn(phase: &Phase) -> [Check; 2] {
    let (due, replaced) = (phase.churned.due as f64, phase.churned.replaced as f64);
    let failed = phase.tally.started.saturating_sub(phase.tally.succeeded) as f64;
    [
        Check::at_most("churn_behind", due - replaced, (due * CHURN_LAG).max(CHURN_OPEN)),
        Check::at_most("churn_error_share", failed / phase.tally.started.max(1) as f64, CHURN_ERRORS),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::tests::plan;
    use crate::record::{Interval, Tally};
    use crate::target::Churned;

    fn phase() -> Phase {
        let mut tally = Tally::default();
        for (hist, ns) in [(&mut tally.ok.service, 500_000), (&mut tally.ok.wait, 60_000)] {
            let hist = hist.get_or_insert_with(hist::empty);
            hist.saturating_record_n(ns, 1000);
        }
        (tally.started, tally.succeeded) = (1000, 1000);
        Phase {
            tally,
            intervals: (0..10).map(|_| Interval { ok: 100, ..Interval::default() }).collect(),
            interval: Duration::from_secs(1),
            moments: Vec::new(),
            intended: 1000,
            dropped: 0,
            elapsed: Duration::from_secs(10),
            cpu: Duration::from_secs(1),
            rss_peak: 0,
            handshakes: 0,
            traffic: None,
            churned: Churned::default(),
            udp_rcvbuf_errors: 0,
            signal: None,
        }
    }

    /// The failed checks, apart from the build's.
    fn failed(spoil: impl FnOnce(&mut Phase)) -> Vec<&'static str> {
        failed_with(0.0, spoil)
    }

    fn failed_with(churn: f64, spoil: impl FnOnce(&mut Phase)) -> Vec<&'static str> {
        let mut plan = plan();
        (plan.rate, plan.churn) = (Some(100.0), churn);
        let mut phase = phase();
        spoil(&mut phase);
        let validity = Validity::of(&plan, &phase, &Throughput::of(&plan, &phase), &Host::read());
        assert_eq!(validity.ok, validity.complaints().is_empty());
        let failed = validity.checks.iter().filter(|check| !check.pass).map(|check| check.name);
        failed.filter(|name| *name != "release_build").collect()
    }

    #[test]
    fn each_defect_is_named() {
        assert_eq!(failed(|_| {}), Vec::<&str>::new());
        assert_eq!(failed(|phase| phase.udp_rcvbuf_errors = 1), ["udp_rcvbuf_errors"]);
        assert_eq!(failed(|phase| phase.dropped = 1), ["dropped"]);
        assert_eq!(failed(|phase| phase.tally.succeeded = 970), ["target_ratio"]);
        let late = |phase: &mut Phase| {
            phase.tally.ok.wait.as_mut().expect("filled").saturating_record_n(50_000_000, 100);
        };
        assert_eq!(failed(late), ["wait_p99_ns"]);
        let unsteady = |phase: &mut Phase| {
            for (i, interval) in phase.intervals.iter_mut().enumerate() {
                interval.ok = if i < 5 { 20 } else { 180 };
            }
        };
        assert_eq!(failed(unsteady), ["throughput_error_share"]);
    }

    #[test]
    fn churn_that_was_not_kept_up_is_named() {
        let churned = |due, replaced| move |phase: &mut Phase| phase.churned = Churned { due, replaced };
        assert_eq!(failed_with(0.1, churned(3, 2)), Vec::<&str>::new());
        assert_eq!(failed_with(0.1, churned(20, 17)), ["churn_behind"]);
        assert_eq!(failed(churned(20, 17)), Vec::<&str>::new(), "without churn nothing is due");
        let failing = |phase: &mut Phase| (phase.tally.started, phase.tally.succeeded) = (1020, 1000);
        assert_eq!(failed_with(0.1, failing), ["churn_error_share"]);
    }
}
