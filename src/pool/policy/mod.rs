//! Which connection is used, dialed, kept and closed: the pool's decisions as one plain value.
//!
//! [`Policy`] has no clock, no sockets and no tasks: it is told what happened and answers what to do. It is
//! generic over the handle of a connection, which it only clones. Its promises:
//!
//! - at most one connection per peer takes new work; [`duel`] says which, the same at both ends;
//! - connections, being drained or dialed included, never exceed the hard limit;
//! - a leased connection is never closed to make room or for being idle;
//! - every request for a connection has an answer at once; whoever waits knows what for.
//!
//! A connection is *live* from its admission until it is retired, *retiring* (no new work, still counted)
//! until it is reported closed.

mod admit;
pub(crate) mod config;
mod dial;
pub(crate) mod duel;
mod hash;
mod past;
pub(crate) mod report;
mod room;
mod table;
pub(crate) mod types;
mod view;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::id::NodeId;

use self::config::PoolConfig;
use self::dial::Dial;
use self::hash::{Keyed, Map};
use self::past::{Health, Memory};
use self::report::PoolStats;
use self::room::Claim;
use self::table::{Released, Slot, Table};
use self::types::{Acquire, CloseReason, ConnId, Release, Retire};

/// What there is for a peer; absent when both are.
#[derive(Debug, Default)]
struct Entry {
    live: Option<Slot>,
    dial: Option<Dial>,
}

/// The pool's decisions; see the [module](self).
pub(crate) struct Policy<C> {
    local: NodeId,
    config: PoolConfig,
    rng: ChaCha8Rng,
    table: Table<C>,
    peers: Map<NodeId, Entry>,
    /// Dials to an address whose owner is not known, by number.
    joins: BTreeSet<u64>,
    /// Dials under way, joins included.
    dialing: usize,
    next_seq: u64,
    claims: Map<NodeId, Claim>,
    memory: Memory,
    health: Health,
    /// The running counts only.
    tally: PoolStats,
    closed: bool,
}

impl<C> fmt::Debug for Policy<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("local", &self.local)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

impl<C: Clone> Policy<C> {
    /// An empty pool of the node `local`, whose random choices follow from `seed`.
    pub(crate) fn new(local: NodeId, config: PoolConfig, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let keyed = Keyed::new(&mut rng);
        Self {
            local,
            config,
            rng,
            table: Table::new(keyed),
            peers: Map::with_hasher(keyed),
            joins: BTreeSet::new(),
            dialing: 0,
            next_seq: 1,
            claims: Map::with_hasher(keyed),
            memory: Memory::new(keyed),
            health: Health::new(keyed),
            tally: PoolStats::default(),
            closed: false,
        }
    }

    /// The limits it works by.
    #[cfg(test)]
    pub(crate) fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// A connection to `peer`, leased, or what to do to get one.
    pub(crate) fn acquire(&mut self, now: Instant, peer: NodeId) -> Acquire<C> {
        match self.peers.get(&peer) {
            _ if self.closed => return Acquire::Closed,
            Some(&Entry { live: Some(slot), .. }) => {
                if let Some((id, handle)) = self.table.lease(slot) {
                    self.tally.hits += 1;
                    return Acquire::Ready { id, handle };
                }
            }
            Some(Entry { dial: Some(_), .. }) => {
                self.tally.coalesced += 1;
                return Acquire::Dialing;
            }
            _ => {}
        }
        self.start_dial(now, peer)
    }

    /// Gives back a lease. Unknown to the pool are leases of a connection that was reported closed.
    pub(crate) fn release(&mut self, now: Instant, id: ConnId) -> Release<C> {
        match self.table.release(now, id) {
            Released::Unknown | Released::Leased => Release::Done,
            Released::Drained(slot) => match self.table.get(slot) {
                Some(conn) => Release::Drained { id, handle: conn.handle.clone() },
                None => Release::Done,
            },
            Released::Idle => self.trim().map_or(Release::Done, Release::Evict),
        }
    }

    /// An application frame of `peer` arrived. Frames to the peer are covered by their lease.
    pub(crate) fn touch(&mut self, now: Instant, peer: NodeId) {
        if let Some(&Entry { live: Some(slot), .. }) = self.peers.get(&peer) {
            self.table.touch(now, slot);
        }
    }

    /// Retires every connection that has been idle for its time to live.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Retire<C>> {
        let mut retired = Vec::new();
        while let Some(slot) = self.table.idle(now) {
            retired.extend(self.retire(slot, CloseReason::Idle));
        }
        retired
    }

    #[cfg(test)]
    /// When to call [`tick`](Self::tick) next; it may find nothing to do then.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.table.next_alarm()
    }

    /// Shuts down: retires every connection, and answers `Closed` from now on.
    pub(crate) fn retire_all(&mut self, reason: CloseReason) -> Vec<Retire<C>> {
        self.closed = true;
        let live: Vec<Slot> = self.table.iter().map(|(slot, _)| slot).collect();
        live.into_iter().filter_map(|slot| self.retire(slot, reason)).collect()
    }

    /// Closes a live connection to new work.
    fn retire(&mut self, slot: Slot, reason: CloseReason) -> Option<Retire<C>> {
        let retired = self.table.retire(slot, reason)?;
        *self.tally.closes.of(reason) += 1;
        self.forget_live(retired.peer, slot);
        Some(retired)
    }

    /// `slot` is no longer the live connection to `peer`, if it was.
    fn forget_live(&mut self, peer: NodeId, slot: Slot) {
        if let Some(entry) = self.peers.get_mut(&peer)
            && entry.live == Some(slot)
        {
            entry.live = None;
            if entry.dial.is_none() {
                self.peers.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests;
