//! When an advertisement is stored again.
//!
//! Early enough that it does not end while a failed try is made up for, and not all at the same time: after
//! a restart of many nodes, what they advertised together would otherwise be refreshed together for ever.

use std::time::{Duration, Instant};

use super::draws::scale;

/// How long before its end an advertisement is stored again, if it lives long enough: 60 s.
pub const REFRESH_MARGIN: Duration = Duration::from_secs(60);
/// The shortest time between two refreshes that succeed, unless the advertisement lives less long: 10 s.
pub const REFRESH_MIN: Duration = Duration::from_secs(10);
/// The longest pause after a refresh that has failed once: 1 s. It doubles with each further failure.
pub const BACK_OFF_MIN: Duration = Duration::from_secs(1);
/// The longest pause after any number of failures: 30 s.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// As good as never: 30 years.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The times of the refreshes of one advertisement.
#[derive(Debug, Clone, Copy)]
pub struct Refresh {
    ttl: Duration,
    /// The longest pause after the next failure.
    back_off: Duration,
}

impl Refresh {
    /// Of an advertisement that lives for `ttl`.
    pub const fn new(ttl: Duration) -> Self {
        Self { ttl, back_off: BACK_OFF_MIN }
    }

    /// When to store it again after it was stored: [`REFRESH_MARGIN`] before it ends, but not within
    /// [`REFRESH_MIN`], and at the latest after 0.8 of its life; up to a tenth earlier.
    pub fn after_success(&mut self, now: Instant, draw: u64) -> Instant {
        self.back_off = BACK_OFF_MIN;
        let wanted = self.ttl.saturating_sub(REFRESH_MARGIN).max(REFRESH_MIN);
        let wait = wanted.min(self.ttl / 5 * 4);
        after(now, wait - part(wait / 10, draw))
    }

    /// When to try again after it could not be stored: after up to [`BACK_OFF_MIN`], doubling with each
    /// failure in a row to [`BACK_OFF_MAX`], all of it drawn but a tenth, which keeps the tries apart. It
    /// goes on when the advertisement has ended.
    pub fn after_failure(&mut self, now: Instant, draw: u64) -> Instant {
        let longest = self.back_off;
        self.back_off = (2 * longest).min(BACK_OFF_MAX);
        after(now, longest - part(longest / 10 * 9, draw))
    }
}

/// A part of `whole`, by `draw`.
fn part(whole: Duration, draw: u64) -> Duration {
    // A duration beyond 500 years is left without its jitter.
    let nanos = u64::try_from(whole.as_nanos()).unwrap_or(0);
    Duration::from_nanos(scale(draw, nanos))
}

/// `now + wait`, or in 30 years if no clock runs for so long.
fn after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or(now + FAR)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests read the clock")]

    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn it_is_stored_again_well_before_it_ends() {
        let now = Instant::now();
        for (ttl, latest) in
            [(300, 240), (3_600, 2_880), (75, 15), (70, 10), (60, 10), (20, 10), (10, 8), (5, 4)]
        {
            let at = |draw| Refresh::new(secs(ttl)).after_success(now, draw) - now;
            assert_eq!(at(0), secs(latest), "{ttl}");
            let earliest = at(u64::MAX);
            assert!(earliest < secs(latest) && earliest >= secs(latest) * 9 / 10, "{ttl}: {earliest:?}");
            assert!(at(1 << 63).abs_diff(secs(latest) * 19 / 20) < Duration::from_micros(1), "{ttl}");
        }
    }

    #[test]
    fn failures_are_repeated_at_growing_distances_until_one_succeeds() {
        let now = Instant::now();
        let mut refresh = Refresh::new(secs(300));
        for longest in [1, 2, 4, 8, 16, 30, 30, 30] {
            let mut again = refresh;
            assert_eq!(refresh.after_failure(now, 0) - now, secs(longest));
            let shortest = again.after_failure(now, u64::MAX) - now;
            assert!(shortest.abs_diff(secs(longest) / 10) < Duration::from_micros(1), "{shortest:?}");
        }
        refresh.after_success(now, 0);
        assert_eq!(refresh.after_failure(now, 0) - now, secs(1));
    }

    #[test]
    fn any_life_and_any_draw_will_do() {
        let now = Instant::now();
        for ttl in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            for draw in [0, 1 << 63, u64::MAX] {
                let mut refresh = Refresh::new(ttl);
                assert!(refresh.after_success(now, draw) >= now);
                assert!(refresh.after_failure(now, draw) >= now);
            }
        }
    }
}
