//! What is loaded: the only module that knows the library's nodes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use foveola::id::{Key, NodeId};

use crate::errors::{Failure, Kind};
use crate::node::NodeArgs;
use crate::plan::{Acks, Plan, Transport};
use crate::sheet::baseline::{self, Arm, Client};
use crate::sheet::{Ack, FindError, Identity, LocalMesh, Node, PeerAddr, QueryError, Receipt, StoreError};

#[cfg(test)]
pub mod fake;

/// A mesh in this process.
pub struct Mesh {
    mesh: LocalMesh,
    k: usize,
}

impl Mesh {
    /// Starts `nodes` nodes that know each other.
    pub async fn start(nodes: usize, k: usize, seed: u64) -> Result<Self> {
        let mesh = LocalMesh::builder().nodes(nodes).k(k).seed(seed).spawn().await;
        Ok(Self { mesh: mesh.context("the mesh did not form")?, k })
    }

    /// The mesh as `plan` uses it: node 0 writes, the last node reads.
    pub fn target(&self, plan: &Plan) -> Target {
        let nodes = self.mesh.nodes();
        let writer = self.mesh.node(0).clone();
        let client = match plan.transport {
            Transport::Pooled => None,
            Transport::Fresh => Some(Client::new(&writer, Arm::Fresh)),
            Transport::Legacy => Some(Client::new(&writer, Arm::Legacy)),
        };
        Target::Mesh(Arc::new(MeshTarget {
            ids: nodes.iter().map(Node::id).collect(),
            reader: self.mesh.node(nodes.len() - 1).clone(),
            dialer: Client::new(&writer, Arm::Fresh),
            writer,
            client,
            k: self.k,
            ack: ack(plan.ack),
            timeout: plan.timeout,
        }))
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
            (None, Some(seed)) => Identity::from_seed(seed_bytes(seed)),
            (None, None) => Identity::generate(),
        };
        let bootstrap: Vec<PeerAddr> = args
            .bootstrap
            .iter()
            .map(|addr| addr.parse())
            .collect::<Result<_, _>>()
            .context("--bootstrap")?;
        let builder = Node::builder().identity(identity).listen(args.listen).k(args.k).bootstrap(bootstrap);
        Ok(Self { node: builder.spawn().await.context("the node did not start")? })
    }

    pub fn id(&self) -> String {
        self.node.id().to_string()
    }

    pub fn addr(&self) -> Result<SocketAddr> {
        Ok(self.node.local_addr()?)
    }

    pub async fn shutdown(self) {
        self.node.shutdown().await;
    }
}

/// 32 bytes that depend on all of the seed.
fn seed_bytes(seed: u64) -> [u8; 32] {
    *Key::of_name(format!("loadgen/node/{seed}")).as_bytes()
}

/// A replica's answer about one key of the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub seq: u64,
    pub value: Bytes,
}

/// A receipt.
#[derive(Debug)]
pub enum Proof {
    Pooled(Receipt),
    Baseline(Key, baseline::Receipt),
    #[cfg(test)]
    Fake(Key, u64, Vec<NodeId>),
}

impl Proof {
    pub fn key(&self) -> Key {
        match self {
            Self::Pooled(receipt) => receipt.key(),
            Self::Baseline(key, _) => *key,
            #[cfg(test)]
            Self::Fake(key, ..) => *key,
        }
    }

    pub fn seq(&self) -> u64 {
        match self {
            Self::Pooled(receipt) => receipt.seq(),
            Self::Baseline(_, receipt) => receipt.seq,
            #[cfg(test)]
            Self::Fake(_, seq, _) => *seq,
        }
    }

    /// The replicas that acknowledged.
    pub fn replicas(&self) -> Vec<NodeId> {
        match self {
            Self::Pooled(receipt) => receipt.acked().collect(),
            Self::Baseline(_, receipt) => receipt.acked.clone(),
            #[cfg(test)]
            Self::Fake(_, _, replicas) => replicas.clone(),
        }
    }

