//! The numbers that an origin gives its envelopes: upwards for each destination, and from life to life.
//!
//! The first to a destination comes from the clock, so it is above those of earlier lives, unless the clock
//! was set back further than this node was down: destinations then refuse what they cannot tell from
//! replays, until the time of its old envelopes is over.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::NodeId;

/// Destinations whose numbers go on where they were; others begin from the clock again.
pub const DESTINATIONS_MAX: usize = 4_096;
/// Numbers that fit a millisecond of the clock, as a power of two.
const PER_MS: u32 = 22;

/// What was numbered last.
#[derive(Debug, Default)]
pub struct Numbers {
    last: BTreeMap<NodeId, u64>,
    /// The same, by number.
    order: BTreeSet<(u64, NodeId)>,
    highest: u64,
}

impl Numbers {
    /// Nothing was numbered.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of the next envelope to `destination`; `now_ms` is in milliseconds since 1970.
    pub fn next(&mut self, now_ms: u64, destination: NodeId) -> u64 {
        let next = match self.last.remove(&destination) {
            Some(last) => {
                self.order.remove(&(last, destination));
                last.saturating_add(1)
            }
            None => {
                if self.last.len() >= DESTINATIONS_MAX
                    && let Some((_, lowest)) = self.order.pop_first()
                {
                    self.last.remove(&lowest);
                }
                now_ms.saturating_mul(1 << PER_MS).max(self.highest.saturating_add(1))
            }
        };
        self.highest = self.highest.max(next);
        self.last.insert(destination, next);
        self.order.insert((next, destination));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u64) -> NodeId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        NodeId::from_bytes(id)
    }

    #[test]
    fn numbers_to_a_destination_are_dense_and_rise_over_lives() {
        let mut numbers = Numbers::new();
        let first = numbers.next(1_000, node(1));
        numbers.next(1_000, node(2));
        assert_eq!(numbers.next(5_000, node(1)), first + 1);
        assert!(Numbers::new().next(1_001, node(1)) > first + 1);
    }

    #[test]
    fn a_destination_that_was_forgotten_is_not_given_a_number_again() {
        let mut numbers = Numbers::new();
        let mut last = 0;
        for _ in 0..100 {
            last = numbers.next(1_000, node(0));
        }
        for n in 1..=DESTINATIONS_MAX as u64 {
            numbers.next(1_000, node(n));
        }
        assert_eq!((numbers.last.len(), numbers.order.len()), (DESTINATIONS_MAX, DESTINATIONS_MAX));
        // The clock was set back meanwhile.
        assert!(numbers.next(1, node(0)) > last);
    }
}
