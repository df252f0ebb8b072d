//! Ways through meshes whose nodes know only their neighbours.

#![expect(clippy::disallowed_methods, reason = "tests read the clock")]

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn node(n: usize) -> NodeId {
    // Scattered over the space, as the ids of real nodes are.
    NodeId::of_spki(&n.to_be_bytes())
}

fn route(destination: NodeId, hops: u8, passed: &[NodeId]) -> Route<'static> {
    Route {
        destination,
        origin_key: [0; 32],
        nonce: 0,
        issued_ms: 0,
        left_ms: 0,
        hops,
        passed: passed.to_vec(),
        kind: 0,
        flags: 0,
        body: &[],
        signature: [0; 64],
    }
}

#[test]
fn the_destination_comes_first_and_nobody_twice() {
    let now = Instant::now();
    let mut way = Way::of_origin(node(0), node(9), now + SECOND);
    let connected: Vec<_> = (0..5).chain([9]).map(node).collect();
    assert_eq!(way.next(now, &connected).map(|hop| hop.next), Ok(node(9)));
    way.unsent();
    let mut rest: Vec<_> = (1..5).map(node).collect();
    rest.sort_by_key(|node| node.distance(&self::node(9).to_key()));
    for expected in rest {
        assert_eq!(way.next(now, &connected).map(|hop| hop.next), Ok(expected));
        way.failed(RouteError::NoRoute, 0);
    }
    assert_eq!(way.next(now, &connected), Err(RouteError::NoRoute));
}

#[test]
fn a_relay_does_not_send_back() {
    let now = Instant::now();
    let route = route(node(9), 5, &[node(1), node(2)]);
    let mut way = Way::of_relay(node(3), &node(2), node(0), &route, now + SECOND).unwrap();
    assert_eq!(way.passed(), [node(1), node(2), node(3)]);
    let connected: Vec<_> = (0..4).map(node).collect();
    assert_eq!(way.next(now, &connected), Err(RouteError::NoRoute));
    let hop = way.next(now, &[node(4)]).unwrap();
    assert_eq!((hop.next, hop.hops), (node(4), 4));
}

#[test]
fn what_did_not_come_as_it_says_is_refused() {
    let now = Instant::now();
    let relay = |own, previous, route: &Route<'_>| {
        Way::of_relay(node(own), &node(previous), node(0), route, now + SECOND).map(drop)
    };
    let fresh = route(node(9), 10, &[]);
    assert_eq!(relay(1, 0, &fresh), Ok(()));
    assert_eq!(relay(1, 2, &fresh), Err(RouteError::Refused), "not from its origin");
    assert_eq!(relay(0, 0, &fresh), Err(RouteError::Refused), "back at its origin");
    let passed = route(node(9), 8, &[node(1), node(2)]);
    assert_eq!(relay(3, 2, &passed), Ok(()));
    assert_eq!(relay(3, 1, &passed), Err(RouteError::Refused), "not from who passed it on last");
    assert_eq!(relay(1, 2, &passed), Err(RouteError::Refused), "here for the second time");
    assert_eq!(relay(3, 2, &route(node(9), 0, &[node(2)])), Err(RouteError::MaxHops));
    let all: Vec<_> = (20..30).map(node).collect();
    assert_eq!(relay(3, 29, &route(node(9), 10, &all)), Err(RouteError::MaxHops));
}

#[test]
fn no_more_hops_are_given_than_there_can_be() {
    let now = Instant::now();
    let route = route(node(9), u8::MAX, &[]);
    let mut way = Way::of_relay(node(1), &node(0), node(0), &route, now + SECOND).unwrap();
    assert_eq!(way.next(now, &[node(4)]).unwrap().hops, HOPS_MAX - 1);
    // What it claims to have used up is no more than it was given.
    way.failed(RouteError::NoRoute, u8::MAX);
    assert_eq!(way.spent(), HOPS_MAX);
    assert_eq!(way.next(now, &[node(5)]), Err(RouteError::MaxHops));
}

