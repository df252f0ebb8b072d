//! The replica store: the records that this node holds for others, cut into shards by key.
//!
//! A [`Shard`] maps a key to its registers, one per kind and publisher, in that order. It decides which of
//! two copies stays ([`crate::dht::record`] gives the order), counts what each publisher uses, lets records
//! end in time, and says when a record is to be sent to the other replicas again. A record that was
//! acknowledged stays until it ends or its publisher replaces it: a full shard refuses what is new.

mod limits;
mod publishers;
mod register;
mod upkeep;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use hashbrown::hash_table::Entry;
use smallvec::{SmallVec, smallvec};

pub(in crate::dht) use self::limits::share;
pub use self::limits::{BYTES_MAX, KEY_RECORDS_MAX, RECORDS_MAX, SHARD_SLACK, ShardLimits, StoreLimits};
use self::publishers::{Publishers, Slot, Usage};
use self::register::{Candidate, Merge, Register};
pub use self::upkeep::{Held, REPLICATE_EVERY};
use super::map::KeyMap;
use super::record::{check, life};
use super::wheel::{NEVER, Wheel, nanos, second, since};
use crate::id::{Key, NodeId};
use crate::wire::{Found, Record, RecordKind, Status};

/// The registers under one key, by kind and publisher. Nearly every key has one.
type Registers = SmallVec<[Register; 1]>;

/// Where a register is.
type Spot = (Key, RecordKind, Slot);

/// Who brings a copy of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The publisher itself, over its own connection.
    FirstHand,
    /// Another peer, which is known unless the copy comes from a file. A copy with a proof is as good as one of
    /// the publisher; for any other, the peer vouches. Whatever it brings counts against its own share as well.
    Vouched(Option<NodeId>),
}

/// One shard of the replica store. It is not shared: the driver puts each shard behind a lock of its own.
pub struct Shard {
    epoch: Instant,
    limits: ShardLimits,
    keys: KeyMap<Registers>,
    publishers: Publishers,
    wheel: Wheel<Spot>,
    used: Usage,
    /// How often a record is sent to the other replicas, in seconds; [`NEVER`] for not at all.
    every: u32,
    /// Registers that are to be sent to the other replicas, each once.
    queue: VecDeque<Spot>,
}

