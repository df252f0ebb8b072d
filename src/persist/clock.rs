//! Times that mean something to the next run: the wall clock, read once and carried on monotonically.
//!
//! A wall clock that was set back between two runs would lengthen every life by as much. So a run never
//! begins before the last instant that the file knows, and no life is longer than it was when it was
//! written.

use std::time::{Duration, Instant};

/// Milliseconds since the Unix epoch, as this run counts them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    since: Instant,
    /// The time at `since`.
    base: u64,
}

impl Clock {
    /// A clock that shows `unix` at `now`, or `last` if that is later.
    pub(super) fn new(now: Instant, unix: Duration, last: u64) -> Self {
        Self { since: now, base: millis(unix).max(last) }
    }

    /// The time at `now`.
    pub(super) fn at(&self, now: Instant) -> u64 {
        self.base.saturating_add(millis(now.saturating_duration_since(self.since)))
    }
}

/// What is left, at `now`, of the `ttl` that something had at `written`, all in milliseconds.
pub(super) fn left(now: u64, written: u64, ttl: u32) -> u32 {
    let spent = u32::try_from(now.saturating_sub(written)).unwrap_or(u32::MAX);
    ttl.saturating_sub(spent)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests read the clock")]

    use super::*;

    #[test]
    fn time_does_not_go_back() {
        let now = Instant::now();
        let clock = Clock::new(now, Duration::from_secs(50), 80_000);
        assert_eq!(clock.at(now), 80_000, "the wall clock was set back");
        assert_eq!(clock.at(now + Duration::from_secs(5)), 85_000);
        assert_eq!(Clock::new(now, Duration::from_secs(90), 80_000).at(now), 90_000);
    }

    #[test]
    fn no_life_is_longer_than_it_was() {
        assert_eq!(left(1_000, 400, 1_000), 400);
        assert_eq!(left(400, 1_000, 1_000), 1_000, "written in the future");
        assert_eq!(left(2_000, 1_000, 1_000), 0);
        assert_eq!(left(u64::MAX, 0, 1_000), 0);
    }
}
