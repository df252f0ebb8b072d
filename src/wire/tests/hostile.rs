//! What a hostile peer may send, and what a careless caller may do, case by case.

use bytes::{BufMut, BytesMut};

use crate::id::{Key, NodeId};
use crate::wire::*;

const PUBLISHER: NodeId = NodeId::from_bytes([7; 32]);
const KEY: Key = Key::from_bytes([9; 32]);

#[test]
fn a_record_has_so_much_overhead() {
    let record = |proof, value| {
        let kind = RecordKind(u8::MAX);
        let record = Record { key: KEY, seq: u64::MAX, ttl_ms: u32::MAX, kind, flags: u8::MAX, proof, value };
        let mut out = BytesMut::new();
        encode_record(&record, &mut out).expect("a permitted record");
        out.len() - value.len()
    };
    assert_eq!(record(&[0; PROOF_LEN], &[0; 1 << 16]), RECORD_OVERHEAD_MAX);
    assert!(record(&[], &[]) < RECORD_OVERHEAD_MAX);
}

/// The start of a STORE body with an array of `count` elements.
fn store(count: u32) -> Vec<u8> {
    let mut body = vec![0xdd];
    body.put_u32(count);
    body.extend([LAYOUT, 0xc4, 32]);
    body.extend([7; 32]);
    body
}

fn record(value: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let kind = RecordKind::VALUE;
    let record = Record { key: KEY, seq: 1, ttl_ms: 2, kind, flags: 0, proof: &[], value };
    encode_record(&record, &mut out).expect("a small record");
    out
}

/// A STORE body with one record that `edit` has changed.
fn store_with(edit: impl FnOnce(&mut Vec<u8>)) -> Result<usize, BodyError> {
    let mut record = record(b"value").to_vec();
    edit(&mut record);
    let body = [store(3), record].concat();
    decode_store(&body).map(|frame| frame.records.len())
}

#[test]
fn counts_that_cannot_be_true_are_refused() {
    let max = u32::MAX as usize;
    let count = |fixed| Err(BodyError::Count { count: max - fixed, max: BATCH_RECORDS_MAX });
    assert_eq!(decode_store(&store(u32::MAX)).map(|_| ()), count(2));
    let body = [0xdd, 0xff, 0xff, 0xff, 0xff, LAYOUT];
    assert_eq!(decode_store_reply(&body).map(|_| ()), count(1));
    assert_eq!(decode_find(&body).map(|_| ()), count(1));
    assert_eq!(decode_find_reply(&body).map(|_| ()), count(1));
    assert_eq!(decode_publish(&body).map(|_| ()), count(4));
    assert_eq!(decode_publish_reply(&body).map(|_| ()), count(1));
    let inner = [0x92, LAYOUT, 0x92, 0xdd, 0xff, 0xff, 0xff, 0xff, 0xc0];
    assert_eq!(decode_find_reply(&inner).map(|_| ()), count(0));
    // Permitted as a number, but not in so few bytes: refused before anything is reserved.
    assert_eq!(batch::open(&store(4000), 2, 43).err(), Some(BodyError::Truncated));
    let answer = [0x92, LAYOUT, 0x92, 0xcd, 0x0f, 0xff];
    assert_eq!(batch::bounded(&pack::Reader::new(&answer), 7, 1).err(), Some(BodyError::Truncated));
}

#[test]
fn room_is_made_only_for_what_is_there() {
    let mut body = store(2 + 30);
    for _ in 0..30 {
        body.extend(record(b""));
    }
    let frame = decode_store(&body).expect("a whole batch");
    assert_eq!((frame.records.len(), frame.records.capacity()), (30, 30));
    let statuses = decode_store_reply(&[0x93, LAYOUT, 0, 1]).expect("a whole batch");
    assert_eq!((statuses.len(), statuses.capacity()), (2, 2));
}

