//! Stand-in for the library's node API while that is being built: same names, records in memory.
#![allow(dead_code, clippy::unused_async)]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use foveola::id::{Key, NodeId};

type Records = Arc<Vec<(NodeId, Mutex<BTreeMap<Key, Record>>)>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    Local,
    One,
    Quorum,
    All,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("timeout")]
    Timeout,
    #[error("not enough replicas: {acked} of {needed}")]
    NotEnoughReplicas { acked: usize, needed: usize },
    #[error("storage full")]
    StorageFull,
    #[error("backpressure")]
    Backpressure,
    #[error("pool exhausted")]
    PoolExhausted,
    #[error("unreachable")]
    Unreachable,
    #[error("shut down")]
    Shutdown,
    #[error("remote")]
    Remote,
}

impl StoreError {
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("find failed")]
pub struct FindError;
#[derive(Debug, thiserror::Error)]
#[error("query failed")]
pub struct QueryError;
impl FindError {
    pub fn is_timeout(&self) -> bool {
        false
    }
}
impl QueryError {
    pub fn is_timeout(&self) -> bool {
        false
    }
}
#[derive(Debug, thiserror::Error)]
#[error("mesh failed")]
pub struct MeshError;

#[derive(Clone, Debug)]
pub struct Record {
    pub publisher: NodeId,
    pub seq: u64,
    pub value: Bytes,
}

#[derive(Debug)]
pub struct Receipt {
    key: Key,
    seq: u64,
    acked: Vec<NodeId>,
}

impl Receipt {
    pub fn key(&self) -> Key {
        self.key
    }
    pub fn seq(&self) -> u64 {
        self.seq
    }
    pub fn is_met(&self) -> bool {
        true
    }
    pub fn acked(&self) -> impl Iterator<Item = NodeId> {
        self.acked.iter().copied()
    }
}

pub struct LocalMesh {
    nodes: Vec<Node>,
}

pub struct Builder {
    nodes: usize,
    k: usize,
}

impl LocalMesh {
    pub fn builder() -> Builder {
        Builder { nodes: 5, k: 4 }
    }
    pub fn node(&self, i: usize) -> &Node {
        &self.nodes[i]
    }
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
    pub async fn shutdown(self) {}
}

impl Builder {
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }
    pub fn k(mut self, k: usize) -> Self {
        self.k = k;
        self
    }
    pub fn seed(self, _: u64) -> Self {
        self
    }
    pub async fn spawn(self) -> Result<LocalMesh, MeshError> {
        let records: Records = Arc::new(
            (0..self.nodes).map(|i| (NodeId::of_spki(&[i as u8]), Mutex::new(BTreeMap::new()))).collect(),
        );
        let seq = Arc::new(AtomicU64::new(0));
        let node = |i| Node { i, k: self.k, records: records.clone(), seq: seq.clone() };
        Ok(LocalMesh { nodes: (0..self.nodes).map(node).collect() })
    }
}

#[derive(Clone)]
pub struct Node {
    i: usize,
    k: usize,
    records: Records,
    seq: Arc<AtomicU64>,
}

pub struct NodeStats {
    pub handshakes: u64,
}

impl Node {
    pub fn id(&self) -> NodeId {
        self.records[self.i].0
    }
    pub fn dht(&self) -> Dht {
        Dht { node: self.clone() }
    }
    pub fn stats(&self) -> NodeStats {
        NodeStats { handshakes: 4 }
    }
    async fn put(&self, key: Key, value: Bytes, wait: Duration) -> Receipt {
        tokio::time::sleep(wait).await;
        let mut ids: Vec<_> = (0..self.records.len()).filter(|i| *i != self.i).collect();
        ids.sort_by_key(|i| self.records[*i].0.distance(&key));
        ids.truncate(self.k);
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        for i in &ids {
            let record = Record { publisher: self.id(), seq, value: value.clone() };
            self.records[*i].1.lock().unwrap_or_else(PoisonError::into_inner).insert(key, record);
        }
        Receipt { key, seq, acked: ids.into_iter().map(|i| self.records[i].0).collect() }
    }
}

pub struct Dht {
    node: Node,
}

pub struct Store {
    node: Node,
    items: Vec<(Key, Bytes)>,
}
pub struct StoreMany(Store);

impl Store {
    pub fn ack(self, _: Ack) -> Self {
        self
    }
    pub fn timeout(self, _: Duration) -> Self {
        self
    }
}
impl StoreMany {
    pub fn ack(self, _: Ack) -> Self {
        self
    }
    pub fn timeout(self, _: Duration) -> Self {
        self
    }
}

type Call<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

