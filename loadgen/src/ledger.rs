//! What became of each call: how often its handler has run, and what its caller was told.
//!
//! One byte for each call, because the handlers write it down while the time is taken.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{PoisonError, RwLock};

use serde::Serialize;

/// Calls that share an allocation.
const CHUNK: usize = 1 << 16;
/// Calls with higher numbers are those of a warm-up, and not written down.
const CALLS_MAX: u64 = 1 << 32;
/// Contradictions that are described one by one.
const SHOWN: usize = 20;

/// How often the handler has run; more often counts as this.
const RUNS: u8 = 0x0f;
/// The caller has the result.
const ACKNOWLEDGED: u8 = 0x10;
/// The caller was told that the handler has not run.
const DENIED: u8 = 0x20;
/// The caller was told that the handler may have run.
const UNSURE: u8 = 0x40;

/// The notes of handlers and callers.
#[derive(Default)]
pub struct Ledger {
    chunks: RwLock<Vec<Box<[AtomicU8]>>>,
}

/// What the notes come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallFindings {
    /// Calls that have a result.
    pub acknowledged: u64,
    /// Calls that have an error.
    pub failed: u64,
    /// Those of them of which the error says that the handler may have run.
    pub maybe_executed: u64,
    /// Handlers that were run.
    pub executions: u64,
    /// Calls whose handler has run more than once.
    pub repeated: u64,
    /// Calls of which the handlers say something else than their callers were told.
    pub wrong: u64,
    /// The first of them.
    pub contradictions: Vec<Contradiction>,
}

/// A call that was told something untrue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Contradiction {
    pub call: u64,
    pub executions: u64,
    /// What its caller was told: `acknowledged`, `not_executed`, `maybe_executed` or `nothing`.
    pub told: &'static str,
}

impl Ledger {
    /// The handler of `call` runs.
    pub fn executed(&self, call: u64) {
        self.note(call, |byte| if byte & RUNS == RUNS { byte } else { byte + 1 });
    }

    /// `call` has a result.
    pub fn acknowledged(&self, call: u64) {
        self.note(call, |byte| byte | ACKNOWLEDGED);
    }

    /// `call` has failed, and its error says whether the handler may have run.
    pub fn failed(&self, call: u64, maybe_executed: bool) {
        self.note(call, |byte| byte | if maybe_executed { UNSURE } else { DENIED });
    }

    /// Claims that `count` calls have a result that nobody made, so that a test can see a lie being found.
    pub fn plant(&self, count: usize) {
        let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner).len();
        let first = (chunks * CHUNK) as u64;
        (first..first + count as u64).for_each(|call| self.acknowledged(call));
    }

    /// Whether a call was told nothing but the truth: what has a result was run once, what surely was not run
    /// was not, and nothing was run twice unless it may be (`idempotent`).
    pub fn audit(&self, idempotent: bool) -> CallFindings {
        let mut findings = CallFindings::default();
        let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        for (call, byte) in (0..).zip(chunks.iter().flatten()) {
            let byte = byte.load(Ordering::Acquire);
            let executions = u64::from(byte & RUNS);
            let (acknowledged, denied) = (byte & ACKNOWLEDGED != 0, byte & DENIED != 0);
            findings.acknowledged += u64::from(acknowledged);
            findings.failed += u64::from(byte & (DENIED | UNSURE) != 0);
            findings.maybe_executed += u64::from(byte & UNSURE != 0);
            findings.executions += executions;
            findings.repeated += u64::from(executions > 1);
            let lost = acknowledged && executions == 0;
            let repeated = executions > 1 && !idempotent;
            if lost || repeated || denied && executions > 0 {
                findings.wrong += 1;
                if findings.contradictions.len() < SHOWN {
                    findings.contradictions.push(Contradiction { call, executions, told: told(byte) });
                }
            }
        }
        findings
    }

    fn note(&self, call: u64, change: impl Fn(u8) -> u8) {
        if call >= CALLS_MAX {
            return;
        }
        let (chunk, place) = (call as usize / CHUNK, call as usize % CHUNK);
        let noted = |chunks: &[Box<[AtomicU8]>]| {
            let bytes = chunks.get(chunk)?;
            bytes[place].fetch_update(Ordering::AcqRel, Ordering::Acquire, |byte| Some(change(byte))).ok()
        };
        if noted(&self.chunks.read().unwrap_or_else(PoisonError::into_inner)).is_none() {
            let mut chunks = self.chunks.write().unwrap_or_else(PoisonError::into_inner);
            while chunks.len() <= chunk {
                chunks.push((0..CHUNK).map(|_| AtomicU8::new(0)).collect());
            }
            noted(&chunks);
        }
    }
}

const fn told(byte: u8) -> &'static str {
    match byte & !RUNS {
        0 => "nothing",
        said if said & ACKNOWLEDGED != 0 => "acknowledged",
        said if said & DENIED != 0 => "not_executed",
        _ => "maybe_executed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contradictions(ledger: &Ledger, idempotent: bool) -> Vec<(u64, u64, &'static str)> {
        let findings = ledger.audit(idempotent);
        assert_eq!(findings.wrong, findings.contradictions.len() as u64);
        findings.contradictions.into_iter().map(|it| (it.call, it.executions, it.told)).collect()
    }

    #[test]
    fn each_untruth_is_found() {
        let ledger = Ledger::default();
        let ran = |call, times| (0..times).for_each(|_| ledger.executed(call));
        // What is true.
        ran(0, 1);
        ledger.acknowledged(0);
        ledger.failed(1, false);
        ledger.failed(2, true);
        ran(3, 1);
        ledger.failed(3, true);
        assert_eq!(contradictions(&ledger, false), []);
        let findings = ledger.audit(false);
        assert_eq!((findings.acknowledged, findings.failed, findings.maybe_executed), (1, 3, 2));
        assert_eq!((findings.executions, findings.repeated), (2, 0));
        // What is not, in several chunks.
        let far = 3 * CHUNK as u64;
        ledger.acknowledged(4);
        ran(5, 1);
        ledger.failed(5, false);
        ran(far, 2);
        ledger.acknowledged(far);
        ran(far + 1, 40);
        let lies = [(4, 0, "acknowledged"), (5, 1, "not_executed")];
        let repeated = [(far, 2, "acknowledged"), (far + 1, 15, "nothing")];
        assert_eq!(contradictions(&ledger, true), lies);
        assert_eq!(contradictions(&ledger, false), [lies, repeated].concat());
    }

    #[test]
    fn a_warm_up_is_not_written_down_and_few_contradictions_are_shown() {
        let ledger = Ledger::default();
        ledger.acknowledged(1 << 40);
        assert_eq!(ledger.audit(false), CallFindings::default());
        (0..100).for_each(|call| ledger.acknowledged(call));
        let findings = ledger.audit(false);
        assert_eq!((findings.wrong, findings.contradictions.len()), (100, SHOWN));
    }
}
