//! Every way to be refused in the handshake: both sides name the same reason, the dialer never believes
//! that it is connected, and nothing that it says is heard.

mod public;
pub(crate) mod raw;

use foveola::addr::PeerAddr;
use foveola::mesh::RealmCa;
use foveola::{
    AcquireError, Admit, AttemptError, DialError, ExpectError, Identity, Lost, Node, NodeId, Refusal, Trust,
    certificates_from_pem,
};
use quinn::ConnectionError;

use crate::util::{PATIENCE, in_time, until};
use raw::{Raw, identity, self_signed};

pub(crate) async fn node(seed: u8, trust: Trust) -> Node {
    Node::builder().identity(identity(seed)).trust(trust).seed(seed.into()).spawn().await.unwrap()
}

pub(crate) async fn pinned(seed: u8) -> Node {
    node(seed, Trust::pinned()).await
}

async fn in_realm(seed: u8, ca: &RealmCa) -> Node {
    node(seed, ca.trust(&identity(seed), Admit::Open)).await
}

/// Why `dialer`, which has no other peers, cannot join through `address`.
pub(crate) async fn join_error(dialer: &Node, address: &PeerAddr) -> AttemptError {
    let error = match in_time(dialer.join(address)).await {
        Err(AcquireError::Dial(DialError::Attempt(error))) => error,
        other => panic!("not refused: {other:?}"),
    };
    is_alone(dialer);
    error
}

fn is_alone(node: &Node) {
    let stats = node.stats();
    assert_eq!(node.pool().residents(), []);
    assert_eq!((stats.handshakes, stats.connections, stats.streams_served), (0, 0, 0));
    assert_eq!((stats.table_nodes, stats.held_records), (0, 0));
}

/// Asserts that `acceptor` has these failed attempts on record, has let nobody in, and heard nothing.
pub(crate) async fn let_nobody_in(acceptor: &Node, why: &[Lost]) {
    let kept = || acceptor.pool().refusals();
    until(PATIENCE, "the refusal is on record", || kept().len() >= why.len()).await;
    assert_eq!(kept(), why);
    is_alone(acceptor);
}

/// `dialer` refuses `acceptor`, where it expects `id`.
async fn dialer_refuses(dialer: &Node, acceptor: &Node, id: NodeId, reason: Refusal) {
    let address = PeerAddr::node(id, acceptor.local_addr());
    // Whoever waits for the same dial learns the same.
    let pool = dialer.pool();
    let (joined, leased) = tokio::join!(join_error(dialer, &address), pool.lease(id, PATIENCE));
    assert_eq!(joined, AttemptError::Lost(Lost::Refused(reason)));
    assert_eq!(leased.map(drop), Err(AcquireError::Dial(DialError::Attempt(joined))));
    let_nobody_in(acceptor, &[Lost::RefusedByPeer(reason)]).await;
}

async fn acceptor_refuses(dialer: &Node, acceptor: &Node, reason: Refusal) {
    let error = join_error(dialer, &acceptor.peer_addr()).await;
    assert_eq!(error, AttemptError::Lost(Lost::RefusedByPeer(reason)));
    let_nobody_in(acceptor, &[Lost::Refused(reason)]).await;
}

/// A node refuses `raw`, which dials it and does not wait to be let in before it stores a record.
async fn node_refuses_dialer(raw: &Raw, node: &Node, reason: Refusal, alert: u8) {
    let error = match raw.dial(node.local_addr()).await {
        Err(error) => error,
        Ok(met) => {
            let _lanes = raw.barge_in(&met.connection, &raw::hello()).await;
            in_time(met.connection.closed()).await
        }
    };
    assert_eq!(raw::alert(&error), Some(alert), "{error:?}");
    let_nobody_in(node, &[Lost::Refused(reason)]).await;
}

/// A node dials `raw` as `claimed`; one of the two refuses the other with `alert`.
async fn dial_of_raw(raw: &Raw, claimed: NodeId, alert: u8) -> AttemptError {
    let (dialer, endpoint) = (pinned(1).await, raw.listen());
    let address = PeerAddr::node(claimed, endpoint.local_addr().unwrap());
    let accepting = async { endpoint.accept().await.unwrap().await };
    let (accepted, error) = tokio::join!(in_time(accepting), join_error(&dialer, &address));
    let at_raw: ConnectionError = accepted.expect_err("no connection");
    assert_eq!(raw::alert(&at_raw), Some(alert), "{at_raw:?}");
    error
}

/// A pinned node refuses `raw` as dialer, and as acceptor that claims to be `claimed`.
async fn refused_on_both_sides(raw: &Raw, claimed: u8, reason: Refusal, alert: u8) {
    node_refuses_dialer(raw, &pinned(1).await, reason, alert).await;
    let error = dial_of_raw(raw, identity(claimed).node_id(), alert).await;
    assert_eq!(error, AttemptError::Lost(Lost::Refused(reason)));
}

#[tokio::test]
async fn the_certificate_of_another_node() {
    let c = identity(3).node_id();
    dialer_refuses(&pinned(1).await, &pinned(2).await, c, Refusal::WrongIdentity).await;
    let ca = RealmCa::generate();
    dialer_refuses(&in_realm(1, &ca).await, &in_realm(2, &ca).await, c, Refusal::WrongIdentity).await;
}

