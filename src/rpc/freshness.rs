//! What a remembered answer of discovery is worth.
//!
//! Providers come and go without telling their callers, so what was found is believed for a while only, and
//! asked for again before it ends, so that no call waits for it. When the DHT cannot be asked, which is
//! not the same as finding nothing, an old answer is better than none.

use std::time::{Duration, Instant};

/// The longest time for which providers that were found are believed to be all there are: 60 s.
pub const DISCOVERY_TTL: Duration = Duration::from_secs(60);
/// How long it is believed that a service has no provider: 1 s.
pub const NEGATIVE_TTL: Duration = Duration::from_secs(1);
/// How long after they were found providers may be called if the DHT cannot be asked: 10 minutes.
pub const STALE_MAX: Duration = Duration::from_secs(600);
/// How long nobody asks after the DHT could not be asked: 1 s.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Silent providers make nobody ask more often: 1 s.
pub const DOUBT_PAUSE: Duration = Duration::from_secs(1);
/// What was found is asked for again in the last of so many parts of its life.
const PARTS: u32 = 5;

/// What there is to do with what is remembered of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// Use it.
    Fresh,
    /// Use it, and have somebody ask again meanwhile: it ends soon.
    Due,
    /// There is no provider; asking again so soon is of no use.
    Negative,
    /// Ask, and wait for the answer.
    Expired {
        /// Whether what is remembered may be used if the DHT cannot be asked.
        stale: bool,
    },
    /// It has ended, and a moment ago the DHT could not be asked: do not ask, fail or use what there is.
    Resting {
        /// Whether what is remembered may be used, and be called stale.
        stale: bool,
    },
}

/// When a discovery took place, and how long it is believed.
#[derive(Debug, Clone, Copy)]
pub struct Freshness {
    known: Known,
    /// When the DHT may be asked again after it could not be.
    retry: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum Known {
    /// Nobody has asked.
    Unknown,
    Found {
        at: Instant,
        due: Instant,
        until: Instant,
    },
    Nothing {
        until: Instant,
    },
}

impl Freshness {
    /// Of a service that was never asked for.
    pub const fn unknown() -> Self {
        Self { known: Known::Unknown, retry: None }
    }

    /// Providers were found, of which the entry that ends first ends after `ttl`: they are believed for so
    /// long, at most for [`DISCOVERY_TTL`].
    pub fn found(&mut self, now: Instant, ttl: Duration) {
        let life = ttl.min(DISCOVERY_TTL);
        let until = now + life;
        *self = Self { known: Known::Found { at: now, due: until - life / PARTS, until }, retry: None };
    }

    /// The DHT was asked and holds no provider: that is believed for [`NEGATIVE_TTL`].
    pub fn nothing(&mut self, now: Instant) {
        *self = Self { known: Known::Nothing { until: now + NEGATIVE_TTL }, retry: None };
    }

    /// The DHT could not be asked: what is known stays as it is, and nobody asks for [`RETRY_AFTER`].
    pub fn failed(&mut self, now: Instant) {
        self.retry = Some(now + RETRY_AFTER);
    }

    /// A provider that was found is silent: the next to want them asks in the background whether there are
    /// others, unless that was done within [`DOUBT_PAUSE`].
    pub fn doubt(&mut self, now: Instant) {
        if let Known::Found { at, due, .. } = &mut self.known
            && now.saturating_duration_since(*at) >= DOUBT_PAUSE
        {
            *due = now.min(*due);
        }
    }

    /// What is known is not believed any more: the next to want it asks at once. What was found may be
    /// used if the DHT cannot be asked.
    pub fn expire(&mut self) {
        let known = match self.known {
            Known::Found { at, .. } => Known::Found { at, due: at, until: at },
            Known::Nothing { .. } | Known::Unknown => Known::Unknown,
        };
        *self = Self { known, retry: None };
    }

