//! Keeping records where they belong: copies for nodes that are new among the k closest to a key, rounds in
//! which a copy is sent to all of them again, own publications that are sent again, and the hand-over of a
//! node that leaves.
//!
//! One task looks a few times a minute, or a second, at what is to be done and does it at a pace that leaves
//! the bandwidth to others. Who sends what to whom is planned in [`crate::dht::replication`]; when a record is
//! due is known to the store and to the log. A copy that gets lost is not sent again: the next round heals it.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lru::LruCache;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::outgoing::{Deliveries, Outgoing, Parcel};
use super::{DhtService, RECORD_KINDS, SHARDS, lock};
use crate::dht::pace::Pace;
use crate::dht::replication::Neighbourhood;
use crate::dht::store::Held;
use crate::id::{Key, NodeId};
use crate::runtime;
use crate::wire;

/// Nodes that came, and as many that went, of which the task has yet to hear; more are left to the rounds.
const CHANGES_MAX: usize = 256;
/// Peers whose process is told from the one before it; beyond them, the one heard of longest ago is forgotten.
const BOOTS_MAX: usize = 16_384;
/// Keys that are planned for without letting others work.
const KEYS_AT_ONCE: usize = 64;
/// Records of one shard that are taken up at a time.
const DUE_BUDGET: usize = 256;
/// A look at everything that is held is followed by a pause of so many times its length.
const REST: u32 = 4;

/// Who has come and gone since the task last looked.
#[derive(Debug)]
pub(super) struct Changes {
    came: Vec<NodeId>,
    lost: Vec<NodeId>,
    /// The process of every peer that is there; one that restarted has come with an empty store.
    boots: LruCache<NodeId, u64>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { came: Vec::new(), lost: Vec::new(), boots: LruCache::unbounded() }
    }
}

impl Changes {
    /// A peer has completed its handshake in the process `boot`. If nothing is held that it could be `owed`,
    /// what comes later is not either: whoever brings that finds the peer there.
    pub(super) fn connected(&mut self, peer: NodeId, boot: u64, owed: bool) {
        if self.boots.put(peer, boot) != Some(boot) {
            if self.boots.len() > BOOTS_MAX {
                self.boots.pop_lru();
            }
            self.lost.retain(|other| *other != peer);
            if owed {
                note(&mut self.came, peer);
            }
        }
    }

    /// Whether a peer that serves has completed its handshake, and is not known to have gone since.
    pub(super) fn is_here(&self, peer: &NodeId) -> bool {
        self.boots.contains(peer)
    }

    /// A peer has left or cannot be reached.
    pub(super) fn gone(&mut self, peer: &NodeId) {
        if self.boots.pop(peer).is_some() {
            self.came.retain(|other| other != peer);
            note(&mut self.lost, *peer);
        }
    }

    fn take(&mut self) -> (Vec<NodeId>, Vec<NodeId>) {
        (std::mem::take(&mut self.came), std::mem::take(&mut self.lost))
    }
}

fn note(nodes: &mut Vec<NodeId>, node: NodeId) {
    if nodes.len() < CHANGES_MAX && !nodes.contains(&node) {
        nodes.push(node);
    }
}

impl DhtService {
    /// Starts the task that keeps records where they belong, until the service is gone.
    pub(super) fn start_replication(self: &Arc<Self>, seed: u64) {
        let service = Arc::downgrade(self);
        let settle = self.config.replication.settle;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let pace = Mutex::new(Pace::new(runtime::now(), self.config.replication.bytes_per_second));
        self.tasks.spawn(async move {
            let mut rest = Duration::ZERO;
            loop {
                let wait = settle.mul_f64(rng.random_range(0.75..1.25)).max(rest);
                tokio::time::sleep_until(runtime::after(wait).into()).await;
                let Some(service) = service.upgrade().filter(|service| !service.is_closing()) else { return };
                rest = service.replicate(&pace).await;
            }
        });
    }

