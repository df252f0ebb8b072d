//! The publishers of a shard and those who bring copies of others, each under a small number, with what they
//! use.

use std::collections::HashMap;

use crate::dht::hash::Keyed;
use crate::id::NodeId;

/// The number of a publisher for as long as it has records here, or is held.
pub(super) type Slot = u32;

/// Records and bytes of values in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

struct Publisher {
    id: NodeId,
    used: Usage,
    /// What it has brought of others.
    brought: Usage,
    held: bool,
}

pub(super) struct Publishers {
    slots: HashMap<NodeId, Slot, Keyed>,
    list: Vec<Publisher>,
    free: Vec<Slot>,
    /// The one that was held last: what comes next is likely to be of the same publisher.
    last: Slot,
}

impl Publishers {
    pub(super) fn new(seed: (u64, u64)) -> Self {
        Self { slots: HashMap::with_hasher(Keyed::new(seed)), list: Vec::new(), free: Vec::new(), last: 0 }
    }

    /// The number of `id`, which keeps it until [`release`](Self::release).
    pub(super) fn hold(&mut self, id: &NodeId) -> Slot {
        let last = self.list.get_mut(index(self.last));
        if let Some(last) = last.filter(|last| last.id == *id && last.used.records > 0) {
            last.held = true;
            return self.last;
        }
        if let Some(slot) = self.slots.get(id) {
            self.list[index(*slot)].held = true;
            self.last = *slot;
            return *slot;
        }
        let publisher = Publisher { id: *id, used: Usage::default(), brought: Usage::default(), held: true };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.list[index(slot)] = publisher;
                slot
            }
            None => {
                let slot =
                    Slot::try_from(self.list.len()).expect("each publisher takes memory: 2^32 do not fit");
                self.list.push(publisher);
                slot
            }
        };
        self.slots.insert(*id, slot);
        slot
    }

    /// Ends a [`hold`](Self::hold): the number is free again if the publisher has no records.
    pub(super) fn release(&mut self, slot: Slot) {
        self.list[index(slot)].held = false;
        self.free_if_idle(slot);
    }

    pub(super) fn id(&self, slot: Slot) -> &NodeId {
        &self.list[index(slot)].id
    }

    pub(super) fn used(&self, slot: Slot) -> Usage {
        self.list[index(slot)].used
    }

    pub(super) fn set_used(&mut self, slot: Slot, used: Usage) {
        self.list[index(slot)].used = used;
    }

    /// Takes one record of `bytes` bytes off the publisher's account.
    pub(super) fn drop_record(&mut self, slot: Slot, bytes: usize) {
        let used = &mut self.list[index(slot)].used;
        used.records -= 1;
        used.bytes -= bytes;
        self.free_if_idle(slot);
    }

    pub(super) fn brought(&self, slot: Slot) -> Usage {
        self.list[index(slot)].brought
    }

    /// Counts a record of another publisher, with a value of `bytes` bytes, that `slot` has brought.
    pub(super) fn bring(&mut self, slot: Slot, bytes: usize) {
        let brought = &mut self.list[index(slot)].brought;
        brought.records += 1;
        brought.bytes += bytes;
    }

    /// Ends a [`bring`](Self::bring).
    pub(super) fn drop_brought(&mut self, slot: Slot, bytes: usize) {
        let brought = &mut self.list[index(slot)].brought;
        brought.records -= 1;
        brought.bytes -= bytes;
        self.free_if_idle(slot);
    }

    fn free_if_idle(&mut self, slot: Slot) {
        let publisher = &self.list[index(slot)];
        if publisher.used.records == 0 && publisher.brought.records == 0 && !publisher.held {
            self.slots.remove(&publisher.id);
            self.free.push(slot);
        }
    }

    /// How many publishers have a number.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

fn index(slot: Slot) -> usize {
    usize::try_from(slot).expect("a slot is an index into a list")
}
