//! The eleven scenarios by which a mesh that calls over many hops is judged, in a mesh larger than k: each
//! asserts what its name promises.

use std::time::{Duration, Instant};

use bytes::Bytes;
use foveola::mesh::LocalMesh;
use foveola::wire::{ProviderEntry, RecordKind};
use foveola::{CallError, HandlerError, Key, Node, Path, Source};

use super::{Ran, SECOND, echo, offer};
use crate::util::{in_time, until};

const NODES: usize = 12;
const K: usize = 4;
const NAME: &str = "test.calculator.add";

/// A bootstrap node, a gateway, and edges.
const BOOTSTRAP: usize = 0;
const GATEWAY: usize = 1;

async fn mesh() -> LocalMesh {
    LocalMesh::builder().nodes(NODES).k(K).spawn().await.unwrap()
}

fn edges(mesh: &LocalMesh) -> &[Node] {
    &mesh.nodes()[2..]
}

/// Everybody else has an answer from `node`, which knows a table's worth of nodes and has nothing hanging.
async fn healthy(mesh: &LocalMesh, node: &Node) {
    for other in mesh.nodes().iter().filter(|other| other.id() != node.id()) {
        in_time(other.join(&node.peer_addr())).await.unwrap();
        let took = in_time(other.ping(node.id())).await.unwrap();
        assert!(took < 5 * SECOND, "{took:?}");
    }
    let stats = node.stats();
    assert!(stats.table_nodes >= K && stats.connections >= 1, "{stats:?}");
    assert_eq!((stats.handlers, stats.calls_failed), (0, 0));
    assert!(node.pool().residents().iter().all(|peer| !node.pool().is_suspect(*peer)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bootstrap_node_healthy() {
    let mesh = mesh().await;
    healthy(&mesh, mesh.node(BOOTSTRAP)).await;
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_node_healthy() {
    // Two edges that reach each other only through it.
    let mesh = LocalMesh::builder().nodes(4).k(2).reach(|a, b| a <= GATEWAY || b <= GATEWAY);
    let mesh = mesh.spawn().await.unwrap();
    let [gateway, left, right] = [GATEWAY, 2, 3].map(|i| mesh.node(i));
    for edge in [left, right] {
        in_time(edge.ping(gateway.id())).await.unwrap();
        in_time(gateway.ping(edge.id())).await.unwrap();
    }
    let relayed = || gateway.stats().relayed + mesh.node(BOOTSTRAP).stats().relayed;
    let before = relayed();
    left.dht().query_peer(right.id(), Key::of_name("nothing")).timeout(10 * SECOND).await.unwrap();
    assert!(relayed() > before, "it passes on what edges have to say to each other");
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edge_nodes_healthy() {
    let mesh = mesh().await;
    for edge in edges(&mesh) {
        healthy(&mesh, edge).await;
    }
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dht_peer_discovery() {
    let mesh = mesh().await;
    for node in mesh.nodes() {
        // Each was told of one other: the rest it has found.
        let table = node.table();
        assert!(table.len() >= K && !table.contains(&node.id()), "{} of {}", table.len(), NODES - 1);
        assert!(table.iter().all(|id| mesh.nodes().iter().any(|node| node.id() == *id)));
    }
    // Those that are closest to a key are found from everywhere.
    let key = Key::of_name("anything");
    for writer in mesh.nodes() {
        let mut best: Vec<_> = mesh.nodes().iter().map(Node::id).filter(|id| *id != writer.id()).collect();
        best.sort_by_key(|id| id.distance(&key));
        let receipt = writer.dht().store(key, "x").ack(foveola::Ack::All).fresh().await.unwrap();
        let mut replicas = receipt.replicas().to_vec();
        replicas.sort_by_key(|id| id.distance(&key));
        assert_eq!(replicas, best[..K]);
    }
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_registration_in_dht() {
    let mesh = mesh().await;
    let provider = mesh.node(4);
    let service = provider.rpc().advertise_raw(NAME, echo).metadata("add").await.unwrap();
    let receipt = service.published().unwrap();
    assert!(receipt.is_met() && receipt.acks() > K / 2, "{receipt:?}");
    assert_eq!(receipt.key(), Key::of_name(NAME));
    for replica in receipt.acked() {
        let query = mesh.node(9).dht().query_peer(replica, Key::of_name(NAME)).kind(RecordKind::PROVIDER);
        let held = if replica == mesh.node(9).id() {
            mesh.node(8).dht().query_peer(replica, Key::of_name(NAME)).kind(RecordKind::PROVIDER).await
        } else {
            query.await
        };
        let [entry] = &held.unwrap()[..] else { panic!("one entry at {replica}") };
        assert!(entry.signed && entry.publisher == provider.id());
        let entry = ProviderEntry::decode(&entry.value).unwrap();
        assert_eq!(entry.metadata, b"add");
        assert_eq!(entry.endpoints, [provider.local_addr().to_string()]);
    }
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_discovery_via_dht() {
    let mesh = mesh().await;
    let _service = mesh.node(4).rpc().advertise_raw(NAME, echo).metadata("add").await.unwrap();
    for node in mesh.nodes().iter().filter(|node| node.id() != mesh.node(4).id()) {
        let found = node.rpc().find_providers(NAME).await.unwrap();
        let [provider] = &found[..] else { panic!("{found:?}") };
        assert_eq!((provider.id, &provider.metadata[..]), (mesh.node(4).id(), &b"add"[..]));
        assert_eq!(node.stats().discoveries, 1);
    }
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_hop_rpc_call() {
    let mesh = mesh().await;
    let ran = Ran::default();
    let _service = offer(mesh.node(4), NAME, &ran, Duration::ZERO).await;
    for (i, node) in (1..).zip(mesh.nodes()) {
        let (sum, report) = node.rpc().call::<_, u64>(NAME, &i).report().await;
        let report = report.unwrap();
        let expected = if node.id() == mesh.node(4).id() {
            (Source::Local, Path::Local)
        } else {
            (Source::Dht, Path::Direct)
        };
        assert_eq!((sum, report.source, report.path()), (Ok(i), expected.0, expected.1));
        assert_eq!((report.attempts.len(), report.provider()), (1, Some(mesh.node(4).id())));
        assert!(report.discovery <= report.total && report.attempts[0].took <= report.total);
        assert_eq!(ran.times(i), 1);
    }
    mesh.shutdown().await;
}

/// A client, three nodes in a row, a provider, and others that only the provider reaches.
fn behind_three(a: usize, b: usize) -> bool {
    if b <= 4 { b == a + 1 } else { a >= 4 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn multi_hop_rpc_call() {
    let mesh = LocalMesh::builder().nodes(NODES).k(K).reach(behind_three).spawn().await.unwrap();
    let [client, a, b, c, provider] = [0, 1, 2, 3, 4].map(|i| mesh.node(i));
    let ran = Ran::default();
    let _service = offer(provider, NAME, &ran, Duration::ZERO).await;
    for i in 1..=5 {
        let relayed = || [a, b, c].map(|node| node.stats().relayed);
        let (before, received) = (relayed(), provider.stats().routed_received);
        let call = client.rpc().call::<_, u64>(NAME, &i).timeout(18 * SECOND);
        let (result, report) = in_time(call.report()).await;
        let report = report.unwrap();
        assert_eq!(result, Ok(i), "{report:?}");
        let source = if i == 1 { Source::Dht } else { Source::Cache };
        assert_eq!((report.source, report.path()), (source, Path::Routed { hops: 3 }), "{report:?}");
        assert!(provider.stats().routed_received > received);
        for (before, after) in before.iter().zip(relayed()) {
            assert!(after > *before, "each relay has counted it");
        }
        assert_eq!(ran.times(i), 1);
    }
    assert!(!client.pool().residents().contains(&provider.id()), "there is no direct way");
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_timeout_handling() {
    let mut mesh = LocalMesh::builder().nodes(NODES).k(K).faults().spawn().await.unwrap();
    let never = |(): ()| std::future::pending::<Result<(), HandlerError>>();
    let _service = mesh.node(4).rpc().advertise("never", never).await.unwrap();
    let provider = mesh.node(4).id();
    let caller = mesh.node(7).rpc().caller("never").unwrap().timeout(SECOND);
    // The handler does not end; after that its node is silent.
    for _ in 0..2 {
        let start = Instant::now();
        let (result, report) = caller.report(Bytes::from_static(&[0xc0])).await;
        let Err(CallError::Timeout { maybe_executed: true, provider: Some(asked) }) = result else {
            panic!("{result:?}")
        };
        assert_eq!(asked, provider);
        assert!((SECOND..3 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
        assert!(report.total >= SECOND && report.attempts[0].error.is_some(), "{report:?}");
        until(5 * SECOND, "the handler is stopped", || mesh.node(4).stats().handlers == 0).await;
        mesh.kill(4);
    }
    assert_eq!(mesh.node(7).stats().calls_failed, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_provider_not_found() {
    let mesh = mesh().await;
    for node in edges(&mesh) {
        let start = Instant::now();
        let (result, report) =
            node.rpc().call_raw("test.missing.provider", "").timeout(60 * SECOND).report().await;
        assert_eq!(result, Err(CallError::NoProvider), "{report:?}");
        assert!(start.elapsed() < 10 * SECOND, "an answer, not a timeout: {:?}", start.elapsed());
        assert!(!result.unwrap_err().maybe_executed() && report.unwrap().attempts.is_empty());
    }
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_max_hops_exceeded() {
    // Ten nodes between client and provider may be; eleven may not.
    let mesh = LocalMesh::builder().nodes(13).k(K).reach(|a, b| b == a + 1).spawn().await.unwrap();
    let ran = Ran::default();
    let mut services = Vec::new();
    for i in [11, 12] {
        services.push(offer(mesh.node(i), NAME, &ran, Duration::ZERO).await);
    }
    let call = |id: u64, node: usize| {
        let call = mesh.node(0).rpc().call::<_, u64>(NAME, &id).node(mesh.node(node).id());
        in_time(call.timeout(18 * SECOND).report())
    };
    let (near, report) = call(1, 11).await;
    let report = report.unwrap();
    assert_eq!((near, report.path()), (Ok(1), Path::Routed { hops: 10 }), "{report:?}");
    let start = Instant::now();
    let (far, report) = call(2, 12).await;
    let error = far.unwrap_err();
    assert!(!error.maybe_executed() && error.is_retryable(), "{error:?}");
    assert_eq!(error, CallError::TooFar { provider: mesh.node(12).id() }, "{report:?}");
    assert!(start.elapsed() < 18 * SECOND, "{:?}", start.elapsed());
    assert_eq!((ran.times(1), ran.times(2)), (1, 0));
    mesh.shutdown().await;
}
