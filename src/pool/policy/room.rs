//! Who must go when there is no room.
//!
//! Above the soft limit each newcomer sends away one connection, and the newcomer proceeds: the two overlap
//! while the old one drains. At the hard limit the newcomer must wait until the old one is closed. Either
//! way the victim has no lease and was used least recently; connections of a side that holds more than its
//! share go first, so a flood from one side cannot push out the other.

use std::time::Instant;

use crate::id::NodeId;

use super::Policy;
use super::table::{Slot, index, later};
use super::types::{CloseReason, ConnId, Retire, Side};

/// A connection that was retired for the sake of one who waits at the hard limit.
#[derive(Debug)]
pub(super) struct Claim {
    victim: ConnId,
    /// When the victim has had its time to close, and another one may be asked to go.
    until: Instant,
}

/// Whether a newcomer fits.
pub(super) enum Room<C> {
    Free(Option<Retire<C>>),
    Full(Option<Retire<C>>),
}

const BOTH: [Side; 2] = [Side::Us, Side::Them];

fn share(limit: usize, percent: u8) -> usize {
    limit.saturating_mul(usize::from(percent)).div_ceil(100).max(1)
}

impl<C: Clone> Policy<C> {
    /// Room for one more connection dialed by `side`, which `whose` asks for.
    pub(super) fn make_room(&mut self, now: Instant, whose: NodeId, side: Side) -> Room<C> {
        if !self.is_full(side) {
            self.claims.remove(&whose);
            let victim = self.soft_victim(Some(side));
            return Room::Free(victim.and_then(|slot| self.retire(slot, CloseReason::Capacity)));
        }
        if self.claims.get(&whose).is_some_and(|claim| now < claim.until) {
            return Room::Full(None);
        }
        let victim = match self.is_side_full(side) {
            true => self.table.oldest(&[side]),
            false => self.table.oldest(&BOTH),
        };
        let retired = victim.and_then(|slot| self.retire(slot, CloseReason::Capacity));
        if let Some(retired) = &retired {
            self.claim(now, whose, retired.id);
        }
        Room::Full(retired)
    }

    /// `victim` goes for the sake of `whose`: none other need go for it soon.
    pub(super) fn claim(&mut self, now: Instant, whose: NodeId, victim: ConnId) {
        let until = later(now, self.config.wait);
        self.claims.insert(whose, Claim { victim, until });
    }

    /// Whether one more connection dialed by `side` would be one too many.
    pub(super) fn is_full(&self, side: Side) -> bool {
        self.is_side_full(side) || self.all(Side::Us) + self.all(Side::Them) >= self.config.hard_limit
    }

    fn is_side_full(&self, side: Side) -> bool {
        self.all(side) >= self.side_limit(self.config.hard_limit, side)
    }

    /// One connection goes if there are more than the soft limit allows.
    pub(super) fn trim(&mut self) -> Option<Retire<C>> {
        let slot = self.soft_victim(None)?;
        self.retire(slot, CloseReason::Capacity)
    }

    /// A connection is closed: whoever waited for its place may ask for another one.
    pub(super) fn settle_claim(&mut self, victim: ConnId) {
        self.claims.retain(|_, claim| claim.victim != victim);
    }

    fn soft_victim(&mut self, newcomer: Option<Side>) -> Option<Slot> {
        let soft = self.config.soft_limit;
        let held = |side| self.working(side) + usize::from(newcomer == Some(side));
        if held(Side::Us) + held(Side::Them) <= soft {
            return None;
        }
        let over = BOTH.map(|side| held(side) > self.side_limit(soft, side));
        match over {
            [true, false] => self.table.oldest(&[Side::Us]),
            [false, true] => self.table.oldest(&[Side::Them]),
            _ => self.table.oldest(&BOTH),
        }
    }

    fn side_limit(&self, limit: usize, side: Side) -> usize {
        match side {
            Side::Us => share(limit, self.config.outbound_percent),
            Side::Them => share(limit, self.config.inbound_percent),
        }
    }

    /// Connections of a side that take work or soon will.
    fn working(&self, side: Side) -> usize {
        let dialing = if side == Side::Us { self.dialing } else { 0 };
        self.table.counts().live[index(side)] + dialing
    }

    fn all(&self, side: Side) -> usize {
        self.working(side) + self.table.counts().retiring[index(side)]
    }
}
