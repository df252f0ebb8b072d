//! Two nodes that dial each other at once keep one connection, the same at both ends, and lose nothing.

use std::time::{Duration, Instant};

use foveola::{Ack, Config, Node, OpenConnection, Side};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::nodes::{key, node};
use crate::util::until;

const ROUNDS: u64 = 500;
/// Rounds under way at a time.
const AT_ONCE: u64 = 4;
/// Bytes of the largest value.
const VALUE_MAX: usize = 64 << 10;
/// Requests of each kind that each side makes in a round.
const REQUESTS: usize = 6;

/// Both nodes join each other, `delays` microseconds after the start; returns whether two connections were made.
async fn round(n: u64, delays: [u64; 2]) -> bool {
    let a = node(2 * n, Config::default()).await;
    let b = node(2 * n + 1, Config::default()).await;
    let start = Instant::now();
    let sides = tokio::join!(
        tokio::spawn(side(a.clone(), b.clone(), start, delays[0])),
        tokio::spawn(side(b.clone(), a.clone(), start, delays[1])),
    );
    sides.0.unwrap();
    sides.1.unwrap();

    let alone = || a.stats().connections == 1 && b.stats().connections == 1;
    until(Duration::from_secs(5), "one connection is left", alone).await;
    let (ours, theirs) = (open(&a, &b), open(&b, &a));
    assert_eq!(ours.dial, theirs.dial, "round {n}: another connection at each end");
    assert_ne!(ours.dialed_by, theirs.dialed_by, "round {n}: another connection at each end");
    let made = a.stats().handshakes;
    assert_eq!(made, b.stats().handshakes, "round {n}: a handshake that only one end completed");
    if made > 1 {
        let greater = if a.id() > b.id() { Side::Us } else { Side::Them };
        assert_eq!(ours.dialed_by, greater, "round {n}: the dialer with the greater id stays");
    }
    made == 2
}

/// Joins `other` and makes requests all the while, each of which must succeed.
async fn side(node: Node, other: Node, start: Instant, delay: u64) {
    while start.elapsed() < Duration::from_micros(delay) {
        tokio::task::yield_now().await;
    }
    let (id, address) = (other.id(), other.peer_addr());
    let join = async {
        assert_eq!(node.join(&address).await, Ok(id));
        for i in 0..REQUESTS {
            let name = key(format!("{id} {i}"));
            // The first one is too large for a lane: it has a stream of its own.
            let value = vec![7; if i == 0 { VALUE_MAX } else { 4 }];
            let receipt = node.dht().store(name, value).ack(Ack::All).await.unwrap();
            assert_eq!(receipt.acked().collect::<Vec<_>>(), [id]);
            assert_eq!(node.dht().query_peer(id, name).await.unwrap().len(), 1);
        }
    };
    // The address is known as soon as the join has begun, so these wait for the same dials.
    let pings = async {
        for _ in 0..REQUESTS {
            node.ping(id).await.unwrap();
        }
    };
    let queries = async {
        for i in 0..REQUESTS {
            node.dht().query_peer(id, key(i)).await.unwrap();
        }
    };
    tokio::join!(biased; join, pings, queries);
}

fn open(node: &Node, other: &Node) -> OpenConnection {
    let explained = node.pool().explain(other.id());
    explained.open.unwrap_or_else(|| panic!("no connection: {explained}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_leave_one_connection_and_lose_no_request() {
    let seed = 20_031;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut doubles = 0;
    for first in (0..ROUNDS).step_by(AT_ONCE as usize) {
        let mut rounds = tokio::task::JoinSet::new();
        for n in first..first + AT_ONCE {
            // Most rounds begin together; the others begin within about the time of a handshake.
            let spread: u64 = if rng.random_bool(0.6) { 1 } else { 5_000 };
            let delays = [rng.random_range(0..spread), rng.random_range(0..spread)];
            rounds.spawn(round(n, delays));
        }
        while let Some(double) = rounds.join_next().await {
            doubles += u64::from(double.unwrap());
        }
    }
    println!("{doubles} of {ROUNDS} rounds completed two handshakes");
    assert!(doubles >= 250, "only {doubles} rounds completed two handshakes");
}
