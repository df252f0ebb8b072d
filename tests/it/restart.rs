//! A peer that comes back on its port with its key is served again within a second.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foveola::mesh::LocalMesh;
use foveola::{Ack, Config, Node, NodeId, SpawnError};

use crate::nodes::{identity, key, node, tick};
use crate::util::in_time;

const DEADLINE: Duration = Duration::from_secs(1);

/// Pings until `peer` answers; returns how long after `since` that was.
async fn answered(node: &Node, peer: NodeId, since: Instant) -> Duration {
    while node.ping(peer).await.is_err() {
        assert!(since.elapsed() < DEADLINE, "no answer: {}", node.pool().explain(peer));
        tick().await;
    }
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_peer_that_says_nothing_is_found_by_its_stateless_reset() {
    let mut mesh = LocalMesh::builder().nodes(2).faults().spawn().await.unwrap();
    let (survivor, crashed) = (mesh.node(0).clone(), mesh.node(1).id());
    survivor.ping(crashed).await.unwrap();
    for _ in 0..3 {
        mesh.kill(1);
        mesh.restart_unheard(1).await.unwrap();
        let listening = Instant::now();
        let open = survivor.pool().explain(crashed).open;
        assert!(open.is_some(), "the survivor does not know yet that its connection is gone");
        let took = answered(&survivor, crashed, listening).await;
        println!("answered {took:?} after the restart");
        assert!(took < DEADLINE, "{took:?}");
    }
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_peer_that_joins_again_replaces_its_old_connections() {
    let mut mesh = LocalMesh::builder().nodes(3).faults().spawn().await.unwrap();
    let crashed = mesh.node(2).id();
    // Work in flight at the crash ends with an answer, too.
    let writer = mesh.node(0).clone();
    let stores = tokio::spawn(async move {
        for i in 0..200 {
            let _ = writer.dht().store(key(i), "kept").ack(Ack::All).await;
        }
    });
    mesh.kill(2);
    mesh.restart(2).await.unwrap();
    let listening = Instant::now();
    for i in 0..2 {
        let took = answered(mesh.node(i), crashed, listening).await;
        assert!(took < DEADLINE, "node {i} was answered after {took:?}");
    }
    let receipt = mesh.node(1).dht().store(key("after"), "kept").ack(Ack::All).await.unwrap();
    assert!(receipt.acked().any(|replica| replica == crashed));
    stores.await.unwrap();
    mesh.shutdown().await;
}

/// A node at the address of one that has just been dropped, as soon as its port is free.
async fn back(listen: SocketAddr) -> Node {
    let start = Instant::now();
    loop {
        match Node::builder().identity(identity(2)).listen(listen).spawn().await {
            Ok(node) => return node,
            Err(SpawnError::Bind(_)) if start.elapsed() < DEADLINE => tick().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_stops_and_starts_in_good_order_is_dialed_again() {
    let steady = node(1, Config::default()).await;
    let mut other = node(2, Config::default()).await;
    steady.join(&other.peer_addr()).await.unwrap();
    for _ in 0..3 {
        let (id, listen) = (other.id(), other.local_addr());
        other.shutdown().await;
        drop(other);
        other = back(listen).await;
        let listening = Instant::now();
        let took = answered(&steady, id, listening).await;
        assert!(took < DEADLINE, "{took:?}");
    }
    other.shutdown().await;
    steady.shutdown().await;
}

/// A node that is gone for good, and one that comes in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replacement_is_another_node_that_joined_through_the_protocol() {
    let mut hasty = Config::default();
    hasty.join_timeout = Duration::from_secs(1);
    let mut mesh = LocalMesh::builder().nodes(4).config(hasty).faults().spawn().await.unwrap();
    let (gone, writer) = (mesh.node(2).id(), mesh.node(0).clone());
    in_time(mesh.replace(2)).await.unwrap();
    let new = mesh.node(2).id();
    assert_ne!(new, gone);
    assert!(!mesh.is_killed(2));
    assert!(mesh.node(2).stats().table_nodes > 0, "it has joined");
    // The writer has not heard of it unless it came to it, so it is asked for by its address.
    let address = mesh.node(2).peer_addr();
    assert_eq!(in_time(writer.join(&address)).await.unwrap(), new);
    writer.ping(new).await.unwrap();
    mesh.shutdown().await;
}
