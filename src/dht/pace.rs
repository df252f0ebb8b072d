//! A limit on bytes per second, for work in the background.

use std::time::{Duration, Instant};

/// Spaces out what is sent so that it stays below a rate. What is not sent is not saved up for later: after a
/// pause the first part goes at once, and the next ones follow at the rate.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    bytes_per_second: u64,
    paid: Instant,
}

impl Pace {
    /// A pace of `bytes_per_second`, at least 1, from `now` on.
    pub fn new(now: Instant, bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), paid: now }
    }

    /// When `bytes` may be sent, which the next ones will wait for: at once, or when those before them are
    /// paid for.
    pub fn spend(&mut self, now: Instant, bytes: usize) -> Instant {
        let at = self.paid.max(now);
        let nanos = u128::from(u64::try_from(bytes).unwrap_or(u64::MAX)) * 1_000_000_000;
        let cost = u64::try_from(nanos / u128::from(self.bytes_per_second)).unwrap_or(u64::MAX);
        // Far beyond any frame: a rate so low that the instant would overflow does not come to pass.
        self.paid = at.checked_add(Duration::from_nanos(cost)).unwrap_or(at);
        at
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests read the clock")]

    use super::*;

    #[test]
    fn what_is_sent_stays_below_the_rate_and_nothing_is_saved_up() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(start, 1_000);
        assert_eq!(pace.spend(after(5_000), 500), after(5_000), "the first goes at once");
        assert_eq!(pace.spend(after(5_000), 250), after(5_500));
        assert_eq!(pace.spend(after(5_100), 1), after(5_750));
        assert_eq!(pace.spend(after(9_000), 1), after(9_000));
        let mut stopped = Pace::new(start, 0);
        stopped.spend(start, usize::MAX);
        assert!(stopped.spend(start, 1) >= start);
    }
}
