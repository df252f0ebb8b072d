//! What a hostile relay may put into an envelope, and what room an envelope takes.

use bytes::BytesMut;

use crate::id::NodeId;
use crate::wire::*;

const NODE: NodeId = NodeId::from_bytes([0x44; 32]);

fn route(body: &[u8], passed: usize) -> Route<'_> {
    Route {
        destination: NODE,
        origin_key: [1; 32],
        nonce: u64::MAX,
        issued_ms: u64::MAX,
        left_ms: u32::MAX,
        hops: u8::MAX,
        passed: vec![NODE; passed],
        kind: u8::MAX,
        flags: u8::MAX,
        body,
        signature: [2; 64],
    }
}

fn encoded(route: &Route<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    route.encode(u64::MAX, &mut out).expect("a permitted request");
    out
}

#[test]
fn an_envelope_is_as_large_as_it_says_and_fits_a_lane() {
    let body = vec![0; ROUTED_BODY_MAX];
    let out = encoded(&route(&body, HOPS_MAX.into()));
    assert_eq!(out.len(), ROUTE_OVERHEAD_MAX + ROUTED_BODY_MAX);
    assert!(out.len() <= 64 << 10, "{}", out.len());
    let mut out = BytesMut::new();
    let body = vec![0; ROUTED_BODY_MAX + 1];
    assert_eq!(route(&body, 0).encode(1, &mut out), Err(EncodeError::TooLarge));
    assert_eq!(route(b"", 11).encode(1, &mut out), Err(EncodeError::TooLarge));
    let answer = vec![0; ROUTED_REPLY_MAX + 1];
    let answer = Routed { kind: 0, flags: 0, body: &answer, key: [0; 32], signature: [0; 64] };
    assert_eq!(RouteReply { hops: 0, result: Ok(answer) }.encode(1, &mut out), Err(EncodeError::TooLarge));
    assert!(out.is_empty());
}

/// The body of a small request that `edit` has changed.
fn edited(edit: impl FnOnce(&mut Vec<u8>)) -> Result<(), BodyError> {
    let mut body = encoded(&route(b"x", 1))[HEADER_LEN..].to_vec();
    edit(&mut body);
    Route::decode(&body).map(drop)
}

/// Where the list of nodes passed begins: behind two ids, two wide numbers, a time and the hops.
const PASSED_AT: usize = 2 + 2 * 34 + 2 * 9 + 5 + 2;

#[test]
fn more_nodes_passed_than_there_can_be_are_refused_before_room_is_made() {
    assert_eq!(edited(|_| ()), Ok(()));
    assert_eq!(edited(|body| body[PASSED_AT] = 0x9b), Err(BodyError::Count { count: 11, max: 10 }));
    let giant = [0xdd, 0xff, 0xff, 0xff, 0xff];
    let count = u32::MAX as usize;
    assert_eq!(
        edited(|body| drop(body.splice(PASSED_AT..=PASSED_AT, giant))),
        Err(BodyError::Count { count, max: 10 })
    );
    // Permitted as a number, but there are not so many bytes.
    assert_eq!(edited(|body| body[PASSED_AT] = 0x9a), Err(BodyError::Truncated));
    assert_eq!(edited(|body| body[PASSED_AT] = 0x90), Err(BodyError::Type));
}

#[test]
fn what_has_another_form_is_refused() {
    assert_eq!(edited(|body| body[0] = 0x9b), Err(BodyError::Length));
    assert_eq!(edited(|body| body[0] = 0x90), Err(BodyError::Length));
    assert_eq!(edited(|body| body[1] = 2), Err(BodyError::Layout(2)));
    assert_eq!(edited(|body| body[3] = 31), Err(BodyError::Length));
    assert_eq!(
        edited(|body| drop(body.splice(PASSED_AT - 2..PASSED_AT, [0xcd, 1, 0]))),
        Err(BodyError::Range)
    );
    // A signature that is a byte short, and a body longer than may be routed.
    assert_eq!(
        edited(|body| {
            let at = body.len() - 65;
            body[at] = 63;
            body.pop();
        }),
        Err(BodyError::Length)
    );
    let long = ROUTED_BODY_MAX + 1;
    let marker = [&[0xc5][..], &u16::try_from(long).expect("below 64 Ki").to_be_bytes()].concat();
    let long = [marker, vec![0; long]].concat();
    let at = |body: &[u8]| body.len() - 66 - 3;
    assert_eq!(
        edited(|body| {
            let at = at(body);
            drop(body.splice(at..at + 3, long));
        }),
        Err(BodyError::Length)
    );
    assert_eq!(RouteReply::decode(&[0x93, LAYOUT, 0, 0]), Err(BodyError::Range));
    assert_eq!(RouteReply::decode(&[0x93, LAYOUT, 0, 6]), Err(BodyError::Range));
    assert_eq!(RouteReply::decode(&[0x94, LAYOUT, 0, 1, 0]), Err(BodyError::Length));
    assert_eq!(RouteReply::decode(&[0x93, LAYOUT, 0, 1, 0]), Err(BodyError::Trailing(1)));
    for number in 0..=u8::MAX {
        assert!(RouteError::from_u8(number).is_none_or(|error| error as u8 == number));
    }
}
