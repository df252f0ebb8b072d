//! Who belongs to the mesh, as far as this node knows: the routing table, who fails to answer, the regions
//! that are known wholly, and how large the mesh has been.
//!
//! A peer becomes a member by a completed handshake with a node that serves, never by hearsay. A member
//! that cannot be reached gives its place to one that waits for it. If nobody does, it stays for
//! [`FORGOTTEN`], because it may be this node that is cut off: after a partition nobody else would know whom
//! to connect to. Meanwhile it is *silent*: it is handed to nobody, counts for nothing, and is asked again
//! ever more rarely.

mod crowd;
mod silent;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::crowd::Crowd;
use self::silent::Silent;
use super::ack::{self, LargestSeen};
use super::lookup::{ALPHA_MAX, Outcome};
use super::region::{Region, Regions};
use super::table::{Insert, Refused, Table};
use crate::id::{Key, NodeId};

/// How long a member that could not be reached is used after all others; then it is tried again: 10 s,
/// doubled with each failure.
pub const AVOIDED: Duration = Duration::from_secs(10);

/// The longest that a silent member is not asked: 5 minutes.
pub const AVOIDED_MAX: Duration = Duration::from_secs(300);

/// How long a silent member is kept: 1 hour.
pub const FORGOTTEN: Duration = Duration::from_secs(3_600);

/// The nodes that should hold a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSet {
    /// The nodes known, closest first unless the set is the same for all keys.
    pub nodes: Arc<[NodeId]>,
    /// How many replicas a record should have, which may be more.
    pub target: usize,
}

/// What is known of the replicas of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cover {
    /// All nodes around the key are known.
    Known {
        /// The closest of them.
        set: ReplicaSet,
        /// Whether it is time to look again, while the set is still used.
        stale: bool,
    },
    /// Only a lookup can tell.
    Unknown,
}

/// The members of the mesh, with a `T` beside each.
#[derive(Debug, Clone)]
pub struct Members<T> {
    k: usize,
    table: Table<T>,
    largest: LargestSeen,
    /// Always part of the table.
    silent: Silent,
    regions: Regions,
    /// Who is in no region because its network has enough members.
    crowd: Crowd,
    /// Where the nodes closest to a key are put in order.
    near: Vec<NodeId>,
}

impl<T> Members<T> {
    /// Nobody yet, around `own`, with buckets and replica sets of `k`; 0 counts as 1.
    pub fn new(own: NodeId, k: usize) -> Self {
        let k = k.max(1);
        Self {
            k,
            table: Table::new(own, k),
            largest: LargestSeen::new(),
            silent: Silent::default(),
            regions: Regions::new(k),
            crowd: Crowd::default(),
            near: Vec::new(),
        }
    }

    /// The routing table, silent members included.
    pub fn table(&self) -> &Table<T> {
        &self.table
    }

    /// The size of buckets and replica sets.
    pub fn k(&self) -> usize {
        self.k
    }

    /// How many members answer, as far as is known.
    pub fn answering(&self) -> usize {
        self.table.len() - self.silent.len()
    }

    /// Whether `peer` is a member that does not answer.
    pub fn is_silent(&self, peer: &NodeId) -> bool {
        self.silent.contains(peer)
    }

    /// The silent members that may be asked again.
    pub fn silent_due(&self, now: Instant) -> impl Iterator<Item = &NodeId> {
        self.silent.due(now)
    }

    /// A peer that serves has completed its handshake, seen at `ip`.
    ///
    /// A silent member of a full bucket has to make room at once.
    pub fn connected(&mut self, now: Instant, peer: NodeId, ip: IpAddr, info: T) -> Insert {
        self.silent.remove(&peer);
        let mut insert = self.table.insert(now, peer, ip, info);
        match insert {
            Insert::Refused(Refused::Own) => {}
            Insert::Refused(Refused::BucketNetwork | Refused::TableNetwork) => {
                self.crowd.add(peer);
                self.regions.remove(&peer);
            }
            _ => {
                self.crowd.remove(&peer);
                self.regions.add(peer);
            }
        }
        if let Insert::Full { ping: Some(oldest) } = insert
            && self.silent.contains(&oldest)
            && let Some(next) = self.table.evict(&oldest)
        {
            self.silent.remove(&oldest);
            insert = if next == peer { Insert::Added } else { Insert::Full { ping: None } };
        }
        self.observe(now, 0);
        insert
    }

