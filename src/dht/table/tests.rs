//! The routing table beside a model: one flat list of members and one of those that wait, in the order in
//! which they were last heard of.

#![expect(clippy::disallowed_methods, reason = "tests read the clock and build what the library may not")]

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

const K: usize = 3;

fn seeded(seed: u64) -> ProptestConfig {
    ProptestConfig {
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::with_cases(100)
    }
}

/// Networks 0 to 3 are public and have many hosts; the rest is private.
fn ip(n: u8) -> IpAddr {
    let network = n % 6;
    if network < 4 { IpAddr::from([192, 0, network, n]) } else { IpAddr::from([10, 0, 0, n]) }
}

fn same_network(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[0] == 192 && a.octets()[..3] == b.octets()[..3],
        _ => false,
    }
}

/// An id that shares `prefix` bits with the id of zeros, told apart by `n`.
fn id(prefix: u8, n: u8) -> NodeId {
    let mut bytes = [0; 32];
    bytes[usize::from(prefix / 8)] = 0x80 >> (prefix % 8);
    bytes[31] = n;
    NodeId::from_bytes(bytes)
}

const OWN: NodeId = NodeId::from_bytes([0; 32]);

#[derive(Debug, Clone)]
enum Step {
    Insert(NodeId, IpAddr),
    Confirm(NodeId),
    Evict(NodeId),
    Remove(NodeId),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let peer = || (prop_oneof![Just(0u8), Just(1), Just(9)], 0..12u8).prop_map(|(prefix, n)| id(prefix, n));
    prop_oneof![
        12 => (peer(), any::<u8>()).prop_map(|(peer, n)| Step::Insert(peer, ip(n))),
        1 => Just(Step::Insert(OWN, ip(4))),
        2 => peer().prop_map(Step::Confirm),
        2 => peer().prop_map(Step::Evict),
        1 => peer().prop_map(Step::Remove),
        1 => (0..4u64).prop_map(Step::Wait),
    ]
}

fn prefix(peer: &NodeId) -> u32 {
    OWN.distance(&peer.to_key()).leading_zeros()
}

type Peer = (NodeId, IpAddr);

#[derive(Default)]
struct Model {
    members: Vec<Peer>,
    waiting: Vec<Peer>,
    /// The last question of each bucket.
    asked: Vec<(u32, NodeId, u64)>,
}

impl Model {
    fn bucket(list: &[Peer], of: &NodeId) -> Vec<Peer> {
        list.iter().filter(|(id, _)| prefix(id) == prefix(of)).copied().collect()
    }

    fn refused(&self, (peer, at): Peer) -> Option<Refused> {
        let near = |list: &[Peer]| list.iter().filter(|(_, other)| same_network(*other, at)).count();
        if near(&self.members) >= TABLE_NETWORK_MAX {
            Some(Refused::TableNetwork)
        } else if near(&Self::bucket(&self.members, &peer)) >= BUCKET_NETWORK_MAX {
            Some(Refused::BucketNetwork)
        } else {
            None
        }
    }

    fn take(&mut self, peer: &NodeId) -> bool {
        let before = self.members.len();
        self.members.retain(|(id, _)| id != peer);
        let was = self.members.len() < before;
        if was {
            self.asked.retain(|(_, id, _)| id != peer);
        }
        was
    }

    fn fill(&mut self, gone: &NodeId) -> Option<NodeId> {
        let bucket = Self::bucket(&self.waiting, gone);
        let next = *bucket.iter().rev().find(|peer| self.refused(**peer).is_none())?;
        self.waiting.retain(|peer| *peer != next);
        self.members.push(next);
        Some(next.0)
    }

