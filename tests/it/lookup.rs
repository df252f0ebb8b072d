//! A mesh much larger than k: what one node stores, every other finds.

use std::time::{Duration, Instant};

use foveola::mesh::LocalMesh;
use foveola::{Ack, Key, Node, NodeId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::nodes::{key, node};
use crate::util::PATIENCE;

const NODES: usize = 64;
const K: usize = 8;
const SEED: u64 = 6_408;
const KEYS: u32 = 120;

/// The `K` of `nodes` that are truly closest to `key`, `but` left out.
fn closest<'a>(nodes: impl Iterator<Item = &'a Node>, key: &Key, but: NodeId) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = nodes.map(Node::id).filter(|id| *id != but).collect();
    nodes.sort_by_cached_key(|id| id.distance(key));
    nodes.truncate(K);
    nodes
}

fn sorted(mut nodes: Vec<NodeId>) -> Vec<NodeId> {
    nodes.sort_unstable();
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_stores_every_other_finds_even_when_one_in_ten_dies() {
    println!("seed {SEED}");
    let start = Instant::now();
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut mesh = LocalMesh::builder().nodes(NODES).k(K).seed(SEED).faults().spawn().await.unwrap();
    println!("joined after {:?}", start.elapsed());
    let mut written = Vec::new();
    let (mut lookups, mut hops) = (0, 0);
    for i in 0..KEYS {
        let (writer, name) = (rng.random_range(0..NODES), key(i));
        let dht = mesh.node(writer).dht();
        let store = dht.store(name, format!("{i}")).ack(Ack::All);
        let receipt = if i % 4 == 0 { store.fresh().await } else { store.await }.unwrap();
        let best = closest(mesh.nodes().iter(), &name, mesh.node(writer).id());
        assert_eq!(receipt.acks(), K);
        assert_eq!(sorted(receipt.replicas().to_vec()), sorted(best), "key {i}");
        if let Some(lookup) = receipt.lookup() {
            assert!(lookup.queries as usize >= K && lookup.queries as usize <= 3 * K, "{lookup:?}");
            lookups += 1;
            hops += lookup.hops;
        }
        written.push((writer, name));
    }
    println!("stored after {:?}: {lookups} lookups, {hops} hops", start.elapsed());
    assert!(lookups >= KEYS / 4 && hops >= lookups && hops <= 3 * lookups);
    for (i, (writer, name)) in written.iter().enumerate() {
        let reader = (writer + 1 + rng.random_range(0..NODES - 1)) % NODES;
        let found = mesh.node(reader).dht().find_value(*name).await.unwrap();
        assert!(found.iter().any(|record| record.value == format!("{i}")), "key {i}");
    }
    println!("found after {:?}", start.elapsed());
    for dead in (5..NODES).step_by(10) {
        mesh.kill(dead);
    }
    for (i, (writer, name)) in written.iter().enumerate() {
        let reader = loop {
            let reader = (writer + 1 + rng.random_range(0..NODES - 1)) % NODES;
            if !mesh.is_killed(reader) {
                break reader;
            }
        };
        let found = mesh.node(reader).dht().find_value(*name).await.unwrap();
        assert!(found.iter().any(|record| record.value == format!("{i}")), "key {i} after the deaths");
    }
    println!("found after the deaths after {:?}", start.elapsed());
    // Nobody waits for the dead to take leave.
    drop(mesh);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_keys_are_stored_and_found_where_each_alone_would_be() {
    println!("seed {SEED}");
    let mesh = LocalMesh::builder().nodes(24).k(4).seed(SEED).spawn().await.unwrap();
    let keys: Vec<Key> = (0..500).map(key).collect();
    let writer = mesh.node(7);
    let receipts =
        writer.dht().store_many(keys.iter().map(|key| (*key, "many"))).ack(Ack::All).await.unwrap();
    for (name, receipt) in keys.iter().zip(&receipts) {
        let mut best = closest(mesh.nodes().iter(), name, writer.id());
        best.truncate(4);
        let replicas = sorted(receipt.replicas().to_vec());
        assert_eq!((receipt.key(), replicas, receipt.acks()), (*name, sorted(best), 4));
    }
    let reader = node(90, foveola::Config::default()).await;
    reader.join(&mesh.node(3).peer_addr()).await.unwrap();
    let found = reader.dht().find_many(keys.iter().copied()).await.unwrap();
    assert!(found.iter().all(|records| records.len() == 1));
    let none = reader.dht().find_many([key("none"), key("nothing")]).await.unwrap();
    assert!(none.iter().all(Vec::is_empty));
    reader.shutdown().await;
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_is_known_takes_no_lookup() {
    println!("seed {SEED}");
    let mesh = LocalMesh::builder().nodes(12).k(4).seed(SEED).spawn().await.unwrap();
    let writer = mesh.node(5);
    let deadline = Instant::now() + Duration::from_secs(20);
    // Every store surveys the region of its key, until all regions are known.
    let mut known = 0;
    for i in 0.. {
        let receipt = writer.dht().store(key(i), "value").await.unwrap();
        known = if receipt.lookup().is_none() { known + 1 } else { 0 };
        if known == 30 {
            break;
        }
        assert!(Instant::now() < deadline, "regions stay unknown");
    }
    let before = writer.stats();
    assert!(before.lookups > 0 && before.lookup_queries >= 4 * before.lookups, "{before:?}");
    let receipt = writer.dht().store(key(0), "again").fresh().await.unwrap();
    assert!(receipt.lookup().is_some_and(|lookup| lookup.hops > 0 && lookup.queries >= 4));
    assert!(writer.stats().lookups > before.lookups);
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_keys_are_searched_for_on_when_all_their_replicas_have_died() {
    println!("seed {SEED}");
    let mut mesh = LocalMesh::builder().nodes(12).k(3).seed(SEED).faults().spawn().await.unwrap();
    let reader = mesh.node(0).clone();
    let lost = key("lost");
    let place =
        |mesh: &LocalMesh, id: &NodeId| mesh.nodes().iter().position(|node| node.id() == *id).unwrap();
    let closest = closest(mesh.nodes().iter(), &lost, reader.id());
    // From what is known of its region, those three are asked and nobody else.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = reader.stats().lookups;
        assert_eq!(reader.dht().find_value(lost).await.unwrap(), []);
        if reader.stats().lookups == before {
            break;
        }
        assert!(Instant::now() < deadline, "the region stays unknown");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for id in &closest[..3] {
        let i = place(&mesh, id);
        mesh.kill(i);
    }
    reader.dht().store(key("kept"), "value").ack(Ack::Local).await.unwrap();
    // Those who are alive say that there is nothing, as they do when one key is asked for.
    let found = reader.dht().find_many([lost, key("kept")]).timeout(3 * PATIENCE).await.unwrap();
    assert_eq!(found[0], []);
    assert_eq!(found[1][0].value, "value");
}
