//! What a replica takes from whom: signed and vouched copies, entries of several publishers, removals.

use std::time::Instant;

use bytes::BytesMut;
use foveola::dht::record::{RealmId, sign, verify};
use foveola::mesh::LocalMesh;
use foveola::wire::{
    Class, Decoder, FindBatch, Found, Kind, Record, RecordKind, Reject, Status, StoreBatch, TOMBSTONE,
    decode_find_reply, decode_store_reply, encode_open, encode_record,
};
use foveola::{Ack, Identity, Key, Node, NodeId};

use crate::nodes::{RawPeer, config, identity, key, next_frame, node};
use crate::util::{PATIENCE, in_time};

/// A peer that stores and asks by hand; it serves, so the node counts it as a member.
struct Peer {
    identity: Identity,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    decoder: Decoder,
    _raw: RawPeer,
}

/// What a replica holds of one publisher: sequence, flags, value.
type Seen = (NodeId, u64, u8, Vec<u8>);

impl Peer {
    async fn dial(n: u64, node: &Node) -> Self {
        let raw = RawPeer::dial(n, node, 1 << 20).await;
        let (mut send, recv) = raw.connection.open_bi().await.unwrap();
        let mut out = BytesMut::new();
        encode_open(Class::Request, &mut out);
        send.write_all(&out).await.unwrap();
        Self { identity: identity(n), send, recv, decoder: Decoder::new(1 << 20), _raw: raw }
    }

    fn id(&self) -> NodeId {
        self.identity.node_id()
    }

    async fn request(&mut self, frame: &[u8], reply: Kind) -> Vec<u8> {
        self.send.write_all(frame).await.unwrap();
        let (kind, _, body) = in_time(next_frame(&mut self.recv, &mut self.decoder)).await;
        assert_eq!(kind, reply as u8);
        body
    }

    /// Stores `record` in the name of `publisher`.
    async fn store(&mut self, publisher: &NodeId, record: &Record<'_>) -> Status {
        self.store_all(publisher, &[*record]).await[0]
    }

    async fn store_all(&mut self, publisher: &NodeId, records: &[Record<'_>]) -> Vec<Status> {
        let mut out = BytesMut::new();
        let mut batch = StoreBatch::open(1, publisher, &mut out);
        for record in records {
            let mut encoded = BytesMut::new();
            encode_record(record, &mut encoded).unwrap();
            batch.push(&encoded, &mut out).unwrap();
        }
        decode_store_reply(&self.request(&out, Kind::StoreReply).await).unwrap()
    }

    /// What the node holds of `kind` under `key`; every proof is checked.
    async fn find(&mut self, key: Key, kind: RecordKind) -> Vec<Seen> {
        let mut out = BytesMut::new();
        FindBatch::open(1, &mut out).push(&key, kind, None, &mut out).unwrap();
        let body = self.request(&out, Kind::FindValueReply).await;
        let frame = decode_find_reply(&body).unwrap();
        let answer = frame.answers().next().unwrap();
        answer.records.iter().for_each(|found| proven(key, found));
        let seen = |found: &Found<'_>| (found.publisher, found.seq, found.flags, found.value.to_vec());
        answer.records.iter().map(seen).collect()
    }
}

fn realm() -> RealmId {
    RealmId::of("")
}

fn proven(key: Key, found: &Found<'_>) {
    let Found { publisher, seq, ttl_ms, kind, flags, proof, value } = *found;
    let record = Record { key, seq, ttl_ms, kind, flags, proof, value };
    if kind != RecordKind::VALUE || !proof.is_empty() {
        assert_eq!(verify(&realm(), &publisher, &record), Ok(()));
    }
}

fn value(name: Key, seq: u64, value: &[u8]) -> Record<'_> {
    Record { key: name, seq, ttl_ms: 60_000, kind: RecordKind::VALUE, flags: 0, proof: &[], value }
}

fn entry(name: Key, seq: u64, value: &[u8]) -> Record<'_> {
    Record { kind: RecordKind::PROVIDER, ..self::value(name, seq, value) }
}

