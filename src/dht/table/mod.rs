//! The routing table of Kademlia: who is near, kept small and kept honest.
//!
//! Peers fall into buckets by the length of the prefix that they share with the own id. A bucket holds at
//! most k of them, least recently seen first; a newcomer to a full bucket waits in its replacement cache while
//! the oldest member is asked whether it is still there. Old members that answer stay, so a flood of new ids
//! cannot push out what has proved to last; and few members may share a network, so that whoever holds one
//! network cannot fill a bucket (Maymounkov and Mazières, *Kademlia*, 2002, sections 2.2 and 4.1).

mod bucket;
mod closest;
mod network;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use self::bucket::Bucket;
use self::network::Network;
use crate::id::{Key, NodeId};

/// Members of one bucket that may share a /24 (IPv4) or /48 (IPv6): 2.
pub const BUCKET_NETWORK_MAX: usize = 2;

/// Members of the table that may share a /24 (IPv4) or /48 (IPv6): 10.
pub const TABLE_NETWORK_MAX: usize = 10;

/// Peers that wait for a place in one bucket: 10.
pub const REPLACEMENTS_MAX: usize = 10;

/// How long a member that was named in [`Insert::Full`] has to answer before it is named again: 5 s.
pub const PING_WAIT: Duration = Duration::from_secs(5);

/// A member of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact<T> {
    /// Who it is.
    pub id: NodeId,
    /// The address that it was seen at. Peers cannot choose it freely, so diversity is counted by it.
    pub ip: IpAddr,
    /// When it was last heard of.
    pub seen: Instant,
    /// What the driver keeps beside it, such as the endpoints that it advertises.
    pub info: T,
}

/// What became of a peer that was offered to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insert {
    /// The peer is a new member.
    Added,
    /// The peer was a member and is now the most recently seen of its bucket.
    Updated,
    /// The bucket is full; the peer waits in its replacement cache.
    Full {
        /// The least recently seen member. The driver pings it and then calls [`Table::confirm`] or
        /// [`Table::evict`]. None while it has been asked less than [`PING_WAIT`] ago.
        ping: Option<NodeId>,
    },
    /// The peer cannot be a member.
    Refused(Refused),
}

/// Why a peer cannot be a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// It has the own id.
    Own,
    /// Its bucket has [`BUCKET_NETWORK_MAX`] members of its network.
    BucketNetwork,
    /// The table has [`TABLE_NETWORK_MAX`] members of its network.
    TableNetwork,
}

/// The routing table, with a `T` beside each member.
#[derive(Debug, Clone)]
pub struct Table<T> {
    own: NodeId,
    k: usize,
    /// The buckets that hold anything, by the bits that their members share with the own id.
    buckets: BTreeMap<u8, Bucket<T>>,
    /// Members by network, where that is limited.
    networks: BTreeMap<Network, usize>,
    len: usize,
    version: u64,
}

impl<T> Table<T> {
    /// An empty table around `own` with buckets of `k` members, [`K`](super::K) by default; 0 counts as 1.
    pub fn new(own: NodeId, k: usize) -> Self {
        Self { own, k: k.max(1), buckets: BTreeMap::new(), networks: BTreeMap::new(), len: 0, version: 0 }
    }

    /// The id that the table is built around.
    pub fn own(&self) -> &NodeId {
        &self.own
    }

    /// Offers a peer that has just been heard of, directly and verified, at `ip`.
    ///
    /// Loopback, private and link-local addresses are exempt from the limits on networks. A member that
    /// comes from another address must fit the limits there, or it is no longer one.
    pub fn insert(&mut self, now: Instant, peer: NodeId, ip: IpAddr, info: T) -> Insert {
        let Some(index) = self.index(&peer) else { return Insert::Refused(Refused::Own) };
        let member = self.take(index, &peer).is_some();
        if let Some(refused) = self.crowded(index, Network::of(ip)) {
            if member {
                self.fill(index);
            }
            return Insert::Refused(refused);
        }
        let bucket = self.buckets.entry(index).or_default();
        let contact = Contact { id: peer, ip, seen: now, info };
        if bucket.members.len() >= self.k {
            bucket.wait(contact);
            return Insert::Full { ping: bucket.ask(now) };
        }
        self.join(index, contact);
        if member {
            return Insert::Updated;
        }
        self.version += 1;
        Insert::Added
    }

    /// Notes that `peer` has answered: it is the most recently seen of its bucket and stays. Returns whether
    /// it is a member.
    pub fn confirm(&mut self, now: Instant, peer: &NodeId) -> bool {
        let Some(bucket) = self.bucket_mut(peer) else { return false };
        let Some(mut contact) = bucket.take(peer) else { return false };
        contact.seen = now;
        bucket.members.push(contact);
        true
    }

    /// Gives the place of a member that is dead to the peer that came last of those that wait for it and
    /// fit; returns that one. Without one the member stays, as the next to be asked: it may be this node
    /// that is cut off, and an empty table never heals.
    pub fn evict(&mut self, dead: &NodeId) -> Option<NodeId> {
        let index = self.index(dead)?;
        let contact = self.take(index, dead)?;
        let next = self.next(index);
        if next.is_none() {
            if let Some(network) = Network::of(contact.ip) {
                *self.networks.entry(network).or_default() += 1;
            }
            self.buckets.entry(index).or_default().keep(contact);
            self.len += 1;
            return None;
        }
        self.fill(index)
    }

