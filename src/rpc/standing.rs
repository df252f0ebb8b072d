//! One provider as this node sees it: how long its answers take, how many calls it has in flight, and
//! whether it fails.
//!
//! Nothing is allocated and nothing is searched: a call pays for [`Standing::begin`], [`Standing::end`] and
//! a [`Standing::weight`] or two.

use std::time::{Duration, Instant};

use super::breaker::{Admission, Breaker, Circuit, Ticket, Verdict};

/// After so long without a call the latency of a provider counts half: 2 s. One that was slow once would
/// otherwise never be called again, and never be found to have become fast.
pub const LATENCY_HALF_LIFE: Duration = Duration::from_secs(2);
/// What a provider counts as that has been called and has not answered yet: 1 s.
pub const LATENCY_UNKNOWN: Duration = Duration::from_secs(1);
/// The shortest [patience](Standing::patience): 100 ms. Less would answer every pause of a scheduler with
/// another call.
pub const PATIENCE_MIN: Duration = Duration::from_millis(100);
/// A provider that owes answers for longer than it usually takes is called once in so long: 1 s.
pub const STALL_PAUSE: Duration = Duration::from_secs(1);
/// The longest latency that is told from longer ones: 1 hour.
const LATENCY_MAX: Duration = Duration::from_secs(3600);

/// How a call has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The provider has answered, be it with an error of its handler: it is alive and does its work.
    Answered {
        /// From sending the request to the answer.
        latency: Duration,
    },
    /// The provider could not be reached, refused, or did not answer in time.
    Failed,
    /// It says nothing of the provider: the caller gave up early, or the fault was on this node.
    Unjudged,
}

/// A call that has begun. It goes back with [`Standing::end`] exactly once: until then the call counts as in
/// flight, and if it is a probe, no other is let through.
#[derive(Debug)]
#[must_use = "a call that began has to end"]
pub struct Begun {
    ticket: Ticket,
    at: Instant,
}

/// How a provider has done, for people to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderHealth {
    /// Calls that this node has sent to it, those in flight included.
    pub calls: u64,
    /// How many of them [failed](Ended::Failed).
    pub failures: u64,
    /// How many of them have not ended.
    pub in_flight: u32,
    /// The smoothed latency of its answers; `None` before the first.
    pub latency: Option<Duration>,
    /// Whether calls are let through to it.
    pub breaker: Breaker,
}

/// What this node knows of one provider.
#[derive(Debug)]
pub struct Standing {
    calls: u64,
    failures: u64,
    in_flight: u32,
    circuit: Circuit,
    latency: Option<Smoothed>,
    /// When the last call ended.
    quiet_since: Option<Instant>,
    /// When the latency was measured the last time.
    sampled_at: Option<Instant>,
    /// When the last call began.
    begun_at: Option<Instant>,
    /// Since when it owes an answer and has given none.
    owing_since: Option<Instant>,
}

/// A latency and its mean deviation in nanoseconds, smoothed as the round trip of RFC 6298 (section 2): half
/// of the weight is on the last 5 samples.
#[derive(Debug, Clone, Copy)]
struct Smoothed {
    mean: u64,
    deviation: u64,
}

impl Standing {
    /// A provider of which nothing is known.
    pub const fn new() -> Self {
        Self {
            calls: 0,
            failures: 0,
            in_flight: 0,
            circuit: Circuit::new(),
            latency: None,
            quiet_since: None,
            sampled_at: None,
            begun_at: None,
            owing_since: None,
        }
    }

    /// Whether the provider may be called.
    pub fn admission(&self, now: Instant) -> Admission {
        self.circuit.admission(now)
    }

    /// Begins a call if [`admission`](Self::admission) permits: for whoever has chosen under another lock,
    /// where another call may have taken the probe meanwhile.
    pub fn admit(&mut self, now: Instant) -> Option<Begun> {
        (!matches!(self.admission(now), Admission::Refused { .. })).then(|| self.begin(now))
    }

    /// Begins a call whatever [`admission`](Self::admission) says, as a probe if it says so: for whoever
    /// wants this provider and no other.
    pub fn begin(&mut self, now: Instant) -> Begun {
        self.calls += 1;
        self.in_flight += 1;
        self.begun_at = Some(now);
        self.owing_since.get_or_insert(now);
        Begun { ticket: self.circuit.pass(now), at: now }
    }

