//! When a provider that fails is left alone, and when it is tried again.
//!
//! A circuit breaker (Nygard, *Release It!*, 2007), in the electrical sense of the words: *closed* is the
//! ordinary state, in which calls pass; *open* lets none through. It opens after [`FAILURES_IN_A_ROW`], or
//! when half of the last [`WINDOW`] calls have failed, for [`PAUSE_MIN`]. After the pause it is *half-open*:
//! one call may pass as a probe. Its success closes the breaker, its failure opens it for twice as long, up
//! to [`PAUSE_MAX`].

use std::time::{Duration, Instant};

/// So many failures without a success between them open a breaker.
pub const FAILURES_IN_A_ROW: u8 = 5;
/// Of so many last calls half must not fail.
pub const WINDOW: u32 = 20;
/// How long a breaker is open the first time: 1 s.
pub const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest time for which a breaker is open: 30 s.
pub const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// All is well: calls pass.
    Closed,
    /// The provider has failed, and one call at a time may find out whether it still does.
    HalfOpen,
    /// The provider has failed: no call passes.
    Open {
        /// When the breaker will be half-open.
        until: Instant,
    },
}

/// Whether a provider may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may, by anybody.
    Free,
    /// It may, by one: its breaker is half-open, and nobody is trying.
    Probe,
    /// It should not.
    Refused {
        /// When its breaker will be half-open; `None` when somebody is trying just then.
        until: Option<Instant>,
    },
}

/// How a call came out, as far as the provider is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    Failure,
    Unjudged,
}

/// Under which circumstances a call was let through; goes back with its verdict.
#[derive(Debug)]
pub(super) struct Ticket {
    era: u32,
    probe: bool,
}

/// The state of a breaker and what decides on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circuit {
    state: State,
    /// Counts the changes between closed and open. What began before the last one says nothing about what
    /// came after it.
    era: u32,
    /// How long the breaker will be open the next time.
    pause: Duration,
    /// The last [`WINDOW`] verdicts, the latest lowest; 1 is a failure.
    recent: u32,
    in_a_row: u8,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    /// Half-open from `until` on.
    Open {
        until: Instant,
        probing: bool,
    },
}

impl Circuit {
    pub(super) const fn new() -> Self {
        Self { state: State::Closed, era: 0, pause: PAUSE_MIN, recent: 0, in_a_row: 0 }
    }

    pub(super) fn breaker(&self, now: Instant) -> Breaker {
        match self.state {
            State::Closed => Breaker::Closed,
            State::Open { until, .. } if now < until => Breaker::Open { until },
            State::Open { .. } => Breaker::HalfOpen,
        }
    }

    pub(super) fn admission(&self, now: Instant) -> Admission {
        match self.state {
            State::Closed => Admission::Free,
            State::Open { until, .. } if now < until => Admission::Refused { until: Some(until) },
            State::Open { probing: true, .. } => Admission::Refused { until: None },
            State::Open { probing: false, .. } => Admission::Probe,
        }
    }

    /// Failures since the last success, while the breaker is closed.
    pub(super) const fn in_a_row(&self) -> u8 {
        self.in_a_row
    }

    /// Lets a call through, whatever [`admission`](Self::admission) says.
    pub(super) fn pass(&mut self, now: Instant) -> Ticket {
        let free_probe = self.admission(now) == Admission::Probe;
        if let State::Open { probing, .. } = &mut self.state {
            *probing |= free_probe;
        }
        Ticket { era: self.era, probe: free_probe }
    }

    /// Takes the verdict on a call.
    ///
    /// A call that went to an open breaker out of turn closes it when it succeeds, which is as good a sign
    /// as a probe; its failure tells nothing new.
    pub(super) fn judge(&mut self, now: Instant, ticket: &Ticket, verdict: Verdict) {
        if ticket.era != self.era {
            return;
        }
        match (&mut self.state, verdict) {
            (State::Closed, Verdict::Success) => self.note(false),
            (State::Closed, Verdict::Failure) => {
                self.note(true);
                if self.in_a_row >= FAILURES_IN_A_ROW || self.recent.count_ones() >= WINDOW / 2 {
                    self.open(now);
                }
            }
            (State::Open { .. }, Verdict::Success) => {
                *self = Self { era: self.era.wrapping_add(1), ..Self::new() };
            }
            (State::Open { .. }, Verdict::Failure) if ticket.probe => self.open(now),
            (State::Open { probing, .. }, Verdict::Unjudged) if ticket.probe => *probing = false,
            (State::Closed, Verdict::Unjudged) | (State::Open { .. }, _) => {}
        }
    }

    fn note(&mut self, failed: bool) {
        self.recent = (self.recent << 1 | u32::from(failed)) & ((1 << WINDOW) - 1);
        self.in_a_row = if failed { self.in_a_row + 1 } else { 0 };
    }

    fn open(&mut self, now: Instant) {
        self.state = State::Open { until: now + self.pause, probing: false };
        self.era = self.era.wrapping_add(1);
        self.pause = (2 * self.pause).min(PAUSE_MAX);
        (self.recent, self.in_a_row) = (0, 0);
    }
}

#[cfg(test)]
mod tests;
