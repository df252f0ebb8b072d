//! The replica store: the records that this node holds for others, cut into shards by key.
//!
//! A [`Shard`] maps a key to its registers, one per publisher, in the publishers' order. It decides which of
//! two copies stays ([`crate::dht::record`] gives the order), counts what each publisher uses, and lets
//! records end in time. A record that was acknowledged stays until it ends or its publisher replaces it: a
//! full shard refuses what is new.

mod limits;
mod publishers;
mod register;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use hashbrown::hash_table::Entry;
use smallvec::{SmallVec, smallvec};

pub(in crate::dht) use self::limits::share;
pub use self::limits::{BYTES_MAX, KEY_RECORDS_MAX, RECORDS_MAX, SHARD_SLACK, ShardLimits, StoreLimits};
use self::publishers::{Publishers, Slot, Usage};
use self::register::{Candidate, Merge, Register};
use super::map::KeyMap;
use super::record::{TTL_MAX, check};
use super::wheel::{Wheel, has_come, nanos, since};
use crate::id::{Key, NodeId};
use crate::wire::{Found, Record, RecordKind, Status};

/// Nanoseconds in a millisecond.
const MILLI: u64 = 1_000_000;

/// The registers under one key, by publisher. Nearly every key has one.
type Registers = SmallVec<[Register; 1]>;

/// One shard of the replica store. It is not shared: the driver puts each shard behind a lock of its own.
pub struct Shard {
    epoch: Instant,
    limits: ShardLimits,
    keys: KeyMap<Registers>,
    publishers: Publishers,
    wheel: Wheel<(Key, Slot)>,
    used: Usage,
}

/// Who brings a batch, and when.
#[derive(Clone, Copy)]
struct Bringer<'a> {
    now: u64,
    publisher: &'a NodeId,
    slot: Slot,
    first_hand: bool,
}

impl Shard {
    /// An empty shard within `limits`. `epoch` is not after any later `now`; `seed` keys its hash maps.
    pub fn new(epoch: Instant, limits: ShardLimits, seed: (u64, u64)) -> Self {
        Self {
            epoch,
            limits,
            keys: KeyMap::new(seed),
            publishers: Publishers::new(seed),
            wheel: Wheel::new(),
            used: Usage::default(),
        }
    }

