//! Public addresses: a certificate of an authority of the web, and the node id proved in HELLO.

use foveola::addr::PeerAddr;
use foveola::identity::Identity;
use foveola::wire::{HELLO_PROOF_LEN, Hello, Kind};
use foveola::{AttemptError, CloseCode, Lost, Node, PublicCertificate, Refusal};
use quinn::{ConnectionError, Endpoint};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::raw::{self, Raw, framed, identity};
use super::{join_error, let_nobody_in};
use crate::util::in_time;

/// A public host: an authority of its own, and a certificate for `localhost`.
struct Host {
    root: Vec<u8>,
    leaf: Vec<u8>,
    public: PublicCertificate,
    key: Vec<u8>,
}

fn host() -> Host {
    let generate = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let (ca_key, key) = (generate(), generate());
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = ca.self_signed(&ca_key).unwrap();
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let public =
        PublicCertificate::from_pem("localhost", leaf.pem().as_bytes(), key.serialize_pem().as_bytes());
    Host {
        root: root.der().to_vec(),
        leaf: leaf.der().to_vec(),
        public: public.unwrap(),
        key: key.serialize_der(),
    }
}

fn address(port: u16) -> PeerAddr {
    format!("public:localhost:{port}").parse().unwrap()
}

async fn believer(host: &Host) -> Node {
    Node::builder().identity(identity(1)).extra_roots([host.root.clone()]).spawn().await.unwrap()
}

async fn relay(host: &Host) -> Node {
    Node::builder().identity(identity(2)).public_certificate(host.public.clone()).spawn().await.unwrap()
}

#[tokio::test]
async fn a_public_name_leads_to_the_node_that_proves_itself_in_hello() {
    let host = host();
    let (dialer, relay) = (believer(&host).await, relay(&host).await);
    let joined = in_time(dialer.join(&address(relay.local_addr().port()))).await;
    assert_eq!(joined, Ok(relay.id()));
    assert_eq!(dialer.pool().residents(), [relay.id()]);
    assert!(dialer.ping(relay.id()).await.is_ok());
    assert!(relay.ping(dialer.id()).await.is_ok());
}

#[tokio::test]
async fn an_unknown_public_authority() {
    let (ours, theirs) = (host(), host());
    let (dialer, relay) = (believer(&ours).await, relay(&theirs).await);
    let error = join_error(&dialer, &address(relay.local_addr().port())).await;
    assert_eq!(error, AttemptError::Lost(Lost::Refused(Refusal::UnknownIssuer)));
    let_nobody_in(&relay, &[Lost::RefusedByPeer(Refusal::UnknownIssuer)]).await;
}

#[tokio::test]
async fn a_node_without_a_public_certificate() {
    let host = host();
    let dialer = believer(&host).await;
    let plain = super::pinned(2).await;
    let error = join_error(&dialer, &address(plain.local_addr().port())).await;
    assert_eq!(error, AttemptError::Lost(Lost::Refused(Refusal::UnknownIssuer)));
    let_nobody_in(&plain, &[Lost::RefusedByPeer(Refusal::UnknownIssuer)]).await;
}

/// Accepts one connection, answers HELLO with `proof`, and waits for the end.
async fn answer(endpoint: &Endpoint, proof: Option<[u8; HELLO_PROOF_LEN]>) -> ConnectionError {
    let connection = endpoint.accept().await.unwrap().await.unwrap();
    let (mut send, mut recv) = connection.accept_bi().await.unwrap();
    let asked = Hello::decode(&raw::frame(&mut recv, Kind::Hello).await).unwrap();
    let hello = Hello { proof, dial: asked.dial, ..raw::hello() };
    send.write_all(&framed(|out| hello.encode_ack(0, out).unwrap())).await.unwrap();
    connection.closed().await
}

#[tokio::test]
async fn a_public_host_that_proves_no_node_id() {
    let host = host();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(host.key.clone()));
    let endpoint = Raw::with_key(vec![host.leaf.clone()], key, 2).listen();
    let proof = |public: &Identity, signer: &Identity| {
        let mut proof = [0; HELLO_PROOF_LEN];
        proof[..32].copy_from_slice(&public.public_key());
        proof[32..].copy_from_slice(&signer.sign(b"foveola hello v1"));
        proof
    };
    let (victim, host_key) = (identity(2), identity(3));
    let forged = [proof(&host_key, &host_key), proof(&victim, &host_key), [0; HELLO_PROOF_LEN]];
    for proof in [None].into_iter().chain(forged.map(Some)) {
        let dialer = believer(&host).await;
        let to = address(endpoint.local_addr().unwrap().port());
        let (told, error) = tokio::join!(in_time(answer(&endpoint, proof)), join_error(&dialer, &to));
        assert_eq!(error, AttemptError::Hello(CloseCode::Proof));
        assert_eq!(raw::close_code(&told), Some(CloseCode::Proof), "{told:?}");
    }
}