fn sorted(mut seen: Vec<Seen>) -> Vec<Seen> {
    seen.sort();
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_several_publishers_stand_side_by_side_and_removing_one_leaves_the_others() {
    let replica = node(950, config(|_| ())).await;
    let mut peers = Vec::new();
    for n in 951..954 {
        peers.push(Peer::dial(n, &replica).await);
    }
    let name = key("service");
    let mut expected = Vec::new();
    for i in 0..3 {
        let (publisher, text) = (peers[i].identity.clone(), [b'a' + i as u8]);
        let entry = entry(name, 1, &text);
        let proof = sign(&publisher, &realm(), &entry);
        // The last one is brought by somebody else: a signed copy may come from anybody.
        let bringer = &mut peers[i.min(1)];
        let status = bringer.store(&publisher.node_id(), &Record { proof: &proof, ..entry }).await;
        assert_eq!(status, Status::Applied);
        expected.push((publisher.node_id(), 1, 0, text.to_vec()));
    }
    assert_eq!(peers[0].find(name, RecordKind::PROVIDER).await, sorted(expected.clone()));
    assert_eq!(peers[0].find(name, RecordKind::VALUE).await, []);
    assert_eq!(peers[0].find(name, RecordKind::SUBSCRIPTION).await, []);

    let removed = peers[1].identity.clone();
    let removal = Record { flags: TOMBSTONE, ..entry(name, 2, b"") };
    let proof = sign(&removed, &realm(), &removal);
    assert_eq!(
        peers[0].store(&removed.node_id(), &Record { proof: &proof, ..removal }).await,
        Status::Applied
    );
    expected[1] = (removed.node_id(), 2, TOMBSTONE, Vec::new());
    let old = entry(name, 1, b"b");
    let proof = sign(&removed, &realm(), &old);
    let again = peers[1].store(&removed.node_id(), &Record { proof: &proof, ..old }).await;
    assert_eq!(again, Status::Superseded { seq: 2 }, "what was removed does not come back");
    assert_eq!(peers[2].find(name, RecordKind::PROVIDER).await, sorted(expected));
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_proven_is_refused_and_changes_nothing() {
    let replica = node(960, config(|_| ())).await;
    let (mut owner, mut other) = (Peer::dial(961, &replica).await, Peer::dial(962, &replica).await);
    let (name, id) = (key("service"), owner.id());
    let good = entry(name, 5, b"mine");
    let proof = sign(&owner.identity, &realm(), &good);
    let good = Record { proof: &proof, ..good };
    assert_eq!(owner.store(&id, &good).await, Status::Applied);

    let removal = Record { flags: TOMBSTONE, ..entry(name, 9, b"") };
    let forged = sign(&other.identity, &realm(), &removal);
    let elsewhere = sign(&owner.identity, &RealmId::of("other"), &entry(name, 9, b"mine"));
    let other_key = sign(&owner.identity, &realm(), &entry(key("another"), 9, b"mine"));
    let mut flipped = sign(&owner.identity, &realm(), &entry(name, 9, b"mine"));
    flipped[95] ^= 1;
    let signed_value = sign(&other.identity, &realm(), &value(name, 9, b"theirs"));
    let refused = [
        Record { proof: &forged, ..removal },
        Record { proof: &[], ..removal },
        Record { seq: 9, ..good },
        Record { value: b"theirs", seq: 9, ..good },
        Record { proof: &elsewhere, ..entry(name, 9, b"mine") },
        Record { proof: &other_key, ..entry(name, 9, b"mine") },
        Record { proof: &flipped, ..entry(name, 9, b"mine") },
        Record { proof: &signed_value, ..value(name, 9, b"theirs") },
    ];
    for peer in [&mut owner, &mut other] {
        let statuses = peer.store_all(&id, &refused).await;
        assert_eq!(statuses, [Status::Rejected(Reject::Proof); 8]);
    }
    // One that is good in the midst of others is taken.
    let next = entry(name, 6, b"next");
    let proof = sign(&owner.identity, &realm(), &next);
    let mixed = [refused[0], Record { proof: &proof, ..next }, refused[6]];
    let rejected = Status::Rejected(Reject::Proof);
    assert_eq!(other.store_all(&id, &mixed).await, [rejected, Status::Applied, rejected]);
    assert_eq!(other.find(name, RecordKind::PROVIDER).await, [(id, 6, 0, b"next".to_vec())]);
    assert_eq!(other.find(name, RecordKind::VALUE).await, []);
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_vouch_for_what_they_bring_but_not_against_its_publisher() {
    let replica = node(970, config(|_| ())).await;
    let (mut owner, mut other) = (Peer::dial(971, &replica).await, Peer::dial(972, &replica).await);
    let (name, absent) = (key("vouched"), identity(973).node_id());
    assert_eq!(other.store(&owner.id(), &value(name, 3, b"heard")).await, Status::Applied);
    assert_eq!(owner.store(&owner.id(), &value(name, 1, b"own")).await, Status::Applied, "first-hand wins");
    for vouched in [value(name, 9, b"other"), Record { flags: TOMBSTONE, ..value(name, 9, b"") }] {
        assert_eq!(other.store(&owner.id(), &vouched).await, Status::Superseded { seq: 1 });
    }
    assert_eq!(other.store(&owner.id(), &value(name, 1, b"own")).await, Status::AlreadyHave);
    assert_eq!(other.store(&absent, &value(name, 1, b"absent")).await, Status::Applied);
    let mut expected = vec![(owner.id(), 1, 0, b"own".to_vec()), (absent, 1, 0, b"absent".to_vec())];
    expected.sort();
    assert_eq!(other.find(name, RecordKind::VALUE).await, expected);

    // In the name of the replica itself nobody stores anything, not even what it would have signed.
    let local = identity(970);
    let proof = sign(&local, &realm(), &value(name, 9, b"yours"));
    for proof in [&[][..], &proof] {
        let yours = Record { proof, ..value(name, 9, b"yours") };
        assert_eq!(other.store(&replica.id(), &yours).await, Status::Rejected(Reject::Publisher));
    }
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_replica_refuses_what_is_new_and_keeps_what_it_acknowledged() {
    let small = config(|config| {
        config.store.records = 64;
        config.store.publisher_records = 64;
    });
    let replica = node(980, small).await;
    let mut owner = Peer::dial(981, &replica).await;
    let id = owner.id();
    let mut kept = Vec::new();
    let mut full = 0;
    for n in 0..500_u64 {
        match owner.store(&id, &value(key(n), n, b"kept")).await {
            Status::Applied => kept.push(n),
            Status::StorageFull => full += 1,
            status => panic!("{status:?}"),
        }
    }
    assert!(full > 0 && kept.len() >= 64, "{full} refused, {} kept", kept.len());
    for n in kept {
        assert_eq!(owner.find(key(n), RecordKind::VALUE).await, [(id, n, 0, b"kept".to_vec())]);
    }
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_takes_no_copies_from_others_that_it_should_not_hold() {
    let replica = node(980, config(|config| config.k = 1)).await;
    let shared = |n: &u64| {
        let (own, other) = (replica.id().as_bytes()[0], identity(*n).node_id().as_bytes()[0]);
        (own ^ other).leading_zeros()
    };
    // One member for each of the first buckets, which hold one.
    let mut peers = Vec::new();
    for bucket in 0..3 {
        let n = (981..).find(|n| shared(n) == bucket).unwrap();
        peers.push(Peer::dial(n, &replica).await);
    }
    let name = |at: fn(usize) -> bool| {
        (0..).map(|i| key(format!("near {i}"))).find(|name| {
            let own = replica.id().distance(name);
            let closer = peers.iter().filter(|peer| peer.id().distance(name) < own).count();
            let first = peers.iter().map(|peer| peer.id().distance(name)).min().unwrap();
            at(closer) && peers[0].id().distance(name) == first
        })
    };
    let (far, near) = (name(|closer| closer >= 2).unwrap(), name(|closer| closer < 2).unwrap());
    let absent = identity(979);
    let refused = Status::Rejected(Reject::Publisher);
    for (name, expected) in [(far, refused), (near, Status::Applied)] {
        assert_eq!(peers[0].store(&absent.node_id(), &value(name, 1, b"heard")).await, expected);
        let entry = entry(name, 1, b"signed");
        let proof = sign(&absent, &realm(), &entry);
        let entry = Record { proof: &proof, ..entry };
        assert_eq!(peers[0].store(&absent.node_id(), &entry).await, expected);
    }
    let own = peers[0].id();
    assert_eq!(peers[0].store(&own, &value(far, 1, b"own")).await, Status::Applied, "first-hand it does");
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_takes_nothing_that_it_could_hand_over_to_nobody() {
    let settings = config(|config| config.k = 2);
    let mut mesh = LocalMesh::builder().nodes(5).config(settings).faults().spawn().await.unwrap();
    for i in 0..100 {
        mesh.node(0).dht().store(key(i), "value").ack(Ack::All).await.unwrap();
    }
    let leaver = mesh.node(4).clone();
    assert!(leaver.stats().held_records > 0);
    let mut peer = Peer::dial(991, &leaver).await;
    let own = peer.id();
    assert_eq!(peer.store(&own, &value(key("before"), 1, b"own")).await, Status::Applied);
    // Those who are to take its records over do not answer, so it is busy with that for a while.
    (0..4).for_each(|i| mesh.kill(i));
    let leaving = tokio::spawn(async move { leaver.shutdown().await });
    let deadline = Instant::now() + PATIENCE;
    for i in 0.. {
        if peer.store(&own, &value(key(format!("late {i}")), 2, b"own")).await == Status::Overloaded {
            break;
        }
        assert!(Instant::now() < deadline, "it takes whatever comes");
    }
    drop(peer);
    in_time(leaving).await.unwrap();
}