    fn insert(&mut self, peer: NodeId, at: IpAddr, now: u64) -> Insert {
        if peer == OWN {
            return Insert::Refused(Refused::Own);
        }
        let was = self.take(&peer);
        if let Some(refused) = self.refused((peer, at)) {
            if was {
                self.fill(&peer);
            }
            return Insert::Refused(refused);
        }
        self.waiting.retain(|(id, _)| *id != peer);
        let bucket = Self::bucket(&self.members, &peer);
        if bucket.len() < K {
            self.members.push((peer, at));
            return if was { Insert::Updated } else { Insert::Added };
        }
        let waiting = Self::bucket(&self.waiting, &peer);
        if waiting.len() == REPLACEMENTS_MAX {
            self.waiting.retain(|peer| *peer != waiting[0]);
        }
        self.waiting.push((peer, at));
        let oldest = bucket[0].0;
        let open = self.asked.iter().any(|(_, id, at)| *id == oldest && now - at < PING_WAIT.as_secs());
        if open {
            return Insert::Full { ping: None };
        }
        self.asked.retain(|(bucket, _, _)| *bucket != prefix(&peer));
        self.asked.push((prefix(&peer), oldest, now));
        Insert::Full { ping: Some(oldest) }
    }

    fn confirm(&mut self, peer: &NodeId) -> bool {
        let Some(contact) = self.members.iter().copied().find(|(id, _)| id == peer) else { return false };
        self.take(peer);
        self.members.push(contact);
        true
    }

    fn evict(&mut self, peer: &NodeId) -> Option<NodeId> {
        let contact = self.members.iter().copied().find(|(id, _)| id == peer)?;
        self.take(peer);
        let next = self.fill(peer);
        if next.is_none() {
            self.asked.retain(|(bucket, _, _)| *bucket != prefix(peer));
            self.members.insert(0, contact);
        }
        next
    }

    fn remove(&mut self, peer: &NodeId) -> bool {
        self.waiting.retain(|(id, _)| id != peer);
        let was = self.take(peer);
        if was {
            self.fill(peer);
        }
        was
    }
}

fn ids(table: &Table<()>) -> Vec<NodeId> {
    let mut ids: Vec<_> = table.iter().map(|contact| contact.id).collect();
    ids.sort_unstable();
    ids
}

fn brute(table: &Table<()>, key: &Key, n: usize) -> Vec<NodeId> {
    let mut all = ids(table);
    all.sort_by_key(|id| id.distance(key));
    all.truncate(n);
    all
}

fn compare(table: &Table<()>, model: &Model) {
    for bucket in [0, 1, 9].map(|prefix| id(prefix, 0)) {
        let members = table.iter().filter(|contact| prefix(&contact.id) == prefix(&bucket));
        let members: Vec<_> = members.map(|contact| (contact.id, contact.ip)).collect();
        assert_eq!(members, Model::bucket(&model.members, &bucket));
    }
    assert_eq!(table.len(), model.members.len());
    assert_eq!(table.is_empty(), model.members.is_empty());
    assert!(model.members.iter().all(|(id, _)| table.contains(id)));
    assert!(model.waiting.iter().all(|(id, _)| !table.contains(id)));
    assert!(!table.contains(&OWN));
}