    /// Merges a batch of copies of `publisher`'s records and gives `out` one status for each, in order.
    ///
    /// `first_hand` says that the publisher itself sent them; otherwise a peer vouches for them.
    pub fn apply<'a>(
        &mut self,
        now: Instant,
        publisher: &NodeId,
        first_hand: bool,
        records: impl IntoIterator<Item = Record<'a>, IntoIter: Clone>,
        mut out: impl FnMut(Status),
    ) {
        let records = records.into_iter();
        let now = since(self.epoch, now);
        let slot = self.publishers.hold(publisher);
        let bringer = Bringer { now, publisher, slot, first_hand };
        let hashes: SmallVec<[u64; 64]> = records.clone().map(|record| self.keys.hash(&record.key)).collect();
        if hashes.len() > 1 {
            let keys = records.clone().map(|record| record.key);
            self.warm(&hashes, keys);
        }
        for (hash, record) in hashes.into_iter().zip(records) {
            out(self.merge(bringer, hash, &record));
        }
        self.publishers.release(slot);
    }

    /// Brings the registers of a batch and their values into the caches.
    fn warm(&self, hashes: &[u64], keys: impl Iterator<Item = Key>) {
        self.keys.warm(hashes.iter().copied().zip(keys), |registers| {
            registers.first().and_then(|register| register.value().first()).copied().unwrap_or(0)
        });
    }

    fn merge(&mut self, bringer: Bringer<'_>, hash: u64, record: &Record<'_>) -> Status {
        if let Err(reject) = check(record) {
            return Status::Rejected(reject);
        }
        let copy = Candidate {
            first_hand: bringer.first_hand,
            seq: record.seq,
            ends: bringer.now.saturating_add(nanos(Duration::from_millis(record.ttl_ms.into()).min(TTL_MAX))),
            value: record.value,
        };
        match self.settle(bringer, hash, record.key, &copy) {
            Status::StorageFull if self.wheel.is_due(bringer.now) => {
                self.expire_at(bringer.now, usize::MAX);
                self.settle(bringer, hash, record.key, &copy)
            }
            status => status,
        }
    }

    /// Finds the register of the copy with one access to the map, and merges the copy into it.
    fn settle(&mut self, bringer: Bringer<'_>, hash: u64, key: Key, copy: &Candidate<'_>) -> Status {
        let bytes = copy.value.len();
        let Self { keys, publishers, wheel, limits, used, .. } = self;
        let mut account = Account { publishers, limits, used, slot: bringer.slot };
        match keys.entry(hash, &key) {
            Entry::Vacant(entry) => {
                if limits.key_records == 0 || !account.charge(1, 0, bytes) {
                    return Status::StorageFull;
                }
                let place = wheel.file(copy.ends, (key, bringer.slot));
                entry.insert((key, smallvec![Register::new(bringer.slot, place, copy)]));
                Status::Applied
            }
            Entry::Occupied(entry) => {
                let (_, registers) = entry.into_mut();
                let at = match position(registers, account.publishers, bringer.publisher) {
                    Ok(at) => at,
                    Err(at) => {
                        if registers.len() >= limits.key_records || !account.charge(1, 0, bytes) {
                            return Status::StorageFull;
                        }
                        let place = wheel.file(copy.ends, (key, bringer.slot));
                        registers.insert(at, Register::new(bringer.slot, place, copy));
                        return Status::Applied;
                    }
                };
                let register = &mut registers[at];
                let status = match register.judge(copy, bringer.now) {
                    Merge::Keep { seq } => return Status::Superseded { seq },
                    Merge::Same { ends } => {
                        register.renew(copy, ends);
                        Status::AlreadyHave
                    }
                    Merge::Replace => {
                        if !account.charge(0, register.bytes(), bytes) {
                            return Status::StorageFull;
                        }
                        register.replace(copy);
                        Status::Applied
                    }
                };
                if register.place.is_after(register.ends) {
                    self.file_earlier(key, at);
                }
                status
            }
        }
    }

    /// Moves the filing of a register that ends before its slot comes round.
    fn file_earlier(&mut self, key: Key, at: usize) {
        let Some(register) = self.keys.get_mut(&key).and_then(|registers| registers.get_mut(at)) else {
            return;
        };
        let left = register.place;
        register.place = self.wheel.file(register.ends, (key, register.publisher));
        if let Some((key, slot)) = self.wheel.unfile(left)
            && let Some(registers) = self.keys.get_mut(&key)
            && let Ok(at) = position(registers, &self.publishers, self.publishers.id(slot))
        {
            registers[at].place = left;
        }
    }

    /// Drops what has ended, looking at no more than `budget` records.
    ///
    /// Returns how many it looked at; if that is `budget`, there may be more. A record is dropped within a
    /// second of its end; readers do not see it meanwhile.
    pub fn expire(&mut self, now: Instant, budget: usize) -> usize {
        self.expire_at(since(self.epoch, now), budget)
    }

    fn expire_at(&mut self, now: u64, budget: usize) -> usize {
        let mut seen = 0;
        while seen < budget
            && let Some((key, slot)) = self.wheel.pop_due(now)
        {
            seen += 1;
            let hash = self.keys.hash(&key);
            let Entry::Occupied(mut entry) = self.keys.entry(hash, &key) else { continue };
            let (_, registers) = entry.get_mut();
            let Ok(at) = position(registers, &self.publishers, self.publishers.id(slot)) else { continue };
            if !has_come(registers[at].ends, now) {
                registers[at].place = self.wheel.file(registers[at].ends, (key, slot));
                continue;
            }
            let bytes = registers.remove(at).bytes();
            if registers.is_empty() {
                entry.remove();
            } else if registers.len() * 4 <= registers.capacity() {
                registers.shrink_to_fit();
            }
            self.used.records -= 1;
            self.used.bytes -= bytes;
            self.publishers.drop_record(slot, bytes);
        }
        seen
    }

    /// Shows `visit` the live records under `key` in the order of their publishers, from the first one after
    /// `after` on, until it breaks. The last publisher shown is the cursor to go on from.
    pub fn find<'a>(
        &'a self,
        now: Instant,
        key: &Key,
        after: Option<&NodeId>,
        mut visit: impl FnMut(Found<'a>) -> ControlFlow<()>,
    ) {
        let now = since(self.epoch, now);
        let Some(registers) = self.keys.get(key) else { return };
        let start = after.map_or(0, |after| {
            registers.partition_point(|register| self.publishers.id(register.publisher) <= after)
        });
        for register in &registers[start..] {
            // Rounded down: what has less than a millisecond left is not worth showing.
            let left = register.ends.saturating_sub(now) / MILLI;
            if left == 0 {
                continue;
            }
            let found = Found {
                publisher: *self.publishers.id(register.publisher),
                seq: register.seq,
                ttl_ms: u32::try_from(left).unwrap_or(u32::MAX),
                kind: RecordKind::VALUE,
                flags: 0,
                proof: &[],
                value: register.value(),
            };
            if visit(found).is_break() {
                return;
            }
        }
    }

    /// How many records are held, those that have ended but were not dropped yet included.
    pub fn len(&self) -> usize {
        self.used.records
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.used.records == 0
    }

    /// The bytes of the values held.
    pub fn bytes(&self) -> usize {
        self.used.bytes
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("limits", &self.limits)
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}

/// Where `publisher`'s register is among `registers`, or belongs.
fn position(registers: &Registers, publishers: &Publishers, publisher: &NodeId) -> Result<usize, usize> {
    registers.binary_search_by(|register| publishers.id(register.publisher).cmp(publisher))
}

/// What a publisher and its shard use, beside what they may.
struct Account<'a> {
    publishers: &'a mut Publishers,
    limits: &'a ShardLimits,
    used: &'a mut Usage,
    slot: Slot,
}

impl Account<'_> {
    /// Counts `records` more records and a value of `new` bytes in place of `old`, if that fits.
    ///
    /// What does not grow always fits: limits never stand in the way of a smaller value.
    fn charge(&mut self, records: usize, old: usize, new: usize) -> bool {
        let add = |used: Usage| Usage { records: used.records + records, bytes: used.bytes - old + new };
        let (all, own) = (add(*self.used), add(self.publishers.used(self.slot)));
        let grows = records > 0 || new > old;
        let fits = all.records <= self.limits.records
            && all.bytes <= self.limits.bytes
            && own.records <= self.limits.publisher_records
            && own.bytes <= self.limits.publisher_bytes;
        if grows && !fits {
            return false;
        }
        *self.used = all;
        self.publishers.set_used(self.slot, own);
        true
    }
}
