//! Who belongs to the mesh, as far as this node knows: the routing table, who fails to answer, and how large
//! the mesh has been.
//!
//! A peer becomes a member by a completed handshake with a node that serves, never by hearsay. A member
//! that cannot be reached and that nobody would replace stays, because it may be this node that is cut off:
//! after a partition nobody else would know whom to connect to. Others come before it for a while.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ack::{self, LargestSeen};
use super::table::{Insert, Table};
use crate::id::{Key, NodeId};

/// How long a member that could not be reached is used after all others; then it is tried again: 10 s.
pub const AVOIDED: Duration = Duration::from_secs(10);

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
    /// Members that could not be reached, and until when others come first.
    avoided: BTreeMap<NodeId, Instant>,
    /// The replica set of every key while the table holds no more than k nodes, by table version.
    all: Option<(u64, ReplicaSet)>,
}

impl<T> Members<T> {
    /// Nobody yet, around `own`, with buckets and replica sets of `k`; 0 counts as 1.
    pub fn new(own: NodeId, k: usize) -> Self {
        let k = k.max(1);
        Self {
            k,
            table: Table::new(own, k),
            largest: LargestSeen::new(),
            avoided: BTreeMap::new(),
            all: None,
        }
    }

    /// The routing table.
    pub fn table(&self) -> &Table<T> {
        &self.table
    }

    /// The size of buckets and replica sets.
    pub fn k(&self) -> usize {
        self.k
    }

    /// A peer that serves has completed its handshake, seen at `ip`.
    pub fn connected(&mut self, now: Instant, peer: NodeId, ip: IpAddr, info: T) -> Insert {
        self.avoided.remove(&peer);
        let insert = self.table.insert(now, peer, ip, info);
        self.largest.observe(now, self.table.len());
        insert
    }

    /// A peer has said goodbye or does not serve (any more): others take its place.
    pub fn left(&mut self, now: Instant, peer: &NodeId) {
        self.avoided.remove(peer);
        if self.table.remove(peer) {
            self.largest.observe(now, self.table.len());
        }
    }

    /// No address of the peer answered: one that waits for its place takes it, or others come first for
    /// [`AVOIDED`].
    pub fn unreachable(&mut self, now: Instant, peer: &NodeId) {
        self.table.evict(peer);
        self.avoided.retain(|_, until| now < *until);
        if self.table.contains(peer) {
            self.avoided.insert(*peer, now + AVOIDED);
        } else {
            self.avoided.remove(peer);
        }
        self.largest.observe(now, self.table.len());
    }

    /// A peer has given a sign of life. Returns whether it is a member.
    pub fn confirm(&mut self, now: Instant, peer: &NodeId) -> bool {
        self.avoided.remove(peer);
        self.table.confirm(now, peer)
    }

    /// The members closest to `key`, at most `n`, closest first, but those that could not be reached lately
    /// last.
    pub fn closest(&self, now: Instant, key: &Key, n: usize) -> Vec<NodeId> {
        let spare = self.avoided.len();
        let mut nodes = Vec::with_capacity((n + spare).min(self.table.len()));
        self.table.closest(key, n + spare, &mut nodes);
        if spare > 0 {
            nodes.sort_by_key(|node| self.avoided.get(node).is_some_and(|until| now < *until));
            nodes.truncate(n);
        }
        nodes
    }

    /// The nodes that should hold the records under `key`, if all nodes around it are known.
    pub fn replicas(&mut self, _now: Instant, _key: &Key) -> Cover {
        Cover::Unknown
    }

    /// The replica set of `key` as far as the table knows it, whoever else there is.
    pub fn nearest(&mut self, now: Instant, key: &Key) -> ReplicaSet {
        let version = self.table.version();
        if let Some((cached, set)) = &self.all
            && *cached == version
        {
            return set.clone();
        }
        let others = self.table.len();
        let largest = self.largest.largest(now);
        let target = ack::target(self.k, others, largest);
        let set = ReplicaSet { nodes: self.closest(now, key, self.k).into(), target };
        // A target that only memory holds up sinks with time, so it is not cached.
        if others <= self.k && largest <= others {
            self.all = Some((version, set.clone()));
        }
        set
    }

    /// Whether `set` is handed out for all keys, because there are no more than k nodes.
    pub fn is_everyone(&self, set: &ReplicaSet) -> bool {
        self.all.as_ref().is_some_and(|(_, all)| Arc::ptr_eq(&all.nodes, &set.nodes))
    }
}
