//! What the two ends of a route sign, and how each checks the other.
//!
//! The signed messages begin with what they are for and have fields of fixed length: bodies enter as
//! their SHA-256. The realm is in both, so nothing is valid in another mesh.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::id::{Key, NodeId};
use crate::identity::{BadSignature, Identity, node_id_of, verify};
use crate::wire::{HOPS_MAX, Route, Routed};

/// How far the clocks of origin and destination may differ.
pub const SKEW_MAX: Duration = Duration::from_secs(300);

const REQUEST: &[u8] = b"foveola routed request v1";
const ANSWER: &[u8] = b"foveola routed answer v1";

/// A request to another node, as the origin makes it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The node that it is for.
    pub destination: NodeId,
    /// Higher than those before it to the same node ([`super::numbers`]).
    pub nonce: u64,
    /// When it is made, in milliseconds since 1970.
    pub issued_ms: u64,
    /// The kind of the request.
    pub kind: u8,
    /// The flags of the request.
    pub flags: u8,
    /// The body of the request.
    pub body: &'a [u8],
}

/// The request in an envelope that no node has passed on. The time that is left is for the sender to
/// fill in.
///
/// `realm` is the SHA-256 of the name of the mesh.
pub fn seal<'a>(identity: &Identity, realm: &Key, request: &Request<'a>) -> Route<'a> {
    let Request { destination, nonce, issued_ms, kind, flags, body } = *request;
    let mut route = Route {
        destination,
        origin_key: identity.public_key(),
        nonce,
        issued_ms,
        left_ms: 0,
        hops: HOPS_MAX,
        passed: Vec::new(),
        kind,
        flags,
        body,
        signature: [0; 64],
    };
    route.signature = identity.sign(&request_message(realm, &route));
    route
}

/// The origin of an envelope, once its signature is verified.
///
/// # Errors
///
/// [`BadSignature`] when anything that the origin signed was changed, or this is another realm.
pub fn origin(realm: &Key, route: &Route<'_>) -> Result<NodeId, BadSignature> {
    verify(&route.origin_key, &request_message(realm, route), &route.signature)?;
    Ok(node_id_of(&route.origin_key))
}

/// Whether a request that was made at `issued_ms` may be answered at `now_ms`, both in milliseconds since
/// 1970.
pub fn is_fresh(now_ms: u64, issued_ms: u64) -> bool {
    u128::from(now_ms.abs_diff(issued_ms)) <= SKEW_MAX.as_millis()
}

/// The answer to the request `nonce` of `origin`, signed by its destination.
pub fn answer<'a>(
    identity: &Identity,
    realm: &Key,
    (origin, nonce): (&NodeId, u64),
    (kind, flags, body): (u8, u8, &'a [u8]),
) -> Routed<'a> {
    let signature = identity.sign(&answer_message(realm, (origin, nonce), (kind, flags, body)));
    Routed { kind, flags, body, key: identity.public_key(), signature }
}

/// Checks that `routed` is what `destination` has answered to the request `nonce` of `origin`.
///
/// # Errors
///
/// [`BadSignature`] when it is not.
pub fn check(
    realm: &Key,
    destination: &NodeId,
    request: (&NodeId, u64),
    routed: &Routed<'_>,
) -> Result<(), BadSignature> {
    let Routed { kind, flags, body, key, signature } = routed;
    if node_id_of(key) != *destination {
        return Err(BadSignature);
    }
    verify(key, &answer_message(realm, request, (*kind, *flags, body)), signature)
}

fn request_message(realm: &Key, route: &Route<'_>) -> Vec<u8> {
    [
        REQUEST,
        realm.as_bytes(),
        route.destination.as_bytes(),
        &route.nonce.to_be_bytes(),
        &route.issued_ms.to_be_bytes(),
        &[route.kind, route.flags],
        &Sha256::digest(route.body),
    ]
    .concat()
}

fn answer_message(
    realm: &Key,
    (origin, nonce): (&NodeId, u64),
    (kind, flags, body): (u8, u8, &[u8]),
) -> Vec<u8> {
    [ANSWER, realm.as_bytes(), origin.as_bytes(), &nonce.to_be_bytes(), &[kind, flags], &Sha256::digest(body)]
        .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(n: u8) -> Identity {
        Identity::from_seed(&[n; 32])
    }

    fn realm() -> Key {
        Key::of_name("a mesh")
    }

    fn sealed() -> Route<'static> {
        let destination = identity(2).node_id();
        let request = Request { destination, nonce: 7, issued_ms: 8, kind: 0x14, flags: 0, body: b"body" };
        seal(&identity(1), &realm(), &request)
    }

    #[test]
    fn relays_change_only_what_is_theirs() {
        let mut route = sealed();
        route.hops = 3;
        route.left_ms = 5;
        route.passed.push(identity(9).node_id());
        assert_eq!(origin(&realm(), &route), Ok(identity(1).node_id()));
        let changes: [fn(&mut Route<'static>); 8] = [
            |route| route.destination = identity(3).node_id(),
            |route| route.origin_key = identity(3).public_key(),
            |route| route.nonce += 1,
            |route| route.issued_ms += 1,
            |route| route.kind += 1,
            |route| route.flags += 1,
            |route| route.body = b"Body",
            |route| route.signature[0] ^= 1,
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut route = sealed();
            change(&mut route);
            assert_eq!(origin(&realm(), &route), Err(BadSignature), "change {i}");
        }
        assert_eq!(origin(&Key::of_name("another mesh"), &sealed()), Err(BadSignature));
    }

    #[test]
    fn nobody_but_the_destination_can_answer() {
        let (asker, destination) = (identity(1).node_id(), identity(2).node_id());
        let routed = answer(&identity(2), &realm(), (&asker, 7), (0x15, 1, b"answer"));
        let checked = |routed: &Routed<'_>, asker: &NodeId, nonce| {
            check(&realm(), &destination, (asker, nonce), routed)
        };
        assert_eq!(checked(&routed, &asker, 7), Ok(()));
        assert_eq!(checked(&routed, &asker, 8), Err(BadSignature), "the answer to another request");
        assert_eq!(checked(&routed, &destination, 7), Err(BadSignature), "the answer to another node");
        assert_eq!(checked(&Routed { body: b"Answer", ..routed }, &asker, 7), Err(BadSignature));
        assert_eq!(checked(&Routed { kind: 0x13, ..routed }, &asker, 7), Err(BadSignature));
        assert_eq!(checked(&Routed { flags: 0, ..routed }, &asker, 7), Err(BadSignature));
        let forged = answer(&identity(3), &realm(), (&asker, 7), (0x15, 1, b"answer"));
        assert_eq!(checked(&forged, &asker, 7), Err(BadSignature));
        let borrowed = Routed { key: routed.key, ..forged };
        assert_eq!(checked(&borrowed, &asker, 7), Err(BadSignature));
    }

    #[test]
    fn clocks_may_differ_by_five_minutes() {
        let skew = 300_000;
        assert!(is_fresh(1_000_000, 1_000_000 - skew) && is_fresh(1_000_000, 1_000_000 + skew));
        assert!(!is_fresh(1_000_000, 1_000_000 - skew - 1) && !is_fresh(1_000_000, 1_000_000 + skew + 1));
        assert!(!is_fresh(0, u64::MAX) && !is_fresh(u64::MAX, 0));
    }
}
