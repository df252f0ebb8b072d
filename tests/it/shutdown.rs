//! Nodes that stop under load: what was acknowledged is there, and every call has an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use foveola::mesh::LocalMesh;
use foveola::wire::{Class, Decoder, Failed, GoAway, Kind, Ping, Pong, encode_open};
use foveola::{Ack, Config, Dht, Node, Receipt, StoreError};
use tokio::task::JoinSet;

use crate::nodes::{RawPeer, key, next_frame, node, tick};
use crate::util::until;

const SECOND: Duration = Duration::from_secs(1);
const CALLERS: usize = 64;
/// Acknowledged records that are asked for afterwards, spread over the run.
const SAMPLE: usize = 4_000;

/// How the calls of one caller ended.
#[derive(Debug, Default)]
struct Calls {
    acked: Vec<Receipt>,
    failed: usize,
    longest: Duration,
}

/// Stores until the node is told to stop; each call's answer is counted in `answers`.
async fn store_until_shutdown(writer: Node, caller: usize, ack: Ack, answers: Arc<AtomicUsize>) -> Calls {
    let mut calls = Calls::default();
    for i in 0.. {
        let start = Instant::now();
        let stored = writer.dht().store(key(format!("{caller} {i}")), value(caller, i)).ack(ack).await;
        calls.longest = calls.longest.max(start.elapsed());
        answers.fetch_add(1, Ordering::Relaxed);
        match stored {
            Ok(receipt) => calls.acked.push(receipt),
            Err(StoreError::Shutdown) => break,
            Err(StoreError::NotAcknowledged(_) | StoreError::NotEnoughReplicas(_)) => {
                calls.failed += 1;
                // What fails without waiting must not keep the others from running.
                tick().await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    calls
}

fn value(caller: usize, i: usize) -> Bytes {
    Bytes::from(format!("value {i} of {caller}"))
}

async fn ended(callers: JoinSet<Calls>, patience: Duration) -> Calls {
    let all = tokio::time::timeout(patience, callers.join_all()).await.expect("a call has no answer");
    let mut sum = Calls::default();
    for calls in all {
        sum.acked.extend(calls.acked);
        sum.failed += calls.failed;
        sum.longest = sum.longest.max(calls.longest);
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_stops_under_load_loses_nothing_acknowledged() {
    let mesh = LocalMesh::builder().nodes(5).k(3).spawn().await.unwrap();
    let writer = mesh.node(0).clone();
    let answers = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let ack = if caller % 2 == 0 { Ack::All } else { Ack::Quorum };
        callers.spawn(store_until_shutdown(writer.clone(), caller, ack, Arc::clone(&answers)));
    }
    until(20 * SECOND, "some load", || answers.load(Ordering::Relaxed) > 2_000).await;
    let start = Instant::now();
    writer.shutdown().await;
    let drained = start.elapsed();
    let calls = ended(callers, SECOND).await;
    println!("{} acked, {} failed; shutdown took {drained:?}", calls.acked.len(), calls.failed);
    assert!(drained < Config::default().drain, "work in flight was not done in time: {drained:?}");
    assert!(calls.acked.len() > 1_000);
    for receipt in calls.acked.iter().step_by(1 + calls.acked.len() / SAMPLE) {
        assert!(receipt.is_met());
        for replica in receipt.acked() {
            let witness = mesh.nodes()[1..].iter().find(|node| node.id() != replica).unwrap();
            let records = witness.dht().query_peer(replica, receipt.key()).await.unwrap();
            assert!(
                records.iter().any(|held| held.publisher == writer.id() && held.seq >= receipt.seq()),
                "{replica} has lost {receipt:?}"
            );
        }
    }
    assert_eq!(writer.dht().store(key("late"), "late").await, Err(StoreError::Shutdown));
    assert_eq!(writer.stats().tasks, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_a_replica_that_stops_have_definite_answers() {
    let mesh = LocalMesh::builder().nodes(4).k(3).spawn().await.unwrap();
    let (writer, leaving) = (mesh.node(0).clone(), mesh.node(3).clone());
    let answers = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let ack = if caller % 2 == 0 { Ack::All } else { Ack::Quorum };
        callers.spawn(store_until_shutdown(writer.clone(), caller, ack, Arc::clone(&answers)));
    }
    until(20 * SECOND, "some load", || answers.load(Ordering::Relaxed) > 1_000).await;
    let start = Instant::now();
    leaving.shutdown().await;
    let drained = start.elapsed();
    println!("the replica was gone after {drained:?} and {} calls", answers.load(Ordering::Relaxed));
    let then = answers.load(Ordering::Relaxed);
    until(20 * SECOND, "stores go on without it", || answers.load(Ordering::Relaxed) > then + 1_000).await;
    writer.shutdown().await;
    let calls = ended(callers, SECOND).await;
    println!(
        "{} acked, {} failed, the longest call took {:?}; shutdown took {drained:?}",
        calls.acked.len(),
        calls.failed,
        calls.longest
    );
    assert!(drained < Config::default().drain, "{drained:?}");
    assert!(calls.longest < Config::default().request_timeout + SECOND, "{:?}", calls.longest);
    for receipt in calls.acked.iter().step_by(1 + calls.acked.len() / SAMPLE) {
        for replica in receipt.acked().filter(|replica| *replica != leaving.id()) {
            let witness = mesh.nodes()[1..3].iter().find(|node| node.id() != replica).unwrap();
            let records = witness.dht().query_peer(replica, receipt.key()).await.unwrap();
            assert!(records.iter().any(|held| held.seq >= receipt.seq()), "{replica} has lost {receipt:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_above_the_last_accepted_one_are_told_that_the_node_leaves() {
    let stopping = node(1, Config::default()).await;
    let mut raw = RawPeer::dial(2, &stopping, 1 << 20).await;
    let (mut send, mut recv) = raw.connection.open_bi().await.unwrap();
    let mut decoder = Decoder::new(1 << 20);
    let mut out = BytesMut::new();
    encode_open(Class::Request, &mut out);
    for id in 1..=3 {
        Ping { nonce: id }.encode(id, &mut out).unwrap();
    }
    send.write_all(&out).await.unwrap();
    for id in 1..=3 {
        let (kind, reply_to, body) = next_frame(&mut recv, &mut decoder).await;
        assert_eq!((kind, reply_to), (Kind::Pong as u8, id));
        assert_eq!(Pong::decode(&body), Ok(Pong { nonce: id }));
    }

    let stop = tokio::spawn(async move { stopping.shutdown().await });
    let (_send, mut control) = raw.connection.accept_bi().await.unwrap();
    let mut control_decoder = Decoder::new(1 << 20);
    let (kind, ..) = next_frame(&mut control, &mut control_decoder).await;
    assert_eq!(kind, Kind::Open as u8);
    let (kind, _, body) = next_frame(&mut control, &mut control_decoder).await;
    assert_eq!(kind, Kind::GoAway as u8);
    let goaway = GoAway::decode(&body).unwrap();
    assert_eq!(goaway.last[Class::Request.index()], 3);

    out.clear();
    Ping { nonce: 4 }.encode(4, &mut out).unwrap();
    send.write_all(&out).await.unwrap();
    let (kind, reply_to, body) = next_frame(&mut recv, &mut decoder).await;
    assert_eq!((kind, reply_to), (Kind::Failed as u8, 4));
    assert_eq!(Failed::decode(&body).unwrap().code, 1);

    // Once the raw peer has said goodbye and ended its lanes, the node need not wait any longer.
    out.clear();
    GoAway { code: 0, last: [u64::MAX; Class::LANES] }.encode(0, &mut out).unwrap();
    raw.send.write_all(&out).await.unwrap();
    raw.send.finish().unwrap();
    send.finish().unwrap();
    tokio::time::timeout(3 * SECOND, stop).await.expect("the drain ends with the last lane").unwrap();
    let closed = raw.connection.closed().await;
    assert!(
        matches!(&closed, quinn::ConnectionError::ApplicationClosed(close) if close.error_code == 0u32.into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_a_dropped_node_end_with_an_error() {
    let mut mesh = LocalMesh::builder().nodes(2).faults().spawn().await.unwrap();
    let peer = mesh.node(1).id();
    mesh.kill(1);
    let dht: Dht<'_> = mesh.node(0).dht();
    let stores = (0..100).map(|i| dht.store(key(i), "lost").ack(Ack::All).into_future());
    let mut pending: JoinSet<_> = stores.collect();
    let queries = (0..100).map(|i| dht.query_peer(peer, key(i)).into_future()).collect::<Vec<_>>();
    let mut asking: JoinSet<_> = queries.into_iter().collect();
    until(SECOND, "all are under way", || mesh.node(0).pool().stats().leases >= 100).await;
    let start = Instant::now();
    drop(mesh);
    while let Some(stored) = pending.join_next().await {
        assert!(matches!(stored.unwrap(), Err(StoreError::NotAcknowledged(_) | StoreError::Shutdown)));
    }
    while let Some(asked) = asking.join_next().await {
        assert!(asked.unwrap().is_err());
    }
    assert!(start.elapsed() < SECOND, "they waited for their timeout: {:?}", start.elapsed());
}
