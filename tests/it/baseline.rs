//! The baseline stores as truly as the pooled path, with connections of its own, and leaves the pool alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foveola::baseline::{Arm, Client, IN_FLIGHT_MAX, LEGACY_PAUSE, MessageError, Receipt};
use foveola::mesh::LocalMesh;
use foveola::wire::CallStatus;
use foveola::{HandlerError, Key, Node, NodeId, Request, Side};

use crate::util::{PATIENCE, until};

const REPLICAS: usize = 4;

async fn mesh() -> LocalMesh {
    LocalMesh::builder().nodes(REPLICAS + 1).k(REPLICAS).spawn().await.unwrap()
}

fn item(i: usize) -> (Key, Bytes) {
    (Key::of_name(format!("baseline {i}")), Bytes::from(format!("value {i}")))
}

/// Every replica of the receipt holds the record, asked over the pool.
async fn assert_held(node: &Node, receipt: &Receipt, (key, value): (Key, Bytes)) {
    assert_eq!(receipt.replicas.iter().collect::<BTreeSet<_>>().len(), REPLICAS);
    assert_eq!(receipt.handshakes as usize, REPLICAS);
    for replica in &receipt.replicas {
        let records = node.dht().query_peer(*replica, key).await.unwrap();
        let own: Vec<_> = records.iter().filter(|record| record.publisher == receipt.publisher).collect();
        assert_eq!(own.len(), 1, "{records:?}");
        assert_eq!((own[0].seq, &own[0].value), (receipt.seq, &value));
    }
}

/// What must not change at any node: how much it has dialed, the connection to each other node, and how many
/// to it have ended.
type Pooled = (u64, Vec<(NodeId, Option<Side>, usize)>);

fn pooled(mesh: &LocalMesh) -> Vec<Pooled> {
    let row = |node: &Node| {
        let connection = |peer: &Node| {
            let explain = node.pool().explain(peer.id());
            (peer.id(), explain.open.map(|open| open.dialed_by), explain.closed.len())
        };
        (node.pool().stats().dials, mesh.nodes().iter().map(connection).collect())
    };
    mesh.nodes().iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn legacy_pauses_at_each_replica_and_stores_one_at_a_time() {
    let mesh = mesh().await;
    let writer = mesh.node(0);
    let before = pooled(&mesh);
    let client = Client::new(writer, Arm::Legacy).unwrap();
    let start = Instant::now();
    let (first, second) = (item(0), item(1));
    let stores =
        tokio::join!(client.store(first.0, first.1.clone()), client.store(second.0, second.1.clone()));
    assert!(start.elapsed() >= LEGACY_PAUSE * 2 * REPLICAS as u32, "{:?}", start.elapsed());
    assert_held(writer, &stores.0.unwrap(), first).await;
    assert_held(writer, &stores.1.unwrap(), second).await;
    assert_eq!(pooled(&mesh), before);
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fresh_stores_lose_nothing_with_all_in_flight() {
    let mesh = mesh().await;
    let writer = mesh.node(0);
    let before = pooled(&mesh);
    let accepted: u64 = mesh.nodes()[1..].iter().map(|node| node.stats().handshakes).sum();
    let client = Arc::new(Client::new(writer, Arm::Fresh).unwrap());
    let stores: Vec<_> = (0..2 * IN_FLIGHT_MAX)
        .map(|i| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.store(item(i).0, item(i).1).await })
        })
        .collect();
    let mut publishers = BTreeSet::new();
    for (i, store) in stores.into_iter().enumerate() {
        let receipt = store.await.unwrap().unwrap();
        publishers.insert(receipt.publisher);
        assert_held(writer, &receipt, item(i)).await;
    }
    assert!(publishers.is_subset(&client.ids().collect()));
    assert_eq!(pooled(&mesh), before);
    let now: u64 = mesh.nodes()[1..].iter().map(|node| node.stats().handshakes).sum();
    assert_eq!(now - accepted, (2 * IN_FLIGHT_MAX * REPLICAS) as u64, "a handshake for each copy");
    let duplicates = mesh.nodes().iter().map(|node| node.pool().stats().closes.duplicate).sum::<u64>();
    assert_eq!(duplicates, 0, "no two connections of one identity met");
    assert_eq!(writer.stats().table_nodes, REPLICAS, "the client is no member of the mesh");
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_is_a_handshake_and_reaches_only_whom_it_names() {
    let mesh = mesh().await;
    let before = pooled(&mesh);
    let client = Client::new(mesh.node(0), Arm::Fresh).unwrap();
    let peer = mesh.node(1);
    let accepted = peer.stats().handshakes;
    for _ in 0..10 {
        client.dial(peer.id()).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while peer.stats().handshakes < accepted + 10 && Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    assert_eq!(peer.stats().handshakes, accepted + 10);
    assert!(client.dial(NodeId::from_bytes([7; 32])).await.is_err(), "nobody has this id");
    assert_eq!(pooled(&mesh), before);
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_may_take_the_old_path_as_well() {
    let mesh = LocalMesh::builder().nodes(2).spawn().await.unwrap();
    let (provider, caller) = (mesh.node(0), mesh.node(1));
    let calls = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&calls);
    let handler = move |request: Request| {
        count.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, HandlerError>(request.args) }
    };
    let _service = provider.rpc().advertise_raw("echo", handler).await.unwrap();
    let fresh = Client::new(caller, Arm::Fresh).unwrap();
    assert_eq!(fresh.call(provider.id(), "echo", b"hello").await.unwrap().unwrap(), "hello");
    let unknown = fresh.call(provider.id(), "other", b"").await;
    assert_eq!(unknown, Err(MessageError::Failed(provider.id(), CallStatus::NoService)));
    let legacy = Client::new(caller, Arm::Legacy).unwrap();
    assert_eq!(legacy.call(provider.id(), "echo", b"hello").await, Ok(None));
    until(PATIENCE, "it has run", || calls.load(Ordering::SeqCst) == 2).await;
    mesh.shutdown().await;
}
