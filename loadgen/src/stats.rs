//! Throughput, and how sure it is.

use serde::Serialize;

use crate::drive::Phase;
use crate::plan::Plan;

/// Successful operations per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Throughput {
    pub ops_per_s: f64,
    /// The same in records: an operation of a batched workload carries many.
    pub records_per_s: f64,
    /// Standard error of `ops_per_s`, from the intervals of the run; `null`: too few.
    pub std_err: Option<f64>,
    /// Effective number of intervals, after their autocorrelation.
    pub ess: Option<f64>,
    /// Achieved share of the target rate; `null` in a closed loop.
    pub target_ratio: Option<f64>,
}

impl Throughput {
    pub fn of(plan: &Plan, phase: &Phase) -> Self {
        let seconds = phase.elapsed.as_secs_f64();
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let whole = (seconds / phase.interval.as_secs_f64()) as usize;
        let rates: Vec<f64> = phase.intervals.iter().take(whole).map(|interval| interval.ok as f64).collect();
        let error = standard_error(&rates);
        Self {
            ops_per_s: per_second(phase.tally.succeeded),
            records_per_s: per_second(phase.tally.records),
            std_err: error.map(|(error, _)| error / phase.interval.as_secs_f64()),
            ess: error.map(|(_, ess)| ess),
            target_ratio: plan.rate.map(|_| {
                if phase.intended == 0 { 0.0 } else { phase.tally.succeeded as f64 / phase.intended as f64 }
            }),
        }
    }

    /// The 95 % confidence interval of `self / other`, to first order.
    pub fn ratio_interval(&self, other: &Self) -> Option<(f64, f64)> {
        let share = |side: &Self| side.std_err.map(|error| error / side.ops_per_s);
        let ratio = self.ops_per_s / other.ops_per_s;
        let error = 1.96 * ratio * share(self)?.hypot(share(other)?);
        (ratio.is_finite() && error.is_finite()).then_some((ratio - error, ratio + error))
    }
}

/// The standard error of the mean of a correlated series, and its effective length: with the first
/// autocorrelation r, n values say as much as `n (1 - r) / (1 + r)` independent ones.
fn standard_error(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    if n < 3.0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let square: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let lagged: f64 = values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    let r = if square > 0.0 { (lagged / square).clamp(0.0, 0.9) } else { 0.0 };
    let ess = (n * (1.0 - r) / (1.0 + r)).max(1.0);
    Some(((square / (n - 1.0) / ess).sqrt(), ess))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn independent_values_have_the_textbook_error() {
        let (error, ess) = standard_error(&[10.0, 12.0, 10.0, 12.0, 10.0, 12.0]).expect("enough values");
        assert_eq!(ess, 6.0);
        assert!((error - (1.2_f64 / 6.0).sqrt()).abs() < 1e-9, "{error}");
        assert!(standard_error(&[1.0, 2.0]).is_none());
    }

    #[test]
    fn a_trend_counts_for_fewer_values() {
        let trend: Vec<f64> = (0..20).map(f64::from).collect();
        let (_, ess) = standard_error(&trend).expect("enough values");
        assert!(ess < 4.0, "{ess}");
    }

    #[test]
    fn a_ratio_is_as_sure_as_its_parts() {
        let side = |ops_per_s, error| Throughput {
            ops_per_s,
            records_per_s: ops_per_s,
            std_err: Some(error),
            ess: Some(9.0),
            target_ratio: None,
        };
        let (low, high) = side(1000.0, 30.0).ratio_interval(&side(10.0, 0.4)).expect("errors known");
        assert!((low - 90.2).abs() < 0.01 && (high - 109.8).abs() < 0.01, "{low} {high}");
    }
}