proptest! {
    #![proptest_config(seeded(0x7ab1_0001))]

    #[test]
    fn the_table_does_what_the_model_does(steps in prop::collection::vec(step(), 1..200)) {
        let epoch = Instant::now();
        let (mut table, mut model) = (Table::new(OWN, K), Model::default());
        let mut now = 0;
        for step in steps {
            let (before, version) = (ids(&table), table.version());
            let at = epoch + Duration::from_secs(now);
            match step {
                Step::Insert(peer, ip) => {
                    prop_assert_eq!(table.insert(at, peer, ip, ()), model.insert(peer, ip, now));
                }
                Step::Confirm(peer) => prop_assert_eq!(table.confirm(at, &peer), model.confirm(&peer)),
                Step::Evict(peer) => prop_assert_eq!(table.evict(&peer), model.evict(&peer)),
                Step::Remove(peer) => prop_assert_eq!(table.remove(&peer), model.remove(&peer)),
                Step::Wait(seconds) => now += seconds,
            }
            compare(&table, &model);
            prop_assert!(table.version() >= version);
            if ids(&table) != before {
                prop_assert!(table.version() > version, "a change of members shows");
            }
        }
    }

    #[test]
    fn closest_is_what_a_full_sort_finds(
        own: [u8; 32],
        peers in prop::collection::vec((any::<[u8; 32]>(), 0..20u8), 0..150),
        (target, near) in (any::<[u8; 32]>(), 0..20u8),
        n in 0..40usize,
    ) {
        // A point that shares about `bits` leading bits with the own id fills the deeper buckets too.
        let towards = |mut bytes: [u8; 32], bits: u8| {
            let (whole, rest) = (usize::from(bits / 8), bits % 8);
            bytes[..whole].copy_from_slice(&own[..whole]);
            let mask = 0xff_u8 >> rest;
            bytes[whole] = own[whole] & !mask | bytes[whole] & mask;
            bytes
        };
        let mut table = Table::new(NodeId::from_bytes(own), 8);
        for (bytes, bits) in peers {
            table.insert(Instant::now(), NodeId::from_bytes(towards(bytes, bits)), ip(4), ());
        }
        let mut out = vec![OWN];
        for target in [towards(target, near), own] {
            let key = Key::from_bytes(target);
            table.closest(&key, n, &mut out);
            prop_assert_eq!(&out, &brute(&table, &key, n));
        }
    }
}

#[test]
fn a_network_fills_neither_a_bucket_nor_the_table() {
    let now = Instant::now();
    let mut table = Table::new(OWN, 20);
    let mut outcomes = Vec::new();
    for n in 0..18 {
        outcomes.push(table.insert(now, id(n / 3, n), IpAddr::from([192, 0, 2, n]), ()));
    }
    let refused = |why| outcomes.iter().filter(|outcome| **outcome == Insert::Refused(why)).count();
    assert_eq!(table.len(), TABLE_NETWORK_MAX);
    assert_eq!(refused(Refused::BucketNetwork), 4);
    assert_eq!(refused(Refused::TableNetwork), 4);
    for n in 0..18 {
        assert_eq!(table.insert(now, id(20, n), IpAddr::from([127, 0, 0, 1]), ()), Insert::Added);
    }
}

#[test]
fn an_old_member_that_answers_stays() {
    let now = Instant::now();
    let mut table = Table::new(OWN, 2);
    for n in 0..2 {
        assert_eq!(table.insert(now, id(0, n), ip(4), ()), Insert::Added);
    }
    let version = table.version();
    assert_eq!(table.insert(now, id(0, 2), ip(4), ()), Insert::Full { ping: Some(id(0, 0)) });
    assert_eq!(table.insert(now, id(0, 3), ip(4), ()), Insert::Full { ping: None });
    assert!(table.confirm(now, &id(0, 0)));
    assert_eq!(table.insert(now, id(0, 3), ip(4), ()), Insert::Full { ping: Some(id(0, 1)) });
    assert_eq!(table.version(), version);
    assert_eq!(table.evict(&id(0, 1)), Some(id(0, 3)), "the last one heard of takes the place");
    assert!(table.version() > version);
    assert_eq!(ids(&table), [id(0, 0), id(0, 3)]);
}

fn network(ip: &str) -> Option<Network> {
    Network::of(ip.parse().expect("an address"))
}

#[test]
fn addresses_of_one_network_are_together() {
    assert_eq!(network("192.0.2.1"), network("192.0.2.255"));
    assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
    assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.9"));
    assert_eq!(network("2001:db8:1::1"), network("2001:db8:1:ffff::1"));
    assert_ne!(network("2001:db8:1::1"), network("2001:db8:2::1"));
}

#[test]
fn local_ranges_are_exempt() {
    for ip in ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "::1", "fd00::1"] {
        assert_eq!(network(ip), None, "{ip}");
    }
    for ip in ["fe80::1", "::ffff:10.0.0.1"] {
        assert_eq!(network(ip), None, "{ip}");
    }
    for ip in ["172.32.0.1", "11.0.0.1", "2001:db8::1"] {
        assert!(network(ip).is_some(), "{ip}");
    }
}