#[test]
fn lengths_that_cannot_be_true_are_refused() {
    let value_at = record(b"value").len() - 7;
    let giant = [0xc6, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(store_with(|record| drop(record.splice(value_at.., giant))), Err(BodyError::Truncated));
    assert_eq!(store_with(|record| drop(record.splice(1..3, giant))), Err(BodyError::Truncated));
    assert_eq!(store_with(|record| record[2] = 31), Err(BodyError::Length));
    assert_eq!(store_with(|record| record[0] = 0x96), Err(BodyError::Length));
    assert_eq!(store_with(|record| record[0] = 0x98), Err(BodyError::Length));
    let topic = [0x94, LAYOUT, 0xdb, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(decode_publish(&topic), Err(BodyError::Truncated));
    let realm = [0x81, 0xa5, b'r', b'e', b'a', b'l', b'm', 0xdb, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(Hello::decode(&realm), Err(BodyError::Truncated));
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    // nil, false, every extension, a float, a text, a map, and the marker that means nothing.
    let markers = [0xc0, 0xc2, 0xc7, 0xc8, 0xc9, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xca, 0xcb, 0xa1, 0x81, 0xc1];
    for marker in markers {
        for at in [0, 1, 35, 36, 37, 38, 39, 41] {
            assert_eq!(store_with(|record| record[at] = marker), Err(BodyError::Type), "{marker:#x} at {at}");
        }
        assert_eq!(decode_store(&[marker, 0, 0, 0, 0]), Err(BodyError::Type), "{marker:#x}");
        assert_eq!(decode_store_reply(&[0x92, LAYOUT, marker]), Err(BodyError::Type), "{marker:#x}");
        let ping = [
            0x81, 0xa5, b'n', b'o', b'n', b'c', b'e', marker, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert!(Ping::decode(&ping).is_err(), "{marker:#x}");
    }
}

#[test]
fn numbers_outside_their_field_are_refused() {
    // seq, ttl, kind and flags are one byte each from 35 on.
    let negative = |at: usize| store_with(|record| record[at] = 0xff);
    let wide = |at: usize, wide: &'static [u8]| {
        store_with(|record| drop(record.splice(at..=at, wide.iter().copied())))
    };
    for at in 35..39 {
        assert_eq!(negative(at), Err(BodyError::Range));
        assert_eq!(wide(at, &[0xd0, 0xff]), Err(BodyError::Range));
        assert_eq!(wide(at, &[0xd3, 0xff, 0, 0, 0, 0, 0, 0, 0]), Err(BodyError::Range));
    }
    assert_eq!(wide(36, &[0xcf, 0, 0, 0, 1, 0, 0, 0, 0]), Err(BodyError::Range));
    assert_eq!(wide(36, &[0xce, 0xff, 0xff, 0xff, 0xff]), Ok(1));
    assert_eq!(wide(37, &[0xcd, 1, 0]), Err(BodyError::Range));
    assert_eq!(wide(37, &[0xcc, 0xff]), Ok(1));
    for status in [2, 3, 7, 0x7f] {
        assert_eq!(decode_store_reply(&[0x92, LAYOUT, status]), Err(BodyError::Range));
        assert_eq!(decode_store_reply(&[0x92, LAYOUT, 0x92, 1, status]), Err(BodyError::Range));
    }
}

#[test]
fn a_status_may_come_in_any_width() {
    let superseded = Ok(vec![Status::Superseded { seq: 5 }]);
    assert_eq!(decode_store_reply(&[0x92, LAYOUT, 0x92, 2, 5]), superseded);
    assert_eq!(decode_store_reply(&[0x92, LAYOUT, 0xdc, 0, 2, 0xd0, 2, 5]), superseded);
    assert_eq!(decode_store_reply(&[0x92, LAYOUT, 0xdd, 0, 0, 0, 2, 0xcc, 2, 0xcd, 0, 5]), superseded);
    assert_eq!(decode_store_reply(&[0x92, LAYOUT, 0xcd, 0, 4]), Ok(vec![Status::StorageFull]));
    assert_eq!(decode_store_reply(&[0x92, LAYOUT, 0x93, 2, 5, 5]), Err(BodyError::Length));
}

#[test]
fn a_proof_is_absent_or_whole() {
    for len in [1, 64, 95, 97, 255] {
        let proof = [&[0xc4, len][..], &vec![0; len.into()]].concat();
        assert_eq!(store_with(|record| drop(record.splice(39..41, proof))), Err(BodyError::Length));
        let bytes = vec![0; len.into()];
        let record =
            Record { key: KEY, seq: 1, ttl_ms: 2, kind: RecordKind(0), flags: 0, proof: &bytes, value: &[] };
        let mut out = BytesMut::new();
        assert_eq!(encode_record(&record, &mut out), Err(EncodeError::Proof(len.into())));
        assert!(out.is_empty());
    }
}

#[test]
fn other_layouts_are_named() {
    assert_eq!(decode_store(&[0x95, 2, 0xc1]), Err(BodyError::Layout(2)));
    assert_eq!(decode_find(&[0x91, 0]), Err(BodyError::Layout(0)));
    assert_eq!(decode_store(&[0x90]), Err(BodyError::Length));
    assert_eq!(decode_store(&[0x91, LAYOUT]), Err(BodyError::Length));
}

#[test]
fn cursors_have_no_or_32_bytes() {
    let ask = |after: &[u8]| {
        let body = [&[0x92, LAYOUT, 0x93, 0xc4, 32][..], &[9; 32], &[0], after].concat();
        decode_find(&body).map(|asks| asks[0].after)
    };
    assert_eq!(ask(&[0xc0]), Ok(None));
    assert_eq!(ask(&[0xc4, 0]), Ok(None));
    assert_eq!(ask(&[&[0xc4, 32][..], &[7; 32]].concat()), Ok(Some(PUBLISHER)));
    assert_eq!(ask(&[0xc4, 1, 0]), Err(BodyError::Length));
    assert_eq!(ask(&[0xa0]), Err(BodyError::Type));
}

#[test]
fn topics_are_short_utf8() {
    let publish = |topic: &[u8]| {
        let len = u8::try_from(topic.len()).unwrap_or(u8::MAX);
        let marker: &[u8] = if topic.len() < 256 { &[0xd9, len] } else { &[0xda, 1, 0] };
        let body = [&[0x94, LAYOUT][..], marker, topic, &[0xc4, 32], &[7; 32], &[0]].concat();
        decode_publish(&body).map(|frame| frame.topic.len())
    };
    assert_eq!(publish(&[b'a'; 255]), Ok(255));
    assert_eq!(publish(&[b'a'; 256]), Err(BodyError::Length));
    assert_eq!(publish(&[0xff]), Err(BodyError::Text));
    let mut out = BytesMut::new();
    let opened = PublishBatch::open(1, &"a".repeat(256), &PUBLISHER, 1, &mut out);
    assert_eq!((opened.err(), out.len()), (Some(EncodeError::TooLarge), 0));
}

#[test]
fn a_batch_takes_so_many_elements_and_bytes() {
    let mut out = BytesMut::new();
    let mut reply = StoreReply::open(1, false, &mut out);
    for _ in 0..BATCH_RECORDS_MAX {
        reply.push(Status::Applied, &mut out).expect("within the limit");
    }
    assert_eq!(reply.push(Status::Applied, &mut out), Err(EncodeError::Full));
    assert_eq!(decode_store_reply(&out[HEADER_LEN..]).map(|statuses| statuses.len()), Ok(BATCH_RECORDS_MAX));

    let mut out = BytesMut::new();
    let mut batch = StoreBatch::open(1, &PUBLISHER, &mut out);
    let record = record(&vec![1; BODY_MAX as usize / 2]);
    batch.push(&record, &mut out).expect("half of what a frame holds");
    let whole = out.clone();
    assert_eq!(batch.push(&record, &mut out), Err(EncodeError::TooLarge));
    assert_eq!((batch.count(), batch.len()), (1, whole.len()));
    assert_eq!(out, whole);
}

#[test]
fn a_batch_notices_that_its_frame_is_gone() {
    let mut out = BytesMut::new();
    let mut batch = StoreBatch::open(1, &PUBLISHER, &mut out);
    out.put_u8(0);
    assert_eq!(batch.push(&record(b""), &mut out), Err(EncodeError::Detached));
    out.clear();
    assert_eq!(batch.push(&record(b""), &mut out), Err(EncodeError::Detached));
    assert!(out.is_empty());
}

#[test]
fn an_answer_without_an_end_leaves_no_trace() {
    let mut out = BytesMut::new();
    let mut reply = FindReply::open(1, &mut out);
    let found = Found {
        publisher: PUBLISHER,
        seq: 1,
        ttl_ms: 2,
        kind: RecordKind(0),
        flags: 0,
        proof: &[],
        value: b"v",
    };
    let mut answer = reply.answer(&mut out).expect("room");
    answer.push(&found).expect("room");
    answer.end(Rest::Nothing).expect("room");
    let (whole, len) = (out.clone(), reply.len());
    let mut answer = reply.answer(&mut out).expect("room");
    answer.push(&found).expect("room");
    assert!(answer.len() > len);
    drop(answer);
    assert_eq!((reply.count(), reply.len()), (1, len));
    assert_eq!(out, whole);
}