    /// Removes a peer from the members and from those that wait, as one that leaves or is banned. Returns
    /// whether it was a member; its place is filled as by [`evict`](Self::evict).
    pub fn remove(&mut self, peer: &NodeId) -> bool {
        let Some(index) = self.index(peer) else { return false };
        if let Some(bucket) = self.buckets.get_mut(&index) {
            bucket.waiting.retain(|contact| contact.id != *peer);
        }
        let member = self.take(index, peer).is_some();
        if member {
            self.fill(index);
        }
        member
    }

    /// The member `peer`.
    pub fn get(&self, peer: &NodeId) -> Option<&Contact<T>> {
        let bucket = self.buckets.get(&self.index(peer)?)?;
        bucket.members.iter().find(|contact| contact.id == *peer)
    }

    /// Whether `peer` is a member.
    pub fn contains(&self, peer: &NodeId) -> bool {
        self.get(peer).is_some()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A number that rises whenever the set of members changes, for callers that cache by it.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The members, those that share the least with the own id first, in a bucket the least recently seen.
    pub fn iter(&self) -> impl Iterator<Item = &Contact<T>> {
        self.buckets.values().flat_map(|bucket| &bucket.members)
    }

    /// Replaces what is in `out` by the `n` members closest to `key`, or all if there are fewer, closest
    /// first.
    pub fn closest(&self, key: &Key, n: usize, out: &mut Vec<NodeId>) {
        closest::closest(&self.buckets, self.own.distance(key), key, n, out);
    }

    /// Bytes of memory that the buckets take, without what the `T`s own elsewhere.
    pub fn memory(&self) -> usize {
        let contacts = |bucket: &Bucket<T>| bucket.members.capacity() + bucket.waiting.capacity();
        let contacts: usize = self.buckets.values().map(contacts).sum();
        contacts * size_of::<Contact<T>>()
            + self.buckets.len() * size_of::<(u8, Bucket<T>)>()
            + self.networks.len() * size_of::<(Network, usize)>()
    }

    /// The bucket of `peer`: the bits that it shares with the own id. None for the own id.
    fn index(&self, peer: &NodeId) -> Option<u8> {
        u8::try_from(self.own.distance(&peer.to_key()).leading_zeros()).ok()
    }

    fn bucket_mut(&mut self, peer: &NodeId) -> Option<&mut Bucket<T>> {
        self.buckets.get_mut(&self.index(peer)?)
    }

    /// Takes `peer` out of the members of its bucket.
    fn take(&mut self, index: u8, peer: &NodeId) -> Option<Contact<T>> {
        let contact = self.buckets.get_mut(&index)?.take(peer)?;
        self.len -= 1;
        if let Some(network) = Network::of(contact.ip)
            && let Some(members) = self.networks.get_mut(&network)
        {
            *members -= 1;
            if *members == 0 {
                self.networks.remove(&network);
            }
        }
        Some(contact)
    }

    /// Makes `contact` a member of a bucket that has room for it.
    fn join(&mut self, index: u8, contact: Contact<T>) {
        if let Some(network) = Network::of(contact.ip) {
            *self.networks.entry(network).or_default() += 1;
        }
        let bucket = self.buckets.entry(index).or_default();
        bucket.waiting.retain(|waiting| waiting.id != contact.id);
        bucket::make_room(&mut bucket.members, self.k);
        bucket.members.push(contact);
        self.len += 1;
    }

    /// After a member has gone: gives its place to the last of those that wait and fit.
    fn fill(&mut self, index: u8) -> Option<NodeId> {
        self.version += 1;
        let next = self.next(index);
        let bucket = self.buckets.get_mut(&index)?;
        let Some(next) = next else {
            if bucket.members.is_empty() && bucket.waiting.is_empty() {
                self.buckets.remove(&index);
            }
            return None;
        };
        let contact = bucket.waiting.remove(next);
        let id = contact.id;
        self.join(index, contact);
        Some(id)
    }

    /// Which of those that wait is to become a member: the last that fits.
    fn next(&self, index: u8) -> Option<usize> {
        let fits = |contact: &Contact<T>| self.crowded(index, Network::of(contact.ip)).is_none();
        self.buckets.get(&index)?.waiting.iter().rposition(fits)
    }

    /// What speaks against another member of `network` in a bucket.
    fn crowded(&self, index: u8, network: Option<Network>) -> Option<Refused> {
        let network = network?;
        let in_table = self.networks.get(&network).copied().unwrap_or(0);
        if in_table == 0 {
            return None;
        }
        if in_table >= TABLE_NETWORK_MAX {
            return Some(Refused::TableNetwork);
        }
        let members = self.buckets.get(&index).map_or(&[][..], |bucket| &bucket.members);
        let in_bucket = members.iter().filter(|contact| Network::of(contact.ip) == Some(network)).count();
        (in_bucket >= BUCKET_NETWORK_MAX).then_some(Refused::BucketNetwork)
    }
}
