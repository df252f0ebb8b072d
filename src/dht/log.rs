//! The publication log: what this node has published itself, for as long as it lives.
//!
//! The writer serves its own records from here and sends them again from here; they do not count against the
//! replica store. Like that store, the log is cut into shards by key, each behind a lock of the driver.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use super::map::KeyMap;
use super::record::TTL_MAX;
use super::store::share;
use super::wheel::{Place, Wheel, has_come, nanos, since};
use crate::id::Key;
use crate::wire::RecordKind;

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
    /// What it is.
    pub kind: RecordKind,
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
    keys: KeyMap<Own>,
    wheel: Wheel<Key>,
    bytes: usize,
}

impl PublicationLog {
    /// An empty log within `limits`. `epoch` is not after any later `now`; `seed` keys its hash map.
    pub fn new(epoch: Instant, limits: LogLimits, seed: (u64, u64)) -> Self {
        let keys = KeyMap::new(seed);
        Self { epoch, limits, keys, wheel: Wheel::new(), bytes: 0 }
    }

    /// Brings the places of `keys` into the caches, for a batch that is about to be published.
    pub fn warm<'k>(&self, keys: impl Iterator<Item = &'k Key> + Clone) {
        let hashes: SmallVec<[u64; 64]> = keys.clone().map(|key| self.keys.hash(key)).collect();
        self.keys.warm(hashes.into_iter().zip(keys), |own| own.seq.to_le_bytes()[0]);
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
        match self.enter(now, key, value, ends, seq) {
            Err((_, value)) if self.wheel.is_due(now) => {
                self.expire_at(now, usize::MAX);
                self.enter(now, key, value, ends, seq).map_err(|(full, _)| full)
            }
            result => result.map_err(|(full, _)| full),
        }
    }

    /// Enters a value, or gives it back when it does not fit.
    fn enter(
        &mut self,
        now: u64,
        key: Key,
        value: Bytes,
        ends: u64,
        seq: u64,
    ) -> Result<(), (LogFull, Bytes)> {
        let full = LogFull { records: self.keys.len(), bytes: self.bytes };
        match self.keys.entry(self.keys.hash(&key), &key) {
            Entry::Vacant(entry) => {
                if full.records >= self.limits.records || full.bytes + value.len() > self.limits.bytes {
                    return Err((full, value));
                }
                self.bytes += value.len();
                let place = self.wheel.file(ends, key);
                entry.insert((key, Own { seq, ends, place, value }));
            }
            Entry::Occupied(entry) => {
                let (_, own) = entry.into_mut();
                if own.seq > seq && now < own.ends {
                    return Ok(());
                }
                let bytes = full.bytes - own.value.len() + value.len();
                if bytes > self.limits.bytes && bytes > full.bytes {
                    return Err((full, value));
                }
                self.bytes = bytes;
                (own.seq, own.ends, own.value) = (seq, ends, value);
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
        Some(Publication { seq: own.seq, ttl, kind: RecordKind::VALUE, value: &own.value })
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
            let hash = self.keys.hash(&key);
            let Entry::Occupied(mut entry) = self.keys.entry(hash, &key) else { continue };
            let (_, own) = entry.get_mut();
            if has_come(own.ends, now) {
                let ((_, own), _) = entry.remove();
                self.bytes -= own.value.len();
            } else {
                own.place = self.wheel.file(own.ends, key);
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

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests read the clock")]

    use super::*;

    const WIDE: LogLimits = LogLimits { records: 100, bytes: 1_000 };

    fn log(limits: LogLimits) -> (PublicationLog, Instant) {
        let epoch = Instant::now();
        (PublicationLog::new(epoch, limits, (1, 2)), epoch)
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_publication_is_found_until_it_ends() {
        let (mut log, epoch) = log(WIDE);
        let (key, value) = (Key::of_name("a"), Bytes::from_static(b"value"));
        assert_eq!(log.publish(epoch, key, value.clone(), seconds(10), 7), Ok(()));
        let found = log.find(epoch + seconds(4), &key).expect("it lives");
        assert_eq!((found.seq, found.ttl, found.value), (7, seconds(6), &value));
        assert_eq!(found.value.as_ptr(), value.as_ptr(), "the value is shared, not copied");
        assert_eq!(log.find(epoch + seconds(10), &key), None);
        assert_eq!(log.expire(epoch + seconds(10), 9), 1);
        assert!(log.is_empty() && log.bytes() == 0);
    }

    #[test]
    fn a_time_to_live_is_cut() {
        let (mut log, epoch) = log(WIDE);
        log.publish(epoch, Key::of_name("a"), Bytes::new(), Duration::MAX, 1).expect("there is room");
        assert_eq!(log.find(epoch, &Key::of_name("a")).map(|found| found.ttl), Some(TTL_MAX));
    }

    #[test]
    fn the_higher_sequence_stays() {
        let (mut log, epoch) = log(WIDE);
        let key = Key::of_name("a");
        for (seq, value) in [(2, "two"), (1, "one"), (3, "three"), (2, "two again")] {
            assert_eq!(log.publish(epoch, key, value.into(), seconds(9), seq), Ok(()));
        }
        assert_eq!(
            log.find(epoch, &key).map(|found| (found.seq, &found.value[..])),
            Some((3, &b"three"[..]))
        );
        assert_eq!((log.len(), log.bytes()), (1, 5));
        assert_eq!(log.publish(epoch + seconds(9), key, "1".into(), seconds(9), 1), Ok(()));
        assert_eq!(log.find(epoch + seconds(9), &key).map(|found| found.seq), Some(1), "the other has ended");
    }

    #[test]
    fn a_full_log_keeps_what_it_has_until_it_ends() {
        let (mut log, epoch) = log(LogLimits { records: 2, bytes: 6 });
        let [a, b, c] = ["a", "b", "c"].map(Key::of_name);
        assert_eq!(log.publish(epoch, a, "aaa".into(), seconds(5), 1), Ok(()));
        assert_eq!(log.publish(epoch, b, "bb".into(), seconds(50), 1), Ok(()));
        let full = Err(LogFull { records: 2, bytes: 5 });
        assert_eq!(log.publish(epoch, c, "".into(), seconds(5), 2), full, "too many");
        assert_eq!(log.publish(epoch, b, "bbbb".into(), seconds(5), 2), full, "too large");
        assert_eq!(log.publish(epoch, b, "BBB".into(), seconds(50), 2), Ok(()));
        assert_eq!(log.publish(epoch, b, "B".into(), seconds(50), 3), Ok(()));
        assert_eq!(log.find(epoch, &a).map(|found| &found.value[..]), Some(&b"aaa"[..]));
        assert_eq!(log.publish(epoch + seconds(5), c, "ccccc".into(), seconds(5), 4), Ok(()));
        assert_eq!((log.len(), log.bytes()), (2, 6));
    }

    #[test]
    fn what_is_published_anew_ends_when_the_last_one_says() {
        let (mut log, epoch) = log(WIDE);
        for (name, first, second) in [("a", 10, 100), ("b", 100, 10), ("c", 100, 100)] {
            for (seq, ttl) in [(1, first), (2, second)] {
                log.publish(epoch, Key::of_name(name), name.into(), seconds(ttl), seq)
                    .expect("there is room");
            }
            assert_eq!(log.wheel.len(), log.len());
        }
        assert_eq!(log.expire(epoch + seconds(10), 9), 2, "one ends, one is filed again");
        assert_eq!((log.len(), log.wheel.len()), (2, 2));
        assert_eq!(log.expire(epoch + seconds(100), 1), 1, "the budget holds");
        assert_eq!(log.expire(epoch + seconds(100), 9), 1);
        assert!(log.is_empty());
    }
}
