//! Frames that no honest peer sends: each ends its connection with a code that says so, and the node
//! reads nothing after it.

use std::net::SocketAddr;

use bytes::BytesMut;
use foveola::wire::{
    BODY_MAX, Class, Kind, LAYOUT, Pong, Record, RecordKind, Reject, Status, StoreBatch, StoreReply,
    decode_store_reply, encode_open, encode_record,
};
use foveola::{CloseCode, Key, NodeId};

use super::raw::{Dialer, Stream, claiming, frame, hello, hello_frame};
use super::{Verdict, Watch};

/// Bytes of a body that no lane takes, though a stream of its own would.
const OVER_LANE: u32 = (128 << 10) + 1;

/// Where the frames go.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// The lane on which HELLO went.
    Control,
    Lane(Class),
    /// A stream that nobody has said anything on.
    Fresh,
}

fn batch_body(count: u32) -> Vec<u8> {
    let mut body = vec![0xdd];
    body.extend_from_slice(&count.to_be_bytes());
    body.push(LAYOUT);
    body
}

/// A STORE of `count` records, more than a batch may have if one likes.
fn store_of(count: u32, publisher: NodeId) -> Vec<u8> {
    let mut body = batch_body(count + 2);
    body.extend_from_slice(&[0xc4, 32]);
    body.extend_from_slice(publisher.as_bytes());
    let mut records = BytesMut::new();
    for i in 0..count {
        encode_record(&record(Key::of_name(i.to_be_bytes()), b""), &mut records).unwrap();
    }
    body.extend_from_slice(&records);
    frame(Kind::Store as u8, 0, 1, &body)
}

fn record(key: Key, value: &[u8]) -> Record<'_> {
    Record { key, seq: 1, ttl_ms: 60_000, kind: RecordKind::VALUE, flags: 0, proof: &[], value }
}

fn encoded(encode: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode(&mut out);
    out.to_vec()
}

/// A map with the field `x`, which no message has.
fn map_with(value: &[u8]) -> Vec<u8> {
    let mut body = vec![0x81, 0xa1, b'x'];
    body.extend_from_slice(value);
    body
}

fn rows() -> Vec<(&'static str, Place, Vec<u8>)> {
    use Place::{Control, Fresh, Lane};
    let nobody = NodeId::from_bytes([7; 32]);
    let ping = |body: &[u8]| frame(Kind::Ping as u8, 0, 1, body);
    let find_node = |body: &[u8]| frame(Kind::FindNode as u8, 0, 1, body);
    let mut nested = vec![0x91; 1_023];
    nested.push(0xc0);
    let mut reply = BytesMut::new();
    StoreReply::open(1, false, &mut reply).push(Status::Applied, &mut reply).unwrap();
    vec![
        ("oversize on a lane", Lane(Class::Request), claiming(0x14, 0, 1, OVER_LANE, b"")),
        ("oversize on the control lane", Control, claiming(0x03, 0, 1, OVER_LANE, b"")),
        ("oversize of an unknown kind", Lane(Class::Bulk), claiming(0x7f, 0, 1, u32::MAX, b"")),
        ("oversize on a stream of its own", Lane(Class::Single), claiming(0x14, 0, 1, BODY_MAX + 1, b"")),
        ("oversize before OPEN", Fresh, claiming(0x07, 1, 0, u32::MAX, b"")),
        ("a second HELLO", Control, hello_frame(&hello())),
        ("a flood of HELLO", Control, hello_frame(&hello()).repeat(2_000)),
        ("HELLO on a lane", Lane(Class::Request), hello_frame(&hello())),
        ("HELLO on a stream of its own", Lane(Class::Single), hello_frame(&hello())),
        ("HELLO_ACK", Control, encoded(|out| hello().encode_ack(0, out).unwrap())),
        ("a lane without OPEN", Fresh, frame(Kind::Ping as u8, 0, 1, b"")),
        ("OPEN of no class", Fresh, frame(Kind::Open as u8, 9, 0, b"")),
        ("OPEN with a body", Fresh, frame(Kind::Open as u8, 1, 0, b"x")),
        ("OPEN twice", Lane(Class::Request), encoded(|out| encode_open(Class::Request, out))),
        ("PONG unasked", Control, encoded(|out| Pong { nonce: 1 }.encode(1, out).unwrap())),
        ("a StoreReply unasked", Lane(Class::Bulk), reply.to_vec()),
        ("a FindValueReply unasked", Lane(Class::Request), frame(0x13, 0, 1, &batch_body(1))),
        ("a FindNodeReply unasked", Lane(Class::Request), frame(0x11, 0, 1, &batch_body(1))),
        ("Unsupported unasked", Lane(Class::Request), frame(Kind::Unsupported as u8, 0, 1, b"")),
        ("4,097 records", Lane(Class::Single), store_of(4_097, nobody)),
        ("2^32-1 records", Lane(Class::Request), frame(0x14, 0, 1, &batch_body(u32::MAX))),
        ("2^32-1 keys", Lane(Class::Request), frame(0x12, 0, 1, &batch_body(u32::MAX))),
        ("4,000 records of which none is there", Lane(Class::Bulk), frame(0x14, 0, 1, &batch_body(4_000))),
        ("an unknown layout", Lane(Class::Bulk), frame(0x14, 0, 1, &[0x92, LAYOUT + 1, 0xc0])),
        ("1,023 nested arrays", Control, ping(&map_with(&nested))),
        ("1,023 nested arrays and no end", Lane(Class::Request), find_node(&nested[..1_023])),
        ("an extension", Control, ping(&map_with(&[0xd4, 1, 2]))),
        ("a reserved marker", Control, ping(&map_with(&[0xc1]))),
        ("a map of 2^32-1 fields", Control, ping(&[0xdf, 0xff, 0xff, 0xff, 0xff])),
        ("a text of 2^32-1 bytes", Control, ping(&map_with(&[0xdb, 0xff, 0xff, 0xff, 0xff]))),
        ("a byte string of 2^32-1 bytes", Control, ping(&map_with(&[0xc6, 255, 255, 255, 255]))),
        ("an empty body", Control, frame(Kind::Ping as u8, 0, 1, b"")),
        ("a byte too many", Control, frame(Kind::Ping as u8, 0, 1, b"\x81\xa5nonce\x01\x00")),
        ("a field twice", Control, frame(Kind::Ping as u8, 0, 1, b"\x82\xa5nonce\x01\xa5nonce\x01")),
        ("a negative number", Control, frame(Kind::Ping as u8, 0, 1, b"\x81\xa5nonce\xff")),
        ("a GOAWAY that is none", Control, frame(Kind::GoAway as u8, 0, 0, b"\x80")),
    ]
}

