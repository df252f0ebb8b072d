//! What is loaded: the only module that knows the library's nodes.

use std::sync::Arc;

use bytes::Bytes;
use foveola::{Key, NodeId};

use crate::errors::{Failure, Kind};
use crate::workload::mix;

mod calls;
mod failures;
#[cfg(test)]
pub mod fake;
mod mesh;
mod proof;
mod services;
mod single;

pub use calls::MeshTarget;
pub use mesh::{Churned, Mesh, Roster};
pub use proof::Proof;
pub use services::{CallCounters, Services};
pub use single::Single;

/// A replica's answer about one key of one publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub seq: u64,
    pub value: Bytes,
}

/// What the nodes that make the calls have counted since their start, all together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Handshakes completed for its pool.
    pub handshakes: u64,
    pub datagrams: u64,
    pub send_calls: u64,
    pub lost_packets: u64,
    /// Lookups, the queries that they sent, and the sum of their hops.
    pub lookups: u64,
    pub queries: u64,
    pub hops: u64,
    pub calls: CallCounters,
}

impl Counters {
    /// What was counted after `before`.
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            handshakes: self.handshakes.saturating_sub(before.handshakes),
            datagrams: self.datagrams.saturating_sub(before.datagrams),
            send_calls: self.send_calls.saturating_sub(before.send_calls),
            lost_packets: self.lost_packets.saturating_sub(before.lost_packets),
            lookups: self.lookups.saturating_sub(before.lookups),
            queries: self.queries.saturating_sub(before.queries),
            hops: self.hops.saturating_sub(before.hops),
            calls: self.calls.since(&before.calls),
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

impl Target {
    /// Stores one item, by the caller whose key it is.
    pub async fn store(&self, key: Key, value: Bytes) -> Result<Proof, Failure> {
        match self {
            Self::Mesh(mesh) => mesh.store(key, value).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.store(key, value).await,
        }
    }

    /// Stores all items in one call, by the caller of the first; the receipts are in the order of the items.
    pub async fn store_many(&self, items: Vec<(Key, Bytes)>) -> Result<Vec<Proof>, Failure> {
        match self {
            Self::Mesh(mesh) => mesh.store_many(items).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.store_many(items).await,
        }
    }

    /// The value under each key, by caller `reader`. A key without one is a failure.
    pub async fn find_many(&self, reader: usize, keys: Vec<Key>) -> Result<Vec<Bytes>, Failure> {
        match self {
            Self::Mesh(mesh) => mesh.find_many(reader, keys).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.find_many(keys),
        }
    }

    /// The value under the key, by caller `reader`. None is a failure.
    pub async fn find(&self, reader: usize, key: Key) -> Result<Bytes, Failure> {
        match self {
            Self::Mesh(mesh) => mesh.find(reader, key).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.find(key),
        }
    }

    /// Offers service number `i`.
    pub async fn advertise(&self, i: u64) -> Result<(), Failure> {
        self.services()?.advertise(i).await
    }

    /// Finds who offers the service of call `i`.
    pub async fn discover(&self, i: u64) -> Result<(), Failure> {
        self.services()?.discover(i).await
    }

    /// Whether the DHT knows anybody who offers the service of call `i`.
    pub async fn is_known(&self, i: u64) -> Result<bool, Failure> {
        self.services()?.is_known(i).await
    }

    /// Makes call `i`, whose arguments bear its number.
    pub async fn call(&self, i: u64, args: Bytes) -> Result<(), Failure> {
        self.services()?.call(i, args).await
    }

    /// The services of the plan; a plan without any is a failure.
    pub fn services(&self) -> Result<&Services, Failure> {
        let services = match self {
            Self::Mesh(mesh) => mesh.services.as_ref(),
            #[cfg(test)]
            Self::Fake(_) => None,
        };
        services.ok_or_else(|| Failure::new(Kind::NoProvider, "the plan has no services"))
    }