    /// What there is to do.
    pub fn state(&self, now: Instant) -> Worth {
        let resting = self.retry.is_some_and(|retry| now < retry);
        let stale = match self.known {
            Known::Found { until, due, .. } if now < until => {
                return if now < due || resting { Worth::Fresh } else { Worth::Due };
            }
            Known::Nothing { until } if now < until => return Worth::Negative,
            Known::Found { at, .. } => now < at + STALE_MAX,
            Known::Nothing { .. } | Known::Unknown => false,
        };
        if resting { Worth::Resting { stale } } else { Worth::Expired { stale } }
    }
}

impl Default for Freshness {
    fn default() -> Self {
        Self::unknown()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests read the clock")]

    use super::*;

    const EXPIRED: Worth = Worth::Expired { stale: false };
    const STALE: Worth = Worth::Expired { stale: true };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The first instant in milliseconds after `from` at which there is something else to do, and what.
    fn next(freshness: &Freshness, start: Instant, from: u64) -> (u64, Worth) {
        let worth = freshness.state(start + ms(from));
        let later = (from..700_000).find(|at| freshness.state(start + ms(*at)) != worth);
        let later = later.expect("it ends some time");
        (later, freshness.state(start + ms(later)))
    }

    #[test]
    fn what_was_found_is_fresh_then_due_then_stale_then_nothing() {
        let now = Instant::now();
        let mut freshness = Freshness::default();
        assert_eq!(freshness.state(now), EXPIRED);
        freshness.found(now, Duration::MAX);
        assert_eq!(freshness.state(now), Worth::Fresh);
        assert_eq!(next(&freshness, now, 0), (48_000, Worth::Due));
        assert_eq!(next(&freshness, now, 48_000), (60_000, STALE));
        assert_eq!(next(&freshness, now, 60_000), (600_000, EXPIRED));
    }

    #[test]
    fn the_entry_that_ends_first_ends_it() {
        let now = Instant::now();
        let mut freshness = Freshness::unknown();
        freshness.found(now, ms(1_000));
        assert_eq!(next(&freshness, now, 0), (800, Worth::Due));
        assert_eq!(next(&freshness, now, 800), (1_000, STALE));
        freshness.found(now, Duration::ZERO);
        assert_eq!(freshness.state(now), STALE);
    }

    #[test]
    fn a_doubt_makes_it_due_once_a_second() {
        let now = Instant::now();
        let mut freshness = Freshness::unknown();
        freshness.doubt(now);
        assert_eq!(freshness.state(now), EXPIRED);
        freshness.found(now, DISCOVERY_TTL);
        freshness.doubt(now + DOUBT_PAUSE - ms(1));
        assert_eq!(freshness.state(now + DOUBT_PAUSE), Worth::Fresh);
        freshness.doubt(now + DOUBT_PAUSE);
        assert_eq!(freshness.state(now + DOUBT_PAUSE), Worth::Due);
        freshness.found(now + DOUBT_PAUSE, DISCOVERY_TTL);
        assert_eq!(freshness.state(now + DOUBT_PAUSE), Worth::Fresh);
        assert_eq!(next(&freshness, now, 1_000), (49_000, Worth::Due), "a doubt delays nothing");
    }

    #[test]
    fn nothing_is_believed_for_a_second() {
        let now = Instant::now();
        let mut freshness = Freshness::unknown();
        freshness.found(now, DISCOVERY_TTL);
        freshness.nothing(now);
        assert_eq!(freshness.state(now), Worth::Negative);
        assert_eq!(next(&freshness, now, 0), (1_000, EXPIRED), "who has withdrawn is not called in need");
    }

    #[test]
    fn while_the_dht_cannot_be_asked_what_there_is_stays() {
        let now = Instant::now();
        let mut freshness = Freshness::unknown();
        freshness.failed(now);
        assert_eq!(freshness.state(now), Worth::Resting { stale: false });
        assert_eq!(next(&freshness, now, 0), (1_000, EXPIRED));
        freshness.found(now, DISCOVERY_TTL);
        freshness.failed(now + ms(50_000));
        assert_eq!(freshness.state(now + ms(50_000)), Worth::Fresh, "no one asks twice a second");
        assert_eq!(next(&freshness, now, 50_000), (51_000, Worth::Due));
        freshness.failed(now + ms(599_500));
        assert_eq!(next(&freshness, now, 599_500), (600_000, Worth::Resting { stale: false }));
        assert_eq!(freshness.state(now + ms(599_500)), Worth::Resting { stale: true });
        freshness.nothing(now);
        freshness.failed(now + ms(500));
        assert_eq!(freshness.state(now + ms(500)), Worth::Negative);
        assert_eq!(next(&freshness, now, 500), (1_000, Worth::Resting { stale: false }));
    }

    #[test]
    fn what_is_not_believed_is_asked_for_at_once() {
        let now = Instant::now();
        let mut freshness = Freshness::unknown();
        freshness.nothing(now);
        freshness.expire();
        assert_eq!(freshness.state(now), EXPIRED);
        freshness.found(now, DISCOVERY_TTL);
        freshness.failed(now);
        freshness.expire();
        assert_eq!(freshness.state(now), STALE, "it is better than nothing");
        assert_eq!(next(&freshness, now, 0), (600_000, EXPIRED));
    }
}