#[tokio::test]
async fn a_wrong_node_id() {
    let (a, b) = (pinned(1).await, pinned(2).await);
    let mut id = *b.id().as_bytes();
    id[31] ^= 1;
    dialer_refuses(&a, &b, NodeId::from_bytes(id), Refusal::WrongIdentity).await;
    // The same two nodes meet under the right one.
    assert_eq!(a.join(&b.peer_addr()).await, Ok(b.id()));
}

#[tokio::test]
async fn the_authority_of_another_realm() {
    let (ours, theirs) = (RealmCa::generate(), RealmCa::generate());
    let (a, b) = (in_realm(1, &ours).await, in_realm(2, &theirs).await);
    dialer_refuses(&a, &b, b.id(), Refusal::UnknownIssuer).await;
    // A dialer that believes us, and hopes that we believe its authority.
    let chain = theirs.issue(&identity(3));
    let spy = node(3, Trust::Realm { ca: vec![ours.root()], chain, admit: Admit::Open }).await;
    acceptor_refuses(&spy, &a, Refusal::UnknownIssuer).await;
}

#[tokio::test]
async fn an_expired_realm_certificate() {
    let ca = RealmCa::generate();
    let late = |seed| {
        let chain = ca.issue_expired(&identity(seed));
        node(seed, Trust::Realm { ca: vec![ca.root()], chain, admit: Admit::Open })
    };
    let (a, b) = (in_realm(1, &ca).await, late(2).await);
    dialer_refuses(&a, &b, b.id(), Refusal::Expired).await;
    acceptor_refuses(&late(3).await, &a, Refusal::Expired).await;
}

#[tokio::test]
async fn a_node_that_is_not_admitted() {
    let only = Admit::allow([identity(3).node_id()]);
    let strict = node(1, Trust::Pinned { admit: only.clone() }).await;
    let b = pinned(2).await;
    acceptor_refuses(&b, &strict, Refusal::NotAdmitted).await;
    dialer_refuses(&strict, &b, b.id(), Refusal::NotAdmitted).await;
    let c = pinned(3).await;
    assert_eq!(c.join(&strict.peer_addr()).await, Ok(strict.id()));

    let ca = RealmCa::generate();
    let strict = node(1, ca.trust(&identity(1), only)).await;
    acceptor_refuses(&in_realm(2, &ca).await, &strict, Refusal::NotAdmitted).await;
}

#[tokio::test]
async fn a_chain_of_two_in_pinned_mode() {
    let raw = Raw::showing(vec![self_signed(2), self_signed(3)], 2);
    refused_on_both_sides(&raw, 2, Refusal::UnsupportedCertificate, 43).await;
}

#[tokio::test]
async fn no_certificate_of_the_dialer() {
    let ca = RealmCa::generate();
    for node in [pinned(1).await, in_realm(1, &ca).await] {
        node_refuses_dialer(&Raw::nobody(2), &node, Refusal::NoCertificate, 116).await;
    }
}

#[tokio::test]
async fn an_rsa_certificate() {
    let chain = certificates_from_pem(include_bytes!("tls/rsa.pem")).unwrap();
    refused_on_both_sides(&Raw::showing(chain, 2), 2, Refusal::UnsupportedCertificate, 43).await;
}

#[tokio::test]
async fn another_application_protocol() {
    let b = identity(2).node_id();
    let none: &[&[u8]] = &[];
    for alpn in [&[&b"h3"[..], b"foveola/0"], none] {
        let raw = Raw::honest(2).alpn(alpn);
        node_refuses_dialer(&raw, &pinned(1).await, Refusal::NoCommonAlpn, 120).await;
        let error = dial_of_raw(&raw, b, 120).await;
        assert_eq!(error, AttemptError::Lost(Lost::RefusedByPeer(Refusal::NoCommonAlpn)));
    }
}

#[tokio::test]
async fn a_valid_certificate_with_a_signature_by_another_key() {
    let stolen = Raw::showing(vec![self_signed(2)], 3);
    refused_on_both_sides(&stolen, 2, Refusal::BadSignature, 51).await;
    let ca = RealmCa::generate();
    let stolen = Raw::showing(ca.issue(&identity(2)), 3);
    node_refuses_dialer(&stolen, &in_realm(1, &ca).await, Refusal::BadSignature, 51).await;
}

#[tokio::test]
async fn an_address_without_id_is_for_realms() {
    let (a, b) = (pinned(1).await, pinned(2).await);
    let anyone = PeerAddr::any(b.local_addr());
    let error = join_error(&a, &anyone).await;
    assert_eq!(error, AttemptError::Trust(ExpectError::IdNeeded));
    assert!(error.to_string().contains("<node-id>@host:port"), "{error}");
    let_nobody_in(&b, &[]).await;

    let ca = RealmCa::generate();
    let (a, b) = (in_realm(1, &ca).await, in_realm(2, &ca).await);
    assert_eq!(a.join(&PeerAddr::any(b.local_addr())).await, Ok(b.id()));
    assert_eq!(a.pool().residents(), [b.id()]);
    assert!(a.ping(b.id()).await.is_ok());
}

#[tokio::test]
async fn a_key_file_is_the_same_node_after_a_restart() {
    let path = format!("{}/{}.pem", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let _ = std::fs::remove_file(&path);
    let start = || Node::builder().identity(Identity::load_or_generate(&path).unwrap()).spawn();
    let first = start().await.unwrap();
    let id = first.id();
    first.shutdown().await;
    let again = start().await.unwrap();
    let address = PeerAddr::node(id, again.local_addr());
    assert_eq!(pinned(1).await.join(&address).await, Ok(id));
    std::fs::remove_file(&path).unwrap();
}
