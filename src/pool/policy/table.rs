//! The connections there are, the order in which they may go, and when each goes by itself.
//!
//! Leasing touches no order: a leased connection may stay in its list until eviction meets it there and
//! drops it, and it enters again with its last release. Likewise each one has a single alarm that is only
//! moved when it rings too early. So a hit costs one look-up and no allocation.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lru::LruCache;

use crate::id::NodeId;

use super::duel::Rank;
use super::hash::{Keyed, Map};
use super::types::{CloseReason, ConnId, Retire, Side};

/// No alarm is set further ahead: keeps clock arithmetic from overflowing on absurd settings.
pub(super) const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// `now + wait`, whatever `wait` is.
pub(super) fn later(now: Instant, wait: Duration) -> Instant {
    now + wait.min(FOREVER)
}

/// Where a connection lies in the table, as long as it is there.
pub(super) type Slot = usize;

pub(super) struct Conn<C> {
    pub(super) peer: NodeId,
    pub(super) id: ConnId,
    pub(super) handle: C,
    pub(super) dialer: Side,
    pub(super) rank: Rank,
    pub(super) boot: u64,
    pub(super) opened: Instant,
    /// When it was last released or touched.
    pub(super) used: Instant,
    pub(super) ttl: Duration,
    pub(super) leases: u32,
    /// Set once it takes no new work.
    pub(super) retiring: Option<CloseReason>,
    /// Its key among the alarms.
    alarm: Instant,
}

impl<C: Clone> Conn<C> {
    pub(super) fn new(
        peer: NodeId,
        id: ConnId,
        handle: C,
        (dialer, rank): (Side, Rank),
        boot: u64,
        (now, ttl): (Instant, Duration),
    ) -> Self {
        let alarm = later(now, ttl);
        let (opened, used) = (now, now);
        Self { peer, id, handle, dialer, rank, boot, opened, used, ttl, leases: 0, retiring: None, alarm }
    }

    pub(super) fn retired(&self, reason: CloseReason) -> Retire<C> {
        Retire { peer: self.peer, id: self.id, handle: self.handle.clone(), reason, leases: self.leases }
    }
}

/// How many connections there are, by who dialed them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) live: [usize; 2],
    pub(super) retiring: [usize; 2],
    /// Connections with a lease, retiring ones included.
    pub(super) leased: usize,
    pub(super) leases: usize,
}

pub(super) const fn index(side: Side) -> usize {
    match side {
        Side::Us => 0,
        Side::Them => 1,
    }
}

/// What a release found.
pub(super) enum Released {
    Unknown,
    Leased,
    Idle,
    Drained(Slot),
}

pub(super) struct Table<C> {
    slots: Vec<Option<Conn<C>>>,
    free: Vec<Slot>,
    by_id: Map<ConnId, Slot>,
    /// Per side, least recently used first: every live connection without a lease, and some with one.
    order: [LruCache<Slot, (), Keyed>; 2],
    /// Every live connection, at or before the instant it will have been idle for its time to live.
    alarms: BTreeSet<(Instant, Slot)>,
    counts: Counts,
}

impl<C: Clone> Table<C> {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_id: Map::with_hasher(keyed),
            order: [LruCache::unbounded_with_hasher(keyed), LruCache::unbounded_with_hasher(keyed)],
            alarms: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Conn<C>> {
        self.slots.get(slot)?.as_ref()
    }

    pub(super) fn find(&self, id: ConnId) -> Option<Slot> {
        self.by_id.get(&id).copied()
    }

    fn get_mut(&mut self, slot: Slot) -> Option<&mut Conn<C>> {
        self.slots.get_mut(slot)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Conn<C>)> {
        self.slots.iter().enumerate().filter_map(|(slot, conn)| Some((slot, conn.as_ref()?)))
    }

    /// Takes in a connection without leases; a retiring one is only kept until it is removed.
    pub(super) fn insert(&mut self, conn: Conn<C>) -> Slot {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        let side = index(conn.dialer);
        debug_assert!(conn.leases == 0 && !self.by_id.contains_key(&conn.id), "a connection is new once");
        self.by_id.insert(conn.id, slot);
        if conn.retiring.is_some() {
            self.counts.retiring[side] += 1;
        } else {
            self.counts.live[side] += 1;
            self.order[side].put(slot, ());
            self.alarms.insert((conn.alarm, slot));
        }
        match self.slots.get_mut(slot) {
            Some(place) => *place = Some(conn),
            None => self.slots.push(Some(conn)),
        }
        slot
    }

