//! The publication log: what this node has published itself, for as long as it lives.
//!
//! The writer serves its own records from here and sends them again from here: at each third of their life,
//! with the sequence they have and the time that is left, so that republishing lengthens no life. They do not
//! count against the replica store. What was removed stays as a tombstone until nobody else can have it any
//! more. Like the replica store, the log is cut into shards by key, each behind a lock of the driver.

mod own;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::hash_table::Entry;
use smallvec::{SmallVec, smallvec};

use self::own::Own;
use super::map::KeyMap;
use super::store::share;
use super::wheel::{NEVER, Wheel, has_come, second, since};
use crate::id::Key;
use crate::wire::{PROOF_LEN, RecordKind};

/// Default of [`LogLimits::records`] for a whole node: 1,048,576.
pub const LOG_RECORDS_MAX: usize = 1 << 20;

/// Default of [`LogLimits::bytes`] for a whole node: 1 GiB.
pub const LOG_BYTES_MAX: usize = 1 << 30;

/// What a publication log may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Publications. Default [`LOG_RECORDS_MAX`].
    pub records: usize,
    /// Bytes of values. Default [`LOG_BYTES_MAX`].
    pub bytes: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { records: LOG_RECORDS_MAX, bytes: LOG_BYTES_MAX }
    }
}

impl LogLimits {
    /// The limits of one of `shards` shards: an even share and [`SHARD_SLACK`] on top.
    ///
    /// [`SHARD_SLACK`]: super::store::SHARD_SLACK
    pub fn per_shard(&self, shards: usize) -> Self {
        Self { records: share(self.records, shards), bytes: share(self.bytes, shards) }
    }
}

/// The publication does not fit the log; what is in it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the publication log of this node is full: {records} records, {bytes} bytes in this shard")]
pub struct LogFull {
    /// The publications in the shard.
    pub records: usize,
    /// The bytes of their values.
    pub bytes: usize,
}

/// What is to be published under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What it is. There is one publication of each kind under a key.
    pub kind: RecordKind,
    /// [`TOMBSTONE`](crate::wire::TOMBSTONE) if it removes the one before it.
    pub flags: u8,
    /// The sequence that it is published with.
    pub seq: u64,
    /// How long it lives, cut to what [`life`](super::record::life) allows.
    pub ttl: Duration,
    /// Its proof, if it is signed.
    pub proof: Option<Box<[u8; PROOF_LEN]>>,
    /// The value.
    pub value: Bytes,
}

impl Draft {
    /// A value without proof.
    pub fn value(value: Bytes, ttl: Duration, seq: u64) -> Self {
        Self { kind: RecordKind::VALUE, flags: 0, seq, ttl, proof: None, value }
    }
}

/// A publication as the log holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication<'a> {
    /// The sequence it was published with.
    pub seq: u64,
    /// How much longer it lives; never zero.
    pub ttl: Duration,
    /// What it is.
    pub kind: RecordKind,
    /// [`TOMBSTONE`](crate::wire::TOMBSTONE) if it removes what was published before.
    pub flags: u8,
    /// Empty, or its proof.
    pub proof: &'a [u8],
    /// The value, shared with whoever sends it.
    pub value: &'a Bytes,
}

/// Where a publication is.
type Spot = (Key, RecordKind);

/// One shard of the publication log.
pub struct PublicationLog {
    epoch: Instant,
    limits: LogLimits,
    /// The publications under each key, by kind. Nearly every key has one.
    keys: KeyMap<SmallVec<[Own; 1]>>,
    wheel: Wheel<Spot>,
    /// Publications that are to be sent again, each once.
    queue: VecDeque<Spot>,
    records: usize,
    bytes: usize,
}

impl PublicationLog {
    /// An empty log within `limits`. `epoch` is not after any later `now`; `seed` keys its hash map.
    pub fn new(epoch: Instant, limits: LogLimits, seed: (u64, u64)) -> Self {
        let (keys, wheel, queue) = (KeyMap::new(seed), Wheel::new(), VecDeque::new());
        Self { epoch, limits, keys, wheel, queue, records: 0, bytes: 0 }
    }

