//! Two nodes that dial each other: every interleaving of what each of them sees.
//!
//! A connection becomes ready at the acceptor, then at the dialer, unless its close arrives first. A node
//! that retires a connection closes it, and the other end sees that later. All orders of these events are
//! run, each from the start, up to a situation that another order has led to before.

#![expect(clippy::disallowed_methods, reason = "tests read the clock and build what the library may not")]

use std::collections::BTreeSet;

use super::types::{Candidate, DialFailure};
use super::*;

/// What happens next, to the connection with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Accepted(usize),
    Dialed(usize),
    /// The end with this number closes it.
    Close(usize, usize),
    /// The end with this number sees that it is closed.
    Gone(usize, usize),
}

struct Pair {
    ends: [Policy<usize>; 2],
    /// The dialing end and its number for the dial.
    dials: Vec<(usize, u64)>,
    /// Per connection and end: ready there, and not yet gone.
    open: Vec<[bool; 2]>,
    dead: Vec<bool>,
    pending: Vec<Event>,
    now: Instant,
}

impl Pair {
    fn new(dialers: &[usize], now: Instant) -> Self {
        let node = |n| Policy::new(id(n), config(8, 32), 5);
        let mut ends = [node(1), node(2)];
        let dials: Vec<_> = dialers
            .iter()
            .map(|end| match ends[*end].join(now) {
                Join::Dial { seq, .. } => (*end, seq),
                other => panic!("no room: {other:?}"),
            })
            .collect();
        let pending = (0..dials.len()).map(Event::Accepted).collect();
        Self {
            ends,
            open: vec![[false; 2]; dials.len()],
            dead: vec![false; dials.len()],
            dials,
            pending,
            now,
        }
    }

    fn step(&mut self, choice: usize) {
        match self.pending.remove(choice) {
            Event::Accepted(conn) => {
                self.pending.push(Event::Dialed(conn));
                self.ready(conn, 1 - self.dials[conn].0);
            }
            Event::Dialed(conn) if self.dead[conn] => {
                let (end, seq) = self.dials[conn];
                self.ends[end].join_failed(seq);
            }
            Event::Dialed(conn) => self.ready(conn, self.dials[conn].0),
            Event::Close(conn, end) => {
                self.gone(conn, end);
                self.pending.push(Event::Gone(conn, 1 - end));
            }
            Event::Gone(conn, end) => self.gone(conn, end),
        }
    }

    fn ready(&mut self, conn: usize, end: usize) {
        let (dialer, dial_seq) = self.dials[conn];
        let dialer = if dialer == end { Side::Us } else { Side::Them };
        let peer = id([2, 1][end]);
        let candidate =
            Candidate { peer, id: ConnId(conn as u64), dialer, dial_seq, boot: BOOT, handle: conn };
        self.open[conn][end] = true;
        match self.ends[end].admit(self.now, candidate) {
            Admit::Kept { retire } => {
                self.pending.extend(retire.iter().map(|retire| Event::Close(retire.handle, end)));
            }
            Admit::Duplicate => self.pending.push(Event::Close(conn, end)),
            other => panic!("neither kept nor duplicate: {other:?}"),
        }
    }

    fn gone(&mut self, conn: usize, end: usize) {
        self.dead[conn] = true;
        if std::mem::take(&mut self.open[conn][end]) {
            self.ends[end].closed(self.now, ConnId(conn as u64), CloseReason::Duplicate);
        }
    }

    /// All that the future depends on.
    fn situation(&self) -> impl Ord + use<> {
        let mut pending = self.pending.clone();
        pending.sort();
        let live = [self.ends[0].ready(id(2)), self.ends[1].ready(id(1))];
        (pending, live, self.open.clone(), self.dead.clone())
    }

    fn check(&self, order: &[usize]) {
        let best = (0..self.dials.len()).max_by_key(|conn| self.dials[*conn]);
        for (end, peer) in [(0, 2), (1, 1)] {
            let stats = self.ends[end].stats();
            let dials = &self.dials;
            assert_eq!(self.ends[end].ready(id(peer)), best, "at end {end}: {dials:?} in {order:?}");
            assert_eq!((stats.residents, stats.retiring, stats.dialing), (1, 0, 0), "{dials:?} in {order:?}");
        }
    }
}

/// Runs every order of events; returns how many situations there are.
fn explore(dialers: &[usize]) -> usize {
    let now = Instant::now();
    let (mut seen, mut order, mut widths) = (BTreeSet::new(), Vec::new(), Vec::new());
    loop {
        let mut pair = Pair::new(dialers, now);
        for depth in 0.. {
            if pair.pending.is_empty() {
                pair.check(&order);
                break;
            }
            if depth == order.len() {
                if !seen.insert(pair.situation()) {
                    break;
                }
                order.push(0);
                widths.push(0);
            }
            widths[depth] = pair.pending.len();
            pair.step(order[depth]);
        }
        while order.last().zip(widths.last()).is_some_and(|(choice, width)| choice + 1 == *width) {
            order.pop();
            widths.pop();
        }
        match order.last_mut() {
            Some(choice) => *choice += 1,
            None => return seen.len(),
        }
    }
}

#[test]
fn any_dials_leave_one_connection_on_which_both_agree() {
    for (count, least) in [(1, 2), (2, 20), (3, 250), (4, 3200)] {
        for ours in 0..=count {
            let dialers: Vec<usize> = (0..count).map(|i| usize::from(i >= ours)).collect();
            let situations = explore(&dialers);
            assert!(situations >= least, "{dialers:?}: only {situations}");
        }
    }
}

#[test]
fn a_dial_refused_as_duplicate_is_not_dialed_again_in_anger() {
    let now = Instant::now();
    let mut pool: Policy<u64> = Policy::new(id(1), config(8, 32), 5);
    let Acquire::Dial { seq, .. } = pool.acquire(now, id(2)) else { panic!("no room") };
    let theirs =
        Candidate { peer: id(2), id: ConnId(1), dialer: Side::Them, dial_seq: 1, boot: 1, handle: 1 };
    assert!(matches!(pool.admit(now, theirs), Admit::Kept { .. }));
    assert!(matches!(pool.acquire(now, id(2)), Acquire::Ready { .. }), "while our dial is under way");
    pool.dial_failed(now, id(2), seq, DialFailure::Duplicate);
    assert!(matches!(pool.acquire(now, id(2)), Acquire::Ready { .. }));
    assert_eq!((pool.stats().dials, pool.stats().dialing), (1, 0));
}
