//! Which envelopes were seen already.
//!
//! What is remembered is never forgotten before its time, because a replay would then be taken for new:
//! a full memory refuses instead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::id::NodeId;

/// Envelopes remembered in all.
pub const SEEN_MAX: usize = 65_536;
/// Envelopes of one origin remembered at its destination.
pub const SEEN_PER_ORIGIN: usize = 4_096;
/// How long a destination remembers: as long as an envelope may be fresh, from the slowest to the
/// fastest of clocks.
pub const SEEN_FOR: Duration = Duration::from_secs(600);
/// How long a relay remembers: longer than any envelope is under way.
pub const PASSED_FOR: Duration = Duration::from_secs(60);

/// The envelopes seen within a time.
#[derive(Debug)]
pub struct Seen {
    kept: Duration,
    per_origin: usize,
    nonces: BTreeSet<(NodeId, u64)>,
    origins: BTreeMap<NodeId, usize>,
    /// Which is forgotten next, and when.
    order: VecDeque<(Instant, NodeId, u64)>,
}

/// Why an envelope is not to be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It was seen before.
    Duplicate,
    /// Too many are remembered to tell.
    Full,
}

impl Seen {
    /// The memory of a destination: [`SEEN_FOR`], [`SEEN_PER_ORIGIN`].
    pub fn here() -> Self {
        Self::new(SEEN_FOR, SEEN_PER_ORIGIN)
    }

    /// The memory of a relay: [`PASSED_FOR`], and no origin takes more than a quarter of it.
    pub fn passing() -> Self {
        Self::new(PASSED_FOR, SEEN_MAX / 4)
    }

    fn new(kept: Duration, per_origin: usize) -> Self {
        let (nonces, origins, order) = (BTreeSet::new(), BTreeMap::new(), VecDeque::new());
        Self { kept, per_origin, nonces, origins, order }
    }

    /// Remembers the request `nonce` of `origin` from `now` on.
    ///
    /// # Errors
    ///
    /// [`Repeat`] when it is remembered already, or cannot be.
    pub fn insert(&mut self, now: Instant, origin: NodeId, nonce: u64) -> Result<(), Repeat> {
        self.forget(now);
        if self.nonces.contains(&(origin, nonce)) {
            return Err(Repeat::Duplicate);
        }
        let count = self.origins.get(&origin).copied().unwrap_or(0);
        if count >= self.per_origin || self.nonces.len() >= SEEN_MAX {
            return Err(Repeat::Full);
        }
        self.nonces.insert((origin, nonce));
        self.origins.insert(origin, count + 1);
        self.order.push_back((now + self.kept, origin, nonce));
        Ok(())
    }

    /// How many envelopes are remembered.
    pub fn len(&self) -> usize {
        self.nonces.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.nonces.is_empty()
    }

    fn forget(&mut self, now: Instant) {
        while let Some((until, origin, nonce)) = self.order.front().copied()
            && until <= now
        {
            self.order.pop_front();
            self.nonces.remove(&(origin, nonce));
            if let Some(count) = self.origins.get_mut(&origin) {
                *count -= 1;
                if *count == 0 {
                    self.origins.remove(&origin);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests read the clock")]

    use super::*;

    fn node(n: usize) -> NodeId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        NodeId::from_bytes(id)
    }

    #[test]
    fn an_envelope_is_taken_once_until_it_is_stale() {
        let start = Instant::now();
        let mut seen = Seen::here();
        assert_eq!(seen.insert(start, node(1), 5), Ok(()));
        let last = start + SEEN_FOR - Duration::from_nanos(1);
        assert_eq!(seen.insert(last, node(1), 5), Err(Repeat::Duplicate));
        assert_eq!(seen.insert(last, node(2), 5), Ok(()));
        assert_eq!(seen.insert(last, node(1), 6), Ok(()));
        assert_eq!(seen.insert(start + SEEN_FOR, node(1), 5), Ok(()));
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn a_full_memory_refuses_and_forgets_nothing() {
        let start = Instant::now();
        let mut seen = Seen::here();
        for nonce in 0..4_096 {
            assert_eq!(seen.insert(start, node(0), nonce), Ok(()));
        }
        assert_eq!(seen.insert(start, node(0), 4_096), Err(Repeat::Full));
        assert_eq!(seen.insert(start, node(0), 0), Err(Repeat::Duplicate));
        for n in 1..=SEEN_MAX - 4_096 {
            assert_eq!(seen.insert(start, node(n), 0), Ok(()));
        }
        assert_eq!(seen.len(), SEEN_MAX);
        assert_eq!(seen.insert(start, node(SEEN_MAX), 0), Err(Repeat::Full));
        assert_eq!(seen.insert(start + SEEN_FOR, node(SEEN_MAX), 0), Ok(()));
        assert_eq!((seen.len(), seen.origins.len(), seen.order.len()), (1, 1, 1));
    }
}
