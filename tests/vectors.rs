//! The bytes on the wire, fixed: `tests/vectors/*.hex` were written without this crate, and every message
//! is encoded to and decoded from exactly them. A vector that has to change is a change of the protocol.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bytes::BytesMut;
use foveola::id::{Key, NodeId};
use foveola::wire::*;

const PUBLISHER: NodeId = NodeId::from_bytes([0x77; 32]);

/// Every vector there is.
const NAMES: [&str; 29] = [
    "call",
    "call_cast",
    "cancel",
    "failed",
    "find_node",
    "find_node_reply",
    "find_value",
    "find_value_reply",
    "goaway",
    "hello",
    "hello_ack",
    "open",
    "ping",
    "ping_later",
    "pong",
    "provider",
    "publish",
    "publish_reply",
    "reply",
    "reply_failed",
    "route",
    "route_error",
    "route_reply",
    "store",
    "store_removal",
    "store_reply",
    "store_reply_durable",
    "store_wide",
    "unsupported",
];

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors"))
}

/// The bytes of a vector: hexadecimal digits, spaces, and comments from `#` to the end of the line.
fn vector(name: &str) -> Vec<u8> {
    assert!(NAMES.contains(&name), "{name} is not listed");
    let text = fs::read_to_string(directory().join(name).with_extension("hex")).expect("a vector");
    let code = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let bytes = code.flat_map(str::split_whitespace);
    bytes.map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits")).collect()
}

/// The body of a vector, after its header was found to be one of a `kind` and an `id`.
fn body(name: &str, kind: Kind, id: u64) -> Vec<u8> {
    flagged(name, kind, id).1
}

/// As [`body`], behind the flags of the header.
fn flagged(name: &str, kind: Kind, id: u64) -> (u8, Vec<u8>) {
    let bytes = vector(name);
    let mut decoder = Decoder::new(BODY_MAX);
    decoder.feed(&bytes);
    let frame = decoder.next().expect("a small frame").expect("a whole frame");
    let header = frame.header;
    assert_eq!((Kind::from_u8(header.kind), header.id), (Some(kind), id), "{name}");
    let body = frame.body.to_vec();
    assert_eq!(decoder.next(), Ok(None));
    assert!(!decoder.is_partial(), "{name} is more than a frame");
    (header.flags, body)
}

/// Checks that `encode` writes the vector.
fn written(name: &str, encode: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>) {
    let mut out = BytesMut::new();
    encode(&mut out).expect("a permitted message");
    assert_eq!(out, vector(name), "{name}: {:02x?}", &out[..]);
}

fn proof() -> [u8; PROOF_LEN] {
    std::array::from_fn(|i| u8::try_from(i).expect("below 96"))
}

fn big() -> Vec<u8> {
    (0..300).map(|i| u8::try_from(i % 251).expect("below 251")).collect()
}

#[test]
fn every_vector_is_listed() {
    let files = fs::read_dir(directory()).expect("the vectors");
    let names = files.map(|file| {
        let path = file.expect("a vector").path();
        path.file_stem().expect("a name").to_string_lossy().into_owned()
    });
    let names: BTreeSet<_> = names.collect();
    assert_eq!(names, NAMES.iter().map(|name| (*name).to_owned()).collect());
}

#[test]
fn frames_without_a_body() {
    written("open", |out| {
        encode_open(Class::Bulk, out);
        Ok(())
    });
    written("cancel", |out| {
        encode_cancel(258, out);
        Ok(())
    });
    written("unsupported", |out| {
        encode_unsupported(9, out);
        Ok(())
    });
    assert!(body("open", Kind::Open, 0).is_empty());
    assert!(body("cancel", Kind::Cancel, 258).is_empty());
    assert!(body("unsupported", Kind::Unsupported, 9).is_empty());
}

