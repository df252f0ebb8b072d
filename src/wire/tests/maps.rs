//! Maps: what a later version may add, and what nobody may send.

use bytes::BytesMut;
use rmp::encode::{write_array_len, write_bin, write_map_len, write_str, write_uint};

use crate::wire::*;

/// A map of `fields` fields, the `nonce` of a PING among them.
fn ping(fields: u32) -> Vec<u8> {
    let mut body = Vec::new();
    write_map_len(&mut body, fields).expect("memory");
    text("nonce", &mut body);
    write_uint(&mut body, 5).expect("memory");
    body
}

fn text(text: &str, body: &mut Vec<u8>) {
    write_str(body, text).expect("memory");
}

fn hello() -> Hello {
    Hello {
        version_min: 1,
        version_max: 1,
        realm: String::from("example.mesh"),
        boot: 1,
        dial: 2,
        endpoints: vec![String::from("host:1"); ENDPOINTS_MAX],
        observed: Some("h".repeat(ENDPOINT_MAX)),
        serves: true,
        features: 0,
        grants: [Grant::default(); Class::LANES],
        proof: None,
    }
}

#[test]
fn unknown_fields_are_ignored_and_known_ones_are_needed_once() {
    let mut later = ping(3);
    text("later", &mut later);
    text("anything", &mut later);
    text("nested", &mut later);
    write_array_len(&mut later, 1).expect("memory");
    write_bin(&mut later, b"bytes").expect("memory");
    assert_eq!(Ping::decode(&later), Ok(Ping { nonce: 5 }));

    let mut twice = ping(2);
    twice.extend(&ping(1)[1..]);
    assert_eq!(Ping::decode(&twice), Err(BodyError::Field));
    assert_eq!(Ping::decode(&[0x80]), Err(BodyError::Field));
    assert_eq!(Ping::decode(&[0x91, 5]), Err(BodyError::Type), "fields without names");
}

#[test]
fn nesting_has_an_end() {
    let nested = |depth: usize, open: &[u8]| {
        let mut body = ping(2);
        text("deep", &mut body);
        for _ in 0..depth {
            body.extend(open);
        }
        body.push(0xc0);
        Ping::decode(&body).map(|_| ())
    };
    // The map itself is the first level.
    assert_eq!(nested(MAP_DEPTH_MAX - 1, &[0x91]), Ok(()));
    assert_eq!(nested(MAP_DEPTH_MAX, &[0x91]), Err(BodyError::Depth));
    assert_eq!(nested(MAP_DEPTH_MAX, &[0x81, 0xc0]), Err(BodyError::Depth));
    assert_eq!(nested(10_000, &[0x91]), Err(BodyError::Depth));
    assert_eq!(nested(10_000, &[0xdd, 0xff, 0xff, 0xff, 0xff]), Err(BodyError::Depth));
}

#[test]
fn extensions_in_unknown_fields_never_panic() {
    for marker in [0xc7, 0xc8, 0xc9, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8] {
        for tail in [&[][..], &[0xff], &[0xff; 40], &[0; 40]] {
            let mut body = ping(2);
            text("ext", &mut body);
            body.push(marker);
            body.extend(tail);
            assert!(Ping::decode(&body).is_err(), "{marker:#x}");
        }
    }
}

#[test]
fn texts_and_lists_above_their_limit_are_neither_sent_nor_taken() {
    let at_limit = hello();
    let cases: [fn(&mut Hello); 4] = [
        |hello| hello.realm = "r".repeat(REALM_MAX + 1),
        |hello| hello.endpoints.push(String::new()),
        |hello| hello.endpoints[0] = "e".repeat(ENDPOINT_MAX + 1),
        |hello| hello.observed = Some("o".repeat(ENDPOINT_MAX + 1)),
    ];
    let mut out = BytesMut::new();
    at_limit.encode(1, &mut out).expect("at the limit");
    assert_eq!(Hello::decode(&out[HEADER_LEN..]), Ok(at_limit.clone()));
    let whole = out.clone();
    for exceed in cases {
        let mut hello = at_limit.clone();
        exceed(&mut hello);
        assert_eq!(hello.encode(1, &mut out), Err(EncodeError::TooLarge));
        assert_eq!(hello.encode_ack(1, &mut out), Err(EncodeError::TooLarge));
        assert_eq!(out, whole);
        let body = rmp_serde::to_vec_named(&hello).expect("memory");
        assert_eq!(Hello::decode(&body), Err(BodyError::Field));
    }
}

#[test]
fn claims_are_refused_before_what_they_claim() {
    let mut body = Vec::new();
    write_map_len(&mut body, 1).expect("memory");
    text("endpoints", &mut body);
    body.extend([0xdd, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(Hello::decode(&body), Err(BodyError::Field));
    let large = vec![0x80; MAP_BODY_MAX + 1];
    assert_eq!(Ping::decode(&large), Err(BodyError::Length));
}

#[test]
fn a_proof_is_96_bytes_or_nil() {
    let mut hello = hello();
    hello.proof = Some([3; 96]);
    let mut body = rmp_serde::to_vec_named(&hello).expect("memory");
    assert_eq!(Hello::decode(&body), Ok(hello));
    let at = body.len() - 98;
    assert_eq!(body[at..at + 2], [0xc4, 96]);
    body[at + 1] = 95;
    body.pop();
    assert_eq!(Hello::decode(&body), Err(BodyError::Field));
}
