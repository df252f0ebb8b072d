//! Meshes in which who is closest must be found out: one whose nodes all hold everything, and one in which
//! each holds an eighth.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foveola::mesh::LocalMesh;
use foveola::{Ack, Config, Key, Node, NodeId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{config, timed};
use crate::raw::fanout::PEERS;
use crate::raw::record::VALUE;

/// Records that a node may hold: those of all rounds.
const RECORDS: usize = 1 << 20;
/// Records in one call while a mesh is filled.
const BATCH: u64 = 1_000;
/// Nodes of [`Deep`], and copies of a record in it.
const DEEP_NODES: usize = 64;
const DEEP_K: usize = 8;
/// A warm node has asked for a key in each of so many equal parts of the key space.
const PARTS: u64 = 64;

fn roomy() -> Config {
    let mut config = config();
    config.store.records = RECORDS;
    config.store.bytes = RECORDS * VALUE;
    config.store.publisher_records = RECORDS;
    config.store.publisher_bytes = RECORDS * VALUE;
    config
}

/// The `n`-th key; no two are the same.
fn key(n: u64) -> Key {
    Key::from_bytes(ChaCha8Rng::seed_from_u64(n).random())
}

fn value() -> Bytes {
    Bytes::from_static(&[7; VALUE])
}

/// Stores the records `0..count` from one node, each on all its replicas.
async fn fill(node: &Node, count: u64) {
    for first in (0..count).step_by(BATCH as usize) {
        let items = (first..count.min(first + BATCH)).map(|n| (key(n), value()));
        let receipts = node.dht().store_many(items).ack(Ack::All).await.expect("sent");
        assert!(receipts.iter().all(foveola::Receipt::is_met), "every replica has every record");
    }
}

/// A node that holds nothing for others and has joined `mesh`.
async fn client(mesh: &LocalMesh, config: Config) -> Node {
    let seed = mesh.node(0).peer_addr();
    Node::builder().config(config).serves(false).bootstrap([seed]).spawn().await.expect("a node")
}

/// Twenty-one nodes with k = 20, and a client of them.
#[derive(Debug)]
pub(crate) struct Wide {
    mesh: LocalMesh,
    client: Node,
    /// The records that are there to be found.
    filled: u64,
    /// The next of them, and the next record that nobody has stored yet.
    find: Arc<AtomicU64>,
    store: Arc<AtomicU64>,
}

impl Wide {
    /// With `filled` records; no more can be found, because none is found twice.
    pub(crate) async fn start(filled: u64) -> Self {
        let mesh = LocalMesh::builder().nodes(PEERS + 1).config(roomy()).spawn().await.expect("a mesh");
        fill(mesh.node(0), filled).await;
        let client = client(&mesh, roomy()).await;
        let (find, store) = (Arc::default(), Arc::new(AtomicU64::new(filled)));
        Self { mesh, client, filled, find, store }
    }

    /// Stores `iters` records under new keys, `in_flight` at a time; `fresh`: looks up each time.
    pub(crate) async fn store(&self, fresh: bool, in_flight: u64, iters: u64) -> Duration {
        timed(in_flight, iters, |_, share| {
            let (node, next) = (self.mesh.node(0).clone(), Arc::clone(&self.store));
            async move {
                for _ in 0..share {
                    let key = key(next.fetch_add(1, Ordering::Relaxed));
                    let store = node.dht().store(key, value()).ack(Ack::All);
                    let receipt = if fresh { store.fresh().await } else { store.await };
                    assert_eq!(receipt.expect("every replica has it").acks(), PEERS);
                }
            }
        })
        .await
    }

    /// Finds `iters` records that were not asked for before, `in_flight` at a time.
    pub(crate) async fn find(&self, in_flight: u64, iters: u64) -> Duration {
        let took = timed(in_flight, iters, |_, share| {
            let (node, next) = (self.client.clone(), Arc::clone(&self.find));
            async move {
                for _ in 0..share {
                    found(&node, key(next.fetch_add(1, Ordering::Relaxed))).await;
                }
            }
        })
        .await;
        assert!(self.find.load(Ordering::Relaxed) <= self.filled, "fewer rounds");
        took
    }
}

async fn found(node: &Node, key: Key) {
    let found = node.dht().find_value(key).await.expect("a replica answers");
    assert!(found.len() == 1 && found[0].value.len() == VALUE, "{found:?}");
}

/// Sixty-four nodes with k = 8: to most records most nodes are strangers.
#[derive(Debug)]
pub(crate) struct Deep {
    mesh: LocalMesh,
    ids: Vec<NodeId>,
    filled: u64,
}

impl Deep {
    pub(crate) async fn start(filled: u64) -> Self {
        let config = Self::config();
        let mesh = LocalMesh::builder().nodes(DEEP_NODES).config(config).spawn().await.expect("a mesh");
        fill(mesh.node(0), filled).await;
        let ids = mesh.nodes().iter().skip(1).map(Node::id).collect();
        Self { mesh, ids, filled }
    }

    fn config() -> Config {
        let mut config = roomy();
        config.k = DEEP_K;
        config
    }

    /// How long a node that has just joined takes for its first finds, one at a time, no two of them in the
    /// same eighth of the key space; and the mean number of hops of its lookups.
    pub(crate) async fn cold(&self, round: u64) -> (Vec<Duration>, f64) {
        let node = client(&self.mesh, Self::config()).await;
        let before = node.stats();
        let mut took = Vec::new();
        for eighth in 0..8 {
            let wanted = (round * 8..self.filled).map(key).find(|key| key.as_bytes()[0] >> 5 == eighth);
            let key = wanted.expect("enough records");
            let start = Instant::now();
            found(&node, key).await;
            took.push(start.elapsed());
        }
        let after = node.stats();
        let hops =
            (after.lookup_hops - before.lookup_hops) as f64 / (after.lookups - before.lookups).max(1) as f64;
        node.shutdown().await;
        (took, hops)
    }

    /// A node that knows who is closest wherever it looks.
    pub(crate) async fn warm(&self) -> Node {
        let node = client(&self.mesh, Self::config()).await;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let before = node.stats().lookups;
            for part in 0..PARTS {
                let wanted = (0..self.filled).map(key).find(|key| key.as_bytes()[0] >> 2 == part as u8);
                found(&node, wanted.expect("enough records")).await;
            }
            if node.stats().lookups == before {
                return node;
            }
            assert!(Instant::now() < deadline, "the node still looks up");
        }
    }

    /// How long each of `iters` finds took, and each direct question to the closest node, in turn and one
    /// at a time.
    pub(crate) async fn latencies(&self, node: &Node, iters: u64) -> (Vec<Duration>, Vec<Duration>) {
        let (mut finds, mut direct) = (Vec::new(), Vec::new());
        for n in 0..iters {
            let key = key(n % self.filled);
            let closest = *self.ids.iter().min_by_key(|id| id.distance(&key)).expect("some");
            let start = Instant::now();
            found(node, key).await;
            let between = Instant::now();
            let held = node.dht().query_peer(closest, key).await.expect("an answer");
            let end = Instant::now();
            assert_eq!(held.len(), 1);
            finds.push(between - start);
            direct.push(end - between);
        }
        (finds, direct)
    }
}
