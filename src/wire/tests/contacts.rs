//! Questions for nodes and their replies: what fits, and what nobody may send.

use bytes::{BufMut, BytesMut};

use crate::id::{Key, NodeId};
use crate::wire::*;

const NODE: NodeId = NodeId::from_bytes([5; 32]);

/// The body of a reply with one contact whose endpoints are encoded as `endpoints`.
fn reply(endpoints: &[u8]) -> Vec<u8> {
    [&[0x92, LAYOUT, 0x92, 0xc4, 32][..], &[5; 32], endpoints].concat()
}

/// How many endpoints the one contact of a reply has.
fn read(endpoints: &[u8]) -> Result<usize, BodyError> {
    decode_find_node_reply(&reply(endpoints)).map(|contacts| contacts[0].endpoints.len())
}

#[test]
fn a_reply_has_so_many_contacts_and_endpoints() {
    let longest = "e".repeat(ENDPOINT_MAX);
    let most = || std::iter::repeat_n(longest.as_str(), ENDPOINTS_MAX);
    let mut out = BytesMut::new();
    let mut reply = FindNodeReply::open(1, &mut out);
    for _ in 0..CONTACTS_MAX {
        reply.push(&NODE, most(), &mut out).expect("within the limit");
    }
    let whole = out.clone();
    assert_eq!(reply.push(&NODE, most(), &mut out), Err(EncodeError::Full));
    assert_eq!(reply.push_encoded(&[], &mut out), Err(EncodeError::Full));
    let contacts = decode_find_node_reply(&whole[HEADER_LEN..]).expect("the largest reply");
    assert_eq!((contacts.len(), contacts.capacity()), (CONTACTS_MAX, CONTACTS_MAX));
    for contact in contacts {
        assert_eq!(contact.id, NODE);
        assert!(contact.endpoints.eq(most()));
    }

    let mut reply = FindNodeReply::open(1, &mut out);
    let whole = out.clone();
    assert_eq!(reply.push(&NODE, most().chain(["x"]), &mut out), Err(EncodeError::TooLarge));
    assert_eq!(reply.push(&NODE, ["x", &"e".repeat(ENDPOINT_MAX + 1)], &mut out), Err(EncodeError::TooLarge));
    assert_eq!(out, whole, "what does not fit leaves no trace");
    assert_eq!(reply.count(), 0);
    out.put_u8(0);
    assert_eq!(reply.push(&NODE, [], &mut out), Err(EncodeError::Detached));
    assert_eq!(out.len(), whole.len() + 1);
}

#[test]
fn a_contact_can_be_encoded_before_its_reply() {
    let (mut contact, mut one, mut other) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    encode_contact(&NODE, ["192.0.2.1:1", "host:2"], &mut contact).expect("a small contact");
    FindNodeReply::open(1, &mut one).push_encoded(&contact, &mut one).expect("room");
    FindNodeReply::open(1, &mut other).push(&NODE, ["192.0.2.1:1", "host:2"], &mut other).expect("room");
    assert_eq!(one, other);
}

#[test]
fn more_than_is_permitted_is_refused_before_it_is_read() {
    let max = u32::MAX as usize;
    let claim = [0xdd, 0xff, 0xff, 0xff, 0xff];
    let count = |count, max| Err(BodyError::Count { count, max });
    assert_eq!(read(&claim), count(max, ENDPOINTS_MAX));
    assert_eq!(read(&[&[0x99][..], &[0xa1, b'x'].repeat(9)].concat()), count(9, ENDPOINTS_MAX));
    assert_eq!(read(&[&[0x98][..], &[0xa1, b'x'].repeat(8)].concat()), Ok(8));
    let one = &reply(&[0x90])[2..];
    let many = |n: u8| [&[0xdc, 0, n + 1, LAYOUT][..], &one.repeat(n.into())].concat();
    let read = |body: &[u8]| decode_find_node_reply(body).map(|contacts| contacts.len());
    assert_eq!(read(&many(20)), Ok(20));
    assert_eq!(read(&many(21)), count(21, CONTACTS_MAX));
    assert_eq!(read(&[&claim[..], &[LAYOUT]].concat()), count(max - 1, BATCH_RECORDS_MAX));
    assert_eq!(read(&[0x93, LAYOUT, 0x92, 0xc4]), Err(BodyError::Truncated));
}

#[test]
fn endpoints_are_short_utf8() {
    let text = |bytes: &[u8]| {
        let len = u16::try_from(bytes.len()).expect("a short text");
        read(&[&[0x91, 0xda][..], &len.to_be_bytes(), bytes].concat())
    };
    assert_eq!(text(&[b'e'; ENDPOINT_MAX]), Ok(1));
    assert_eq!(text(&[b'e'; ENDPOINT_MAX + 1]), Err(BodyError::Length));
    assert_eq!(text(&[0xff]), Err(BodyError::Text));
    assert_eq!(read(&[0x91, 0xdb, 0xff, 0xff, 0xff, 0xff]), Err(BodyError::Truncated));
    assert_eq!(read(&[0xc0]), Err(BodyError::Type));
    assert_eq!(read(&[0x91, 0xc4, 0]), Err(BodyError::Type));
}

#[test]
fn a_question_has_a_target_and_a_count() {
    let question = |layout, rest: &[u8]| {
        let body = [&[0x93, layout, 0xc4, 32][..], &[9; 32], rest].concat();
        FindNode::decode(&body)
    };
    let target = Key::from_bytes([9; 32]);
    assert_eq!(question(LAYOUT, &[20]), Ok(FindNode { target, count: 20 }));
    assert_eq!(question(LAYOUT, &[0xcc, 255]), Ok(FindNode { target, count: 255 }));
    assert_eq!(question(LAYOUT, &[0xcd, 1, 0]), Err(BodyError::Range));
    assert_eq!(question(LAYOUT, &[20, 0]), Err(BodyError::Trailing(1)));
    assert_eq!(question(2, &[20]), Err(BodyError::Layout(2)));
    assert_eq!(FindNode::decode(&[0x94, LAYOUT, 0, 0, 0]), Err(BodyError::Length));
    assert_eq!(FindNode::decode(&[0x92, LAYOUT, 0]), Err(BodyError::Length));
}
