//! When operations are due: a fixed rate from a fixed start, computed and never observed.
//!
//! Latency counted from a computed instant includes the time an operation spent waiting because its
//! predecessors were slow. Latency counted from the moment the generator got round to it does not, and
//! hides every stall (coordinated omission).

use std::time::Duration;

/// Operation `i` is due `i / rate` after the start.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    interval_ns: f64,
}

impl Schedule {
    /// A constant rate of `rate` operations a second; `rate` is positive and finite.
    pub fn constant(rate: f64) -> Self {
        Self { interval_ns: 1e9 / rate }
    }

    /// When operation `i` is due, from the start.
    pub fn due(self, i: u64) -> Duration {
        Duration::from_nanos((i as f64 * self.interval_ns) as u64)
    }

    /// How many operations are due before `span` has passed: those with `due(i) < span`.
    pub fn count(self, span: Duration) -> u64 {
        let mut count = (span.as_nanos() as f64 / self.interval_ns).ceil() as u64;
        while count > 0 && self.due(count - 1) >= span {
            count -= 1;
        }
        while self.due(count) < span {
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_instants_do_not_drift() {
        let schedule = Schedule::constant(3.0);
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(3).as_millis(), 1000);
        assert_eq!(schedule.due(3 * 86_400).as_secs(), 86_400, "one day at 3/s");
    }

    #[test]
    fn count_is_the_inverse_of_due() {
        for rate in [0.5, 1.0, 3.0, 7.7, 1000.0, 123_456.7] {
            for span in [Duration::from_millis(1), Duration::from_secs(1), Duration::from_secs(17)] {
                let schedule = Schedule::constant(rate);
                let count = schedule.count(span);
                assert!(schedule.due(count) >= span, "{rate} {span:?}");
                assert!(count == 0 || schedule.due(count - 1) < span, "{rate} {span:?}");
            }
        }
        assert_eq!(Schedule::constant(1000.0).count(Duration::from_secs(3)), 3000);
    }
}
