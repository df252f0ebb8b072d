//! How long to wait for an answer, from how long answers have taken.
//!
//! The smoothed round trip and its deviation of RFC 6298 (section 2), over every answered query of a
//! node. Peers differ, but a search asks strangers: what is known of all of them is the best guess for
//! the next.

use std::time::Duration;

/// The shortest time that a query has: 250 ms.
pub const HOP_TIMEOUT_MIN: Duration = Duration::from_millis(250);
/// The longest time that a query has: 5 s.
pub const HOP_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// The time that a query has before any was answered: 1 s.
pub const HOP_TIMEOUT_FIRST: Duration = Duration::from_secs(1);
/// The shortest time that a query has which has to connect first: 2 s. A handshake waits for the processors
/// of both hosts, which may have many to do at once.
pub const COLD_TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// The shortest time after which a query is slow: 20 ms. Less would answer every pause of a scheduler
/// with a query more.
pub const SLOW_MIN: Duration = Duration::from_millis(20);

/// How long one query may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// After this it is slow: somebody else is asked as well, and it goes on.
    pub slow: Duration,
    /// After this it counts as failed, although its answer is still welcome.
    pub timeout: Duration,
}

/// An estimate of the time that a query takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rtt {
    /// Smoothed round trip and mean deviation, once there was a sample.
    measured: Option<(Duration, Duration)>,
    /// How often the timeout was doubled since the last sample.
    doubled: u32,
}

impl Rtt {
    /// An estimate without samples.
    pub const fn new() -> Self {
        Self { measured: None, doubled: 0 }
    }

    /// Takes the time that one answer took.
    pub fn observe(&mut self, sample: Duration) {
        self.doubled = 0;
        // One answer that slept with its host for a day must not be remembered for longer.
        let sample = sample.min(2 * HOP_TIMEOUT_MAX);
        self.measured = Some(match self.measured {
            None => (sample, sample / 2),
            Some((smoothed, deviation)) => {
                (smoothed * 7 / 8 + sample / 8, deviation * 3 / 4 + smoothed.abs_diff(sample) / 4)
            }
        });
    }

    /// Doubles the timeout until the next sample: nobody has answered in time, so what is too short would
    /// never be measured (RFC 6298, section 5.5).
    pub fn back_off(&mut self) {
        self.doubled = (self.doubled + 1).min(8);
    }

    /// How long a query has before it counts as failed, [`HOP_TIMEOUT_MIN`] to [`HOP_TIMEOUT_MAX`];
    /// [`HOP_TIMEOUT_FIRST`] before the first sample.
    pub fn timeout(&self) -> Duration {
        let late = self.late().map_or(HOP_TIMEOUT_FIRST, |late| late.max(HOP_TIMEOUT_MIN));
        (late * (1 << self.doubled)).min(HOP_TIMEOUT_MAX)
    }

    /// How long a query goes on before it is called slow and somebody else is asked as well: later than
    /// nearly all answers, at least [`SLOW_MIN`] and at most half of [`timeout`](Self::timeout).
    pub fn slow(&self) -> Duration {
        let half = self.timeout() / 2;
        self.late().map_or(half, |late| late.clamp(SLOW_MIN, half))
    }

    /// Both together.
    pub fn timing(&self) -> Timing {
        Timing { slow: self.slow(), timeout: self.timeout() }
    }

    /// Later than nearly all answers come.
    fn late(&self) -> Option<Duration> {
        self.measured.map(|(smoothed, deviation)| smoothed + 4 * deviation)
    }
}

/// What a node expects of the queries of its lookups: over a connection that is there, and over one that
/// has to be made first, which takes several round trips.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    warm: Rtt,
    cold: Rtt,
}

impl Patience {
    /// Estimates without samples.
    pub const fn new() -> Self {
        Self { warm: Rtt::new(), cold: Rtt::new() }
    }

