//! The publication log: what this node has published itself, for as long as it lives.
//!
//! The writer serves its own records from here and sends them again from here; they do not count against the
//! replica store. Like that store, the log is cut into shards by key, each behind a lock of the driver.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::hash::Keyed;
use super::record::{KIND_VALUE, TTL_MAX};
use super::store::share;
use super::wheel::{Place, Wheel, nanos, since};
use crate::id::Key;

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

/// A publication as the log holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication<'a> {
    /// The sequence it was published with.
    pub seq: u64,
    /// How much longer it lives; never zero.
    pub ttl: Duration,
    /// The kind of the record.
    pub kind: u8,
    /// The value, shared with whoever sends it.
    pub value: &'a Bytes,
}

struct Own {
    seq: u64,
    ends: u64,
    place: Place,
    value: Bytes,
}

/// One shard of the publication log.
pub struct PublicationLog {
    epoch: Instant,
    limits: LogLimits,
    keys: HashMap<Key, Own, Keyed>,
    wheel: Wheel<Key>,
    bytes: usize,
}

impl PublicationLog {
    /// An empty log within `limits`. `epoch` is not after any later `now`; `seed` keys its hash map.
    pub fn new(epoch: Instant, limits: LogLimits, seed: (u64, u64)) -> Self {
        let keys = HashMap::with_hasher(Keyed::new(seed));
        Self { epoch, limits, keys, wheel: Wheel::new(), bytes: 0 }
    }

    /// Enters `value` under `key` for `ttl` (cut to [`TTL_MAX`]) with the sequence `seq`.
    ///
    /// A live publication with a higher sequence stays as it is: the newer of two stores that overtook each
    /// other is the one to remember.
    ///
    /// # Errors
    ///
    /// [`LogFull`] when it does not fit; an earlier publication under the key then stays.
    pub fn publish(
        &mut self,
        now: Instant,
        key: Key,
        value: Bytes,
        ttl: Duration,
        seq: u64,
    ) -> Result<(), LogFull> {
        let now = since(self.epoch, now);
        let ends = now.saturating_add(nanos(ttl.min(TTL_MAX)));
        match self.enter(now, key, &value, ends, seq) {
            Err(_) if self.wheel.is_due(now) => {
                self.expire_at(now, usize::MAX);
                self.enter(now, key, &value, ends, seq)
            }
            result => result,
        }
    }

    fn enter(&mut self, now: u64, key: Key, value: &Bytes, ends: u64, seq: u64) -> Result<(), LogFull> {
        let full = LogFull { records: self.keys.len(), bytes: self.bytes };
        match self.keys.entry(key) {
            Entry::Vacant(entry) => {
                if full.records >= self.limits.records || full.bytes + value.len() > self.limits.bytes {
                    return Err(full);
                }
                self.bytes += value.len();
                let place = self.wheel.file(ends, key);
                entry.insert(Own { seq, ends, place, value: value.clone() });
            }
            Entry::Occupied(entry) => {
                let own = entry.into_mut();
                if own.seq > seq && now < own.ends {
                    return Ok(());
                }
                let bytes = full.bytes - own.value.len() + value.len();
                if bytes > self.limits.bytes && bytes > full.bytes {
                    return Err(full);
                }
                self.bytes = bytes;
                (own.seq, own.ends, own.value) = (seq, ends, value.clone());
                if own.place.is_after(ends) {
                    self.file_earlier(key);
                }
            }
        }
        Ok(())
    }

    /// Moves the filing of a publication that ends before its slot comes round.
    fn file_earlier(&mut self, key: Key) {
        let Some(own) = self.keys.get_mut(&key) else { return };
        let left = own.place;
        own.place = self.wheel.file(own.ends, key);
        if let Some(moved) = self.wheel.unfile(left)
            && let Some(own) = self.keys.get_mut(&moved)
        {
            own.place = left;
        }
    }

    /// The live publication under `key`.
    pub fn find(&self, now: Instant, key: &Key) -> Option<Publication<'_>> {
        let now = since(self.epoch, now);
        let own = self.keys.get(key).filter(|own| now < own.ends)?;
        let ttl = Duration::from_nanos(own.ends - now);
        Some(Publication { seq: own.seq, ttl, kind: KIND_VALUE, value: &own.value })
    }

    /// Gives the live publication that has the sequence `from` the sequence `to`, and says whether there was
    /// one.
    ///
    /// For a node that meets its own record of an earlier boot: replicas answer that the sequence is
    /// superseded, and the publication must go past the one they hold. If it has been replaced or has ended
    /// meanwhile, or if `to` is not higher, nothing happens.
    pub fn advance(&mut self, now: Instant, key: &Key, from: u64, to: u64) -> bool {
        let now = since(self.epoch, now);
        match self.keys.get_mut(key) {
            Some(own) if now < own.ends && own.seq == from && to > from => {
                own.seq = to;
                true
            }
            _ => false,
        }
    }

    /// Drops what has ended, looking at no more than `budget` publications.
    ///
    /// Returns how many it looked at; if that is `budget`, there may be more.
    pub fn expire(&mut self, now: Instant, budget: usize) -> usize {
        self.expire_at(since(self.epoch, now), budget)
    }

    fn expire_at(&mut self, now: u64, budget: usize) -> usize {
        let mut seen = 0;
        while seen < budget
            && let Some(key) = self.wheel.pop_due(now)
        {
            seen += 1;
            let Entry::Occupied(mut entry) = self.keys.entry(key) else { continue };
            let own = entry.get_mut();
            if now < own.ends {
                own.place = self.wheel.file(own.ends, key);
            } else {
                self.bytes -= entry.remove().value.len();
            }
        }
        seen
    }

    /// How many publications are held, those that have ended but were not dropped yet included.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
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
            .field("records", &self.keys.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
