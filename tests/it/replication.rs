//! Records stay where they belong while nodes come, leave, die and restart.

use std::time::{Duration, Instant};

use foveola::mesh::LocalMesh;
use foveola::{Ack, Config, Key, Node, NodeId, Receipt};

use crate::nodes::{config, identity, key};
use crate::util::{PATIENCE, until};

/// Settings in which everything that takes minutes takes moments.
fn hasty(k: usize) -> Config {
    config(|config| {
        config.k = k;
        config.replication.settle = Duration::from_millis(50);
        config.replication.every = Duration::from_secs(1);
        config.request_timeout = Duration::from_millis(1_000);
        config.pool.dial_timeout = Duration::from_millis(500);
        config.transport.keep_alive = Duration::from_millis(200);
        config.transport.idle_timeout = Duration::from_millis(1_000);
    })
}

/// A node that asks and is asked nothing.
async fn client(mesh: &LocalMesh, config: Config) -> Node {
    let builder = Node::builder().identity(identity(900)).seed(900).config(config).serves(false);
    let client = builder.bootstrap([mesh.node(0).peer_addr()]).spawn().await.unwrap();
    for node in mesh.nodes() {
        client.join(&node.peer_addr()).await.unwrap();
    }
    client
}

/// The nodes of the mesh that live, closest to `key` first.
fn closest(mesh: &LocalMesh, key: &Key) -> Vec<NodeId> {
    let living = (0..mesh.len()).filter(|i| !mesh.is_killed(*i));
    let mut nodes: Vec<_> = living.map(|i| mesh.node(i).id()).collect();
    nodes.sort_by_key(|node| node.distance(key));
    nodes
}

async fn holds(asker: &Node, peer: NodeId, key: Key) -> bool {
    asker.dht().query_peer(peer, key).await.is_ok_and(|records| !records.is_empty())
}

/// Waits until all of `nodes` hold something under `key`.
async fn until_held(asker: &Node, nodes: &[NodeId], key: Key) {
    let deadline = Instant::now() + PATIENCE;
    for node in nodes {
        while !holds(asker, *node, key).await {
            assert!(Instant::now() < deadline, "{node:?} does not hold {key:?}: {:?}", asker.stats());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_hands_its_records_over() {
    let settings = config(|config| {
        config.k = 3;
        // Nobody else sends anything meanwhile.
        config.replication.settle = Duration::from_secs(3_600);
    });
    let mesh = LocalMesh::builder().nodes(12).config(settings.clone()).spawn().await.unwrap();
    let client = client(&mesh, settings).await;
    let mut receipts: Vec<Receipt> = Vec::new();
    for i in 0..60 {
        receipts.push(client.dht().store(key(i), "kept").ack(Ack::All).await.unwrap());
    }
    let leaver = mesh.node(5).id();
    let held: Vec<_> = receipts.iter().filter(|receipt| receipt.acked().any(|node| node == leaver)).collect();
    assert!(held.len() > 5, "the leaver holds {} records", held.len());
    mesh.node(5).shutdown().await;
    for receipt in held {
        let mut nodes = closest(&mesh, &receipt.key());
        nodes.retain(|node| *node != leaver);
        assert!(holds(&client, nodes[2], receipt.key()).await, "the heir lacks {:?}", receipt.key());
    }
    client.shutdown().await;
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_outlives_all_its_first_replicas() {
    let mut mesh = LocalMesh::builder().nodes(8).config(hasty(3)).faults().spawn().await.unwrap();
    let client = client(&mesh, hasty(3)).await;
    let keys = [key("one"), key("two"), key("three")];
    for key in keys {
        client.dht().store(key, "kept").ack(Ack::All).await.unwrap();
    }
    let first = closest(&mesh, &keys[0])[..3].to_vec();
    // What follows is up to the replicas.
    client.shutdown().await;
    for node in first {
        let i = (0..mesh.len()).find(|i| mesh.node(*i).id() == node).unwrap();
        mesh.kill(i);
        let asker = (0..mesh.len()).find(|i| !mesh.is_killed(*i)).map(|i| mesh.node(i)).unwrap();
        for key in keys {
            let mut nodes = closest(&mesh, &key)[..3].to_vec();
            nodes.retain(|node| *node != asker.id());
            until_held(asker, &nodes, key).await;
        }
    }
    for i in (0..mesh.len()).filter(|i| !mesh.is_killed(*i)) {
        for key in keys {
            assert_eq!(mesh.node(i).dht().find_value(key).await.unwrap()[0].value, "kept");
        }
    }
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_is_given_what_belongs_to_it() {
    // No round comes meanwhile that would send everything to everybody.
    let mut settings = hasty(2);
    settings.replication.every = Duration::from_secs(3_600);
    let mut mesh = LocalMesh::builder().nodes(6).config(settings.clone()).faults().spawn().await.unwrap();
    let client = client(&mesh, settings).await;
    let keys: Vec<_> = (0..40).map(key).collect();
    for key in &keys {
        client.dht().store(*key, "kept").ack(Ack::All).await.unwrap();
    }
    client.shutdown().await;
    // Comes back with nothing, as another process.
    mesh.kill(3);
    mesh.restart(3).await.unwrap();
    let came = mesh.node(3).id();
    for key in keys {
        if closest(&mesh, &key)[..2].contains(&came) {
            until_held(mesh.node(0), &[came], key).await;
        }
    }
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_sends_its_publication_again_to_a_replica_that_lost_it() {
    let mut mesh = LocalMesh::builder().nodes(1).config(hasty(1)).faults().spawn().await.unwrap();
    let client = client(&mesh, hasty(1)).await;
    let ttl = Duration::from_secs(12);
    let receipt = client.dht().store(key("again"), "kept").ttl(ttl).ack(Ack::All).await.unwrap();
    mesh.kill(0);
    mesh.restart_unheard(0).await.unwrap();
    let replica = mesh.node(0).id();
    until_held(&client, &[replica], receipt.key()).await;
    let record = &client.dht().query_peer(replica, receipt.key()).await.unwrap()[0];
    assert_eq!(record.seq, receipt.seq(), "it is the same record");
    assert!(record.ttl < Duration::from_secs(9), "sending it again lengthens no life: {:?}", record.ttl);
    client.shutdown().await;
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leaving_node_does_not_get_rid_of_is_counted() {
    let settings = config(|config| {
        config.k = 2;
        config.drain = Duration::from_secs(1);
        config.replication.settle = Duration::from_secs(3_600);
    });
    let mut mesh = LocalMesh::builder().nodes(5).config(settings).faults().spawn().await.unwrap();
    for i in 0..200 {
        mesh.node(0).dht().store(key(i), "value").ack(Ack::All).await.unwrap();
    }
    let leaver = mesh.node(4).clone();
    let held = leaver.stats().held_records;
    assert!(held > 0);
    (0..4).for_each(|i| mesh.kill(i));
    leaver.shutdown().await;
    let lost = || leaver.stats().not_replicated;
    until(PATIENCE, "all is counted", || lost() >= u64::try_from(held).unwrap()).await;
    assert_eq!(lost(), u64::try_from(held).unwrap());
}
