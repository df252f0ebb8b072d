//! What is loaded: the only module that knows the library's nodes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use foveola::baseline::{Arm, Client};
use foveola::dht::store::StoreLimits;
use foveola::mesh::LocalMesh;
use foveola::{Ack, Config, Identity, Key, Node, NodeId};

use crate::errors::{Failure, Kind};
use crate::node::NodeArgs;
use crate::plan::{Acks, Limits, Plan, Transport, Workload};

mod failures;
#[cfg(test)]
pub mod fake;
mod proof;

pub use proof::{Proof, Publisher};

/// A mesh in this process.
pub struct Mesh {
    mesh: LocalMesh,
    k: usize,
}

impl Mesh {
    /// Starts `nodes` nodes that know each other; `limits` raises what each holds and publishes.
    pub async fn start(nodes: usize, k: usize, seed: u64, limits: Option<Limits>) -> Result<Self> {
        let mut config = Config::default();
        config.k = k;
        if let Some(Limits { records, bytes }) = limits {
            let StoreLimits { key_records, .. } = config.store;
            let (publisher_records, publisher_bytes) = (records, bytes);
            config.store = StoreLimits { records, bytes, publisher_records, publisher_bytes, key_records };
            config.log.records = config.log.records.max(records);
            config.log.bytes = config.log.bytes.max(bytes);
        }
        let mesh = LocalMesh::builder().nodes(nodes).seed(seed).config(config).spawn().await;
        Ok(Self { mesh: mesh.context("the mesh did not form")?, k })
    }

    /// The mesh as `plan` uses it: node 0 writes, the last node reads.
    ///
    /// # Errors
    ///
    /// When the baseline has no socket.
    pub fn target(&self, plan: &Plan) -> Result<Target> {
        let nodes = self.mesh.nodes();
        let writer = self.mesh.node(0).clone();
        let reader = self.mesh.node(nodes.len() - 1).clone();
        let arm = match (plan.workload, plan.transport) {
            (Workload::Connect, _) | (_, Transport::Fresh) => Some(Arm::Fresh),
            (_, Transport::Legacy) => Some(Arm::Legacy),
            (_, Transport::Pooled) => None,
        };
        let client = arm.map(|arm| Client::new(&writer, arm)).transpose().context("the baseline")?;
        Ok(Target::Mesh(Arc::new(MeshTarget {
            ids: nodes.iter().map(Node::id).collect(),
            actor: if plan.workload.reads() { reader.clone() } else { writer.clone() },
            reader,
            writer,
            client,
            k: self.k,
            ack: ack(plan.ack),
            timeout: plan.timeout,
        })))
    }

    /// Stops every node.
    pub async fn shutdown(self) {
        self.mesh.shutdown().await;
    }
}

/// One node of its own process.
pub struct Single {
    node: Node,
}

impl Single {
    /// Starts the node and joins the mesh, if told where it is.
    pub async fn start(args: &NodeArgs) -> Result<Self> {
        let identity = match (&args.identity, args.seed) {
            (Some(path), _) => Identity::load_or_generate(path).context("the identity")?,
            (None, Some(seed)) => Identity::from_seed(&seed_bytes(seed)),
            (None, None) => Identity::generate(),
        };
        let bootstrap: Vec<foveola::addr::PeerAddr> = args
            .bootstrap
            .iter()
            .map(|addr| addr.parse())
            .collect::<Result<_, _>>()
            .context("--bootstrap")?;
        let mut config = Config::default();
        config.k = args.k;
        let builder =
            Node::builder().identity(identity).listen(args.listen).config(config).bootstrap(bootstrap);
        Ok(Self { node: builder.spawn().await.context("the node did not start")? })
    }

    pub fn id(&self) -> String {
        self.node.id().to_string()
    }

    pub fn addr(&self) -> SocketAddr {
        self.node.local_addr()
    }

    pub async fn shutdown(self) {
        self.node.shutdown().await;
    }
}

