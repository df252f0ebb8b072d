//! One publication, and when it is to be sent again.

use std::time::Duration;

use bytes::Bytes;

use super::{Draft, Publication};
use crate::dht::planted::{Bug, is_planted};
use crate::dht::record::{TOMBSTONE_MARGIN, is_tombstone, life};
use crate::dht::wheel::{NEVER, Place, nanos, second, tick};
use crate::wire::{PROOF_LEN, RecordKind};

/// A publication is sent again when this part of its life has passed.
const PARTS: u32 = 3;
/// The part of such an interval by which a publication may be sent earlier.
const JITTER: u32 = 8;

/// One publication.
pub(super) struct Own {
    pub(super) seq: u64,
    pub(super) ends: u64,
    /// Never later than [`next`](Self::next) asks for.
    pub(super) place: Place,
    pub(super) value: Bytes,
    pub(super) proof: Option<Box<[u8; PROOF_LEN]>>,
    /// When it is to be sent again, in seconds since the epoch; [`NEVER`] while it is queued for that.
    pub(super) due: u32,
    /// How long after that it is due once more, in seconds.
    pub(super) every: u32,
    /// Until when a tombstone has to be kept that removes everything that was published here, in seconds
    /// since the epoch: of what was replaced, a replica that missed it may hold an older one that lives longer.
    outlives: u32,
    pub(super) kind: RecordKind,
    pub(super) flags: u8,
    /// Whether it is queued to be sent again.
    pub(super) queued: bool,
}

impl Own {
    /// A publication that is not filed yet; `hash` spreads the turns.
    pub(super) fn new(draft: Draft, now: u64, hash: u64) -> Self {
        let Draft { kind, flags, seq, ttl, proof, value } = draft;
        let ends = now.saturating_add(nanos(life(flags, ttl)));
        let outlives = if is_tombstone(flags) { ends } else { ends.saturating_add(nanos(TOMBSTONE_MARGIN)) };
        let (place, due, every, queued, outlives) = (Place::NONE, NEVER, 0, false, tick(outlives));
        let mut own = Self { seq, ends, place, value, proof, due, every, outlives, kind, flags, queued };
        own.divide(now, hash);
        own
    }

    /// Becomes what replaces it.
    pub(super) fn replace(&mut self, draft: Draft, now: u64, hash: u64) {
        let earlier = if now < self.ends { self.outlives } else { 0 };
        let (place, queued) = (self.place, self.queued);
        *self = Self { place, queued, ..Self::new(draft, now, hash) };
        self.outlives = self.outlives.max(earlier);
        let outlived = nanos(Duration::from_secs(earlier.into()));
        let removes = is_tombstone(self.flags) && !is_planted(Bug::TombstoneDroppedEarly);
        if removes && self.ends < outlived {
            self.ends = outlived;
            self.divide(now, hash);
        }
    }

    /// Divides what is left of its life into intervals.
    fn divide(&mut self, now: u64, hash: u64) {
        self.every = tick(self.ends).saturating_sub(second(now)) / PARTS;
        self.schedule(now, hash);
    }

    /// The second in which there is something to do: the publication ends or is to be sent.
    pub(super) fn next(&self) -> u32 {
        tick(self.ends).min(self.due)
    }

    /// Sets when it is due the next time, unless too little is left then.
    pub(super) fn schedule(&mut self, now: u64, hash: u64) {
        let early = u32::try_from(hash % u64::from(self.every / JITTER + 1)).unwrap_or(0);
        let due = second(now).saturating_add(self.every - early);
        let useful = self.every > 0 && due.saturating_add(self.every / 2) < tick(self.ends);
        self.due = if useful { due } else { NEVER };
    }

    pub(super) fn publication(&self, now: u64) -> Option<Publication<'_>> {
        (now < self.ends).then(|| Publication {
            seq: self.seq,
            ttl: Duration::from_nanos(self.ends - now),
            kind: self.kind,
            flags: self.flags,
            proof: self.proof.as_ref().map_or(&[], |proof| proof.as_slice()),
            value: &self.value,
        })
    }
}
