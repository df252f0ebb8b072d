//! What others ask the pool without changing it, and the health of peers.

use std::time::{Duration, Instant};

use crate::id::NodeId;

use super::Policy;
use super::report::{ClosedConnection, Explain, OpenConnection, PoolStats};
use super::table::{Conn, Counts, index, later};
use super::types::Side;

impl<C: Clone> Policy<C> {
    /// The live connection to `peer`, without a lease.
    #[cfg(test)]
    pub(crate) fn ready(&self, peer: NodeId) -> Option<C> {
        self.live(peer).map(|conn| conn.handle.clone())
    }

    /// All live connections.
    pub(crate) fn residents(&self) -> impl Iterator<Item = (NodeId, C)> {
        let live = self.table.iter().filter(|(_, conn)| conn.retiring.is_none());
        live.map(|(_, conn)| (conn.peer, conn.handle.clone()))
    }

    /// A request to `peer` timed out; two in a row make it suspect, which is returned.
    pub(crate) fn timed_out(&mut self, peer: NodeId) -> bool {
        self.health.add(peer, 1, self.config.remembered)
    }

    /// `peer` makes no progress.
    pub(crate) fn suspect(&mut self, peer: NodeId) {
        self.health.suspect(peer, self.config.remembered);
    }

    /// `peer` answered.
    pub(crate) fn healthy(&mut self, peer: NodeId) {
        self.health.clear(peer);
    }

    /// Whether `peer` is better avoided.
    pub(crate) fn is_suspect(&self, peer: NodeId) -> bool {
        self.health.is_suspect(peer)
    }

    /// The counts. `messages` is zero: the pool does not see them.
    pub(crate) fn stats(&self) -> PoolStats {
        let Counts { live, retiring, leased, leases } = *self.table.counts();
        PoolStats {
            residents: live.iter().sum(),
            inbound: live[index(Side::Them)],
            leased,
            leases,
            dialing: self.dialing,
            retiring: retiring.iter().sum(),
            ..self.tally
        }
    }

    /// Why there is a connection to `peer`, or none.
    pub(crate) fn explain(&self, now: Instant, peer: NodeId) -> Explain {
        let ago = |then: Instant| now.saturating_duration_since(then);
        let dial = self.peers.get(&peer).and_then(|entry| entry.dial.as_ref());
        let past = self.memory.peek(peer);
        let closes = past.into_iter().flat_map(|past| past.closes.iter().rev());
        Explain {
            peer,
            open: self.live(peer).map(|conn| open(conn, now)),
            dialing: dial.map(|dial| ago(dial.since)),
            retiring: self.table.iter().filter(|(_, c)| c.peer == peer && c.retiring.is_some()).count(),
            suspect: self.is_suspect(peer),
            back_off: self.memory.back_off(now, peer).map(|until| until.saturating_duration_since(now)),
            failures: past.map_or(0, |past| past.failures),
            last_failure: past.and_then(|past| past.last_failure).map(|(at, failure)| (failure, ago(at))),
            closed: closes
                .map(|closed| ClosedConnection {
                    reason: closed.reason,
                    dialed_by: closed.dialer,
                    lived: closed.lived,
                    ago: ago(closed.at),
                })
                .collect(),
        }
    }

    /// Whether a connection to `peer` takes new work.
    pub(crate) fn is_live(&self, peer: NodeId) -> bool {
        self.live(peer).is_some()
    }

    /// Where the live connection to `peer` ends.
    pub(crate) fn live_handle(&self, peer: NodeId) -> Option<&C> {
        self.live(peer).map(|conn| &conn.handle)
    }

    fn live(&self, peer: NodeId) -> Option<&Conn<C>> {
        self.table.get(self.peers.get(&peer)?.live?)
    }
}

fn open<C>(conn: &Conn<C>, now: Instant) -> OpenConnection {
    let left = later(conn.used, conn.ttl).saturating_duration_since(now);
    OpenConnection {
        dialed_by: conn.dialer,
        dial: conn.rank.seq(),
        age: now.saturating_duration_since(conn.opened),
        leases: conn.leases,
        idle: if conn.leases > 0 { Duration::ZERO } else { now.saturating_duration_since(conn.used) },
        goes_in: (conn.leases == 0).then_some(left),
    }
}