    /// A peer has said goodbye or does not serve (any more): others take its place.
    pub fn left(&mut self, now: Instant, peer: &NodeId) {
        self.forget(peer);
        self.regions.remove(peer);
        self.observe(now, 0);
    }

    /// No address of the peer answered, or it did not: one that waits for its place takes it. Otherwise it
    /// is silent from now on, and others come first for [`AVOIDED`].
    pub fn unreachable(&mut self, now: Instant, peer: &NodeId) {
        self.regions.remove(peer);
        if self.table.evict(peer).is_some() {
            self.silent.remove(peer);
        } else if self.table.contains(peer) && self.silent.note(now, *peer) {
            self.forget(peer);
        }
        self.observe(now, 0);
    }

    /// A peer that serves has given a sign of life. Returns whether it is a member.
    pub fn confirm(&mut self, now: Instant, peer: &NodeId) -> bool {
        if !self.table.confirm(now, peer) {
            return false;
        }
        self.silent.remove(peer);
        self.regions.add(*peer);
        self.observe(now, 0);
        true
    }

    fn forget(&mut self, peer: &NodeId) {
        self.table.remove(peer);
        self.silent.remove(peer);
    }

    /// Notes how many nodes there are: those that answer, or as many as a search has found.
    fn observe(&mut self, now: Instant, found: usize) {
        self.largest.observe(now, self.answering().max(found));
    }

    /// The members closest to `key`, at most `n`, closest first, but those that could not be reached lately
    /// last: whom to ask.
    pub fn closest(&self, now: Instant, key: &Key, n: usize) -> Vec<NodeId> {
        let spare = self.silent.len();
        let mut nodes = Vec::with_capacity((n + spare).min(self.table.len()));
        self.table.closest(key, n + spare, &mut nodes);
        if spare > 0 {
            nodes.sort_by_key(|node| self.silent.is_avoided(now, node));
            nodes.truncate(n);
        }
        nodes
    }

    /// Replaces what is in `out` by the members closest to `key` that are not silent, at most `n`, closest
    /// first: whom to tell others of.
    pub fn closest_answering(&self, key: &Key, n: usize, out: &mut Vec<NodeId>) {
        self.table.closest(key, n + self.silent.len(), out);
        out.retain(|node| !self.silent.contains(node));
        out.truncate(n);
    }

    /// Whom a search for `key` begins with: more than are looked for, so that somebody is left to be asked when
    /// the closest have all died. Silent members only if there are no others.
    pub fn search_from(&self, now: Instant, key: &Key) -> Vec<NodeId> {
        let mut nodes = Vec::new();
        self.closest_answering(key, 2 * self.k + ALPHA_MAX, &mut nodes);
        if nodes.is_empty() { self.closest(now, key, self.k) } else { nodes }
    }

    /// Puts behind fewer than k nodes the members that did not answer in time, unless they are known to be
    /// silent. Where everybody is needed, whether they can be had is for the operation to find out; and no
    /// operation waits for a search because one of few is slow.
    pub fn filled(&self, mut outcome: Outcome) -> Outcome {
        if outcome.failed > 0 && outcome.nodes.len() < self.k {
            let mut near = Vec::new();
            self.closest_answering(&outcome.target, self.k, &mut near);
            near.retain(|node| !outcome.nodes.contains(node));
            near.truncate(self.k - outcome.nodes.len());
            outcome.nodes.append(&mut near);
        }
        outcome
    }