/// Who brings a batch, and when.
#[derive(Clone, Copy)]
struct Bringer<'a> {
    now: u64,
    publisher: &'a NodeId,
    slot: Slot,
    origin: Origin,
    /// Who is charged for what it brings in the name of the publisher.
    by: Option<Slot>,
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
            every: upkeep::seconds(REPLICATE_EVERY),
            queue: VecDeque::new(),
        }
    }

    /// Sets how often each record is sent to the other replicas, by default [`REPLICATE_EVERY`]; `None` for
    /// not at all. Holds for records that come from then on.
    pub fn replicate_every(&mut self, every: Option<Duration>) {
        self.every = every.map_or(NEVER, upkeep::seconds);
    }

    /// Merges a batch of copies of `publisher`'s records and gives `out` one status for each, in order.
    ///
    /// The caller has verified every proof ([`verify`](super::record::verify)) and knows that whoever vouches
    /// may do so.
    pub fn apply<'a>(
        &mut self,
        now: Instant,
        publisher: &NodeId,
        origin: Origin,
        records: impl IntoIterator<Item = Record<'a>, IntoIter: Clone>,
        mut out: impl FnMut(Status),
    ) {
        let records = records.into_iter();
        let now = since(self.epoch, now);
        let slot = self.publishers.hold(publisher);
        let by = match origin {
            Origin::Vouched(Some(by)) if by != *publisher => Some(self.publishers.hold(&by)),
            _ => None,
        };
        let bringer = Bringer { now, publisher, slot, origin, by };
        let hashes: SmallVec<[u64; 64]> = records.clone().map(|record| self.keys.hash(&record.key)).collect();
        if hashes.len() > 1 {
            let keys = records.clone().map(|record| record.key);
            self.warm(&hashes, keys);
        }
        for (hash, record) in hashes.into_iter().zip(records) {
            out(self.merge(bringer, hash, &record));
        }
        self.publishers.release(slot);
        by.into_iter().for_each(|by| self.publishers.release(by));
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
        let ttl = life(record.flags, Duration::from_millis(record.ttl_ms.into()));
        let copy = Candidate {
            authentic: bringer.origin == Origin::FirstHand || !record.proof.is_empty(),
            ends: bringer.now.saturating_add(nanos(ttl)),
            due: upkeep::turn(second(bringer.now), self.every, hash),
            record,
        };
        match self.settle(bringer, hash, &copy) {
            Status::StorageFull if self.wheel.is_due(bringer.now) => {
                self.expire_at(bringer.now, usize::MAX);
                self.settle(bringer, hash, &copy)
            }
            status => status,
        }
    }

    /// Finds the register of the copy with one access to the map, and merges the copy into it.
    fn settle(&mut self, bringer: Bringer<'_>, hash: u64, copy: &Candidate<'_>) -> Status {
        let Record { key, kind, value, .. } = *copy.record;
        let Self { keys, publishers, wheel, limits, used, .. } = self;
        let mut account = Account { publishers, limits, used, slot: bringer.slot, by: bringer.by };
        let spot = (key, kind, bringer.slot);
        match keys.entry(hash, &key) {
            Entry::Vacant(entry) => {
                if limits.key_records == 0 || !account.charge(1, 0, value.len(), None) {
                    return Status::StorageFull;
                }
                let mut register = Register::new(bringer.slot, copy);
                register.set_bringer(bringer.by);
                register.place = wheel.file(register.next(), spot);
                entry.insert((key, smallvec![register]));
                Status::Applied
            }
            Entry::Occupied(entry) => {
                let (_, registers) = entry.into_mut();
                let at = match position(registers, account.publishers, kind, bringer.publisher) {
                    Ok(at) => at,
                    Err(at) => {
                        if registers.len() >= limits.key_records || !account.charge(1, 0, value.len(), None) {
                            return Status::StorageFull;
                        }
                        let mut register = Register::new(bringer.slot, copy);
                        register.set_bringer(bringer.by);
                        register.place = wheel.file(register.next(), spot);
                        registers.insert(at, register);
                        return Status::Applied;
                    }
                };
                let register = &mut registers[at];
                let status = match register.judge(copy, bringer.now) {
                    Merge::Keep { seq } => {
                        register.outlive(copy);
                        return Status::Superseded { seq };
                    }
                    Merge::Same { ends } => {
                        register.renew(copy, ends);
                        // What the publisher itself has brought is nobody else's burden.
                        if bringer.origin == Origin::FirstHand
                            && let Some(by) = register.bringer()
                        {
                            account.publishers.drop_brought(by, register.bytes());
                            register.set_bringer(None);
                        }
                        Status::AlreadyHave
                    }
                    Merge::Replace => {
                        if !account.charge(0, register.bytes(), value.len(), register.bringer()) {
                            return Status::StorageFull;
                        }
                        register.replace(copy, bringer.now);
                        register.set_bringer(bringer.by);
                        Status::Applied
                    }
                };
                if register.place.is_after(register.next()) {
                    self.file_earlier(spot, at);
                }
                status
            }
        }
    }

    /// Shows `visit` the live records of `kind` under `key` in the order of their publishers, from the first
    /// one after `after` on, until it breaks; tombstones are among them. The last publisher shown is the
    /// cursor to go on from.
    pub fn find<'a>(
        &'a self,
        now: Instant,
        key: &Key,
        kind: RecordKind,
        after: Option<&NodeId>,
        mut visit: impl FnMut(Found<'a>) -> ControlFlow<()>,
    ) {
        let now = since(self.epoch, now);
        let Some(registers) = self.keys.get(key) else { return };
        let start = registers.partition_point(|register| {
            register.kind < kind
                || register.kind == kind
                    && after.is_some_and(|after| self.publishers.id(register.publisher) <= after)
        });
        for register in registers[start..].iter().take_while(|register| register.kind == kind) {
            let Some(ttl_ms) = register.ttl_ms(now) else { continue };
            let found = Found {
                publisher: *self.publishers.id(register.publisher),
                seq: register.seq,
                ttl_ms,
                kind,
                flags: register.flags,
                proof: register.proof(),
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

/// Where `publisher`'s register of `kind` is among `registers`, or belongs.
fn position(
    registers: &Registers,
    publishers: &Publishers,
    kind: RecordKind,
    publisher: &NodeId,
) -> Result<usize, usize> {
    registers.binary_search_by(|register| {
        register.kind.cmp(&kind).then_with(|| publishers.id(register.publisher).cmp(publisher))
    })
}

/// What a publisher and its shard use, beside what they may.
struct Account<'a> {
    publishers: &'a mut Publishers,
    limits: &'a ShardLimits,
    used: &'a mut Usage,
    slot: Slot,
    /// Who brings the copy, if not the publisher.
    by: Option<Slot>,
}

impl Account<'_> {
    /// Counts `records` more records and a value of `new` bytes in place of `old`, which `before` had brought,
    /// if that fits.
    ///
    /// What does not grow always fits: limits never stand in the way of a smaller value.
    fn charge(&mut self, records: usize, old: usize, new: usize, before: Option<Slot>) -> bool {
        let add = |used: Usage| Usage { records: used.records + records, bytes: used.bytes - old + new };
        let (all, own) = (add(*self.used), add(self.publishers.used(self.slot)));
        let grows = records > 0 || new > old;
        let fits = all.records <= self.limits.records
            && all.bytes <= self.limits.bytes
            && own.records <= self.limits.publisher_records
            && own.bytes <= self.limits.publisher_bytes;
        if grows && !fits || !self.may_bring(old, new, before) {
            return false;
        }
        *self.used = all;
        self.publishers.set_used(self.slot, own);
        before.into_iter().for_each(|by| self.publishers.drop_brought(by, old));
        self.by.into_iter().for_each(|by| self.publishers.bring(by, new));
        true
    }

    /// Whether the share of who brings the copy has room for it.
    fn may_bring(&self, old: usize, new: usize, before: Option<Slot>) -> bool {
        let Some(by) = self.by else { return true };
        let (records, bytes) = self.limits.brought();
        let Usage { records: mine, bytes: my_bytes } = self.publishers.brought(by);
        if before == Some(by) {
            return new <= old || my_bytes - old + new <= bytes;
        }
        mine < records && my_bytes + new <= bytes
    }
}