    /// Ends a call of this provider.
    pub fn end(&mut self, now: Instant, begun: Begun, ended: Ended) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.quiet_since = Some(now);
        let verdict = match ended {
            Ended::Answered { latency } => {
                // As one round trip gives one sample (RFC 6298, section 4): those that waited together for a
                // provider to come back are not so many signs of its being slow.
                if self.sampled_at.is_none_or(|sampled| begun.at >= sampled) {
                    self.sampled_at = Some(now);
                    self.observe(nanos(latency));
                }
                self.owing_since = Some(now);
                Verdict::Success
            }
            Ended::Failed => {
                self.failures += 1;
                Verdict::Failure
            }
            Ended::Unjudged => Verdict::Unjudged,
        };
        if self.in_flight == 0 {
            self.owing_since = None;
        }
        self.circuit.judge(now, &begun.ticket, verdict);
    }

    /// What it would cost to choose this provider, for [`choose`](super::select::choose): its
    /// [`load`](Self::load), nothing if it wants a probe, `None` if it should not be called: its breaker is
    /// open, or it has stopped to answer and was called within the last [`STALL_PAUSE`].
    pub fn weight(&self, now: Instant) -> Option<u64> {
        match self.admission(now) {
            Admission::Free => (!self.is_stalled(now)).then(|| self.load(now)),
            // Beside healthy providers it would never be chosen, and so never become one.
            Admission::Probe => Some(0),
            Admission::Refused { .. } => None,
        }
    }

    /// How long one more call would keep this provider busy, to compare providers with: its smoothed
    /// latency times the calls in flight and that one, in nanoseconds.
    ///
    /// Each failure since the last success doubles it. It halves with each [`LATENCY_HALF_LIFE`] in which
    /// the provider was not called. A provider that was never called costs nothing, and while its first
    /// call is in flight [`LATENCY_UNKNOWN`]: it is tried at once, with one call.
    pub fn load(&self, now: Instant) -> u64 {
        let failed = self.circuit.in_a_row();
        let latency = match self.latency {
            Some(latency) => latency.mean.max(1),
            None if self.in_flight == 0 && failed == 0 => return 0,
            None => nanos(LATENCY_UNKNOWN),
        };
        // One hour, the longest, leaves room for more failures than a closed breaker permits.
        let latency = (latency << failed) >> self.half_lives(now).min(63);
        latency.max(1).saturating_mul(u64::from(self.in_flight) + 1)
    }

    /// How long an answer usually takes at most: twice what RFC 6298 would wait for it, at least
    /// [`PATIENCE_MIN`]. An idempotent call that waits longer may try another provider meanwhile. `None`
    /// before the first answer.
    pub fn patience(&self) -> Option<Duration> {
        let late = |it: Smoothed| Duration::from_nanos(2 * (it.mean + 4 * it.deviation));
        self.latency.map(|latency| late(latency).max(PATIENCE_MIN))
    }

    /// How the provider has done.
    pub fn health(&self, now: Instant) -> ProviderHealth {
        ProviderHealth {
            calls: self.calls,
            failures: self.failures,
            in_flight: self.in_flight,
            latency: self.latency.map(|latency| Duration::from_nanos(latency.mean)),
            breaker: self.circuit.breaker(now),
        }
    }

    /// Whether it owes answers for longer than it usually takes for one, and was called a moment ago. Calls
    /// that may not run twice are lost where nobody answers, long before they have failed.
    fn is_stalled(&self, now: Instant) -> bool {
        let passed = |since: Option<Instant>| since.map(|since| now.saturating_duration_since(since));
        let usual = self.patience().unwrap_or(LATENCY_UNKNOWN);
        let owes = passed(self.owing_since).is_some_and(|owes| owes > usual);
        owes && passed(self.begun_at).is_some_and(|begun| begun < STALL_PAUSE)
    }

    /// For how many half-lives the provider has had nothing to do.
    fn half_lives(&self, now: Instant) -> u64 {
        match self.quiet_since {
            Some(since) if self.in_flight == 0 => {
                now.saturating_duration_since(since).as_secs() / LATENCY_HALF_LIFE.as_secs()
            }
            _ => 0,
        }
    }

    fn observe(&mut self, sample: u64) {
        // What is late counts as just late: one that was silent for a while is not slow from then on.
        let sample = self.patience().map_or(sample, |patience| sample.min(nanos(patience)));
        self.latency = Some(match self.latency {
            None => Smoothed { mean: sample, deviation: sample / 2 },
            Some(Smoothed { mean, deviation }) => Smoothed {
                mean: mean - mean / 8 + sample / 8,
                deviation: deviation - deviation / 4 + mean.abs_diff(sample) / 4,
            },
        });
    }
}

impl Default for Standing {
    fn default() -> Self {
        Self::new()
    }
}

/// In nanoseconds, at most those of [`LATENCY_MAX`].
fn nanos(latency: Duration) -> u64 {
    let latency = latency.min(LATENCY_MAX);
    latency.as_secs() * 1_000_000_000 + u64::from(latency.subsec_nanos())
}

#[cfg(test)]
mod tests;
