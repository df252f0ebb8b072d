//! Finds bring back what honest replicas hold, whatever the others answer or do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use foveola::addr::{Endpoint as Address, PeerAddr};
use foveola::mesh::LocalMesh;
use foveola::wire::{Ask, FindNodeReply, FindReply, Found, Kind, RecordKind, Rest, decode_find};
use foveola::{Ack, Config, FindError, Key, Node, NodeId, RequestError};

use crate::hostile::raw::{Acceptor, Raw, Stream};
use crate::nodes::{config, key, node};
use crate::util::in_time;

/// What a replica answers to the n-th question for a key.
type Answer = dyn Fn(usize, &Ask) -> (Vec<Found<'static>>, Rest) + Send + Sync;

/// A replica that answers every question by `answer`; returns how many it was asked.
fn replica(
    answer: impl Fn(usize, &Ask) -> (Vec<Found<'static>>, Rest) + Send + Sync + 'static,
) -> (PeerAddr, Arc<AtomicUsize>) {
    let acceptor = Acceptor::new();
    let address = PeerAddr::node(acceptor.id, Address::from(acceptor.addr));
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, answer): (_, Arc<Answer>) = (Arc::clone(&asked), Arc::new(answer));
    tokio::spawn(async move {
        while let Some(raw) = acceptor.accept().await {
            tokio::spawn(serve(raw, Arc::clone(&answer), Arc::clone(&count)));
        }
    });
    (address, asked)
}

async fn serve(mut raw: Raw, answer: Arc<Answer>, asked: Arc<AtomicUsize>) {
    loop {
        tokio::select! {
            frame = raw.control.frame() => if frame.is_none() { return },
            lane = raw.connection.accept_bi() => {
                let Ok((send, recv)) = lane else { return };
                tokio::spawn(lane_of(Stream::new(send, recv), Arc::clone(&answer), Arc::clone(&asked)));
            }
        }
    }
}

async fn lane_of(mut lane: Stream, answer: Arc<Answer>, asked: Arc<AtomicUsize>) {
    while let Some((header, body)) = lane.frame().await {
        let mut out = BytesMut::new();
        if header.kind == Kind::FindNode as u8 {
            FindNodeReply::open(header.id, &mut out);
        } else if header.kind == Kind::FindValue as u8 {
            let mut reply = FindReply::open(header.id, &mut out);
            for ask in decode_find(&body).unwrap() {
                let (records, rest) = answer(asked.fetch_add(1, Ordering::Relaxed), &ask);
                let mut answering = reply.answer(&mut out).unwrap();
                records.iter().for_each(|record| answering.push(record).unwrap());
                answering.end(rest).unwrap();
            }
        }
        if lane.send.write_all(&out).await.is_err() {
            return;
        }
    }
}

/// A node that knows the replicas and nobody else, and asks one of them at a time.
async fn reader(timeout: Duration, replicas: &[&PeerAddr]) -> Node {
    let config = config(|config| {
        config.alpha = 1;
        config.request_timeout = timeout;
        config.join_timeout = Duration::from_secs(5);
    });
    let node = Node::builder().config(config).spawn().await.unwrap();
    for replica in replicas {
        node.join(replica).await.unwrap();
    }
    node
}

fn id(n: u64) -> NodeId {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&n.to_be_bytes());
    NodeId::from_bytes(bytes)
}

