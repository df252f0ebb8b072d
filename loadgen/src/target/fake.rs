//! A target in memory, with faults on demand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use foveola::id::{Key, NodeId};

use super::{Held, Proof, Target};
use crate::errors::{Failure, Kind};

/// Three replicas that hold everything, unless told otherwise.
#[derive(Default)]
pub struct Fake {
    /// Each n-th store fails with `Backpressure`; 0: none.
    fail_every: u64,
    /// Each n-th store never ends; 0: none.
    hang_every: u64,
    stores: AtomicU64,
    /// Bit i: replica i was killed.
    killed: AtomicU64,
    replicas: [Mutex<BTreeMap<Key, Held>>; 3],
}

impl Fake {
    pub fn failing(every: u64) -> Self {
        Self { fail_every: every, ..Self::default() }
    }

    pub fn hanging(every: u64) -> Self {
        Self { hang_every: every, ..Self::default() }
    }

    pub fn target(self) -> (Arc<Self>, Target) {
        let fake = Arc::new(self);
        (fake.clone(), Target::Fake(fake))
    }

    pub fn id(&self, replica: usize) -> NodeId {
        NodeId::of_spki(&[replica as u8])
    }

    /// Kills one replica: it answers nobody any more.
    pub fn kill(&self, replica: usize) {
        self.killed.fetch_or(1 << replica, Ordering::Relaxed);
    }

    fn is_killed(&self, replica: usize) -> bool {
        self.killed.load(Ordering::Relaxed) >> replica & 1 == 1
    }

    pub fn is_alive(&self, node: &NodeId) -> bool {
        (0..3).all(|i| self.id(i) != *node || !self.is_killed(i))
    }

    /// Makes one replica forget one key, or change what it holds.
    pub fn spoil(&self, replica: usize, key: Key, to: Option<Held>) {
        let mut records = self.replicas[replica].lock().expect("no panic under the lock");
        match to {
            Some(held) => records.insert(key, held),
            None => records.remove(&key),
        };
    }

    pub async fn store(&self, key: Key, value: Bytes) -> Result<Proof, Failure> {
        let seq = self.stores.fetch_add(1, Ordering::Relaxed) + 1;
        tokio::task::yield_now().await;
        if self.hang_every > 0 && seq.is_multiple_of(self.hang_every) {
            std::future::pending::<()>().await;
        }
        if self.fail_every > 0 && seq.is_multiple_of(self.fail_every) {
            return Err(Failure::new(Kind::Backpressure, "queue full"));
        }
        for replica in &self.replicas {
            let mut records = replica.lock().expect("no panic under the lock");
            if records.get(&key).is_none_or(|held| held.seq < seq) {
                records.insert(key, Held { seq, value: value.clone() });
            }
        }
        Ok(Proof::Fake(key, seq, (0..3).map(|i| self.id(i)).collect()))
    }

    pub async fn store_many(&self, items: Vec<(Key, Bytes)>) -> Result<Vec<Proof>, Failure> {
        let mut proofs = Vec::with_capacity(items.len());
        for (key, value) in items {
            proofs.push(self.store(key, value).await?);
        }
        Ok(proofs)
    }

    pub fn find(&self, key: Key) -> Result<Bytes, Failure> {
        let held = self.held(self.id(0), key)?;
        held.map(|held| held.value).ok_or_else(|| Failure::new(Kind::NotFound, "none"))
    }

    pub fn find_many(&self, keys: Vec<Key>) -> Result<Vec<Bytes>, Failure> {
        keys.into_iter().map(|key| self.find(key)).collect()
    }

    pub fn held(&self, replica: NodeId, key: Key) -> Result<Option<Held>, Failure> {
        let place = (0..3).find(|i| self.id(*i) == replica);
        let place = place.filter(|place| !self.is_killed(*place));
        let place = place.ok_or_else(|| Failure::new(Kind::Connect, "no such replica"))?;
        Ok(self.replicas[place].lock().expect("no panic under the lock").get(&key).cloned())
    }
    /// What the first replica that is alive holds.
    pub fn read(&self, pick: u64, key: Key) -> (NodeId, Result<Option<Held>, Failure>) {
        let reader = NodeId::of_spki(&pick.to_le_bytes());
        match (0..3).find(|i| !self.is_killed(*i)) {
            Some(place) => (reader, self.held(self.id(place), key)),
            None => (reader, Ok(None)),
        }
    }
}
