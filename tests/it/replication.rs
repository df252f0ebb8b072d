//! Records stay where they belong while nodes come, leave, die and restart.

use std::time::{Duration, Instant};

use foveola::mesh::LocalMesh;
use foveola::{Ack, Config, Key, Node, NodeId};

use crate::nodes::{config, identity, key};
use crate::util::PATIENCE;

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
