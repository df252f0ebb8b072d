//! What time brings about in a shard: records end, and live ones are sent to the other replicas again.
//!
//! Each register is filed once in the wheel, under the second in which the first of the two is to be done.
//! A copy that comes puts off the turn of its record, because whoever sent it has sent it to the other
//! replicas as well (Maymounkov and Mazières, *Kademlia*, 2002, section 2.5): of all replicas, the one whose
//! turn comes first sends for all.

use std::time::{Duration, Instant};

use hashbrown::hash_table::Entry;

use super::{Register, Shard, Spot, position};
use crate::dht::wheel::{NEVER, has_come, second, since};
use crate::id::{Key, NodeId};
use crate::wire::{Record, RecordKind};

/// How often a record is sent to the other replicas if nobody else does: 10 minutes, give or take an eighth.
pub const REPLICATE_EVERY: Duration = Duration::from_secs(10 * 60);

/// The part of an interval by which turns differ among records.
const JITTER: u32 = 4;

/// A record that a shard holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held<'a> {
    /// Who published it.
    pub publisher: NodeId,
    /// The record, with the time that is left of its life.
    pub record: Record<'a>,
    /// Whether the publisher itself has brought it or has signed it; otherwise a peer has vouched for it.
    pub authentic: bool,
}

/// `every` in whole seconds, at least one.
pub(super) fn seconds(every: Duration) -> u32 {
    u32::try_from(every.as_secs()).unwrap_or(NEVER).max(1)
}

/// When a record is to be sent that came in the second `now`: after `every` seconds, an eighth more or less,
/// as `hash` has it.
pub(super) fn turn(now: u32, every: u32, hash: u64) -> u32 {
    let spread = u64::from(every / JITTER);
    let jitter = u32::try_from(hash % (spread + 1)).unwrap_or(0);
    now.saturating_add(every - every / (2 * JITTER)).saturating_add(jitter)
}

impl Shard {
    /// Drops what has ended, looking at no more than `budget` records.
    ///
    /// Returns how many it looked at; if that is `budget`, there may be more. A record is dropped within a
    /// second of its end; readers do not see it meanwhile.
    pub fn expire(&mut self, now: Instant, budget: usize) -> usize {
        self.expire_at(since(self.epoch, now), budget)
    }

    pub(super) fn expire_at(&mut self, now: u64, budget: usize) -> usize {
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

    /// The slot of a register has come round. Whether it has ended and is queued.
    fn turn_up(&mut self, now: u64, spot: Spot) -> bool {
        let (key, kind, slot) = spot;
        let hash = self.keys.hash(&key);
        let Entry::Occupied(mut entry) = self.keys.entry(hash, &key) else { return false };
        let (_, registers) = entry.get_mut();
        let publisher = self.publishers.id(slot);
        let Ok(at) = position(registers, &self.publishers, kind, publisher) else { return false };
        let register = &mut registers[at];
        if !has_come(register.ends, now) {
            if register.due <= second(now) {
                register.due = NEVER;
                if !register.queued {
                    register.queued = true;
                    self.queue.push_back(spot);
                }
            }
            register.place = self.wheel.file(register.next(), spot);
            return false;
        }
        let register = registers.remove(at);
        if registers.is_empty() {
            entry.remove();
        } else if registers.len() * 4 <= registers.capacity() {
            registers.shrink_to_fit();
        }
        self.used.records -= 1;
        self.used.bytes -= register.bytes();
        self.publishers.drop_record(slot, register.bytes());
        if let Some(by) = register.bringer() {
            self.publishers.drop_brought(by, register.bytes());
        }
        register.queued
    }

    /// Takes out of the queue what has ended.
    fn unqueue(&mut self) {
        let Self { keys, publishers, queue, .. } = self;
        let queued = |(key, kind, slot): &Spot| {
            keys.get(key).is_some_and(|registers| {
                let at = position(registers, publishers, *kind, publishers.id(*slot));
                at.is_ok_and(|at| registers[at].queued)
            })
        };
        queue.retain(queued);
    }

    /// Shows `visit` at most `budget` records whose turn to be sent to the other replicas has come; their
    /// next turn comes after another interval. Drops what has ended, as [`expire`](Self::expire) does.
    ///
    /// Returns how many it showed; if that is `budget`, there may be more.
    pub fn due(&mut self, now: Instant, budget: usize, mut visit: impl FnMut(Held<'_>)) -> usize {
        let now = since(self.epoch, now);
        self.expire_at(now, usize::MAX);
        let mut shown = 0;
        while shown < budget
            && let Some(spot) = self.queue.pop_front()
        {
            let (key, kind, slot) = spot;
            let (hash, every) = (self.keys.hash(&key), self.every);
            let Self { keys, publishers, .. } = self;
            let publisher = *publishers.id(slot);
            let Some(registers) = keys.get_mut(&key) else { continue };
            let Ok(at) = position(registers, publishers, kind, &publisher) else { continue };
            let register = &mut registers[at];
            register.queued = false;
            // A copy has come meanwhile, which puts the turn off.
            if register.due != NEVER {
                continue;
            }
            register.due = turn(second(now), every, hash);
            if let Some(held) = held(register, &key, publisher, now) {
                visit(held);
                shown += 1;
            }
            if register.place.is_after(register.next()) {
                self.file_earlier(spot, at);
            }
        }
        shown
    }

    /// Shows `visit` all live records under the keys that are wanted: for a node that has come close to them,
    /// or has gone.
    pub fn select(&self, now: Instant, mut want: impl FnMut(&Key) -> bool, mut visit: impl FnMut(Held<'_>)) {
        let now = since(self.epoch, now);
        for (key, registers) in self.keys.iter().filter(|(key, _)| want(key)) {
            for register in registers {
                let publisher = *self.publishers.id(register.publisher);
                if let Some(held) = held(register, key, publisher, now) {
                    visit(held);
                }
            }
        }
    }

    /// The live record of one publisher.
    pub fn get(&self, now: Instant, key: &Key, kind: RecordKind, publisher: &NodeId) -> Option<Held<'_>> {
        let registers = self.keys.get(key)?;
        let at = position(registers, &self.publishers, kind, publisher).ok()?;
        held(&registers[at], key, *publisher, since(self.epoch, now))
    }

    /// Moves the filing of a register whose slot would come round too late.
    pub(super) fn file_earlier(&mut self, spot: Spot, at: usize) {
        let Some(register) = self.keys.get_mut(&spot.0).and_then(|registers| registers.get_mut(at)) else {
            return;
        };
        let left = register.place;
        register.place = self.wheel.file(register.next(), spot);
        if let Some((key, kind, slot)) = self.wheel.unfile(left)
            && let Some(registers) = self.keys.get_mut(&key)
            && let Ok(at) = position(registers, &self.publishers, kind, self.publishers.id(slot))
        {
            registers[at].place = left;
        }
    }
}

/// A register as it is shown, while it lives.
fn held<'a>(register: &'a Register, key: &Key, publisher: NodeId, now: u64) -> Option<Held<'a>> {
    let record = Record {
        key: *key,
        seq: register.seq,
        ttl_ms: register.ttl_ms(now)?,
        kind: register.kind,
        flags: register.flags,
        proof: register.proof(),
        value: register.value(),
    };
    Some(Held { publisher, record, authentic: register.authentic })
}
