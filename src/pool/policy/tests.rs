//! The pool on a virtual clock.

#![expect(clippy::disallowed_methods, reason = "tests read the clock and build what the library may not")]

mod admission;
mod limits;
mod memory;
mod pair;
mod random;

use std::time::Duration;

use super::types::{Admit, Candidate, Join, Side};
use super::*;
use crate::id::ID_LEN;

/// The node under test: peers 1 to 99 have lesser ids, 101 and up greater ones.
const LOCAL: u8 = 100;
const SECOND: Duration = Duration::from_secs(1);
const BOOT: u64 = 7;

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; ID_LEN])
}

fn config(soft: usize, hard: usize) -> PoolConfig {
    PoolConfig { soft_limit: soft, hard_limit: hard, ..PoolConfig::default() }
}

/// A pool, its clock, and a source of connection numbers; a handle is the number of its connection.
struct World {
    pool: Policy<u64>,
    now: Instant,
    conns: u64,
}

impl World {
    fn new(config: PoolConfig) -> Self {
        Self { pool: Policy::new(id(LOCAL), config, 1), now: Instant::now(), conns: 0 }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn candidate(&mut self, peer: u8, dialer: Side, dial_seq: u64, boot: u64) -> Candidate<u64> {
        self.conns += 1;
        Candidate { peer: id(peer), id: ConnId(self.conns), dialer, dial_seq, boot, handle: self.conns }
    }

    fn admit(&mut self, peer: u8, dialer: Side, seq: u64, boot: u64) -> (ConnId, Admit<u64>) {
        let candidate = self.candidate(peer, dialer, seq, boot);
        (candidate.id, self.pool.admit(self.now, candidate))
    }

    /// A connection that the peer dialed, which must be kept; and whom it replaced.
    fn inbound(&mut self, peer: u8, seq: u64) -> (ConnId, Vec<(ConnId, CloseReason)>) {
        let (conn, admit) = self.admit(peer, Side::Them, seq, BOOT);
        (conn, kept(admit))
    }

    /// Dials `peer`; and whom it evicted.
    fn dial(&mut self, peer: u8) -> (u64, Option<ConnId>) {
        match self.pool.acquire(self.now, id(peer)) {
            Acquire::Dial { seq, evict } => (seq, evict.map(|retire| retire.id)),
            other => panic!("expected a dial, got {other:?}"),
        }
    }

    /// Dials `peer` with success.
    fn outbound(&mut self, peer: u8) -> ConnId {
        let (seq, _) = self.dial(peer);
        let (conn, admit) = self.admit(peer, Side::Us, seq, BOOT);
        kept(admit);
        conn
    }

    /// Leases the connection that must be there.
    fn lease(&mut self, peer: u8) -> ConnId {
        match self.pool.acquire(self.now, id(peer)) {
            Acquire::Ready { id, .. } => id,
            other => panic!("expected a connection, got {other:?}"),
        }
    }

    fn release(&mut self, conn: ConnId) -> Release<u64> {
        self.pool.release(self.now, conn)
    }

    fn tick(&mut self) -> Vec<(ConnId, CloseReason)> {
        names(self.pool.tick(self.now))
    }

    fn close(&mut self, conn: ConnId, reason: CloseReason) {
        self.pool.closed(self.now, conn, reason);
    }
}

fn names(retired: Vec<Retire<u64>>) -> Vec<(ConnId, CloseReason)> {
    retired.into_iter().map(|retire| (retire.id, retire.reason)).collect()
}

fn kept(admit: Admit<u64>) -> Vec<(ConnId, CloseReason)> {
    match admit {
        Admit::Kept { retire } => names(retire),
        other => panic!("expected to be kept, got {other:?}"),
    }
}

#[test]
fn a_hit_is_leased_until_released() {
    let mut world = World::new(config(4, 8));
    let conn = world.outbound(1);
    assert_eq!((world.lease(1), world.lease(1)), (conn, conn));
    assert_eq!((world.pool.stats().leased, world.pool.stats().leases), (1, 2));
    assert!(matches!(world.release(conn), Release::Done));
    assert!(matches!(world.release(conn), Release::Done));
    let stats = world.pool.stats();
    assert_eq!((stats.leased, stats.leases, stats.hits, stats.residents), (0, 0, 2, 1));
    assert_eq!(world.pool.ready(id(1)), Some(conn.0));
}

#[test]
fn requests_join_the_dial_under_way() {
    let mut world = World::new(config(4, 8));
    let (seq, evict) = world.dial(1);
    assert_eq!(evict, None);
    assert!(matches!(world.pool.acquire(world.now, id(1)), Acquire::Dialing));
    assert_eq!((world.pool.stats().dialing, world.pool.stats().coalesced), (1, 1));
    let (conn, admit) = world.admit(1, Side::Us, seq, BOOT);
    assert_eq!(kept(admit), []);
    assert_eq!(world.lease(1), conn);
    assert_eq!((world.pool.stats().dialing, world.pool.stats().dials), (0, 1));
}

#[test]
fn dial_numbers_rise() {
    let mut world = World::new(config(4, 8));
    let (first, _) = world.dial(1);
    world.pool.dial_aborted(id(1), first);
    let Join::Dial { seq: second, .. } = world.pool.join(world.now) else { panic!("no room") };
    let (third, _) = world.dial(1);
    assert!(first < second && second < third);
}

#[test]
fn an_aborted_dial_gives_its_place_back_without_blame() {
    let mut world = World::new(config(1, 1));
    let (seq, _) = world.dial(1);
    world.pool.dial_aborted(id(1), seq);
    assert_eq!(world.pool.stats().dialing, 0);
    world.dial(1);
    assert_eq!(world.pool.stats().dial_failures, 0);
}

#[test]
fn a_join_is_admitted_under_the_name_that_answers() {
    let mut world = World::new(config(2, 2));
    let Join::Dial { seq, .. } = world.pool.join(world.now) else { panic!("no room") };
    world.dial(2);
    assert!(matches!(world.pool.join(world.now), Join::Full { evict: None }), "two dials fill the pool");
    let (conn, admit) = world.admit(1, Side::Us, seq, BOOT);
    assert_eq!(kept(admit), []);
    assert_eq!((world.lease(1), world.pool.stats().dialing), (conn, 1));
    world.pool.join_failed(seq);
    assert_eq!(world.pool.stats().dial_failures, 0, "it has ended before");
}

#[test]
fn a_node_does_not_dial_itself() {
    let mut world = World::new(config(4, 8));
    assert!(matches!(world.pool.acquire(world.now, id(LOCAL)), Acquire::Own));
    let Join::Dial { seq, .. } = world.pool.join(world.now) else { panic!("no room") };
    let (_, admit) = world.admit(LOCAL, Side::Us, seq, BOOT);
    assert!(matches!(admit, Admit::Refused(types::Refusal::Own)));
    assert_eq!((world.pool.stats().dialing, world.pool.stats().residents), (0, 0));
}

#[test]
fn shutdown_retires_all_and_answers_closed() {
    let mut world = World::new(config(4, 8));
    let (one, two) = (world.outbound(1), world.inbound(2, 1).0);
    world.lease(1);
    let (seq, _) = world.dial(3);
    let mut all = world.pool.retire_all(CloseReason::Shutdown);
    all.sort_by_key(|retire| retire.id);
    assert_eq!(all.iter().map(|r| (r.id, r.leases)).collect::<Vec<_>>(), [(one, 1), (two, 0)]);
    assert!(matches!(world.pool.acquire(world.now, id(1)), Acquire::Closed));
    assert!(matches!(world.pool.join(world.now), Join::Closed));
    let (_, admit) = world.admit(3, Side::Us, seq, BOOT);
    assert!(matches!(admit, Admit::Refused(types::Refusal::Closed)));
    assert!(matches!(world.release(one), Release::Drained { id, .. } if id == one));
    let stats = world.pool.stats();
    assert_eq!((stats.residents, stats.retiring, stats.dialing, stats.closes.shutdown), (0, 2, 0, 2));
}

#[test]
fn the_driver_can_share_it_between_threads() {
    fn send<T: Send>() {}
    send::<Policy<std::sync::Arc<()>>>();
}