#[test]
fn times_nest_and_leave_some_for_the_next_best() {
    let start = Instant::now();
    let mut way = Way::of_origin(node(0), node(9), start + SECOND);
    let connected = [node(1), node(2)];
    let first = way.next(start, &connected).unwrap();
    assert_eq!(first.until, start + SECOND / 2);
    assert!(first.last > first.until && first.last < start + SECOND);
    assert!(start + first.left < first.last, "it has time to bring the answer back");
    way.silent();
    let second = way.next(first.until, &connected).unwrap();
    assert!(second.until > first.until + SECOND * 2 / 5 && second.until < start + SECOND);
    assert!(first.until + second.left < second.until && second.last == second.until);
    way.failed(RouteError::NoRoute, 0);
    assert_eq!(way.next(second.until, &connected), Err(RouteError::Expired), "the silent one may have it");
    let mut late = Way::of_origin(node(0), node(9), start + LEFT_MIN / 2);
    assert_eq!(late.next(start, &connected), Err(RouteError::Expired));
}

/// A mesh of links, in which each relay takes an envelope once.
struct Mesh {
    links: BTreeMap<NodeId, Vec<NodeId>>,
    had: BTreeSet<NodeId>,
    sent: usize,
}

impl Mesh {
    /// Sends an envelope on until it has arrived or there is no way left; `now` never moves.
    fn walk(
        &mut self,
        now: Instant,
        own: NodeId,
        origin: NodeId,
        mut way: Way,
    ) -> Result<u8, (RouteError, u8)> {
        loop {
            let hop = way.next(now, &self.links[&own]).map_err(|error| (error, way.spent()))?;
            self.sent += 1;
            if hop.next == way.destination {
                return Ok(u8::try_from(way.passed().len()).unwrap());
            }
            let route = route(way.destination, hop.hops, way.passed());
            let taken = if self.had.insert(hop.next) {
                Way::of_relay(hop.next, &own, origin, &route, now + hop.left)
            } else {
                Err(RouteError::Refused)
            };
            match taken.map_err(|error| (error, 0)).and_then(|next| self.walk(now, hop.next, origin, next)) {
                Ok(relays) => return Ok(relays),
                Err((error, hops)) => way.failed(error, hops),
            }
        }
    }
}

fn mesh(nodes: usize, links: impl IntoIterator<Item = (usize, usize)>) -> Mesh {
    let mut mesh = Mesh { links: BTreeMap::new(), had: BTreeSet::new(), sent: 0 };
    for n in 0..nodes {
        mesh.links.insert(node(n), Vec::new());
    }
    for (a, b) in links {
        for (a, b) in [(a, b), (b, a)] {
            mesh.links.get_mut(&node(a)).unwrap().push(node(b));
        }
    }
    mesh
}

#[test]
fn a_line_is_followed_to_its_end_as_far_as_the_hops_reach() {
    let now = Instant::now();
    for nodes in 2..15 {
        let mut mesh = mesh(nodes, (1..nodes).map(|n| (n - 1, n)));
        let way = Way::of_origin(node(0), node(nodes - 1), now + 3_600 * SECOND);
        let walked = mesh.walk(now, node(0), node(0), way);
        if nodes <= 12 {
            assert_eq!(walked, Ok(u8::try_from(nodes - 2).unwrap()), "{nodes} nodes");
        } else {
            assert!(walked.is_err_and(|(error, _)| error == RouteError::MaxHops), "{nodes} nodes");
        }
    }
}

#[test]
fn an_envelope_is_sent_at_most_eleven_times_in_any_mesh() {
    let seed = 7;
    eprintln!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let now = Instant::now();
    let mut arrived = 0;
    for _ in 0..500 {
        let nodes = rng.random_range(3..40);
        let links = rng.random_range(1..4 * nodes);
        let pairs: Vec<_> =
            (0..links).map(|_| (rng.random_range(0..nodes), rng.random_range(0..nodes))).collect();
        let mut mesh = mesh(nodes, pairs.into_iter().filter(|(a, b)| a != b));
        // Half of the time to somebody whom nobody knows.
        let destination = node(rng.random_range(1..2 * nodes));
        let way = Way::of_origin(node(0), destination, now + 3_600 * SECOND);
        let walked = mesh.walk(now, node(0), node(0), way);
        assert!(mesh.sent <= usize::from(HOPS_MAX) + 1, "{} times", mesh.sent);
        arrived += usize::from(walked.is_ok());
    }
    assert!(arrived > 100, "{arrived} of 500: no test");
}
