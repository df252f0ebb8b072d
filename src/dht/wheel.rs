//! When things end: a clock of nanoseconds since an epoch, and a wheel of one-second slots.
//!
//! Whoever holds things that expire files each of them once, under the second in which it will have ended or
//! in which something else is to be done about it. A thing that has more time than it was filed for stays
//! where it is and is filed again when its slot comes round; one that has less is taken out and filed anew.
//! Either way it has exactly one filing, so the wheel is never larger than what it watches over. What is far
//! off is filed a little early, under a second that it shares with its neighbours in time: what comes in is
//! written at the ends of a few lists, which the caches hold, and not of hundreds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Nanoseconds in a slot.
const SLOT: u64 = 1_000_000_000;
/// Seconds that share a slot while they are farther off than that.
const SHARED: u32 = 32;

/// A second that never comes.
pub(super) const NEVER: u32 = u32::MAX;

/// Nanoseconds from `epoch` to `now`; 0 before the epoch, saturating after 584 years.
pub(super) fn since(epoch: Instant, now: Instant) -> u64 {
    nanos(now.saturating_duration_since(epoch))
}

/// `duration` in nanoseconds, saturating.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `now` in whole seconds.
pub(super) fn second(now: u64) -> u32 {
    u32::try_from(now / SLOT).unwrap_or(NEVER)
}

/// Whether the slot of something that ends at `ends` has come round at `now`: then it has ended.
pub(super) fn has_come(ends: u64, now: u64) -> bool {
    u64::from(tick(ends)) <= now / SLOT
}

/// Where a thing is filed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    tick: u32,
    index: u32,
}

impl Place {
    /// No place: of a thing that is about to be filed.
    pub(super) const NONE: Self = Self { tick: 0, index: NEVER };

    /// Whether a thing filed here would come up too late for the second `tick`.
    pub(super) fn is_after(&self, tick: u32) -> bool {
        tick < self.tick
    }
}

/// The filings, by the second at whose start the filed thing has ended.
#[derive(Debug)]
pub(super) struct Wheel<T> {
    slots: BTreeMap<u32, Vec<T>>,
    /// The latest second in which it was asked what is due.
    now: u32,
}

impl<T: Copy> Wheel<T> {
    pub(super) const fn new() -> Self {
        Self { slots: BTreeMap::new(), now: 0 }
    }

    /// Files `item` to come up in the second `tick`, or in an earlier one if that is far off.
    pub(super) fn file(&mut self, tick: u32, item: T) -> Place {
        let tick = if tick.saturating_sub(self.now) > SHARED { tick - tick % SHARED } else { tick };
        let slot = self.slots.entry(tick).or_default();
        // The holder's limits keep a slot far below 2^32 items.
        let index = u32::try_from(slot.len()).unwrap_or(u32::MAX);
        slot.push(item);
        Place { tick, index }
    }

    /// Takes out what is filed at `place`. The item that it returns, if any, has moved into that place.
    pub(super) fn unfile(&mut self, place: Place) -> Option<T> {
        let slot = self.slots.get_mut(&place.tick)?;
        let index = usize::try_from(place.index).unwrap_or(usize::MAX);
        if index < slot.len() {
            slot.swap_remove(index);
        }
        let moved = slot.get(index).copied();
        if slot.is_empty() {
            self.slots.remove(&place.tick);
        }
        moved
    }

    /// Whether a slot has come round at `now`.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.slots.first_key_value().is_some_and(|(tick, _)| u64::from(*tick) <= now / SLOT)
    }

    /// Takes one item of the earliest slot that has come round at `now`.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<T> {
        self.now = self.now.max(second(now));
        let mut first = self.slots.first_entry().filter(|slot| u64::from(*slot.key()) <= now / SLOT)?;
        let item = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        item
    }

    /// How many items are filed.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.values().map(Vec::len).sum()
    }
}

/// The first second at whose start something that ends at `ends` has ended.
pub(super) fn tick(ends: u64) -> u32 {
    u32::try_from(ends.div_ceil(SLOT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_up_before_it_has_ended() {
        let mut wheel = Wheel::new();
        wheel.file(tick(SLOT + 1), 'a');
        assert!(!wheel.is_due(2 * SLOT - 1));
        assert_eq!(wheel.pop_due(2 * SLOT - 1), None);
        assert!(wheel.is_due(2 * SLOT));
        assert_eq!(wheel.pop_due(2 * SLOT), Some('a'));
        assert_eq!(wheel.pop_due(u64::MAX), None);
    }

    #[test]
    fn what_is_far_off_shares_a_slot_and_comes_up_on_time() {
        let mut wheel = Wheel::new();
        let due = 1_000..1_100;
        for tick in due.clone() {
            wheel.file(tick, tick);
        }
        assert!(wheel.slots.len() <= 5, "{} slots", wheel.slots.len());
        let mut early = 0;
        for now in 0..due.end {
            while let Some(tick) = wheel.pop_due(u64::from(now) * SLOT) {
                assert!(now <= tick, "late");
                if now < tick {
                    early += 1;
                    wheel.file(tick, tick);
                }
            }
            assert_eq!(wheel.len(), usize::try_from(due.end - 1 - now).unwrap().min(due.len()));
        }
        assert!(early <= due.len(), "each is filed anew once at most");
    }

    #[test]
    fn taking_one_out_names_the_one_that_moved() {
        let mut wheel = Wheel::new();
        let a = wheel.file(1, 'a');
        let b = wheel.file(1, 'b');
        let c = wheel.file(1, 'c');
        assert_eq!(wheel.unfile(a), Some('c'), "the last item fills the gap");
        assert_eq!(wheel.unfile(b), None, "the last item leaves no gap");
        assert_eq!(wheel.unfile(c), None, "an empty place is left alone");
        assert_eq!(wheel.pop_due(SLOT), Some('c'));
        assert_eq!(wheel.len(), 0);
    }
}
