//! Dials: one per peer at a time, each with a reserved place, none to a peer that failed just now.

use std::time::Instant;

use crate::id::NodeId;

use super::Policy;
use super::room::Room;
use super::types::{Acquire, DialFailure, Join, Side};

/// A dial under way.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) seq: u64,
    pub(super) since: Instant,
}

impl<C: Clone> Policy<C> {
    pub(super) fn start_dial(&mut self, now: Instant, peer: NodeId) -> Acquire<C> {
        if peer == self.local {
            return Acquire::Own;
        }
        if let Some(until) = self.memory.back_off(now, peer) {
            self.tally.backed_off += 1;
            return Acquire::BackOff { until };
        }
        match self.make_room(now, peer, Side::Us) {
            Room::Full(evict) => Acquire::Full { evict },
            Room::Free(evict) => {
                let seq = self.count_dial();
                self.peers.entry(peer).or_default().dial = Some(Dial { seq, since: now });
                Acquire::Dial { seq, evict }
            }
        }
    }

    /// Room to dial an address whose owner is not known.
    pub(crate) fn join(&mut self, now: Instant) -> Join<C> {
        if self.closed {
            return Join::Closed;
        }
        // Nobody else can claim room in the node's own name.
        match self.make_room(now, self.local, Side::Us) {
            Room::Full(evict) => Join::Full { evict },
            Room::Free(evict) => {
                let seq = self.count_dial();
                self.joins.insert(seq);
                Join::Dial { seq, evict }
            }
        }
    }

    /// Dial `seq` to `peer` led to nothing: gives its place back and sets the back-off.
    pub(crate) fn dial_failed(&mut self, now: Instant, peer: NodeId, seq: u64, failure: DialFailure) {
        if self.end_dial(peer, seq) {
            self.tally.dial_failures += 1;
            self.memory.dial_failed(now, peer, failure, &self.config, &mut self.rng);
        }
    }

    /// Dial `seq` to `peer` was given up, through no fault of the peer: gives its place back.
    pub(crate) fn dial_aborted(&mut self, peer: NodeId, seq: u64) {
        self.end_dial(peer, seq);
    }

    /// The dial that [`join`](Self::join) allowed led to nothing: gives its place back.
    pub(crate) fn join_failed(&mut self, seq: u64) {
        if self.end_join(seq) {
            self.tally.dial_failures += 1;
        }
    }

    /// A request gave up waiting for room.
    pub(crate) fn exhausted(&mut self) {
        self.tally.exhausted += 1;
    }

    /// Frees the place of the dial with number `seq`, which reached `peer`.
    pub(super) fn dial_reached(&mut self, peer: NodeId, seq: u64) -> bool {
        self.end_dial(peer, seq) || self.end_join(seq)
    }

    fn end_dial(&mut self, peer: NodeId, seq: u64) -> bool {
        let Some(entry) = self.peers.get_mut(&peer) else { return false };
        if entry.dial.take_if(|dial| dial.seq == seq).is_none() {
            return false;
        }
        if entry.live.is_none() {
            self.peers.remove(&peer);
        }
        self.dialing -= 1;
        true
    }

    fn end_join(&mut self, seq: u64) -> bool {
        let ended = self.joins.remove(&seq);
        self.dialing -= usize::from(ended);
        ended
    }

    fn count_dial(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.dialing += 1;
        self.tally.dials += 1;
        seq
    }
}
