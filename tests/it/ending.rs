//! How connections end, seen from both sides: what is under way is finished, what is gone is not waited for,
//! and the reason is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use foveola::wire::{Class, GoAway, encode_open};
use foveola::{Ack, CloseReason, Config, Node, StoreError};

use crate::nodes::{RawPeer, config, identity, key, node};
use crate::util::{in_time, until};

const SECOND: Duration = Duration::from_secs(1);

/// Stores values of 64 KiB until the node stops; returns how many were acknowledged.
async fn store_large(writer: Node, caller: usize, done: Arc<AtomicUsize>) -> usize {
    for i in 0.. {
        match writer.dht().store(key(format!("{caller} {i}")), vec![7; 64 << 10]).ack(Ack::All).await {
            Ok(_) => done.fetch_add(1, Ordering::Relaxed),
            Err(StoreError::Shutdown | StoreError::NotEnoughReplicas(_)) => return i,
            Err(StoreError::NotAcknowledged(receipt)) => {
                // What the stop cut off before it was sent is said to be so.
                assert!(receipt.acked().next().is_none());
                return i;
            }
            Err(error) => panic!("{error:?}"),
        };
    }
    0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_on_streams_of_their_own_survive_that_their_connection_is_retired() {
    // One place: each of the two peers drives the other's connection out.
    let narrow = config(|config| (config.pool.soft_limit, config.pool.hard_limit) = (1, 64));
    let writer = node(21_000, narrow).await;
    let holder = node(21_001, Config::default()).await;
    let other = node(21_002, Config::default()).await;
    writer.join(&holder.peer_addr()).await.unwrap();
    writer.join(&other.peer_addr()).await.unwrap();
    for round in 0..40 {
        let name = key(format!("large {round}"));
        let store = writer.dht().store(name, vec![round; 64 << 10]).ack(Ack::All).into_future();
        let receipt = in_time(store).await.unwrap();
        assert_eq!(receipt.acked().count(), 2, "round {round}");
    }
    assert!(writer.pool().stats().closes.capacity > 40, "nothing was retired: no test");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_for_values_on_streams_of_their_own() {
    let writer = node(22_000, Config::default()).await;
    let holder = node(22_001, Config::default()).await;
    writer.join(&holder.peer_addr()).await.unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..4 {
        callers.spawn(store_large(writer.clone(), caller, Arc::clone(&done)));
    }
    until(10 * SECOND, "some load", || done.load(Ordering::Relaxed) > 50).await;
    in_time(writer.shutdown()).await;
    let acked: usize = in_time(callers.join_all()).await.iter().sum();
    // What the holder has beyond them was executed and told to be lost.
    let held = holder.stats().held_records;
    assert_eq!(acked, held, "an answer was cut off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_does_not_outlive_its_connection() {
    let draining = node(23_000, config(|config| config.pool.idle_ttl = Duration::from_millis(200))).await;
    let base = draining.stats().tasks;
    let raw = RawPeer::dial(23_001, &draining, 1 << 20).await;
    until(5 * SECOND, "the drain has begun", || draining.pool().stats().retiring == 1).await;
    raw.connection.close(0u32.into(), b"");
    until(2 * SECOND, "its tasks are gone", || draining.stats().tasks <= base).await;
    assert_eq!(draining.stats().connections, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_we_close_for_a_violation_is_told_as_lost() {
    let strict = node(24_000, Config::default()).await;
    let raw = RawPeer::dial(24_001, &strict, 1 << 20).await;
    let (mut send, _recv) = raw.connection.open_bi().await.unwrap();
    let mut out = BytesMut::new();
    encode_open(Class::Request, &mut out);
    // A GOAWAY whose body is cut off.
    let mut whole = BytesMut::new();
    GoAway { code: 0, last: [0; Class::LANES] }.encode(0, &mut whole).unwrap();
    whole[4..8].copy_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&whole[..17]);
    send.write_all(&out).await.unwrap();
    in_time(raw.connection.closed()).await;
    let explain = || strict.pool().explain(identity(24_001).node_id());
    until(SECOND, "it is remembered", || !explain().closed.is_empty()).await;
    assert_eq!(explain().closed[0].reason, CloseReason::Error);
    assert_eq!(explain().failures, 1, "{}", explain());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_takes_the_connection_of_a_peer_that_dials_first() {
    let waiting = node(25_000, config(|config| config.pool.dial_timeout = 10 * SECOND)).await;
    let peer = node(25_001, Config::default()).await;
    // Nobody answers there: the dial hangs.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let wrong = foveola::addr::Endpoint::from(socket.local_addr().unwrap());
    let wrong = foveola::addr::PeerAddr::node(peer.id(), wrong);
    let joining = tokio::spawn({
        let waiting = waiting.clone();
        async move { waiting.join(&wrong).await }
    });
    until(5 * SECOND, "it dials", || waiting.pool().stats().dialing == 1).await;
    peer.join(&waiting.peer_addr()).await.unwrap();
    let joined = tokio::time::timeout(2 * SECOND, joining).await.expect("it waits for the dial").unwrap();
    assert_eq!(joined, Ok(peer.id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_settings_do_not_overflow_the_clock() {
    let endless = config(|config| {
        config.join_timeout = Duration::MAX;
        config.drain = Duration::MAX;
        config.pool.wait = Duration::MAX;
        config.pool.dial_timeout = Duration::MAX;
        config.pool.idle_ttl = Duration::MAX;
        config.transport.handshake_timeout = Duration::MAX;
        config.transport.hello_timeout = Duration::MAX;
        config.transport.first_byte_timeout = Duration::MAX;
        config.transport.frame_timeout = Duration::MAX;
    });
    let a = node(26_000, endless.clone()).await;
    let b = node(26_001, endless).await;
    in_time(a.join(&b.peer_addr())).await.unwrap();
    in_time(a.pool().lease(b.id(), Duration::MAX)).await.unwrap();
    in_time(a.dht().query_peer(b.id(), key("endless")).into_future()).await.unwrap();
    in_time(a.shutdown()).await;
}