#[test]
fn introductions() {
    let grant = |requests, bytes| Grant { requests, bytes };
    let mut hello = Hello {
        version_min: 1,
        version_max: 2,
        realm: String::from("example.mesh"),
        boot: 1_700_000_000,
        dial: 3,
        endpoints: vec![String::from("192.0.2.1:9443"), String::from("[2001:db8::1]:9443")],
        observed: Some(String::from("198.51.100.7:40000")),
        serves: true,
        features: 5,
        grants: [grant(16, 65_536), grant(256, 1_048_576), grant(64, 4_194_304), grant(128, 1_048_576)],
        proof: None,
    };
    written("hello", |out| hello.encode(1, out));
    assert_eq!(Hello::decode(&body("hello", Kind::Hello, 1)).as_ref(), Ok(&hello));
    hello.observed = None;
    hello.proof = Some(std::array::from_fn(|i| u8::try_from(i).expect("below 96")));
    written("hello_ack", |out| hello.encode_ack(1, out));
    assert_eq!(Hello::decode(&body("hello_ack", Kind::HelloAck, 1)), Ok(hello));
}

#[test]
fn the_value_of_a_provider_record() {
    let entry = ProviderEntry {
        endpoints: vec![String::from("192.0.2.1:9443"), String::from("[2001:db8::1]:9443")],
        metadata: b"eu-north".to_vec(),
    };
    assert_eq!(entry.encode(), Ok(vector("provider")));
    assert_eq!(ProviderEntry::decode(&vector("provider")), Ok(entry));
}

#[test]
fn signs_of_life_and_farewells() {
    let ping = Ping { nonce: u64::MAX };
    written("ping", |out| ping.encode(7, out));
    assert_eq!(Ping::decode(&body("ping", Kind::Ping, 7)), Ok(ping));
    assert_eq!(Ping::decode(&body("ping_later", Kind::Ping, 7)), Ok(Ping { nonce: 5 }));
    let pong = Pong { nonce: u64::MAX };
    written("pong", |out| pong.encode(7, out));
    assert_eq!(Pong::decode(&body("pong", Kind::Pong, 7)), Ok(pong));
    let away = GoAway { code: 3, last: [0, 127, 128, 65_536] };
    written("goaway", |out| away.encode(0, out));
    assert_eq!(GoAway::decode(&body("goaway", Kind::GoAway, 0)), Ok(away));
    let failed = Failed { code: 500 };
    written("failed", |out| failed.encode(9, out));
    assert_eq!(Failed::decode(&body("failed", Kind::Failed, 9)), Ok(failed));
}

#[test]
fn find_node() {
    let find = FindNode { target: Key::from_bytes([0x11; 32]), count: 20 };
    written("find_node", |out| find.encode(10, out));
    assert_eq!(FindNode::decode(&body("find_node", Kind::FindNode, 10)), Ok(find));
    let contacts =
        [(NodeId::from_bytes([0x21; 32]), vec!["192.0.2.1:9443"]), (NodeId::from_bytes([0x22; 32]), vec![])];
    written("find_node_reply", |out| {
        let mut reply = FindNodeReply::open(10, out);
        contacts.iter().try_for_each(|(id, endpoints)| reply.push(id, endpoints.iter().copied(), out))
    });
    let body = body("find_node_reply", Kind::FindNodeReply, 10);
    let read = decode_find_node_reply(&body).expect("a whole reply");
    let read: Vec<_> = read.into_iter().map(|contact| (contact.id, contact.endpoints.collect())).collect();
    assert_eq!(read, contacts);
}

