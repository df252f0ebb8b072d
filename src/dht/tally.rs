//! What is known of the replicas of one record while a store of it is under way.
//!
//! The rule of a quorum is here and nowhere else: each replica counts once, an acknowledgement is never taken
//! back, silence is not a refusal, and a level that can no longer be reached is decided as well. Replicas are
//! numbered by their place in the replica set.

/// The most replicas that a tally tells apart.
pub const REPLICAS_MAX: usize = 64;

/// Who has acknowledged one record, who will not, and of whom it is not known. Bit i stands for replica i,
/// so a tally is copied and compared like a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    acked: u64,
    failed: u64,
    unknown: u64,
    durable: u64,
}

impl Tally {
    /// A tally of replicas that have all failed without being asked: `replicas` of them.
    pub fn unsent(replicas: usize) -> Self {
        Self { failed: all(replicas), ..Self::default() }
    }

    /// The replica has the record in its store.
    #[inline]
    pub fn acked(&mut self, replica: usize) {
        let bit = bit(replica);
        self.acked |= bit;
        self.failed &= !bit;
        self.unknown &= !bit;
    }

    /// The replica has the record on its disk: more than [`acked`](Self::acked), which this implies.
    #[inline]
    pub fn durable(&mut self, replica: usize) {
        self.acked(replica);
        self.durable |= bit(replica);
    }

    /// The replica does not take the record.
    #[inline]
    pub fn refused(&mut self, replica: usize) {
        self.failed |= bit(replica) & !self.acked;
    }

    /// The request or its answer was lost; the replica may have the record all the same if it
    /// `maybe_executed` the request.
    #[inline]
    pub fn lost(&mut self, replica: usize, maybe_executed: bool) {
        let bit = bit(replica) & !self.acked;
        self.failed |= bit;
        if maybe_executed {
            self.unknown |= bit;
        }
    }

    /// How many replicas have acknowledged.
    #[inline]
    pub fn acks(&self) -> usize {
        self.acked.count_ones() as usize
    }

    /// How many of those have it on disk.
    pub fn durables(&self) -> usize {
        self.durable.count_ones() as usize
    }

    /// Whether `required` replicas have acknowledged.
    #[inline]
    pub fn is_met(&self, required: usize) -> bool {
        self.acks() >= required
    }

    /// Whether nothing that `replicas` replicas may still say changes whether the level is met: it is, or
    /// all of them have been heard of.
    #[inline]
    pub fn is_decided(&self, required: usize, replicas: usize) -> bool {
        self.is_met(required) || self.acked | self.failed == all(replicas)
    }

    /// Whether some replica has the record or may have it.
    pub fn may_be_held(&self) -> bool {
        self.acked | self.unknown != 0
    }

    /// Whether of some replica it is not known what became of the request.
    pub fn has_unknown(&self) -> bool {
        self.unknown != 0
    }

    /// Whether the replica has acknowledged.
    pub fn is_acked(&self, replica: usize) -> bool {
        self.acked & bit(replica) != 0
    }

    /// Whether the replica has it on disk.
    pub fn is_durable(&self, replica: usize) -> bool {
        self.durable & bit(replica) != 0
    }

    /// Whether the replica does not have the record: it refused, or was never reached.
    pub fn is_failed(&self, replica: usize) -> bool {
        self.failed & !self.unknown & bit(replica) != 0
    }

    /// Whether the replica may have the record although no acknowledgement came.
    pub fn is_unknown(&self, replica: usize) -> bool {
        self.unknown & bit(replica) != 0
    }
}

/// The bit of a replica; none above [`REPLICAS_MAX`].
#[inline]
fn bit(replica: usize) -> u64 {
    u32::try_from(replica).ok().and_then(|replica| 1_u64.checked_shl(replica)).unwrap_or(0)
}

/// The bits of `replicas` replicas.
#[inline]
fn all(replicas: usize) -> u64 {
    if replicas >= REPLICAS_MAX { u64::MAX } else { bit(replicas) - 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Word {
        Acked,
        Durable,
        Refused,
        Lost(bool),
    }

    fn words() -> impl Strategy<Value = Vec<(usize, Word)>> {
        let word = prop_oneof![
            Just(Word::Acked),
            Just(Word::Durable),
            Just(Word::Refused),
            any::<bool>().prop_map(Word::Lost),
        ];
        proptest::collection::vec((0..8_usize, word), 0..40)
    }

    fn told(words: &[(usize, Word)]) -> Tally {
        let mut tally = Tally::default();
        for (replica, word) in words {
            match word {
                Word::Acked => tally.acked(*replica),
                Word::Durable => tally.durable(*replica),
                Word::Refused => tally.refused(*replica),
                Word::Lost(maybe) => tally.lost(*replica, *maybe),
            }
        }
        tally
    }

    proptest! {
        #[test]
        fn a_tally_counts_each_replica_once_and_takes_no_acknowledgement_back(words in words()) {
            let tally = told(&words);
            let said = |replica: usize, word: &[Word]| words.iter().any(|(r, w)| *r == replica && word.contains(w));
            for replica in 0..8 {
                let acked = said(replica, &[Word::Acked, Word::Durable]);
                let failed = said(replica, &[Word::Refused, Word::Lost(true), Word::Lost(false)]);
                let unknown = said(replica, &[Word::Lost(true)]);
                prop_assert_eq!(tally.is_acked(replica), acked);
                prop_assert_eq!(tally.is_durable(replica), said(replica, &[Word::Durable]));
                prop_assert_eq!(tally.is_unknown(replica), unknown && !acked);
                prop_assert_eq!(tally.is_failed(replica), failed && !unknown && !acked);
            }
            let acks = (0..8).filter(|replica| tally.is_acked(*replica)).count();
            let heard = (0..8).filter(|replica| words.iter().any(|(r, _)| r == replica)).count();
            prop_assert_eq!(tally.acks(), acks);
            for required in 0..=8 {
                prop_assert_eq!(tally.is_met(required), acks >= required);
                prop_assert_eq!(tally.is_decided(required, 8), acks >= required || heard == 8);
            }
        }
    }

    #[test]
    fn sixty_four_replicas_are_told_apart() {
        let mut tally = Tally::default();
        for replica in 0..REPLICAS_MAX {
            assert!(!tally.is_decided(REPLICAS_MAX, REPLICAS_MAX));
            tally.acked(replica);
        }
        assert!(tally.is_met(REPLICAS_MAX));
        tally.acked(REPLICAS_MAX);
        assert_eq!(tally.acks(), REPLICAS_MAX, "what is not in the set does not count");
        assert!(Tally::unsent(REPLICAS_MAX).is_decided(1, REPLICAS_MAX));
    }

    #[test]
    fn what_was_sent_to_nobody_is_held_by_nobody() {
        let tally = Tally::unsent(3);
        assert!(tally.is_decided(1, 3) && !tally.may_be_held() && !tally.is_met(1));
        assert!(Tally::default().is_decided(1, 0), "nobody is left to wait for");
    }
}