    /// Replaces what is in `out` by the nodes closest to `key` that are there, at most `n`, closest first, as
    /// exactly as it is known: from the region of the key if that is known and has as many, else from the
    /// table, whose buckets may lack some.
    pub fn around(&mut self, now: Instant, key: &Key, n: usize, out: &mut Vec<NodeId>) {
        match self.regions.get(now, key) {
            Some(region) if region.nodes().len() >= n || region.is_whole() => region.closest(key, n, out),
            _ => self.closest_answering(key, n, out),
        }
    }

    /// The nodes that should hold the records under `key`, if all nodes around it are known.
    pub fn replicas(&mut self, now: Instant, key: &Key) -> Cover {
        let largest = self.largest.largest(now);
        let answering = self.answering();
        let Some(region) = self.regions.get(now, key) else { return Cover::Unknown };
        let known = region.nodes().len();
        let nodes = if known <= self.k {
            region.all()
        } else {
            region.closest(key, self.k, &mut self.near);
            Arc::from(&self.near[..])
        };
        let target = ack::target(self.k, answering.max(known), largest);
        Cover::Known { set: ReplicaSet { nodes, target }, stale: region.is_stale(now) }
    }

    /// The replica set of a key that was looked up: who answered.
    pub fn found(&mut self, now: Instant, outcome: &Outcome) -> ReplicaSet {
        for node in outcome.nodes.iter().filter(|node| !self.crowd.contains(node)) {
            self.regions.add(*node);
        }
        self.observe(now, outcome.nodes.len());
        let others = self.answering().max(outcome.nodes.len());
        let target = ack::target(self.k, others, self.largest.largest(now));
        ReplicaSet { nodes: Arc::from(&outcome.nodes[..]), target }
    }

    /// A survey has come to its end: the keys in the region need no lookup until it is too old.
    ///
    /// Who shares a network with too many members is left out, as of the table: whoever holds one network must
    /// not fill the neighbourhood of a key.
    pub fn learn(&mut self, now: Instant, mut region: Region) {
        self.observe(now, region.nodes().len());
        region.retain(|node| !self.crowd.contains(node));
        self.regions.learn(now, region);
    }

    /// Whether `set` is handed out for all keys, because there are no more than k nodes.
    pub fn is_everyone(&self, set: &ReplicaSet) -> bool {
        self.regions.whole().is_some_and(|region| region.gave(&set.nodes))
    }

    /// Whether `node` is one of the k nodes closest to `key`, of those that this node knows, itself
    /// included: one that is responsible for the key.
    pub fn is_close(&mut self, now: Instant, key: &Key, node: &NodeId) -> bool {
        self.is_among(now, key, node, self.k)
    }

    /// Whether `node` is one of the 2k nodes closest to `key`, of those that this node knows, itself
    /// included. One that was responsible until closer ones came may still hand over what it holds.
    pub fn may_vouch(&mut self, now: Instant, key: &Key, node: &NodeId) -> bool {
        self.is_among(now, key, node, 2 * self.k)
    }

    fn is_among(&mut self, now: Instant, key: &Key, node: &NodeId, n: usize) -> bool {
        match self.regions.get(now, key) {
            // Beyond the region there may be others, which count only if it does not fill the places.
            Some(region) if region.nodes().len() >= n || region.is_whole() => {
                region.closest(key, n, &mut self.near);
            }
            _ => {
                let mut near = std::mem::take(&mut self.near);
                self.closest_answering(key, n, &mut near);
                self.near = near;
            }
        }
        let distance = node.distance(key);
        let own = usize::from(self.table.own().distance(key) < distance);
        own + self.near.iter().filter(|other| other.distance(key) < distance).count() < n
    }

    /// Bytes of memory that all of this takes, without what the `T`s own elsewhere.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.table.memory()
            + self.silent.memory()
            + self.regions.memory()
            + self.crowd.memory()
            + self.near.capacity() * size_of::<NodeId>()
    }
}
