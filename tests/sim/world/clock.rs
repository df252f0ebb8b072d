//! Virtual time: one true clock, and what each node takes for it.

use std::time::{Duration, Instant};

/// Microseconds since the start of a run.
pub(crate) type Micros = u64;

/// Microseconds in a second.
pub(crate) const SECOND: Micros = 1_000_000;

/// Microseconds in a minute.
pub(crate) const MINUTE: Micros = 60 * SECOND;

/// Parts in a million.
const MILLION: u64 = 1_000_000;

/// How one node's clock differs from the true one: where it started, and how fast it goes.
///
/// Instants of different nodes are never compared, so only the speed can do harm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Skew {
    epoch: Instant,
    offset: Micros,
    /// How many parts in a million it goes through in a million true ones.
    speed: u64,
}

impl Skew {
    /// A clock that read `offset` at `epoch` and goes `ppm` parts in a million too fast.
    pub(crate) fn new(epoch: Instant, offset: Micros, ppm: i64) -> Self {
        Self { epoch, offset, speed: MILLION.saturating_add_signed(ppm).max(1) }
    }

    /// What the clock shows at `at`.
    pub(crate) fn local(&self, at: Micros) -> Instant {
        self.epoch + Duration::from_micros(self.offset + scaled(at, self.speed, MILLION))
    }

    /// The first true time at which the clock shows `instant` or later.
    pub(crate) fn global(&self, instant: Instant) -> Micros {
        let shown = instant.saturating_duration_since(self.epoch).as_nanos().div_ceil(1_000);
        let shown = u64::try_from(shown).unwrap_or(u64::MAX / 2).saturating_sub(self.offset);
        let at = scaled(shown, MILLION, self.speed);
        at + u64::from(scaled(at, self.speed, MILLION) < shown)
    }
}

fn scaled(value: u64, by: u64, of: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(by) / u128::from(of)).unwrap_or(u64::MAX / 2)
}

/// The duration of `micros`.
pub(crate) fn span(micros: Micros) -> Duration {
    Duration::from_micros(micros)
}

/// `duration` in microseconds.
pub(crate) fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 2)
}
