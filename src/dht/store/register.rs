//! One register, and which of two copies of it stays.

use std::cmp::Ordering;

use sha2::{Digest, Sha256};

use super::publishers::Slot;
use crate::dht::wheel::Place;

/// A copy of a record that asks to be held.
pub(super) struct Candidate<'a> {
    pub(super) first_hand: bool,
    pub(super) seq: u64,
    pub(super) ends: u64,
    pub(super) value: &'a [u8],
}

/// What is held of one publisher under one key.
pub(super) struct Register {
    pub(super) publisher: Slot,
    pub(super) first_hand: bool,
    pub(super) seq: u64,
    /// When the record ends, on the shard's clock.
    pub(super) ends: u64,
    /// Where the register is filed in the wheel; never later than `ends` asks for.
    pub(super) place: Place,
    value: Box<[u8]>,
    /// SHA-256 of `value`, once a tie has asked for it: a peer that sends many ties with a large value
    /// must not make the shard hash that value each time.
    digest: Option<Box<[u8; 32]>>,
}

/// How a copy and a register merge.
pub(super) enum Merge {
    /// The copy wins.
    Replace,
    /// They are the same record, which then ends at `ends`.
    Same { ends: u64 },
    /// The register wins, with this sequence.
    Keep { seq: u64 },
}

impl Register {
    pub(super) fn new(publisher: Slot, place: Place, copy: &Candidate<'_>) -> Self {
        Self {
            publisher,
            first_hand: copy.first_hand,
            seq: copy.seq,
            ends: copy.ends,
            place,
            value: copy.value.into(),
            digest: None,
        }
    }

    pub(super) fn is_live(&self, now: u64) -> bool {
        now < self.ends
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.value
    }

    pub(super) fn bytes(&self) -> usize {
        self.value.len()
    }

    /// Orders by first-hand, sequence and hash. Two copies with all of these in common are one record, which
    /// ends with the later of them; a vouched copy does not lengthen the life of a first-hand one.
    pub(super) fn judge(&mut self, copy: &Candidate<'_>, now: u64) -> Merge {
        if !self.is_live(now) {
            return Merge::Replace;
        }
        let keep = Merge::Keep { seq: self.seq };
        let same = copy.seq == self.seq && copy.value == self.value();
        match (copy.first_hand, copy.seq).cmp(&(self.first_hand, self.seq)) {
            Ordering::Greater if same => Merge::Same { ends: copy.ends },
            Ordering::Greater => Merge::Replace,
            Ordering::Less if same => Merge::Same { ends: self.ends },
            Ordering::Less => keep,
            Ordering::Equal if same => Merge::Same { ends: self.ends.max(copy.ends) },
            Ordering::Equal if sha256(copy.value) > *self.digest() => Merge::Replace,
            Ordering::Equal => keep,
        }
    }

    fn digest(&mut self) -> &[u8; 32] {
        self.digest.get_or_insert_with(|| Box::new(sha256(&self.value)))
    }

    /// Takes over what a copy of the same record adds.
    pub(super) fn renew(&mut self, copy: &Candidate<'_>, ends: u64) {
        self.first_hand |= copy.first_hand;
        self.ends = ends;
    }

    /// Becomes `copy`.
    pub(super) fn replace(&mut self, copy: &Candidate<'_>) {
        self.first_hand = copy.first_hand;
        self.seq = copy.seq;
        self.ends = copy.ends;
        self.digest = None;
        if self.value.len() == copy.value.len() {
            self.value.copy_from_slice(copy.value);
        } else {
            self.value = copy.value.into();
        }
    }
}

fn sha256(value: &[u8]) -> [u8; 32] {
    Sha256::digest(value).into()
}
