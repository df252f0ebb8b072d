//! The pool on real connections: leases, limits, idle time, single flight, back-off, wrong identities.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use foveola::addr::{Endpoint, PeerAddr};
use foveola::{
    AcquireError, CloseReason, Config, DialError, DialFailure, Lost, Node, NodeId, QueryError, Refusal,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::nodes::{config, identity, key, node};
use crate::util::until;

const SECOND: Duration = Duration::from_secs(1);

/// A hub whose pool takes `limit` connections, and `count` peers whose addresses it knows.
async fn hub_and_peers(first: u64, limit: usize, count: u64) -> (Node, Vec<Node>) {
    let hub = node(
        first,
        config(|config| {
            config.pool.soft_limit = limit;
            config.pool.hard_limit = limit;
            config.pool.outbound_percent = 100;
            config.pool.inbound_percent = 100;
        }),
    )
    .await;
    let mut peers = Vec::new();
    for n in 1..=count {
        let peer = node(first + n, Config::default()).await;
        hub.join(&peer.peer_addr()).await.unwrap();
        peers.push(peer);
    }
    (hub, peers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leased_connection_is_never_evicted() {
    let (hub, peers) = hub_and_peers(1_000, 4, 12).await;
    let (held, others) = peers.split_at(3);
    let mut leases = Vec::new();
    for peer in held {
        leases.push(hub.pool().lease(peer.id(), SECOND).await.unwrap());
    }
    let dial = |peer: &Node| hub.pool().explain(peer.id()).open.map(|open| open.dial);
    let dials: Vec<_> = held.iter().map(dial).collect();
    let before = hub.pool().stats().closes.capacity;
    for i in 0..120 {
        let peer = others[i % others.len()].id();
        hub.dht().query_peer(peer, key(i)).await.unwrap();
        assert_eq!(held.iter().map(dial).collect::<Vec<_>>(), dials, "after {i} others");
    }
    assert!(hub.pool().stats().closes.capacity >= before + 100, "nobody was evicted: no test");
    // Once given back, they are the first to go.
    drop(leases);
    for peer in others.iter().chain(others) {
        hub.dht().query_peer(peer.id(), key("again")).await.unwrap();
    }
    assert!(held.iter().all(|peer| dial(peer).is_none()));
}

/// Watches the connections of `hub` until told to stop; returns the most that there were.
async fn high_water(hub: Node, stop: Arc<AtomicBool>) -> usize {
    let mut most = 0;
    while !stop.load(Ordering::Relaxed) {
        let stats = hub.stats();
        let pool = stats.pool;
        most = most.max(stats.connections).max(pool.residents + pool.retiring + pool.dialing);
        tokio::task::yield_now().await;
    }
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_holds_and_every_request_has_an_answer() {
    const LIMIT: usize = 8;
    const CALLERS: u64 = 64;
    const EACH: usize = 63; // 64 callers, over 4,000 requests
    let seed = 8_064;
    println!("seed {seed}");
    let (hub, peers) = hub_and_peers(2_000, LIMIT, 64).await;
    let ids: Arc<[NodeId]> = peers.iter().map(Node::id).collect();
    let (answered, exhausted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let watcher = tokio::spawn(high_water(hub.clone(), Arc::clone(&stop)));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let (hub, ids) = (hub.clone(), Arc::clone(&ids));
        let (answered, exhausted) = (Arc::clone(&answered), Arc::clone(&exhausted));
        let mut rng = ChaCha8Rng::seed_from_u64(seed + caller);
        callers.spawn(async move {
            let mut longest = Duration::ZERO;
            for i in 0..EACH {
                let peer = ids[rng.random_range(0..ids.len())];
                let start = Instant::now();
                match hub.dht().query_peer(peer, key(i)).await {
                    Ok(_) => answered.fetch_add(1, Ordering::Relaxed),
                    Err(QueryError::Acquire(AcquireError::PoolExhausted)) => {
                        longest = longest.max(start.elapsed());
                        exhausted.fetch_add(1, Ordering::Relaxed)
                    }
                    Err(error) => panic!("{error:?}: {}", hub.pool().explain(peer)),
                };
            }
            longest
        });
    }
    let mut longest = Duration::ZERO;
    while let Some(caller) = callers.join_next().await {
        longest = longest.max(caller.unwrap());
    }
    stop.store(true, Ordering::Relaxed);
    let most = watcher.await.unwrap();
    let (answered, exhausted) = (answered.load(Ordering::Relaxed), exhausted.load(Ordering::Relaxed));
    println!(
        "{answered} answered, {exhausted} exhausted after at most {longest:?}; {most} connections at most"
    );
    assert_eq!(answered + exhausted, CALLERS as usize * EACH);
    assert!(answered > 0);
    assert!(most <= LIMIT, "{most} connections");
    // The wait is 250 ms; the rest is for a busy machine.
    assert!(longest < SECOND, "exhausted only after {longest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_closes_with_a_reason_on_both_sides_and_is_dialed_again() {
    let ttl = Duration::from_millis(300);
    let a = node(3_000, config(|config| config.pool.idle_ttl = ttl)).await;
    let b = node(3_001, Config::default()).await;
    a.join(&b.peer_addr()).await.unwrap();
    for handshakes in 1..3 {
        a.ping(b.id()).await.unwrap();
        assert_eq!((a.stats().handshakes, b.stats().handshakes), (handshakes, handshakes));
        until(5 * SECOND, "both have closed", || a.stats().connections + b.stats().connections == 0).await;
        for (node, other) in [(&a, &b), (&b, &a)] {
            let closed = node.pool().explain(other.id()).closed;
            assert_eq!(closed[0].reason, CloseReason::Idle);
            assert!(closed[0].lived >= ttl.mul_f64(0.75), "{:?}", closed[0]);
        }
    }
    a.ping(b.id()).await.unwrap();
    assert_eq!(a.stats().handshakes, 3);
}

/// Two nodes without a connection, of which the first knows the second's address.
async fn strangers(n: u64) -> (Node, Node) {
    let a = node(n, config(|config| config.pool.idle_ttl = Duration::from_millis(200))).await;
    let b = node(n + 1, Config::default()).await;
    a.join(&b.peer_addr()).await.unwrap();
    until(5 * SECOND, "idle", || a.stats().connections + b.stats().connections == 0).await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_share_one_dial() {
    let (a, b) = strangers(4_000).await;
    let before = a.stats();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (a, id) = (a.clone(), b.id());
        callers.spawn(async move { a.pool().lease(id, 5 * SECOND).await });
    }
    let leases: Vec<_> = callers.join_all().await.into_iter().collect::<Result<_, _>>().unwrap();
    let after = a.stats();
    assert_eq!(after.handshakes, before.handshakes + 1);
    assert_eq!(after.pool.dials, before.pool.dials + 1);
    assert_eq!(after.pool.leases, 100);
    drop(leases);
    assert_eq!(a.pool().stats().leases, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_outlives_the_caller_that_began_it() {
    let (a, b) = strangers(5_000).await;
    let dials = a.pool().stats().dials;
    {
        let pool = a.pool();
        let mut first = std::pin::pin!(pool.lease(b.id(), 5 * SECOND));
        let begun = std::future::poll_fn(|cx| std::task::Poll::Ready(first.as_mut().poll(cx).is_pending()));
        assert!(begun.await);
        assert_eq!(a.pool().stats().dials, dials + 1);
    }
    a.pool().lease(b.id(), 5 * SECOND).await.unwrap();
    assert_eq!(a.pool().stats().dials, dials + 1, "the dial was begun anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_dial_is_not_repeated_at_once() {
    let pause = Duration::from_secs(3_600);
    let a = node(
        6_000,
        config(|config| {
            config.pool.dial_timeout = Duration::from_millis(300);
            // Shorter than the pause, or it would be waited for.
            config.join_timeout = Duration::from_secs(1);
            (config.pool.back_off_min, config.pool.back_off_max) = (pause, pause);
        }),
    )
    .await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = PeerAddr::node(identity(6_001).node_id(), Endpoint::from(socket.local_addr().unwrap()));
    assert_eq!(a.join(&nobody).await, Err(AcquireError::Dial(DialError::Timeout)));
    let start = Instant::now();
    for _ in 0..10 {
        match a.join(&nobody).await {
            Err(AcquireError::BackOff(left)) => assert!(left <= pause, "{left:?}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(start.elapsed() < Duration::from_millis(300), "it was dialed again");
    let explained = a.pool().explain(identity(6_001).node_id());
    assert_eq!((explained.failures, explained.last_failure.unwrap().0), (1, DialFailure::TimedOut));
    assert_eq!(a.pool().stats().dials, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_with_somebody_else_is_told_and_tried_last() {
    let a = node(7_000, config(|config| config.pool.idle_ttl = Duration::from_millis(200))).await;
    let b = node(7_001, Config::default()).await;
    let other = node(7_002, Config::default()).await;
    let stranger = identity(7_003).node_id();
    let wrong = PeerAddr::node(stranger, Endpoint::from(other.local_addr()));
    match a.join(&wrong).await {
        Err(AcquireError::Dial(error)) => assert!(error.is_wrong_identity(), "{error:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(a.pool().explain(stranger).last_failure.unwrap().0, DialFailure::WrongIdentity);
    let refusals = || other.pool().refusals().len();
    until(SECOND, "the other side has learnt it", || refusals() == 1).await;
    assert_eq!(other.pool().refusals(), [Lost::RefusedByPeer(Refusal::WrongIdentity)]);

    // The newest address is tried first, fails, and goes behind the one that works.
    a.join(&b.peer_addr()).await.unwrap();
    until(5 * SECOND, "idle", || a.stats().connections == 0).await;
    assert_eq!(a.join(&PeerAddr::node(b.id(), Endpoint::from(other.local_addr()))).await, Ok(b.id()));
    until(SECOND, "it was tried", || refusals() == 2).await;
    until(5 * SECOND, "idle", || a.stats().connections == 0).await;
    a.ping(b.id()).await.unwrap();
    assert_eq!(refusals(), 2, "the wrong address was tried first again");
}