/// 32 bytes that depend on all of the seed.
fn seed_bytes(seed: u64) -> [u8; 32] {
    *Key::of_name(format!("loadgen/node/{seed}")).as_bytes()
}

/// A replica's answer about one key of one publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub seq: u64,
    pub value: Bytes,
}

/// What the node under load has counted since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Handshakes completed for its pool.
    pub handshakes: u64,
    pub datagrams: u64,
    pub send_calls: u64,
    pub lost_packets: u64,
}

impl Counters {
    /// What was counted after `before`.
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            handshakes: self.handshakes.saturating_sub(before.handshakes),
            datagrams: self.datagrams.saturating_sub(before.datagrams),
            send_calls: self.send_calls.saturating_sub(before.send_calls),
            lost_packets: self.lost_packets.saturating_sub(before.lost_packets),
        }
    }
}

/// Something that operations can be sent to.
#[derive(Clone)]
pub enum Target {
    Mesh(Arc<MeshTarget>),
    #[cfg(test)]
    Fake(Arc<fake::Fake>),
}

/// A mesh with the options of one plan.
pub struct MeshTarget {
    ids: Vec<NodeId>,
    writer: Node,
    reader: Node,
    /// The one of the two whose operations are measured.
    actor: Node,
    /// Works through new connections; `None`: through the pool.
    client: Option<Client>,
    k: usize,
    ack: Ack,
    timeout: Duration,
}

impl Target {
    pub async fn store(&self, key: Key, value: Bytes) -> Result<Proof, Failure> {
        match self {
            Self::Mesh(mesh) => mesh.store(key, value).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.store(key, value).await,
        }
    }

    /// Stores all items in one call; the receipts are in the order of the items.
    pub async fn store_many(&self, items: Vec<(Key, Bytes)>) -> Result<Vec<Proof>, Failure> {
        match self {
            Self::Mesh(mesh) => mesh.store_many(items).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.store_many(items).await,
        }
    }

    /// The value under each key. A key without one is a failure.
    pub async fn find_many(&self, keys: Vec<Key>) -> Result<Vec<Bytes>, Failure> {
        match self {
            Self::Mesh(mesh) => mesh.find_many(keys).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.find_many(keys),
        }
    }

    /// The value under the key. None is a failure.
    pub async fn find(&self, key: Key) -> Result<Bytes, Failure> {
        match self {
            Self::Mesh(mesh) => mesh.find(key).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.find(key),
        }
    }

    /// Opens a verified connection to one of the peers, in turn, and closes it.
    pub async fn connect(&self, i: u64) -> Result<(), Failure> {
        match self {
            Self::Mesh(mesh) => mesh.connect(i).await,
            #[cfg(test)]
            Self::Fake(_) => Ok(()),
        }
    }

    /// What `replica` itself, asked over the network, holds of `publisher` under `key`.
    pub async fn held(
        &self,
        replica: NodeId,
        key: Key,
        publisher: Publisher,
    ) -> Result<Option<Held>, Failure> {
        match self {
            Self::Mesh(mesh) => mesh.held(replica, key, publisher).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.held(replica, key),
        }
    }

    /// Whether the reader must ask others for what the writer stores under `key`.
    pub fn is_remote(&self, key: &Key) -> bool {
        match self {
            Self::Mesh(mesh) => mesh.is_remote(key),
            #[cfg(test)]
            Self::Fake(_) => true,
        }
    }

    /// What the node under load has counted; the baseline's own socket is not in it.
    pub fn counters(&self) -> Counters {
        match self {
            Self::Mesh(mesh) => {
                let stats = mesh.actor.stats();
                Counters {
                    handshakes: stats.handshakes,
                    datagrams: stats.datagrams_sent,
                    send_calls: stats.send_calls,
                    lost_packets: stats.lost_packets,
                }
            }
            #[cfg(test)]
            Self::Fake(_) => Counters::default(),
        }
    }