async fn violate(addr: SocketAddr, place: Place, bytes: &[u8]) -> Verdict {
    let mut raw = Dialer::new().greet(addr).await;
    let mut other: Option<Stream> = match place {
        Place::Control => None,
        Place::Lane(class) => Some(raw.lane(class).await),
        Place::Fresh => Some(raw.stream().await),
    };
    let stream = other.as_mut().unwrap_or(&mut raw.control);
    // The node may close before it has read everything.
    let _ = stream.send.write_all(bytes).await;
    Verdict::closed(raw.closed().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_violation_closes_its_connection_and_costs_nobody_else() {
    let mut watch = Watch::start().await;
    let addr = watch.victim.addr;
    for (name, place, bytes) in rows() {
        let verdict = violate(addr, place, &bytes).await;
        assert_eq!(verdict, Verdict::Closed(CloseCode::Protocol), "{name}");
        watch.settled(name).await;
    }
    for (name, class) in [("request", Class::Request), ("control", Class::Control)] {
        let raw = Dialer::new().greet(addr).await;
        let _first = raw.lane(class).await;
        // The dialer's control lane is the one on which HELLO went.
        let _second = if class == Class::Control { None } else { Some(raw.lane(class).await) };
        let verdict = Verdict::closed(raw.closed().await);
        assert_eq!(verdict, Verdict::Closed(CloseCode::Protocol), "a second {name} lane");
        watch.settled(name).await;
    }
    watch.finish().await;
}

/// Sends a STORE of `records` in the name of `publisher` and returns what became of each.
async fn store(lane: &mut Stream, publisher: &NodeId, records: &[Record<'_>]) -> Vec<Status> {
    let mut out = BytesMut::new();
    let mut batch = StoreBatch::open(9, publisher, &mut out);
    for record in records {
        let mut one = BytesMut::new();
        encode_record(record, &mut one).unwrap();
        batch.push(&one, &mut out).unwrap();
    }
    lane.send.write_all(&out).await.unwrap();
    let (header, body) = lane.reply().await.expect("a reply");
    assert_eq!((header.kind, header.id), (Kind::StoreReply as u8, 9));
    decode_store_reply(&body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_may_not_be_are_refused_one_by_one() {
    let mut watch = Watch::start().await;
    let mut raw = Dialer::new().greet(watch.victim.addr).await;
    let mut lane = raw.lane(Class::Bulk).await;
    let key = Key::of_name("hostile");
    let good = record(key, b"value");
    let large = vec![0; foveola::dht::record::VALUE_BYTES_MAX + 1];
    let proof = [1; foveola::wire::PROOF_LEN];
    let rows = [
        (Record { kind: RecordKind(9), ..good }, Reject::Kind),
        (Record { kind: RecordKind::PROVIDER, ..good }, Reject::Proof),
        (Record { flags: 1, ..good }, Reject::Flags),
        (Record { proof: &proof, ..good }, Reject::Proof),
        (Record { value: &large, ..good }, Reject::TooLarge),
        (Record { ttl_ms: 0, ..good }, Reject::Ttl),
    ];
    let records: Vec<_> = rows.iter().map(|row| row.0).chain([good]).collect();
    let mut expected: Vec<_> = rows.iter().map(|row| Status::Rejected(row.1)).collect();
    expected.push(Status::Applied);
    assert_eq!(store(&mut lane, &raw.id, &records).await, expected);

    // A record of somebody else, under a key that others use: refused whatever it says.
    let others = NodeId::from_bytes([7; 32]);
    let refused = [Status::Rejected(Reject::Publisher); 2];
    let last = Record { seq: u64::MAX, ttl_ms: u32::MAX, ..good };
    assert_eq!(store(&mut lane, &others, &[good, last]).await, refused);

    // The last sequence there is: nothing overflows, nothing replaces it.
    assert_eq!(store(&mut lane, &raw.id, &[last]).await, [Status::Applied]);
    assert_eq!(store(&mut lane, &raw.id, &[good]).await, [Status::Superseded { seq: u64::MAX }]);
    assert!(raw.is_served().await);
    drop((lane, raw));
    watch.settled("refused records").await;
    assert_eq!(watch.victim.figures().await.held, watch.base.held + 1);
    watch.finish().await;
}