    /// Opens a verified connection to one of the peers, in turn, and closes it.
    pub async fn connect(&self, i: u64) -> Result<(), Failure> {
        match self {
            Self::Mesh(mesh) => mesh.connect(i).await,
            #[cfg(test)]
            Self::Fake(_) => Ok(()),
        }
    }

    /// Makes sure that replicas can be asked for what they hold.
    pub async fn introduce(&self) {
        match self {
            Self::Mesh(mesh) => mesh.introduce().await,
            #[cfg(test)]
            Self::Fake(_) => {}
        }
    }

    /// What `replica` itself, asked over the network by a node outside the mesh, holds of `publisher` under
    /// `key`.
    pub async fn held(&self, replica: NodeId, key: Key, publisher: NodeId) -> Result<Option<Held>, Failure> {
        match self {
            Self::Mesh(mesh) => mesh.held(replica, key, publisher).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.held(replica, key),
        }
    }

    /// What a node other than the publisher finds of `publisher` under `key` with a quorum, and which node that was: the
    /// same for the same `pick` and the same mesh.
    pub async fn read(
        &self,
        pick: u64,
        key: Key,
        publisher: NodeId,
    ) -> (NodeId, Result<Option<Held>, Failure>) {
        match self {
            Self::Mesh(mesh) => mesh.read(pick, key, publisher).await,
            #[cfg(test)]
            Self::Fake(fake) => fake.read(pick, key),
        }
    }

    /// Whether nodes may have come since the first record was stored.
    pub fn is_churned(&self) -> bool {
        match self {
            Self::Mesh(mesh) => mesh.churned,
            #[cfg(test)]
            Self::Fake(_) => false,
        }
    }

    /// Whether the node has not been killed.
    pub fn is_alive(&self, node: &NodeId) -> bool {
        match self {
            Self::Mesh(mesh) => mesh.roster.is_alive(node),
            #[cfg(test)]
            Self::Fake(fake) => fake.is_alive(node),
        }
    }

    /// The caller that stores what is under `key`.
    pub fn writer_of(&self, key: &Key) -> usize {
        match self {
            Self::Mesh(mesh) => mesh.writer_of(key),
            #[cfg(test)]
            Self::Fake(_) => 0,
        }
    }

    /// The caller that makes find `i`.
    pub fn reader(&self, i: u64) -> usize {
        match self {
            Self::Mesh(mesh) => (mix(mesh.seed, i) % mesh.readers.len() as u64) as usize,
            #[cfg(test)]
            Self::Fake(_) => 0,
        }
    }

    /// Whether `reader` must ask others for what is stored under `key`.
    pub fn is_remote(&self, reader: usize, key: &Key) -> bool {
        match self {
            Self::Mesh(mesh) => mesh.is_remote(&mesh.readers[reader].id(), key),
            #[cfg(test)]
            Self::Fake(_) => true,
        }
    }

    /// Whether there is a reader that must ask others for what is stored under `key`.
    pub fn has_reader(&self, key: &Key) -> bool {
        match self {
            Self::Mesh(mesh) => mesh.readers.iter().any(|reader| mesh.is_remote(&reader.id(), key)),
            #[cfg(test)]
            Self::Fake(_) => true,
        }
    }

    /// What the nodes under load have counted; the baseline's own socket is not in it.
    pub fn counters(&self) -> Counters {
        match self {
            Self::Mesh(mesh) => mesh.counters(),
            #[cfg(test)]
            Self::Fake(_) => Counters::default(),
        }
    }

    /// A writer and a peer of it, for a claim that does not hold.
    pub fn planted(&self) -> (NodeId, NodeId) {
        match self {
            Self::Mesh(mesh) => {
                let writer = mesh.writers[0].id();
                (writer, mesh.roster.another(0, &writer).id())
            }
            #[cfg(test)]
            Self::Fake(fake) => (fake.id(0), fake.id(0)),
        }
    }
}
