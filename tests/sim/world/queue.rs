//! What will happen, in the order of time; what happens at the same time, in the order it was said.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::clock::Micros;

/// Future events. The heap moves small entries only; the events lie still in slots that are used again.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<(Micros, u64, u32)>>,
    slots: Vec<Option<E>>,
    free: Vec<u32>,
    serial: u64,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), serial: 0 }
    }

    /// Lets `event` happen at `at`.
    pub(crate) fn push(&mut self, at: Micros, event: E) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 events are under way")
        });
        self.slots[slot as usize] = Some(event);
        self.heap.push(Reverse((at, self.serial, slot)));
        self.serial += 1;
    }

    /// Takes out the next event that happens not after `until`.
    pub(crate) fn pop(&mut self, until: Micros) -> Option<(Micros, E)> {
        let Reverse((at, _, slot)) = *self.heap.peek()?;
        if at > until {
            return None;
        }
        self.heap.pop();
        self.free.push(slot);
        self.slots[slot as usize].take().map(|event| (at, event))
    }
}