#[test]
fn store() {
    let (proof, big) = (proof(), big());
    let record = |key, seq, ttl_ms, kind, flags, proof, value| Record {
        key: Key::from_bytes([key; 32]),
        seq,
        ttl_ms,
        kind: RecordKind(kind),
        flags,
        proof,
        value,
    };
    let records = vec![
        record(0x31, 1, 3_600_000, 0, 0, &[], b"hello"),
        record(0x32, 1 << 63, u32::MAX, 1, 1, &proof, &big),
        record(0x33, 200, 60_000, 200, 255, &[], b""),
    ];
    written("store", |out| {
        let mut batch = StoreBatch::open(1 << 40, &PUBLISHER, out);
        records.iter().try_for_each(|record| {
            let mut encoded = BytesMut::new();
            encode_record(record, &mut encoded)?;
            batch.push(&encoded, out)
        })
    });
    let wide = StoreFrame { publisher: PUBLISHER, records: records[..1].to_vec() };
    assert_eq!(decode_store(&body("store_wide", Kind::Store, 1)), Ok(wide));
    assert_eq!(
        decode_store(&body("store", Kind::Store, 1 << 40)),
        Ok(StoreFrame { publisher: PUBLISHER, records })
    );

    let statuses = vec![
        Status::Applied,
        Status::AlreadyHave,
        Status::Superseded { seq: 70_000 },
        Status::Rejected(Reject::Proof),
        Status::StorageFull,
        Status::Overloaded,
        Status::NotResponsible,
    ];
    written("store_reply", |out| {
        let mut reply = StoreReply::open(1 << 40, false, out);
        statuses.iter().try_for_each(|status| reply.push(*status, out))
    });
    assert_eq!(decode_store_reply(&body("store_reply", Kind::StoreReply, 1 << 40)), Ok(statuses));
    written("store_reply_durable", |out| StoreReply::open(2, true, out).push(Status::Applied, out));
    let (flags, body) = flagged("store_reply_durable", Kind::StoreReply, 2);
    assert_eq!((flags, decode_store_reply(&body)), (DURABLE, Ok(vec![Status::Applied])));
}

#[test]
fn removals() {
    let removal = Record {
        key: Key::from_bytes([0x31; 32]),
        seq: 2,
        ttl_ms: 60_000,
        kind: RecordKind::VALUE,
        flags: TOMBSTONE,
        proof: &[],
        value: b"",
    };
    written("store_removal", |out| {
        let mut encoded = BytesMut::new();
        encode_record(&removal, &mut encoded)?;
        StoreBatch::open(3, &PUBLISHER, out).push(&encoded, out)
    });
    let frame = StoreFrame { publisher: PUBLISHER, records: vec![removal] };
    assert_eq!(decode_store(&body("store_removal", Kind::Store, 3)), Ok(frame));
}

