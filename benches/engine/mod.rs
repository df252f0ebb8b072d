//! The engine's side of the benches: meshes with the settings of the raw rigs, and calls made the same way.

// Each bench target uses its own part.
#![allow(dead_code)]

pub(crate) mod arms;
pub(crate) mod calls;
pub(crate) mod far;
pub(crate) mod memory;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foveola::mesh::LocalMesh;
use foveola::{Ack, Config, Key, Node, baseline};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::runtime::Runtime;

use crate::raw::Settings;
use crate::raw::exchange::spread;
use crate::raw::record::{KEYS, VALUE};

/// Records that a node may hold, of all and of one publisher: more than there are keys, because keys
/// do not fall evenly on shards.
const RECORDS: usize = 4 * KEYS;
const BYTES: usize = RECORDS * VALUE;
const SEED: u64 = 1;
/// What every QUIC path carries, in bytes; the engine begins with it.
const MTU_FLOOR: u16 = 1_200;

/// Two workers, whatever the machine has: figures of different machines then mean the same.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// The defaults, with room for all keys.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.store.records = RECORDS;
    config.store.bytes = BYTES;
    config.store.publisher_records = RECORDS;
    config.store.publisher_bytes = BYTES;
    config
}

/// The same limits for bare quinn.
pub(crate) fn settings() -> Settings {
    let config = config().transport;
    Settings {
        // What one stream may use of a connection, as `TransportConfig` documents it.
        stream_window: config.connection_window / 16,
        connection_window: config.connection_window,
        send_window: config.connection_window.into(),
        bidi_streams: config.streams.into(),
        uni_streams: 0,
        initial_mtu: MTU_FLOOR,
        mtu_max: config.mtu_max,
        socket_buffer: config.socket_buffer,
        idle: config.idle_timeout,
        keep_alive: Some(config.keep_alive),
    }
}

/// The records that are stored, one for each key: made before, so that no arm pays for them. Their value is
/// the same for all, as in the arms of bare quinn.
#[derive(Clone, Debug)]
pub(crate) struct Items(Arc<[(Key, Bytes)]>);

impl Items {
    fn new() -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        Self((0..KEYS).map(|_| (Key::from_bytes(rng.random()), Bytes::from_static(&[7; VALUE]))).collect())
    }

    /// The `n`-th record, in turn.
    fn get(&self, n: u64) -> (Key, Bytes) {
        self.0[n as usize % KEYS].clone()
    }
}

/// A mesh whose first node makes all the calls.
#[derive(Debug)]
pub(crate) struct Rig {
    mesh: LocalMesh,
    items: Items,
}

impl Rig {
    /// `nodes` nodes; with no more than k + 1 of them, all but the caller are the replicas of every key.
    pub(crate) async fn start(nodes: usize) -> Self {
        let mesh = LocalMesh::builder().nodes(nodes).config(config()).spawn().await.expect("a mesh");
        let rig = Self { mesh, items: Items::new() };
        let (key, value) = rig.items.get(0);
        let receipt = rig.caller().dht().store(key, value).ack(Ack::All).await.expect("a store");
        assert_eq!(receipt.acks(), nodes - 1, "{receipt:?}");
        rig
    }

    pub(crate) fn caller(&self) -> Node {
        self.mesh.node(0).clone()
    }

    /// The other node of a mesh of two.
    pub(crate) fn peer(&self) -> &Node {
        self.mesh.node(1)
    }

    /// Stores `iters` records, each with a call of its own, `in_flight` at a time.
    pub(crate) async fn store(&self, in_flight: u64, iters: u64) -> Duration {
        timed(in_flight, iters, |task, share| {
            let (node, items) = (self.caller(), self.items.clone());
            async move {
                for call in 0..share {
                    let (key, value) = items.get(call * in_flight + task);
                    node.dht().store(key, value).ack(Ack::All).await.expect("every replica has it");
                }
            }
        })
        .await
    }