    /// Connections that were opened for this operation alone.
    pub fn handshakes(&self) -> u64 {
        match self {
            Self::Baseline(_, receipt) => u64::from(receipt.handshakes),
            _ => 0,
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
    /// Stores through new connections; `None`: through the pool.
    client: Option<Client>,
    dialer: Client,
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

    /// What `replica` itself, asked over the network, holds of the writer under `key`.
    pub async fn held(&self, replica: NodeId, key: Key) -> Result<Option<Held>, Failure> {
        match self {
            Self::Mesh(mesh) => mesh.held(replica, key).await,
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

    /// Handshakes that the writer has completed through its pool.
    pub fn handshakes(&self) -> u64 {
        match self {
            Self::Mesh(mesh) => mesh.writer.stats().handshakes,
            #[cfg(test)]
            Self::Fake(_) => 0,
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
                call.await.map(Proof::Pooled).map_err(|error| store_failure(&error))
            }
            Some(client) => {
                let receipt = self.within(client.store(key, value)).await?;
                receipt.map(|receipt| Proof::Baseline(key, receipt)).map_err(|error| baseline_failure(&error))
            }
        }
    }

    async fn store_many(&self, items: Vec<(Key, Bytes)>) -> Result<Vec<Proof>, Failure> {
        let call = self.writer.dht().store_many(items).ack(self.ack).timeout(self.timeout);
        let receipts = call.await.map_err(|error| store_failure(&error))?;
        if let Some(unmet) = receipts.iter().find(|receipt| !receipt.is_met()) {
            let acks = unmet.acked().count();
            return Err(Failure::new(Kind::NotEnoughReplicas, format!("{acks} replicas acknowledged")));
        }
        Ok(receipts.into_iter().map(Proof::Pooled).collect())
    }

    async fn find(&self, key: Key) -> Result<Bytes, Failure> {
        let records = self.within(self.reader.dht().find_value(key)).await?.map_err(|e| find_failure(&e))?;
        let record = records.into_iter().next();
        record
            .map(|record| record.value)
            .ok_or_else(|| Failure::new(Kind::NotFound, "no record under the key"))
    }

    async fn find_many(&self, keys: Vec<Key>) -> Result<Vec<Bytes>, Failure> {
        let found = self.within(self.reader.dht().find_many(keys)).await?.map_err(|e| find_failure(&e))?;
        let first = found.into_iter().map(|records| records.into_iter().next().map(|record| record.value));
        first
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Failure::new(Kind::NotFound, "no record under a key of the batch"))
    }

    async fn connect(&self, i: u64) -> Result<(), Failure> {
        let peers = &self.ids[1..];
        let peer = peers[(i % peers.len() as u64) as usize];
        self.within(self.dialer.dial(peer)).await?.map_err(|error| baseline_failure(&error))
    }

    async fn held(&self, replica: NodeId, key: Key) -> Result<Option<Held>, Failure> {
        let dht = self.writer.dht();
        let records = self.within(dht.query_peer(replica, key)).await?.map_err(|e| query_failure(&e))?;
        let own = records.into_iter().find(|record| record.publisher == self.writer.id());
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

fn store_failure(error: &StoreError) -> Failure {
    let kind = match error {
        error if error.is_timeout() => Kind::Timeout,
        StoreError::NotEnoughReplicas { .. } => Kind::NotEnoughReplicas,
        StoreError::StorageFull => Kind::StorageFull,
        StoreError::Backpressure => Kind::Backpressure,
        StoreError::PoolExhausted => Kind::Exhausted,
        StoreError::Unreachable => Kind::Connect,
        StoreError::Shutdown => Kind::Cancelled,
        _ => Kind::Remote,
    };
    Failure::new(kind, error)
}

fn find_failure(error: &FindError) -> Failure {
    Failure::new(if error.is_timeout() { Kind::Timeout } else { Kind::Remote }, error)
}

fn query_failure(error: &QueryError) -> Failure {
    Failure::new(if error.is_timeout() { Kind::Timeout } else { Kind::Remote }, error)
}

fn baseline_failure(error: &baseline::StoreError) -> Failure {
    Failure::new(if error.is_timeout() { Kind::Timeout } else { Kind::Connect }, error)
}