    /// Does what is to be done; returns how long to wait at least before the next time.
    async fn replicate(self: &Arc<Self>, pace: &Mutex<Pace>) -> Duration {
        let mut out = Outgoing::new(self);
        let (came, lost) = lock(&self.changes).take();
        let start = runtime::now();
        if !came.is_empty() || !lost.is_empty() {
            self.rearrange(&came, &lost, &mut out, pace).await;
        }
        let took = runtime::now().saturating_duration_since(start);
        for shard in 0..SHARDS {
            self.send_due(shard, &mut out, pace).await;
            self.republish(shard, &mut out, pace).await;
        }
        out.flush(Some(pace)).await;
        out.arrived().await;
        took * REST
    }

    /// Copies that others have taken over from this node, and copies that they have not.
    pub(crate) fn replicated(&self) -> (u64, u64) {
        let Deliveries { applied, failed } = &*self.deliveries;
        (applied.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
    }

    /// Gives everything that this node holds to those who take its place, before it leaves; for at most
    /// `patience`. What is not sent by then counts as not replicated.
    pub(crate) async fn hand_over(self: &Arc<Self>, patience: Duration) {
        if !self.config.serves || self.held().0 == 0 {
            return;
        }
        let (mut out, mut left) = (Outgoing::new(self), self.held().0);
        let work = async {
            for shard in 0..SHARDS {
                for key in self.keys(shard) {
                    let heir = self.heir(&key).await;
                    for parcel in self.copies(&key) {
                        left = left.saturating_sub(1);
                        if let Some(heir) = heir {
                            out.push(heir, &parcel, None).await;
                        }
                    }
                }
                // What was gathered is on its way, should the time run out.
                out.flush(None).await;
            }
            out.arrived().await;
        };
        if tokio::time::timeout_at(runtime::after(patience).into(), work).await.is_err() {
            let unsent = out.unsent() + u64::try_from(left).unwrap_or(u64::MAX);
            self.deliveries.failed.fetch_add(unsent, Ordering::Relaxed);
        }
    }

    /// The replicas of `key`, or the members closest to it when this node is too busy to search for them.
    async fn replicas_or_nearest(self: &Arc<Self>, key: &Key) -> Arc<[NodeId]> {
        match self.replicas(*key, self.lookup_deadline()).await {
            Some((set, _)) => set.nodes,
            None => self.nearest(key).into(),
        }
    }

    /// Who takes the place of this node at `key` when it leaves.
    async fn heir(self: &Arc<Self>, key: &Key) -> Option<NodeId> {
        self.exactly_around(key, |around| around.heir()).await
    }

    /// To whom a copy under `key` is sent when its time has come.
    async fn round(self: &Arc<Self>, key: &Key) -> Vec<NodeId> {
        let known = self.around(key, 0, |around| around.is_close().then(|| around.round().to_vec()));
        match known {
            Some(receivers) => receivers,
            None => self.exactly_around(key, |around| around.round().to_vec()).await,
        }
    }

    /// What `plan` says of the neighbourhood of `key`, which is searched for unless it is known.
    async fn exactly_around<T>(self: &Arc<Self>, key: &Key, plan: impl FnOnce(Neighbourhood<'_>) -> T) -> T {
        let mut others = self.replicas_or_nearest(key).await.to_vec();
        others.sort_unstable_by_key(|node| node.distance(key));
        plan(Neighbourhood { own: self.local, key: *key, k: self.config.k, others: &others })
    }

    /// The keys that one shard holds something under.
    fn keys(&self, shard: usize) -> Vec<Key> {
        let mut keys = Vec::new();
        let list = |key: &Key| {
            keys.push(*key);
            false
        };
        lock(&self.shards[shard]).select(runtime::now(), list, |_| {});
        keys
    }

    /// Sends copies of all records that are held to those who should have them after `came` nodes have come
    /// and `lost` have gone.
    async fn rearrange(&self, came: &[NodeId], lost: &[NodeId], out: &mut Outgoing, pace: &Mutex<Pace>) {
        for shard in 0..SHARDS {
            for keys in self.keys(shard).chunks(KEYS_AT_ONCE) {
                for key in keys {
                    let receivers = self.around(key, came.len(), |around| around.receivers(came, lost));
                    if receivers.is_empty() {
                        continue;
                    }
                    for parcel in self.copies(key) {
                        for to in &receivers {
                            out.push(*to, &parcel, Some(pace)).await;
                        }
                    }
                }
                tokio::task::yield_now().await;
            }
        }
    }

    /// What `plan` says of the neighbourhood of `key`, after `came` nodes have come.
    fn around<T>(&self, key: &Key, came: usize, plan: impl FnOnce(Neighbourhood<'_>) -> T) -> T {
        let k = self.config.k;
        let mut others = Vec::new();
        lock(&self.members).around(runtime::now(), key, k + 1 + came, &mut others);
        plan(Neighbourhood { own: self.local, key: *key, k, others: &others })
    }

    /// Copies of what this node holds under `key`.
    fn copies(&self, key: &Key) -> Vec<Arc<Parcel>> {
        let now = runtime::now();
        let mut parcels = Vec::new();
        let shard = self.shard(key);
        for kind in RECORD_KINDS {
            shard.find(now, key, kind, None, |found| {
                let wire::Found { publisher, seq, ttl_ms, kind, flags, proof, value } = found;
                let record = wire::Record { key: *key, seq, ttl_ms, kind, flags, proof, value };
                parcels.push(Parcel::new(now, publisher, &record));
                ControlFlow::Continue(())
            });
        }
        parcels
    }

    /// Sends records of one shard whose time has come to the other replicas: as many as one turn allows, so
    /// that what comes and goes meanwhile has its turn as well.
    async fn send_due(self: &Arc<Self>, shard: usize, out: &mut Outgoing, pace: &Mutex<Pace>) {
        let (now, mut due) = (runtime::now(), Vec::new());
        let gather = |Held { publisher, record, .. }: Held<'_>| {
            due.push((record.key, Parcel::new(now, publisher, &record)));
        };
        lock(&self.shards[shard]).due(now, DUE_BUDGET, gather);
        for (key, parcel) in due {
            for to in self.round(&key).await {
                out.push(to, &parcel, Some(pace)).await;
            }
        }
    }

    /// Sends own publications of one shard again whose time has come, likewise.
    async fn republish(self: &Arc<Self>, shard: usize, out: &mut Outgoing, pace: &Mutex<Pace>) {
        let (now, mut due) = (runtime::now(), Vec::new());
        lock(&self.log[shard]).due(now, DUE_BUDGET, |key, own| {
            let ttl_ms = u32::try_from(own.ttl.as_millis()).unwrap_or(u32::MAX);
            let (seq, kind, flags, proof, value) = (own.seq, own.kind, own.flags, own.proof, own.value);
            let record = wire::Record { key: *key, seq, ttl_ms, kind, flags, proof, value };
            due.push((*key, Parcel::new(now, self.local, &record)));
        });
        for (key, parcel) in due {
            for to in self.replicas_or_nearest(&key).await.iter() {
                out.push(*to, &parcel, Some(pace)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_comes_makes_nobody_come_again_who_was_heard_of_lately() {
        let peer = |n: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            NodeId::from_bytes(id)
        };
        let mut changes = Changes::default();
        (0..=BOOTS_MAX).for_each(|n| changes.connected(peer(n), 1, true));
        changes.take();
        assert!(!changes.is_here(&peer(0)) && (1..=BOOTS_MAX).all(|n| changes.is_here(&peer(n))));
        changes.connected(peer(1), 1, true);
        assert_eq!(changes.take(), (vec![], vec![]), "it was there before");
    }

    #[test]
    fn who_comes_while_nothing_is_held_is_owed_nothing() {
        let [first, second] = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
        let mut changes = Changes::default();
        changes.connected(first, 1, false);
        changes.connected(second, 1, true);
        assert!(changes.is_here(&first) && changes.is_here(&second));
        assert_eq!(changes.take(), (vec![second], vec![]));
        changes.connected(first, 1, true);
        assert_eq!(changes.take(), (vec![], vec![]), "it was there before");
        changes.connected(first, 2, true);
        assert_eq!(changes.take(), (vec![first], vec![]), "it has restarted with an empty store");
    }
}
