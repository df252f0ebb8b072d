//! Random sequences of operations against a plain model of what exists.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::types::{DialFailure, Refusal};
use super::*;

const SOFT: usize = 4;
const HARD: usize = 8;
const INBOUND: usize = 5;
const OUTBOUND: usize = 7;

#[derive(Debug, Clone)]
enum Op {
    Acquire(u8),
    Release(usize),
    Join,
    /// A dial under way becomes ready; a join reaches this peer.
    Reached(usize, u8),
    Failed(usize),
    Inbound(u8, u64, u64),
    Closed(usize),
    Drained,
    PeerDrains(usize),
    Touch(u8),
    Pass(u64),
    Tick,
}

fn op() -> impl Strategy<Value = Op> {
    let peer = 95..107_u8;
    prop_oneof![
        6 => peer.clone().prop_map(Op::Acquire),
        4 => any::<usize>().prop_map(Op::Release),
        1 => Just(Op::Join),
        5 => (any::<usize>(), peer.clone()).prop_map(|(i, peer)| Op::Reached(i, peer)),
        1 => any::<usize>().prop_map(Op::Failed),
        4 => (peer.clone(), 0..6_u64, 0..3_u64).prop_map(|(peer, seq, boot)| Op::Inbound(peer, seq, boot)),
        1 => any::<usize>().prop_map(Op::Closed),
        2 => Just(Op::Drained),
        1 => any::<usize>().prop_map(Op::PeerDrains),
        1 => peer.prop_map(Op::Touch),
        2 => (0..40_000_u64).prop_map(Op::Pass),
        1 => Just(Op::Tick),
    ]
}

#[derive(Debug)]
struct Known {
    peer: u8,
    dialer: Side,
    leases: u32,
    live: bool,
}

struct Model {
    world: World,
    conns: BTreeMap<ConnId, Known>,
    /// Dials under way; joins have no peer.
    dials: Vec<(u64, Option<u8>)>,
    leases: Vec<ConnId>,
}

impl Model {
    fn new() -> Self {
        let world = World::new(config(SOFT, HARD));
        Self { world, conns: BTreeMap::new(), dials: Vec::new(), leases: Vec::new() }
    }

    fn live(&self, peer: u8) -> Option<ConnId> {
        self.conns.iter().find(|(_, known)| known.live && known.peer == peer).map(|(conn, _)| *conn)
    }

    fn retire(&mut self, retired: impl IntoIterator<Item = Retire<u64>>) {
        for retire in retired {
            let known = self.conns.get_mut(&retire.id).expect("only known connections are retired");
            assert_eq!((id(known.peer), known.leases), (retire.peer, retire.leases));
            let again = retire.reason == CloseReason::Superseded;
            assert!(known.live || again, "retired twice: {retire:?}");
            if matches!(retire.reason, CloseReason::Capacity | CloseReason::Idle) {
                assert_eq!(known.leases, 0, "leased, but {:?}", retire.reason);
            }
            known.live = false;
        }
    }

    fn acquire(&mut self, peer: u8) {
        let (live, full) = (self.live(peer), self.is_full());
        let dialing = self.dials.iter().any(|(_, dialed)| *dialed == Some(peer));
        match self.world.pool.acquire(self.world.now, id(peer)) {
            Acquire::Ready { id, handle } => {
                assert_eq!((Some(id), handle), (live, id.0));
                self.conns.get_mut(&id).expect("it is live").leases += 1;
                self.leases.push(id);
                return;
            }
            Acquire::Dialing => assert!(dialing),
            Acquire::Dial { seq, evict } => {
                assert!(!dialing && !full);
                self.dials.push((seq, Some(peer)));
                self.retire(evict);
            }
            Acquire::Full { evict } => {
                assert!(!dialing && full);
                self.retire(evict);
            }
            Acquire::BackOff { until } => assert!(!dialing && until > self.world.now),
            Acquire::Own => assert_eq!(peer, LOCAL),
            Acquire::Closed => panic!("it is open"),
        }
        assert_eq!(live, None, "there is one to {peer}");
    }

    fn is_full(&self) -> bool {
        let ours = self.conns.values().filter(|known| known.dialer == Side::Us).count();
        ours + self.dials.len() >= OUTBOUND || self.conns.len() + self.dials.len() >= HARD
    }

    fn admit(&mut self, peer: u8, dialer: Side, seq: u64, boot: u64) {
        let (conn, admit) = self.world.admit(peer, dialer, seq, boot);
        let mut known = Known { peer, dialer, leases: 0, live: true };
        match admit {
            Admit::Kept { retire } => {
                self.retire(retire);
                assert_eq!(self.live(peer), None, "two live ones to {peer}");
                self.conns.insert(conn, known);
            }
            Admit::Duplicate => {
                assert!(self.live(peer).is_some());
                known.live = false;
                self.conns.insert(conn, known);
            }
            Admit::Full { retire } => {
                assert_eq!(dialer, Side::Them, "a dial has its place");
                self.retire(retire);
            }
            Admit::Refused(Refusal::Own) => assert_eq!(peer, LOCAL),
            Admit::Refused(Refusal::Stale) => assert!(self.live(peer).is_some()),
            Admit::Refused(Refusal::Duplicate) => assert_eq!(dialer, Side::Them),
            Admit::Refused(Refusal::Closed) => panic!("it is open"),
        }
    }