    /// Takes out the connection, with its leases.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<(Slot, Conn<C>)> {
        let slot = self.by_id.remove(&id)?;
        let conn = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        let side = index(conn.dialer);
        if conn.retiring.is_some() {
            self.counts.retiring[side] -= 1;
        } else {
            self.counts.live[side] -= 1;
            self.order[side].pop(&slot);
            self.alarms.remove(&(conn.alarm, slot));
        }
        self.counts.leased -= usize::from(conn.leases > 0);
        self.counts.leases -= conn.leases as usize;
        Some((slot, conn))
    }

    /// Closes the connection to new work. `None` if it is not there or was retired before.
    pub(super) fn retire(&mut self, slot: Slot, reason: CloseReason) -> Option<Retire<C>> {
        let conn = self.get_mut(slot)?;
        if conn.retiring.is_some() {
            return None;
        }
        conn.retiring = Some(reason);
        let (side, alarm, retired) = (index(conn.dialer), conn.alarm, conn.retired(reason));
        self.counts.live[side] -= 1;
        self.counts.retiring[side] += 1;
        self.order[side].pop(&slot);
        self.alarms.remove(&(alarm, slot));
        Some(retired)
    }

    /// Names another reason for a connection that is already retiring.
    pub(super) fn blame(&mut self, slot: Slot, reason: CloseReason) -> Option<Retire<C>> {
        let conn = self.get_mut(slot)?;
        conn.retiring = Some(reason);
        Some(conn.retired(reason))
    }

    pub(super) fn lease(&mut self, slot: Slot) -> Option<(ConnId, C)> {
        let conn = self.slots.get_mut(slot)?.as_mut()?;
        conn.leases += 1;
        self.counts.leases += 1;
        self.counts.leased += usize::from(conn.leases == 1);
        Some((conn.id, conn.handle.clone()))
    }

    pub(super) fn release(&mut self, now: Instant, id: ConnId) -> Released {
        let Some(&slot) = self.by_id.get(&id) else { return Released::Unknown };
        let Some(conn) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return Released::Unknown };
        if conn.leases == 0 {
            return Released::Unknown;
        }
        conn.leases -= 1;
        conn.used = conn.used.max(now);
        self.counts.leases -= 1;
        if conn.leases > 0 {
            return Released::Leased;
        }
        self.counts.leased -= 1;
        if conn.retiring.is_some() {
            return Released::Drained(slot);
        }
        let order = &mut self.order[index(conn.dialer)];
        if !order.promote(&slot) {
            order.put(slot, ());
        }
        Released::Idle
    }

    /// An application frame went over the connection.
    pub(super) fn touch(&mut self, now: Instant, slot: Slot) {
        if let Some(conn) = self.get_mut(slot) {
            conn.used = conn.used.max(now);
            if conn.leases == 0 {
                self.order[index(conn.dialer)].promote(&slot);
            }
        }
    }

    /// The connection without a lease that was used least recently, among those dialed by one of `sides`.
    pub(super) fn oldest(&mut self, sides: &[Side]) -> Option<Slot> {
        let ends =
            sides.iter().filter_map(|side| self.oldest_of(*side)).collect::<smallvec::SmallVec<[_; 2]>>();
        ends.into_iter().min().map(|(_, _, slot)| slot)
    }

    fn oldest_of(&mut self, side: Side) -> Option<(Instant, ConnId, Slot)> {
        let order = &mut self.order[index(side)];
        loop {
            let (&slot, ()) = order.peek_lru()?;
            match self.slots.get(slot).and_then(Option::as_ref) {
                Some(conn) if conn.leases == 0 => return Some((conn.used, conn.id, slot)),
                _ => order.pop_lru(),
            };
        }
    }

    /// No connection goes before this instant for being idle.
    #[cfg(test)]
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Takes out the alarm of a connection that has been idle for its time to live, if there is one.
    pub(super) fn idle(&mut self, now: Instant) -> Option<Slot> {
        while let Some(&(at, slot)) = self.alarms.first()
            && at <= now
        {
            self.alarms.pop_first();
            let Some(conn) = self.get_mut(slot) else { continue };
            // A leased one is released now at the earliest, and lives its whole time from then.
            let goes = later(if conn.leases > 0 { now } else { conn.used }, conn.ttl);
            if goes <= now {
                return Some(slot);
            }
            conn.alarm = goes;
            self.alarms.insert((goes, slot));
        }
        None
    }

    /// Whether nothing is kept for connections that are gone.
    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        let idle = self.order.iter().all(LruCache::is_empty) && self.alarms.is_empty();
        idle && self.by_id.is_empty() && self.free.len() == self.slots.len()
    }
}
