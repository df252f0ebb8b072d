//! A mesh with the options of one plan: who makes which call, and the calls.

use std::future::IntoFuture as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foveola::baseline::Client;
use foveola::{Ack, Key, Node, NodeId, Record};

use super::{Counters, Held, Proof, Roster, Services, failures};
use crate::errors::{Failure, Kind};
use crate::plan::{Acks, Plan};

/// A mesh with the options of one plan.
pub struct MeshTarget {
    /// All nodes as they were when the target was made.
    ids: Vec<NodeId>,
    pub(super) writers: Vec<Node>,
    pub(super) readers: Vec<Node>,
    auditor: Node,
    pub(super) roster: Arc<Roster>,
    /// Whether the operations that are measured are those of the readers.
    reads: bool,
    /// Works through new connections; `None`: through the pool.
    client: Option<Client>,
    pub(super) services: Option<Services>,
    k: usize,
    pub(super) churned: bool,
    pub(super) seed: u64,
    ack: Ack,
    timeout: Duration,
}

impl MeshTarget {
    /// Of all `nodes`, `(writers, readers)` make the calls.
    pub(super) fn new(
        plan: &Plan,
        nodes: &[Node],
        (writers, readers): (Vec<Node>, Vec<Node>),
        client: Option<Client>,
        services: Option<Services>,
        auditor: Node,
        roster: Arc<Roster>,
    ) -> Self {
        Self {
            ids: nodes.iter().map(Node::id).collect(),
            writers,
            readers,
            auditor,
            roster,
            reads: plan.workload.reads(),
            client,
            services,
            k: plan.k,
            churned: plan.churn > 0.0,
            seed: plan.seed,
            ack: ack(plan.ack),
            timeout: plan.timeout,
        }
    }

    pub(super) fn writer_of(&self, key: &Key) -> usize {
        (last(key.as_bytes()) % self.writers.len() as u64) as usize
    }

    fn writer(&self, key: &Key) -> &Node {
        &self.writers[self.writer_of(key)]
    }

    pub(super) fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for node in if self.reads { &self.readers } else { &self.writers } {
            let stats = node.stats();
            sum.handshakes += stats.handshakes;
            sum.datagrams += stats.datagrams_sent;
            sum.send_calls += stats.send_calls;
            sum.lost_packets += stats.lost_packets;
            sum.lookups += stats.lookups;
            sum.queries += stats.lookup_queries;
            sum.hops += stats.lookup_hops;
            sum.calls.add_caller(&stats);
        }
        sum.calls.relay_hops = self.roster.relayed();
        sum
    }

    pub(super) async fn store(&self, key: Key, value: Bytes) -> Result<Proof, Failure> {
        match &self.client {
            None => {
                let writer = self.writer(&key);
                let receipt = writer.dht().store(key, value).ack(self.ack).timeout(self.timeout).await;
                let receipt = receipt.map_err(|error| failures::store(&error))?;
                Ok(Proof::Pooled(writer.id(), receipt))
            }
            Some(client) => {
                let receipt = self.within(client.store(key, value)).await?;
                receipt
                    .map(|receipt| Proof::Baseline(key, receipt))
                    .map_err(|error| failures::baseline(&error))
            }
        }
    }

    pub(super) async fn store_many(&self, items: Vec<(Key, Bytes)>) -> Result<Vec<Proof>, Failure> {
        let writer = items.first().map_or(&self.writers[0], |(key, _)| self.writer(key));
        let call = writer.dht().store_many(items).ack(self.ack).timeout(self.timeout);
        let receipts = call.await.map_err(|error| failures::store(&error))?;
        if let Some(unmet) = receipts.iter().find(|receipt| !receipt.is_met()) {
            return Err(failures::unmet(unmet));
        }
        Ok(receipts.into_iter().map(|receipt| Proof::Pooled(writer.id(), receipt)).collect())
    }

    pub(super) async fn find(&self, reader: usize, key: Key) -> Result<Bytes, Failure> {
        let call = self.readers[reader].dht().find_value(key).into_future();
        let records = self.within(call).await?.map_err(|e| failures::find(&e))?;
        let record = records.into_iter().next();
        record
            .map(|record| record.value)
            .ok_or_else(|| Failure::new(Kind::NotFound, "no record under the key"))
    }

    pub(super) async fn find_many(&self, reader: usize, keys: Vec<Key>) -> Result<Vec<Bytes>, Failure> {
        let call = self.readers[reader].dht().find_many(keys).into_future();
        let found = self.within(call).await?.map_err(|e| failures::find(&e))?;
        let first = found.into_iter().map(|records| records.into_iter().next().map(|record| record.value));
        first
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Failure::new(Kind::NotFound, "no record under a key of the batch"))
    }

    pub(super) async fn connect(&self, i: u64) -> Result<(), Failure> {
        let Some(client) = &self.client else {
            return Err(Failure::new(Kind::Connect, "the pool does not dial on demand"));
        };
        let peers = &self.ids[1..];
        let peer = peers[(i % peers.len() as u64) as usize];
        self.within(client.dial(peer)).await?.map_err(|error| failures::baseline(&error))
    }

    pub(super) async fn introduce(&self) {
        self.roster.introduce(&self.auditor).await;
    }

    pub(super) async fn held(
        &self,
        replica: NodeId,
        key: Key,
        publisher: NodeId,
    ) -> Result<Option<Held>, Failure> {
        let question = self.auditor.dht().query_peer(replica, key);
        let records = self.within(question.into_future()).await?.map_err(|e| failures::query(&e))?;
        Ok(of(publisher, records))
    }

    pub(super) async fn read(
        &self,
        pick: u64,
        key: Key,
        publisher: NodeId,
    ) -> (NodeId, Result<Option<Held>, Failure>) {
        let reader = self.roster.another(pick, &publisher);
        let find = reader.dht().find_value(key).from(publisher).quorum().into_future();
        let found = match self.within(find).await {
            Ok(found) => found.map(|records| of(publisher, records)).map_err(|e| failures::find(&e)),
            Err(late) => Err(late),
        };
        (reader.id(), found)
    }

    /// A node need not ask when it wrote the record or is one of the k nodes, other than the writer, closest
    /// to the key. Eight bytes of a distance tell nodes apart as well as all of it.
    pub(super) fn is_remote(&self, reader: &NodeId, key: &Key) -> bool {
        let writer = self.writer(key).id();
        let target = first(key.as_bytes());
        let far = |id: &NodeId| first(id.as_bytes()) ^ target;
        let own = far(reader);
        let closer = self.ids.iter().filter(|id| far(id) < own && **id != writer).count();
        *reader != writer && closer >= self.k
    }

    async fn within<T>(&self, call: impl Future<Output = T>) -> Result<T, Failure> {
        let late = |_| Failure::new(Kind::Timeout, format!("no answer within {:?}", self.timeout));
        tokio::time::timeout(self.timeout, call).await.map_err(late)
    }
}

/// The record of one publisher.
fn of(publisher: NodeId, records: Vec<Record>) -> Option<Held> {
    let own = records.into_iter().find(|record| record.publisher == publisher);
    own.map(|record| Held { seq: record.seq, value: record.value })
}

fn first(bytes: &[u8; 32]) -> u64 {
    bytes.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The end of a key, which says nothing about where it is stored.
fn last(bytes: &[u8; 32]) -> u64 {
    bytes.iter().skip(24).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

const fn ack(acks: Acks) -> Ack {
    match acks {
        Acks::Local => Ack::Local,
        Acks::One => Ack::One,
        Acks::Quorum => Ack::Quorum,
        Acks::All => Ack::All,
    }
}
