//! One register, and which of two copies of it stays.

use std::cmp::Ordering;

use super::publishers::Slot;
use crate::dht::planted::{Bug, is_planted};
use crate::dht::record::{TOMBSTONE_MARGIN, digest, is_tombstone};
use crate::dht::wheel::{NEVER, Place, tick};
use crate::wire::{PROOF_LEN, Record, RecordKind};

/// [`TOMBSTONE_MARGIN`] in seconds.
const MARGIN: u32 = TOMBSTONE_MARGIN.as_secs() as u32;
/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// Nanoseconds in a millisecond.
const MILLI: u64 = 1_000_000;

/// A copy of a record that asks to be held.
pub(super) struct Candidate<'a> {
    pub(super) authentic: bool,
    /// When it ends, on the shard's clock.
    pub(super) ends: u64,
    /// When it is to be sent to the other replicas, in seconds of the shard's clock.
    pub(super) due: u32,
    pub(super) record: &'a Record<'a>,
}

impl Candidate<'_> {
    fn is_tombstone(&self) -> bool {
        is_tombstone(self.record.flags)
    }

    fn digest(&self) -> [u8; 32] {
        digest(self.record.flags, self.record.value)
    }

    /// Until when a tombstone that beats this copy is kept, in seconds of the shard's clock.
    ///
    /// Rounded down for a tombstone: its life has the margin already, and one that is handed on and back
    /// must not grow on the way.
    fn outlives(&self) -> u32 {
        if self.is_tombstone() {
            u32::try_from(self.ends / SECOND).unwrap_or(NEVER)
        } else {
            tick(self.ends).saturating_add(MARGIN)
        }
    }
}

/// What is held of one publisher under one key, of one kind. It fills one line of the caches.
pub(super) struct Register {
    pub(super) seq: u64,
    /// When the record ends, on the shard's clock.
    pub(super) ends: u64,
    /// Where the register is filed in the wheel; never later than [`next`](Self::next) asks for.
    pub(super) place: Place,
    value: Box<[u8]>,
    /// What only some registers have.
    extra: Option<Box<Extra>>,
    pub(super) publisher: Slot,
    /// When the record is to be sent to the other replicas, in seconds of the shard's clock; [`NEVER`]
    /// while it is queued for that.
    pub(super) due: u32,
    /// Until when a tombstone has to be kept that beats everything that was ever brought here, in seconds
    /// of the shard's clock.
    outlives: u32,
    pub(super) kind: RecordKind,
    pub(super) flags: u8,
    /// Whether the publisher itself has brought the record or has signed it.
    pub(super) authentic: bool,
    /// Whether the register is queued to be sent to the other replicas.
    pub(super) queued: bool,
}

#[derive(Default)]
struct Extra {
    proof: Option<[u8; PROOF_LEN]>,
    /// The digest of flags and value, once a tie has asked for it: a peer that sends many ties with a large
    /// value must not make the shard hash that value each time.
    digest: Option<[u8; 32]>,
    /// Who has brought the record, if that was not its publisher.
    bringer: Option<Slot>,
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
    /// A register that is not filed yet.
    pub(super) fn new(publisher: Slot, copy: &Candidate<'_>) -> Self {
        Self {
            seq: copy.record.seq,
            ends: copy.ends,
            place: Place::NONE,
            value: copy.record.value.into(),
            extra: extra_of(copy.record.proof),
            publisher,
            due: copy.due,
            outlives: copy.outlives(),
            kind: copy.record.kind,
            flags: copy.record.flags,
            authentic: copy.authentic,
            queued: false,
        }
    }

    /// Whether it is still shown: what is not must not be acknowledged either.
    fn is_live(&self, now: u64) -> bool {
        self.ttl_ms(now).is_some()
    }

    /// The milliseconds that are left, if any are. Rounded down: what has less than one left is not worth
    /// showing.
    pub(super) fn ttl_ms(&self, now: u64) -> Option<u32> {
        let left = self.ends.saturating_sub(now) / MILLI;
        (left > 0).then(|| u32::try_from(left).unwrap_or(u32::MAX))
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.value
    }