    /// A peer of the writer.
    pub fn a_peer(&self) -> NodeId {
        match self {
            Self::Mesh(mesh) => mesh.reader.id(),
            #[cfg(test)]
            Self::Fake(fake) => fake.id(0),
        }
    }
}

impl MeshTarget {
    async fn store(&self, key: Key, value: Bytes) -> Result<Proof, Failure> {
        match &self.client {
            None => {
                let call = self.writer.dht().store(key, value).ack(self.ack).timeout(self.timeout);
                call.await.map(Proof::Pooled).map_err(|error| failures::store(&error))
            }
            Some(client) => {
                let receipt = self.within(client.store(key, value)).await?;
                receipt
                    .map(|receipt| Proof::Baseline(key, receipt))
                    .map_err(|error| failures::baseline(&error))
            }
        }
    }

    async fn store_many(&self, items: Vec<(Key, Bytes)>) -> Result<Vec<Proof>, Failure> {
        let call = self.writer.dht().store_many(items).ack(self.ack).timeout(self.timeout);
        let receipts = call.await.map_err(|error| failures::store(&error))?;
        if let Some(unmet) = receipts.iter().find(|receipt| !receipt.is_met()) {
            return Err(failures::unmet(unmet));
        }
        Ok(receipts.into_iter().map(Proof::Pooled).collect())
    }

    async fn find(&self, key: Key) -> Result<Bytes, Failure> {
        let records = self
            .within(self.reader.dht().find_value(key).into_future())
            .await?
            .map_err(|e| failures::find(&e))?;
        let record = records.into_iter().next();
        record
            .map(|record| record.value)
            .ok_or_else(|| Failure::new(Kind::NotFound, "no record under the key"))
    }

    async fn find_many(&self, keys: Vec<Key>) -> Result<Vec<Bytes>, Failure> {
        let found = self
            .within(self.reader.dht().find_many(keys).into_future())
            .await?
            .map_err(|e| failures::find(&e))?;
        let first = found.into_iter().map(|records| records.into_iter().next().map(|record| record.value));
        first
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Failure::new(Kind::NotFound, "no record under a key of the batch"))
    }

    async fn connect(&self, i: u64) -> Result<(), Failure> {
        let Some(client) = &self.client else {
            return Err(Failure::new(Kind::Connect, "the pool does not dial on demand"));
        };
        let peers = &self.ids[1..];
        let peer = peers[(i % peers.len() as u64) as usize];
        self.within(client.dial(peer)).await?.map_err(|error| failures::baseline(&error))
    }

    async fn held(&self, replica: NodeId, key: Key, publisher: Publisher) -> Result<Option<Held>, Failure> {
        let publisher = match publisher {
            Publisher::Writer => self.writer.id(),
            Publisher::Client(id) => id,
        };
        let question = self.writer.dht().query_peer(replica, key);
        let records = self.within(question.into_future()).await?.map_err(|e| failures::query(&e))?;
        let own = records.into_iter().find(|record| record.publisher == publisher);
        Ok(own.map(|record| Held { seq: record.seq, value: record.value }))
    }

    /// The reader holds a copy when it is one of the k nodes, other than the writer, closest to the key.
    fn is_remote(&self, key: &Key) -> bool {
        let (writer, reader) = (self.writer.id(), self.reader.id());
        let own = reader.distance(key);
        let closer = self.ids.iter().filter(|id| **id != writer && id.distance(key) < own).count();
        reader != writer && closer >= self.k
    }

    async fn within<T>(&self, call: impl Future<Output = T>) -> Result<T, Failure> {
        let late = |_| Failure::new(Kind::Timeout, format!("no answer within {:?}", self.timeout));
        tokio::time::timeout(self.timeout, call).await.map_err(late)
    }
}

const fn ack(acks: Acks) -> Ack {
    match acks {
        Acks::Local => Ack::Local,
        Acks::One => Ack::One,
        Acks::Quorum => Ack::Quorum,
        Acks::All => Ack::All,
    }
}