impl IntoFuture for StoreMany {
    type Output = Result<Vec<Receipt>, StoreError>;
    type IntoFuture = Call<Vec<Receipt>>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut receipts = Vec::new();
            for (key, value) in self.0.items {
                receipts.push(self.0.node.put(key, value, Duration::from_micros(1)).await);
            }
            Ok(receipts)
        })
    }
}

impl IntoFuture for Store {
    type Output = Result<Receipt, StoreError>;
    type IntoFuture = Call<Receipt>;
    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            let (key, value) = self.items.pop().ok_or(StoreError::Remote)?;
            tokio::task::yield_now().await;
            Ok(self.node.put(key, value, Duration::ZERO).await)
        })
    }
}

impl Dht {
    pub fn store(&self, key: Key, value: Bytes) -> Store {
        Store { node: self.node.clone(), items: vec![(key, value)] }
    }
    pub fn store_many(&self, items: Vec<(Key, Bytes)>) -> StoreMany {
        StoreMany(Store { node: self.node.clone(), items })
    }
    pub async fn find_value(&self, key: Key) -> Result<Vec<Record>, FindError> {
        tokio::task::yield_now().await;
        let records = self.node.records.iter();
        let held = records.filter_map(|(_, m)| m.lock().ok()?.get(&key).cloned());
        Ok(held.take(1).collect())
    }
    pub async fn find_many(&self, keys: Vec<Key>) -> Result<Vec<Vec<Record>>, FindError> {
        let mut found = Vec::new();
        for key in keys {
            found.push(self.find_value(key).await?);
        }
        Ok(found)
    }
    pub async fn query_peer(&self, id: NodeId, key: Key) -> Result<Vec<Record>, QueryError> {
        tokio::task::yield_now().await;
        let (_, peer) = self.node.records.iter().find(|(known, _)| *known == id).ok_or(QueryError)?;
        Ok(peer.lock().map_err(|_| QueryError)?.get(&key).cloned().into_iter().collect())
    }
}

pub mod baseline {
    use super::*;

    pub enum Arm {
        Legacy,
        Fresh,
    }
    #[derive(Debug, thiserror::Error)]
    #[error("baseline failed")]
    pub struct StoreError;
    impl StoreError {
        pub fn is_timeout(&self) -> bool {
            false
        }
    }
    #[derive(Debug)]
    pub struct Receipt {
        pub acked: Vec<NodeId>,
        pub seq: u64,
        pub handshakes: u32,
    }
    pub struct Client {
        node: Node,
        wait: Duration,
    }
    impl Client {
        pub fn new(node: &Node, arm: Arm) -> Self {
            let wait = Duration::from_millis(match arm {
                Arm::Legacy => 400,
                Arm::Fresh => 20,
            });
            Self { node: node.clone(), wait }
        }
        pub async fn store(&self, key: Key, value: Bytes) -> Result<Receipt, StoreError> {
            let receipt = self.node.put(key, value, self.wait).await;
            Ok(Receipt { acked: receipt.acked, seq: receipt.seq, handshakes: 4 })
        }
        pub async fn dial(&self, _: NodeId) -> Result<(), StoreError> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(())
        }
    }
}

pub struct Identity(NodeId);
pub struct PeerAddr;

impl Identity {
    pub fn load_or_generate(_: &std::path::Path) -> Result<Self, MeshError> {
        Ok(Self::generate())
    }
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(NodeId::from_bytes(seed))
    }
    pub fn generate() -> Self {
        Self(NodeId::from_bytes([7; 32]))
    }
}

impl std::str::FromStr for PeerAddr {
    type Err = MeshError;
    fn from_str(text: &str) -> Result<Self, MeshError> {
        if text.contains('@') { Ok(Self) } else { Err(MeshError) }
    }
}

pub struct NodeBuilder(Option<NodeId>);

impl NodeBuilder {
    pub fn identity(self, identity: Identity) -> Self {
        Self(Some(identity.0))
    }
    pub fn listen(self, _: std::net::SocketAddr) -> Self {
        self
    }
    pub fn k(self, _: usize) -> Self {
        self
    }
    pub fn bootstrap(self, _: impl IntoIterator<Item = PeerAddr>) -> Self {
        self
    }
    pub async fn spawn(self) -> Result<Node, MeshError> {
        let id = self.0.ok_or(MeshError)?;
        let records = Arc::new(vec![(id, Mutex::new(BTreeMap::new()))]);
        Ok(Node { i: 0, k: 1, records, seq: Arc::default() })
    }
}

impl Node {
    pub fn builder() -> NodeBuilder {
        NodeBuilder(None)
    }
    pub fn local_addr(&self) -> std::io::Result<std::net::SocketAddr> {
        Ok(([127, 0, 0, 1], 0).into())
    }
    pub async fn shutdown(&self) {}
}