#[test]
fn find_value() {
    let key = |byte| Key::from_bytes([byte; 32]);
    let asks = vec![
        Ask { key: key(0x31), kind: RecordKind::VALUE, after: None },
        Ask { key: key(0x32), kind: RecordKind::PROVIDER, after: Some(PUBLISHER) },
    ];
    written("find_value", |out| {
        let mut batch = FindBatch::open(12, out);
        asks.iter().try_for_each(|ask| batch.push(&ask.key, ask.kind, ask.after.as_ref(), out))
    });
    assert_eq!(decode_find(&body("find_value", Kind::FindValue, 12)), Ok(asks));

    let proof = proof();
    let found = |publisher, seq, ttl_ms, kind, proof, value| Found {
        publisher,
        seq,
        ttl_ms,
        kind: RecordKind(kind),
        flags: 0,
        proof,
        value,
    };
    let (low, high) = (NodeId::from_bytes([0x41; 32]), NodeId::from_bytes([0x42; 32]));
    let answers: [(&[Found<'_>], Rest); 3] = [
        (&[found(PUBLISHER, 1, 1500, 0, &[], b"hello")], Rest::Nothing),
        (
            &[found(low, 128, 70_000, 1, &proof, &[1]), found(high, 256, 70_000, 2, &proof, &[2])],
            Rest::After(high),
        ),
        (&[], Rest::Everything),
    ];
    written("find_value_reply", |out| {
        let mut reply = FindReply::open(12, out);
        answers.iter().try_for_each(|(records, rest)| {
            let mut answer = reply.answer(out)?;
            records.iter().try_for_each(|record| answer.push(record))?;
            answer.end(*rest)
        })
    });
    let body = body("find_value_reply", Kind::FindValueReply, 12);
    let frame = decode_find_reply(&body).expect("a whole batch");
    let read: Vec<_> = frame.answers().map(|answer| (answer.records, answer.rest)).collect();
    assert_eq!(read, answers);
}

#[test]
fn call() {
    let call = Call { service: "calculator.add", timeout_ms: 2_000, args: &[1, 2, 3] };
    written("call", |out| call.encode(15, 0, out));
    assert_eq!(Call::decode(&body("call", Kind::Call, 15)), Ok(call));
    let cast = Call { service: "log", timeout_ms: 5, args: b"" };
    written("call_cast", |out| cast.encode(16, CAST, out));
    let (flags, bytes) = flagged("call_cast", Kind::Call, 16);
    assert_eq!((flags, Call::decode(&bytes)), (CAST, Ok(cast)));
    let reply = Reply { status: CallStatus::Done, code: 0, result: &[6] };
    written("reply", |out| reply.encode(15, out));
    assert_eq!(Reply::decode(&body("reply", Kind::Reply, 15)), Ok(reply));
    let reply = Reply { status: CallStatus::Failed, code: 404, result: b"no such sum" };
    written("reply_failed", |out| reply.encode(16, out));
    assert_eq!(Reply::decode(&body("reply_failed", Kind::Reply, 16)), Ok(reply));
}

#[test]
fn publish() {
    let big = big();
    let publications = vec![Publication { seq: 1, payload: b"21.5" }, Publication { seq: 2, payload: &big }];
    written("publish", |out| {
        let mut batch = PublishBatch::open(13, "sensor.temp", &PUBLISHER, 1_700_000_000, out)?;
        publications.iter().try_for_each(|publication| {
            let mut encoded = BytesMut::new();
            encode_publication(publication, &mut encoded)?;
            batch.push(&encoded, out)
        })
    });
    let frame =
        PublishFrame { topic: "sensor.temp", publisher: PUBLISHER, epoch: 1_700_000_000, publications };
    assert_eq!(decode_publish(&body("publish", Kind::Publish, 13)), Ok(frame));
    written("publish_reply", |out| {
        let mut reply = PublishReply::open(13, out);
        [0, 1].iter().try_for_each(|status| reply.push(*status, out))
    });
    assert_eq!(decode_publish_reply(&body("publish_reply", Kind::PublishReply, 13)), Ok(vec![0, 1]));
}

#[test]
fn route() {
    let mut bytes = [0; 64];
    bytes.copy_from_slice(&(0..64).collect::<Vec<u8>>());
    let route = Route {
        destination: NodeId::from_bytes([0x51; 32]),
        origin_key: [0x52; 32],
        nonce: 1 << 63,
        issued_ms: 1_700_000_000_000,
        left_ms: 1_500,
        hops: 8,
        passed: vec![NodeId::from_bytes([0x53; 32]), NodeId::from_bytes([0x54; 32])],
        kind: Kind::FindNode.to_u8(),
        flags: 0,
        body: b"abc",
        signature: bytes,
    };
    written("route", |out| route.encode(14, out));
    assert_eq!(Route::decode(&body("route", Kind::Route, 14)), Ok(route));
    let answer = Routed { kind: 0x15, flags: 1, body: b"ok", key: [0x55; 32], signature: bytes };
    let reply = RouteReply { hops: 2, result: Ok(answer) };
    written("route_reply", |out| reply.encode(14, out));
    assert_eq!(RouteReply::decode(&body("route_reply", Kind::RouteReply, 14)), Ok(reply));
    let reply = RouteReply { hops: 10, result: Err(RouteError::Expired) };
    written("route_error", |out| reply.encode(14, out));
    assert_eq!(RouteReply::decode(&body("route_error", Kind::RouteReply, 14)), Ok(reply));
}