fn found(publisher: NodeId, value: &'static [u8]) -> Found<'static> {
    Found { publisher, seq: 1, ttl_ms: 60_000, kind: RecordKind::VALUE, flags: 0, proof: b"", value }
}

/// A key that is closer to `near` than to `far`.
fn key_near(near: &PeerAddr, far: &PeerAddr) -> Key {
    let distance = |key: &Key, peer: &PeerAddr| -> Vec<u8> {
        let id = peer.id().unwrap();
        key.as_bytes().iter().zip(id.as_bytes()).map(|(a, b)| a ^ b).collect()
    };
    (0..).map(key).find(|key| distance(key, near) < distance(key, far)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_never_has_room_is_given_up_at_once() {
    let (peer, asked) = replica(|_, _| (Vec::new(), Rest::Everything));
    let node = reader(Duration::from_secs(10), &[&peer]).await;
    let malformed = |error| matches!(error, FindError::Incomplete { last: RequestError::Malformed, .. });
    assert!(malformed(in_time(node.dht().find_many([key(1), key(2)]).into_future()).await.unwrap_err()));
    assert!(malformed(in_time(node.dht().find_value(key(1)).into_future()).await.unwrap_err()));
    assert!(asked.load(Ordering::Relaxed) <= 6);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_without_end_end() {
    let (peer, asked) = replica(|n, _| {
        let first = 100 * n as u64;
        let records = (first..first + 100).map(|n| found(id(n), b"more")).collect();
        (records, Rest::After(id(first + 99)))
    });
    let node = reader(Duration::from_secs(15), &[&peer]).await;
    assert_eq!(in_time(node.dht().find_value(key(1)).into_future()).await.unwrap().len(), 1_024);
    let many = in_time(node.dht().find_many([key(1)]).into_future()).await.unwrap();
    assert_eq!(many[0].len(), 1_024);
    assert_eq!(asked.load(Ordering::Relaxed), 22);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_do_not_ascend_are_not_followed() {
    let (peer, asked) = replica(|_, _| (vec![found(id(5), b"again")], Rest::After(id(5))));
    let node = reader(Duration::from_secs(15), &[&peer]).await;
    assert_eq!(in_time(node.dht().find_value(key(1)).into_future()).await.unwrap().len(), 1);
    assert_eq!(in_time(node.dht().find_many([key(1)]).into_future()).await.unwrap()[0].len(), 1);
    assert_eq!(asked.load(Ordering::Relaxed), 4);
    let (peer, _) = replica(|_, _| (vec![found(id(5), b"b"), found(id(4), b"a")], Rest::Nothing));
    let node = reader(Duration::from_secs(15), &[&peer]).await;
    in_time(node.dht().find_value(key(1)).into_future()).await.unwrap_err();
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_no_replica_may_hold_are_left_out() {
    let (peer, _) = replica(|_, _| {
        let long: &'static [u8] = Box::leak(vec![1; (64 << 10) + 1].into_boxed_slice());
        let records = vec![
            found(id(1), long),
            Found { kind: RecordKind::PROVIDER, ..found(id(2), b"kind") },
            Found { flags: 1, ..found(id(3), b"flags") },
            Found { ttl_ms: 0, ..found(id(4), b"ttl") },
            Found { ttl_ms: u32::MAX, ..found(id(5), b"good") },
        ];
        (records, Rest::Nothing)
    });
    let node = reader(Duration::from_secs(5), &[&peer]).await;
    let one = node.dht().find_value(key(1)).await.unwrap();
    let many = node.dht().find_many([key(1)]).await.unwrap();
    assert_eq!((one.len(), &one), (1, &many[0]));
    assert_eq!((one[0].publisher, one[0].ttl), (id(5), Duration::from_secs(24 * 3_600)));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_replaces_what_this_node_has_published() {
    let own = Arc::new(std::sync::OnceLock::new());
    let claimed = Arc::clone(&own);
    let (peer, asked) = replica(move |_, _| {
        let claim = Found { seq: u64::MAX, ..found(*claimed.get().unwrap(), b"forged") };
        (vec![claim], Rest::Nothing)
    });
    let node = reader(Duration::from_secs(1), &[&peer]).await;
    own.set(node.id()).unwrap();
    let _ = node.dht().store(key(1), "own").ack(Ack::Local).await;
    let one = node.dht().find_value(key(1)).await.unwrap();
    let many = node.dht().find_many([key(1)]).await.unwrap();
    assert!(asked.load(Ordering::Relaxed) >= 2, "nobody was asked");
    for records in [&one, &many[0]] {
        assert_eq!((records.len(), records[0].value.as_ref()), (1, &b"own"[..]));
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_of_one_publisher_is_looked_for_until_it_is_found() {
    let (first, _) = replica(|_, _| (vec![found(id(1), b"one")], Rest::Nothing));
    let (second, _) = replica(|_, _| (vec![found(id(1), b"one"), found(id(2), b"two")], Rest::Nothing));
    let node = reader(Duration::from_secs(5), &[&first, &second]).await;
    let name = key_near(&first, &second);
    let _ = node.dht().store(name, "own").ack(Ack::Local).timeout(Duration::from_millis(50)).await;
    for (publisher, value) in [(id(1), &b"one"[..]), (id(2), b"two"), (node.id(), b"own")] {
        let records = node.dht().find_value(name).from(publisher).await.unwrap();
        assert_eq!((records.len(), records[0].publisher), (1, publisher));
        assert_eq!(records[0].value, value);
    }
    assert_eq!(node.dht().find_value(name).from(id(3)).await.unwrap(), []);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values_of_many_publishers_come_in_pages() {
    let mesh = LocalMesh::builder().nodes(4).spawn().await.unwrap();
    let value = |i: usize| Bytes::from(vec![i as u8; 64 << 10]);
    for (i, writer) in mesh.nodes().iter().enumerate() {
        for name in [key("a"), key("b")] {
            writer.dht().store(name, value(i)).ack(Ack::All).await.unwrap();
        }
    }
    let reader = node(99, Config::default()).await;
    reader.join(&mesh.node(0).peer_addr()).await.unwrap();
    let one = reader.dht().find_value(key("a")).await.unwrap();
    let many = reader.dht().find_many([key("a"), key("b"), key("none")]).await.unwrap();
    let held = reader.dht().query_peer(mesh.node(1).id(), key("b")).await.unwrap();
    assert_eq!(many[2], []);
    for records in [&one, &many[0], &many[1], &held] {
        // A replica holds the records of the others, and says what it has published itself.
        assert_eq!(records.len(), 4);
        for record in records {
            let writer = mesh.nodes().iter().position(|node| node.id() == record.publisher).unwrap();
            assert_eq!(record.value, value(writer));
        }
    }
    reader.shutdown().await;
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_with_more_nodes_than_replicas_finds_many_as_it_finds_one() {
    let mesh = LocalMesh::builder().nodes(12).k(4).spawn().await.unwrap();
    let keys: Vec<_> = (0..200).map(key).collect();
    for name in &keys {
        mesh.node(0).dht().store(*name, name.as_bytes().to_vec()).ack(Ack::All).await.unwrap();
    }
    let reader = mesh.node(7);
    let many = reader.dht().find_many(keys.iter().copied()).await.unwrap();
    let mut hits = 0;
    for (name, records) in keys.iter().zip(&many) {
        let one = reader.dht().find_value(*name).await.unwrap();
        assert_eq!(one.len(), records.len(), "{name}");
        hits += records.len();
        assert!(records.iter().all(|record| record.value == name.as_bytes()[..] && record.key == *name));
    }
    println!("{hits} of {} found", keys.len());
    assert!(hits >= 150, "{hits}");
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_others_answer_for_a_silent_replica() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    let mut mesh = LocalMesh::builder().nodes(4).faults().spawn().await.unwrap();
    let keys: Vec<_> = (0..64).map(key).collect();
    for name in &keys {
        mesh.node(0).dht().store(*name, "kept").ack(Ack::All).await.unwrap();
    }
    let many = reader(TIMEOUT, &[&mesh.node(2).peer_addr()]).await;
    let one = reader(TIMEOUT, &[&mesh.node(2).peer_addr()]).await;
    let silent = mesh.node(1).peer_addr();
    mesh.kill(1);
    let start = Instant::now();
    let found = many.dht().find_many(keys.iter().copied()).await.unwrap();
    assert!(found.iter().all(|records| records.len() == 1));
    assert!(start.elapsed() < TIMEOUT, "{:?}", start.elapsed());
    let start = Instant::now();
    let name = key_near(&silent, &mesh.node(2).peer_addr());
    assert!(one.dht().find_value(name).await.is_ok());
    assert!(start.elapsed() < TIMEOUT, "{:?}", start.elapsed());
    many.shutdown().await;
    one.shutdown().await;
    mesh.shutdown().await;
}