    pub(super) fn proof(&self) -> &[u8] {
        self.extra.as_ref().and_then(|extra| extra.proof.as_ref()).map_or(&[], |proof| proof)
    }

    pub(super) fn bringer(&self) -> Option<Slot> {
        self.extra.as_ref()?.bringer
    }

    pub(super) fn set_bringer(&mut self, by: Option<Slot>) {
        if by.is_some() || self.extra.is_some() {
            self.extra.get_or_insert_default().bringer = by;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.value.len()
    }

    /// The second in which there is something to do: the record ends or is to be sent.
    pub(super) fn next(&self) -> u32 {
        tick(self.ends).min(self.due)
    }

    /// Orders by authentic, sequence and digest. Two copies with all of these in common are one record, which
    /// ends with the later of them; a vouched copy does not lengthen the life of an authentic one. What is signed
    /// is replaced by nothing that is not.
    pub(super) fn judge(&mut self, copy: &Candidate<'_>, now: u64) -> Merge {
        if !self.is_live(now) {
            return Merge::Replace;
        }
        let keep = Merge::Keep { seq: self.seq };
        let same = copy.record.seq == self.seq
            && copy.record.flags == self.flags
            && copy.record.value == self.value();
        // Readers believe a proof before a higher sequence: a publisher that does not know any more that it has
        // signed has to be told.
        if !same && copy.record.proof.is_empty() && !self.proof().is_empty() {
            return keep;
        }
        match (copy.authentic, copy.record.seq).cmp(&(self.authentic, self.seq)) {
            Ordering::Greater if same => Merge::Same { ends: copy.ends },
            Ordering::Greater => Merge::Replace,
            Ordering::Less if same => Merge::Same { ends: self.ends },
            Ordering::Less => keep,
            Ordering::Equal if same => Merge::Same { ends: self.ends.max(copy.ends) },
            Ordering::Equal if copy.digest() > self.digest() => Merge::Replace,
            Ordering::Equal => keep,
        }
    }

    fn digest(&mut self) -> [u8; 32] {
        let (flags, value) = (self.flags, &self.value);
        let extra = self.extra.get_or_insert_default();
        *extra.digest.get_or_insert_with(|| digest(flags, value))
    }

    /// Takes over what a copy of the same record adds.
    pub(super) fn renew(&mut self, copy: &Candidate<'_>, ends: u64) {
        self.authentic |= copy.authentic;
        self.ends = ends;
        self.due = copy.due;
        if let Ok(proof) = copy.record.proof.try_into() {
            self.extra.get_or_insert_default().proof = Some(proof);
        }
        self.outlive(copy);
    }

    /// Becomes `copy`; `now` tells whether there was anything left to beat.
    pub(super) fn replace(&mut self, copy: &Candidate<'_>, now: u64) {
        if !self.is_live(now) {
            self.outlives = 0;
        }
        self.seq = copy.record.seq;
        self.ends = copy.ends;
        self.due = copy.due;
        self.flags = copy.record.flags;
        self.authentic = copy.authentic;
        self.extra = extra_of(copy.record.proof);
        if self.value.len() == copy.record.value.len() {
            self.value.copy_from_slice(copy.record.value);
        } else {
            self.value = copy.record.value.into();
        }
        self.outlive(copy);
    }

    /// Remembers how long `copy` lives, and outlives it if this is a tombstone.
    pub(super) fn outlive(&mut self, copy: &Candidate<'_>) {
        self.outlives = self.outlives.max(copy.outlives());
        if is_tombstone(self.flags) && !is_planted(Bug::TombstoneDroppedEarly) {
            self.ends = self.ends.max(u64::from(self.outlives) * SECOND);
        }
    }
}

fn extra_of(proof: &[u8]) -> Option<Box<Extra>> {
    let proof = proof.try_into().ok()?;
    Some(Box::new(Extra { proof: Some(proof), ..Extra::default() }))
}