    /// Takes the time that one answer took, and whether over a connection that was there.
    pub fn observe(&mut self, sample: Duration, warm: bool) {
        if warm { self.warm.observe(sample) } else { self.cold.observe(sample) }
    }

    /// Notes that none of the queries of a lookup was answered in time.
    pub fn back_off(&mut self) {
        self.warm.back_off();
        self.cold.back_off();
    }

    /// How long a query may take over a connection that is there.
    pub fn warm(&self) -> Timing {
        self.warm.timing()
    }

    /// How long a query may take that connects first, at least [`COLD_TIMEOUT_MIN`].
    pub fn cold(&self) -> Timing {
        let Timing { slow, timeout } = self.cold.timing();
        Timing { slow, timeout: timeout.max(COLD_TIMEOUT_MIN) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(samples: impl IntoIterator<Item = u64>) -> Rtt {
        let mut rtt = Rtt::new();
        samples.into_iter().for_each(|ms| rtt.observe(Duration::from_millis(ms)));
        rtt
    }

    #[test]
    fn patience_follows_the_answers_and_stays_within_its_limits() {
        let none = Rtt::new();
        assert_eq!((none.slow(), none.timeout()), (HOP_TIMEOUT_FIRST / 2, HOP_TIMEOUT_FIRST));
        let near = after([0; 100]);
        assert_eq!((near.slow(), near.timeout()), (SLOW_MIN, HOP_TIMEOUT_MIN));
        let far = after([300; 100]);
        assert!(far.timeout() >= Duration::from_millis(299), "{far:?}");
        assert!(far.timeout() < Duration::from_millis(310), "{far:?}");
        let away = after([3_600_000; 10]);
        assert_eq!((away.slow(), away.timeout()), (HOP_TIMEOUT_MAX / 2, HOP_TIMEOUT_MAX));
        assert!(after([3_600_000].into_iter().chain([1; 60])).timeout() < Duration::from_secs(1));
    }

    #[test]
    fn the_first_sample_and_the_next_count_as_rfc_6298_says() {
        assert_eq!(after([100]).timeout(), Duration::from_millis(300));
        // Deviation 3/4 * 50 + 1/4 * 100, round trip 7/8 * 100 + 1/8 * 200.
        assert_eq!(after([100, 200]).timeout(), Duration::from_micros(112_500 + 4 * 62_500));
    }

    #[test]
    fn connecting_first_has_a_patience_of_its_own() {
        let mut patience = Patience::new();
        for _ in 0..100 {
            patience.observe(Duration::from_millis(1), true);
            patience.observe(Duration::from_millis(2_000), false);
        }
        assert_eq!(patience.warm(), Timing { slow: SLOW_MIN, timeout: HOP_TIMEOUT_MIN });
        assert!(patience.cold().timeout >= Duration::from_millis(1_999), "{patience:?}");
        let mut near = Patience::new();
        near.observe(Duration::ZERO, false);
        assert_eq!(near.cold(), Timing { slow: SLOW_MIN, timeout: COLD_TIMEOUT_MIN });
    }

    #[test]
    fn the_timeout_doubles_until_somebody_answers() {
        let mut rtt = after([0; 100]);
        let timeouts: Vec<u128> = (0..7)
            .map(|_| {
                let timeout = rtt.timeout().as_millis();
                rtt.back_off();
                timeout
            })
            .collect();
        assert_eq!(timeouts, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
        assert_eq!(rtt.slow(), SLOW_MIN);
        rtt.observe(Duration::ZERO);
        assert_eq!(rtt.timeout(), HOP_TIMEOUT_MIN);
    }

    #[test]
    fn slow_is_well_below_the_timeout() {
        for spread in [0, 1, 10, 100, 1_000, 10_000] {
            let timing = after((0..50).map(|i| i * spread / 50)).timing();
            assert!(timing.slow * 2 <= timing.timeout, "{spread}: {timing:?}");
        }
    }
}