    fn release(&mut self, conn: ConnId) {
        let known = self.conns.get_mut(&conn);
        let last = known.map(|known| {
            known.leases -= 1;
            (known.leases == 0, known.live)
        });
        match self.world.release(conn) {
            Release::Done => assert_ne!(last, Some((true, false))),
            Release::Drained { id, .. } => assert_eq!((id, last), (conn, Some((true, false)))),
            Release::Evict(retire) => self.retire([retire]),
        }
    }

    fn close(&mut self, conn: ConnId) {
        self.world.close(conn, CloseReason::Error);
        self.conns.remove(&conn);
    }

    fn apply(&mut self, op: Op) {
        let now = self.world.now;
        let pick = |i: usize, len: usize| (len > 0).then(|| i % len.max(1));
        let nth = |conns: &BTreeMap<ConnId, Known>, i| {
            pick(i, conns.len()).and_then(|i| conns.keys().nth(i).copied())
        };
        match op {
            Op::Acquire(peer) => self.acquire(peer),
            Op::Release(i) => {
                if let Some(i) = pick(i, self.leases.len()) {
                    let conn = self.leases.swap_remove(i);
                    self.release(conn);
                }
            }
            Op::Join => match self.world.pool.join(now) {
                Join::Dial { seq, evict } => {
                    self.dials.push((seq, None));
                    self.retire(evict);
                }
                Join::Full { evict } => self.retire(evict),
                Join::Closed => panic!("it is open"),
            },
            Op::Reached(i, other) => {
                if let Some(i) = pick(i, self.dials.len()) {
                    let (seq, peer) = self.dials.swap_remove(i);
                    self.admit(peer.unwrap_or(other), Side::Us, seq, BOOT);
                }
            }
            Op::Failed(i) => {
                if let Some(i) = pick(i, self.dials.len()) {
                    match self.dials.swap_remove(i) {
                        (seq, Some(peer)) => {
                            self.world.pool.dial_failed(now, id(peer), seq, DialFailure::TimedOut);
                        }
                        (seq, None) => self.world.pool.join_failed(seq),
                    }
                }
            }
            Op::Inbound(peer, seq, boot) => self.admit(peer, Side::Them, seq, BOOT + boot / 2),
            Op::Closed(i) => nth(&self.conns, i).into_iter().for_each(|conn| self.close(conn)),
            Op::Drained => {
                let done = |known: &Known| !known.live && known.leases == 0;
                let done: Vec<ConnId> =
                    self.conns.iter().filter(|(_, k)| done(k)).map(|(conn, _)| *conn).collect();
                done.into_iter().for_each(|conn| self.close(conn));
            }
            Op::PeerDrains(i) => {
                let retired = nth(&self.conns, i)
                    .and_then(|conn| self.world.pool.retire_one(conn, CloseReason::Remote));
                self.retire(retired);
            }
            Op::Touch(peer) => self.world.pool.touch(now, id(peer)),
            Op::Pass(millis) => self.world.pass(Duration::from_millis(millis)),
            Op::Tick => {
                let retired = self.world.pool.tick(now);
                self.retire(retired);
                assert!(self.world.pool.next_deadline().is_none_or(|at| at > now));
            }
        }
    }

    fn check(&self) {
        let stats = self.world.pool.stats();
        let count = |test: &dyn Fn(&Known) -> bool| self.conns.values().filter(|known| test(known)).count();
        let inbound = count(&|known| known.dialer == Side::Them);
        assert!(self.conns.len() + self.dials.len() <= HARD, "above the hard limit");
        assert!(inbound <= INBOUND && self.conns.len() - inbound + self.dials.len() <= OUTBOUND);
        assert_eq!(stats.residents, count(&|known| known.live));
        assert_eq!(stats.inbound, count(&|known| known.live && known.dialer == Side::Them));
        assert_eq!(stats.retiring, count(&|known| !known.live));
        assert_eq!(stats.leased, count(&|known| known.leases > 0));
        assert_eq!(stats.leases, self.conns.values().map(|known| known.leases as usize).sum::<usize>());
        assert_eq!(stats.dialing, self.dials.len());
        assert_eq!(self.world.pool.residents().count(), stats.residents);
        for (conn, known) in self.conns.iter().filter(|(_, known)| known.live) {
            assert_eq!(self.world.pool.ready(id(known.peer)), Some(conn.0));
        }
    }

    /// Lets everything end, and checks that nothing is left.
    fn wind_up(mut self) {
        for conn in std::mem::take(&mut self.leases) {
            self.release(conn);
        }
        let retired = self.world.pool.retire_all(CloseReason::Shutdown);
        self.retire(retired);
        for (seq, peer) in std::mem::take(&mut self.dials) {
            match peer {
                Some(peer) => self.world.pool.dial_aborted(id(peer), seq),
                None => self.world.pool.join_failed(seq),
            }
        }
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        conns.into_iter().for_each(|conn| self.close(conn));
        self.check();
        let stats = self.world.pool.stats();
        assert_eq!((stats.residents, stats.retiring, stats.leases, stats.dialing), (0, 0, 0, 0));
        assert_eq!((self.world.pool.next_deadline(), self.world.pool.is_clean()), (None, true));
    }
}

impl Policy<u64> {
    /// Whether nothing is kept for connections that are gone.
    fn is_clean(&self) -> bool {
        self.peers.is_empty() && self.claims.is_empty() && self.table.is_clean()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, rng_seed: RngSeed::Fixed(19), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_promises_hold_whatever_happens(ops in prop::collection::vec(op(), 1..200)) {
        let mut model = Model::new();
        for op in ops {
            model.apply(op);
            model.check();
        }
        model.wind_up();
    }
}