    /// Stores `iters` batches of `batch` records, `in_flight` at a time.
    pub(crate) async fn store_many(&self, batch: u64, in_flight: u64, iters: u64) -> Duration {
        timed(in_flight, iters, |task, share| {
            let (node, items) = (self.caller(), self.items.clone());
            async move {
                for call in 0..share {
                    let first = (call * in_flight + task) * batch;
                    let records = (first..first + batch).map(|n| items.get(n));
                    let receipts = node.dht().store_many(records).ack(Ack::All).await.expect("sent");
                    assert_eq!(receipts.iter().filter(|receipt| receipt.is_met()).count() as u64, batch);
                }
            }
        })
        .await
    }

    /// Stores `iters` records the way `client` does, `in_flight` at a time.
    pub(crate) async fn baseline(
        &self,
        client: &Arc<baseline::Client>,
        in_flight: u64,
        iters: u64,
    ) -> Duration {
        timed(in_flight, iters, |task, share| {
            let (client, items) = (Arc::clone(client), self.items.clone());
            async move {
                for call in 0..share {
                    let (key, value) = items.get(call * in_flight + task);
                    client.store(key, value).await.expect("every replica has it");
                }
            }
        })
        .await
    }

    /// Takes and gives back `iters` leases of the warm connection, `in_flight` tasks at a time.
    pub(crate) async fn lease(&self, in_flight: u64, iters: u64) -> Duration {
        timed(in_flight, iters, |_, share| {
            let (node, peer) = (self.caller(), self.peer().id());
            async move {
                for _ in 0..share {
                    drop(node.pool().lease(peer, Duration::from_secs(1)).await.expect("a warm connection"));
                }
            }
        })
        .await
    }
}

/// A node that finds what only its one peer holds.
#[derive(Debug)]
pub(crate) struct Finder {
    mesh: LocalMesh,
    caller: Node,
    items: Items,
}

impl Finder {
    /// The publisher stores every record on the peer and leaves before the caller joins, so nothing is
    /// found on this side of the wire.
    pub(crate) async fn start() -> Self {
        let mesh = LocalMesh::builder().nodes(2).config(config()).spawn().await.expect("a mesh");
        let items = Items::new();
        let (publisher, peer) = (mesh.node(1), mesh.node(0));
        let receipts = publisher.dht().store_many(items.0.iter().cloned()).ack(Ack::All).await.expect("sent");
        assert!(receipts.iter().all(foveola::Receipt::is_met), "the peer holds every record");
        publisher.shutdown().await;
        let caller = Node::builder().config(config()).seed(SEED).bootstrap([peer.peer_addr()]);
        let caller = caller.spawn().await.expect("a node");
        Self { mesh, caller, items }
    }

    /// Finds `iters` records, `in_flight` at a time.
    pub(crate) async fn find(&self, in_flight: u64, iters: u64) -> Duration {
        timed(in_flight, iters, |task, share| {
            let (node, items) = (self.caller.clone(), self.items.clone());
            async move {
                for call in 0..share {
                    find(&node, &items, call * in_flight + task).await;
                }
            }
        })
        .await
    }

    /// How long each of `iters` finds took, one at a time, in ascending order.
    pub(crate) async fn latencies(&self, iters: u64) -> Vec<Duration> {
        let (node, items) = (self.caller.clone(), self.items.clone());
        let caller = tokio::spawn(async move {
            let mut took = Vec::new();
            for call in 0..iters {
                let start = Instant::now();
                find(&node, &items, call).await;
                took.push(start.elapsed());
            }
            took.sort_unstable();
            took
        });
        caller.await.expect("caller")
    }
}

async fn find(node: &Node, items: &Items, n: u64) {
    let (key, value) = items.get(n);
    let found = node.dht().find_value(key).await.expect("the peer answers");
    assert!(found.len() == 1 && found[0].value == value, "{found:?}");
}

/// The time that `iters` calls take on `in_flight` tasks, each of which makes one after the other.
async fn timed<F>(in_flight: u64, iters: u64, caller: impl FnMut(u64, u64) -> F) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    let start = Instant::now();
    spread(in_flight, iters, caller).await;
    start.elapsed()
}
