//! Which envelopes a relay has passed on lately.
//!
//! One that comes again, because a node before this one has gone around a dead end or wants to make work,
//! would be tried along the same ways once more. That is a waste and no danger: the list in the envelope keeps
//! it from going in circles, and its hops from going on. So this memory is short, and when it is full the
//! oldest are forgotten rather than honest ones refused.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::way::LEFT_MAX;

/// Envelopes remembered.
pub const PASSED_MAX: usize = 65_536;

/// What tells envelopes apart: the first half of the signature. An origin draws it from its key and the message
/// (RFC 8032, section 5.1.6), and with another one the signature does not hold.
pub type Mark = [u8; 32];

/// The envelopes passed on within [`LEFT_MAX`], the longest that one can be under way.
#[derive(Debug, Default)]
pub struct Passed {
    marks: BTreeSet<Mark>,
    order: VecDeque<(Instant, Mark)>,
}

impl Passed {
    /// Nothing was passed on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers an envelope from `now` on; `false` if it is remembered already.
    pub fn insert(&mut self, now: Instant, signature: &[u8; 64]) -> bool {
        self.forget(|_, at| at + LEFT_MAX <= now);
        let (mark, _) = signature.split_first_chunk().expect("a signature is longer than its mark");
        if !self.marks.insert(*mark) {
            return false;
        }
        self.order.push_back((now, *mark));
        self.forget(|len, _| len > PASSED_MAX);
        true
    }

    fn forget(&mut self, is_over: impl Fn(usize, Instant) -> bool) {
        while let Some((at, mark)) = self.order.front()
            && is_over(self.order.len(), *at)
        {
            self.marks.remove(mark);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests read the clock")]

    use super::*;

    fn signature(n: usize) -> [u8; 64] {
        let mut signature = [7; 64];
        signature[..8].copy_from_slice(&n.to_be_bytes());
        signature
    }

    #[test]
    fn an_envelope_passes_once_in_its_time() {
        let start = Instant::now();
        let mut passed = Passed::new();
        assert!(passed.insert(start, &signature(1)) && passed.insert(start, &signature(2)));
        let last = start + LEFT_MAX - std::time::Duration::from_nanos(1);
        assert!(!passed.insert(last, &signature(1)));
        assert!(passed.insert(start + LEFT_MAX, &signature(1)));
        assert_eq!((passed.marks.len(), passed.order.len()), (1, 1));
    }

    #[test]
    fn a_full_memory_refuses_nobody() {
        let now = Instant::now();
        let mut passed = Passed::new();
        assert!((0..2 * PASSED_MAX).all(|n| passed.insert(now, &signature(n))));
        assert!(!passed.insert(now, &signature(PASSED_MAX + 1)));
        assert_eq!((passed.marks.len(), passed.order.len()), (PASSED_MAX, PASSED_MAX));
    }
}
