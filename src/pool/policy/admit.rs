//! Connections come and go: which one a peer keeps, and what is remembered of those that end.

use std::time::{Duration, Instant};

use rand::RngExt;

use crate::id::NodeId;

use super::Policy;
use super::duel::{Rank, replaces};
use super::past::Closed;
use super::room::Room;
use super::table::{Conn, FOREVER, Slot};
use super::types::{Admit, Candidate, CloseReason, ConnId, DialFailure, Refusal, Retire, Side};

/// No connection lives shorter, whatever is configured: an alarm must lie ahead.
const LEAST_TTL: Duration = Duration::from_millis(1);

/// How a candidate stands against what there is.
enum Standing {
    /// No live connection.
    First,
    /// It takes the place of the one in the slot.
    Wins(Slot),
    /// The live one is of an earlier process of the peer.
    Supersedes,
    Loses,
    Stale,
}

impl<C: Clone> Policy<C> {
    /// Decides on a connection that has become ready. Its dial, if it was ours, has ended with this.
    ///
    /// Whoever waited for the connection should acquire it under the same lock: without a lease it can be
    /// evicted at once.
    pub(crate) fn admit(&mut self, now: Instant, candidate: Candidate<C>) -> Admit<C> {
        let peer = candidate.peer;
        let placed = candidate.dialer == Side::Us && self.dial_reached(peer, candidate.dial_seq);
        if peer == self.local {
            return self.refuse(Refusal::Own);
        }
        if self.closed {
            return self.refuse(Refusal::Closed);
        }
        let mut retire = match self.standing(&candidate) {
            Standing::Stale => return self.refuse_stale(now, peer, placed),
            Standing::Loses => return self.keep_loser(now, candidate, placed),
            // They lead to a process that is gone: they go even if the candidate finds no room yet.
            Standing::Supersedes => self.supersede(now, peer, candidate.boot),
            Standing::Wins(loser) if placed || !self.is_full(candidate.dialer) => {
                self.retire(loser, CloseReason::Duplicate).into_iter().collect()
            }
            Standing::First | Standing::Wins(_) => Vec::new(),
        };
        // A dial of ours has reserved its place.
        if !placed {
            match self.make_room(now, peer, candidate.dialer) {
                Room::Free(evict) => retire.extend(evict),
                Room::Full(evict) => {
                    retire.extend(evict);
                    return Admit::Full { retire };
                }
            }
        }
        self.tally.handshakes += 1;
        // Whatever it left unanswered, it answers now; a suspect is asked nothing that could clear it.
        self.health.clear(peer);
        let slot = self.insert(now, candidate, None);
        self.peers.entry(peer).or_default().live = Some(slot);
        Admit::Kept { retire }
    }

    /// A candidate gave up waiting for room, and was closed.
    pub(crate) fn turned_away(&mut self) {
        self.tally.handshakes += 1;
        self.tally.refused += 1;
    }

    /// Closes one connection to new work, as when the peer drains it. `None` if that was so before.
    pub(crate) fn retire_one(&mut self, id: ConnId, reason: CloseReason) -> Option<Retire<C>> {
        let slot = self.table.find(id)?;
        self.retire(slot, reason)
    }

    /// A connection is gone, whether it was retired or not.
    ///
    /// `reason` counts only if the pool had not retired it for a reason of its own.
    pub(crate) fn closed(&mut self, now: Instant, id: ConnId, reason: CloseReason) {
        let Some((slot, conn)) = self.table.remove(id) else { return };
        if conn.retiring.is_none() {
            *self.tally.closes.of(reason) += 1;
        }
        self.forget_live(conn.peer, slot);
        self.settle_claim(id);
        let closed = Closed {
            at: now,
            reason: conn.retiring.unwrap_or(reason),
            dialer: conn.dialer,
            lived: now.saturating_duration_since(conn.opened),
        };
        self.memory.closed(conn.peer, closed, &self.config, &mut self.rng);
    }

    fn standing(&self, candidate: &Candidate<C>) -> Standing {
        let peer = candidate.peer;
        let live = self.peers.get(&peer).and_then(|entry| entry.live);
        let Some((slot, resident)) = live.and_then(|slot| Some((slot, self.table.get(slot)?))) else {
            return Standing::First;
        };
        if resident.boot != candidate.boot {
            return match self.memory.is_superseded(peer, candidate.boot) {
                true => Standing::Stale,
                false => Standing::Supersedes,
            };
        }
        match replaces(self.rank(candidate), resident.rank) {
            true => Standing::Wins(slot),
            false => Standing::Loses,
        }
    }

    fn refuse_stale(&mut self, now: Instant, peer: NodeId, placed: bool) -> Admit<C> {
        self.tally.stale += 1;
        if placed {
            self.memory.dial_failed(now, peer, DialFailure::Refused, &self.config, &mut self.rng);
        }
        self.refuse(Refusal::Stale)
    }

    fn keep_loser(&mut self, now: Instant, candidate: Candidate<C>, placed: bool) -> Admit<C> {
        if !placed && self.is_full(candidate.dialer) {
            return self.refuse(Refusal::Duplicate);
        }
        self.tally.handshakes += 1;
        self.tally.closes.duplicate += 1;
        self.insert(now, candidate, Some(CloseReason::Duplicate));
        Admit::Duplicate
    }

    /// Retires all connections to earlier processes of `peer`, those that are draining included.
    fn supersede(&mut self, now: Instant, peer: NodeId, boot: u64) -> Vec<Retire<C>> {
        let of_peer = |conn: &Conn<C>| conn.peer == peer && conn.boot != boot;
        let old: Vec<(Slot, u64)> =
            self.table.iter().filter(|(_, c)| of_peer(c)).map(|(slot, c)| (slot, c.boot)).collect();
        let mut retired = Vec::with_capacity(old.len());
        for (slot, boot) in old {
            self.memory.superseded(peer, boot, &self.config);
            let again = self.retire(slot, CloseReason::Superseded);
            retired.extend(again.or_else(|| self.table.blame(slot, CloseReason::Superseded)));
        }
        if let Some(first) = retired.first() {
            self.claim(now, peer, first.id);
        }
        retired
    }

    fn insert(&mut self, now: Instant, candidate: Candidate<C>, retiring: Option<CloseReason>) -> Slot {
        let ttl = self.config.idle_ttl.clamp(LEAST_TTL, FOREVER);
        let ttl = ttl.mul_f64(1.0 - 0.25 * self.rng.random::<f64>());
        let dialed = (candidate.dialer, self.rank(&candidate));
        let Candidate { peer, id, boot, handle, .. } = candidate;
        let mut conn = Conn::new(peer, id, handle, dialed, boot, (now, ttl));
        conn.retiring = retiring;
        self.table.insert(conn)
    }

    fn rank(&self, candidate: &Candidate<C>) -> Rank {
        Rank::new(self.local, candidate.peer, candidate.dialer, candidate.dial_seq)
    }

    fn refuse(&mut self, refusal: Refusal) -> Admit<C> {
        self.tally.handshakes += 1;
        self.tally.refused += 1;
        Admit::Refused(refusal)
    }
}