    /// Brings the places of `keys` into the caches, for a batch that is about to be published.
    pub fn warm<'k>(&self, keys: impl Iterator<Item = &'k Key> + Clone) {
        let hashes: SmallVec<[u64; 64]> = keys.clone().map(|key| self.keys.hash(key)).collect();
        let look = |owns: &SmallVec<[Own; 1]>| owns.first().map_or(0, |own| own.seq.to_le_bytes()[0]);
        self.keys.warm(hashes.into_iter().zip(keys), look);
    }

    /// Enters `draft` under `key`.
    ///
    /// A live publication of its kind with a higher sequence stays as it is: the newer of two stores that
    /// overtook each other is the one to remember. A tombstone lives at least [`TOMBSTONE_MARGIN`] longer than
    /// what it removes; [`find`](Self::find) tells how long that is.
    ///
    /// Returns whether it takes the place of a live one with a proof. Whoever believes that will not believe
    /// one without: the caller publishes it once more, signed.
    ///
    /// [`TOMBSTONE_MARGIN`]: super::record::TOMBSTONE_MARGIN
    ///
    /// # Errors
    ///
    /// [`LogFull`] when it does not fit; an earlier publication then stays.
    pub fn publish(&mut self, now: Instant, key: Key, draft: Draft) -> Result<bool, LogFull> {
        let now = since(self.epoch, now);
        match self.enter(now, key, draft) {
            Err((_, draft)) if self.wheel.is_due(now) => {
                self.expire_at(now, usize::MAX);
                self.enter(now, key, draft).map_err(|(full, _)| full)
            }
            result => result.map_err(|(full, _)| full),
        }
    }

    /// Enters a draft, or gives it back when it does not fit.
    fn enter(&mut self, now: u64, key: Key, draft: Draft) -> Result<bool, (LogFull, Draft)> {
        let full = LogFull { records: self.records, bytes: self.bytes };
        let full_with = |more: usize| {
            full.records >= self.limits.records || full.bytes.saturating_add(more) > self.limits.bytes
        };
        let hash = self.keys.hash(&key);
        let spot = (key, draft.kind);
        let len = draft.value.len();
        match self.keys.entry(hash, &key) {
            Entry::Vacant(entry) => {
                if full_with(len) {
                    return Err((full, draft));
                }
                let mut own = Own::new(draft, now, hash);
                own.place = self.wheel.file(own.next(), spot);
                entry.insert((key, smallvec![own]));
            }
            Entry::Occupied(entry) => {
                let (_, owns) = entry.into_mut();
                match owns.binary_search_by_key(&draft.kind, |own| own.kind) {
                    Err(at) => {
                        if full_with(len) {
                            return Err((full, draft));
                        }
                        let mut own = Own::new(draft, now, hash);
                        own.place = self.wheel.file(own.next(), spot);
                        owns.insert(at, own);
                    }
                    Ok(at) => {
                        let own = &mut owns[at];
                        if own.seq > draft.seq && now < own.ends {
                            return Ok(false);
                        }
                        let bytes = full.bytes - own.value.len() + len;
                        if bytes > self.limits.bytes && bytes > full.bytes {
                            return Err((full, draft));
                        }
                        self.bytes = bytes;
                        let was_signed = own.proof.is_some() && now < own.ends;
                        own.replace(draft, now, hash);
                        if own.place.is_after(own.next()) {
                            self.file_earlier(spot, at);
                        }
                        return Ok(was_signed);
                    }
                }
            }
        }
        self.records += 1;
        self.bytes += len;
        Ok(false)
    }

    /// Moves the filing of a publication whose slot would come round too late.
    fn file_earlier(&mut self, spot: Spot, at: usize) {
        let Some(own) = self.keys.get_mut(&spot.0).and_then(|owns| owns.get_mut(at)) else { return };
        let left = own.place;
        own.place = self.wheel.file(own.next(), spot);
        if let Some(moved) = self.wheel.unfile(left)
            && let Some(own) = self.get_mut(moved)
        {
            own.place = left;
        }
    }

    fn get_mut(&mut self, (key, kind): Spot) -> Option<&mut Own> {
        self.keys.get_mut(&key)?.iter_mut().find(|own| own.kind == kind)
    }

    /// The live publication of `kind` under `key`, which may be a tombstone.
    pub fn find(&self, now: Instant, key: &Key, kind: RecordKind) -> Option<Publication<'_>> {
        let now = since(self.epoch, now);
        self.keys.get(key)?.iter().find(|own| own.kind == kind)?.publication(now)
    }

    /// Drops what has ended, looking at no more than `budget` publications.
    ///
    /// Returns how many it looked at; if that is `budget`, there may be more.
    pub fn expire(&mut self, now: Instant, budget: usize) -> usize {
        self.expire_at(since(self.epoch, now), budget)
    }

    fn expire_at(&mut self, now: u64, budget: usize) -> usize {
        let (mut seen, mut unqueue) = (0, false);
        while seen < budget
            && let Some(spot) = self.wheel.pop_due(now)
        {
            seen += 1;
            unqueue |= self.turn_up(now, spot);
        }
        // Once for all that have ended: many that are queued may end together.
        if unqueue {
            self.unqueue();
        }
        seen
    }

    /// The slot of a publication has come round. Whether it has ended and is queued.
    fn turn_up(&mut self, now: u64, spot: Spot) -> bool {
        let (key, kind) = spot;
        let hash = self.keys.hash(&key);
        let Entry::Occupied(mut entry) = self.keys.entry(hash, &key) else { return false };
        let (_, owns) = entry.get_mut();
        let Some(at) = owns.iter().position(|own| own.kind == kind) else { return false };
        let own = &mut owns[at];
        if !has_come(own.ends, now) {
            if own.due <= second(now) {
                own.due = NEVER;
                if !own.queued {
                    own.queued = true;
                    self.queue.push_back(spot);
                }
            }
            own.place = self.wheel.file(own.next(), spot);
            return false;
        }
        let own = owns.remove(at);
        if owns.is_empty() {
            entry.remove();
        }
        self.records -= 1;
        self.bytes -= own.value.len();
        own.queued
    }

    /// Takes out of the queue what has ended.
    fn unqueue(&mut self) {
        let Self { keys, queue, .. } = self;
        let queued = |(key, kind): &Spot| {
            keys.get(key).is_some_and(|owns| owns.iter().any(|own| own.kind == *kind && own.queued))
        };
        queue.retain(queued);
    }

    /// Shows `visit` at most `budget` publications that are to be sent again, with the time that is left to
    /// them. Drops what has ended, as [`expire`](Self::expire) does.
    ///
    /// Returns how many it showed; if that is `budget`, there may be more.
    pub fn due(
        &mut self,
        now: Instant,
        budget: usize,
        mut visit: impl FnMut(&Key, Publication<'_>),
    ) -> usize {
        let now = since(self.epoch, now);
        self.expire_at(now, usize::MAX);
        let mut shown = 0;
        while shown < budget
            && let Some(spot) = self.queue.pop_front()
        {
            let hash = self.keys.hash(&spot.0);
            let Some(owns) = self.keys.get_mut(&spot.0) else { continue };
            let Some(at) = owns.iter().position(|own| own.kind == spot.1) else { continue };
            let own = &mut owns[at];
            own.queued = false;
            // It was published anew meanwhile.
            if own.due != NEVER {
                continue;
            }
            own.schedule(now, hash);
            if let Some(publication) = own.publication(now) {
                visit(&spot.0, publication);
                shown += 1;
            }
            if own.place.is_after(own.next()) {
                self.file_earlier(spot, at);
            }
        }
        shown
    }

    /// How many publications are held, tombstones and those that have ended but were not dropped yet
    /// included.
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The bytes of the values held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl fmt::Debug for PublicationLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicationLog")
            .field("limits", &self.limits)
            .field("records", &self.records)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
