//! Every way to be refused, and that both sides learn the same reason.

use rcgen::{CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256};

use super::*;

#[tokio::test]
async fn the_certificate_of_another_node() {
    let (a, b, c) = (identity(1), identity(2), identity(3));
    let reason = Refusal::WrongIdentity;
    meet(pinned(&b).server(), to(&pinned(&a), &c)).await.refused(Role::Dialer, reason).await;

    let ca = RealmCa::generate();
    let (server, client) = (in_realm(&b, &ca), in_realm(&a, &ca));
    meet(server.server(), to(&client, &c)).await.refused(Role::Dialer, reason).await;
}

#[tokio::test]
async fn a_wrong_node_id() {
    let (a, b) = (identity(1), identity(2));
    let mut id = *b.node_id().as_bytes();
    id[31] ^= 1;
    let dial = pinned(&a).dial(Expect::Node(NodeId::from_bytes(id))).unwrap();
    meet(pinned(&b).server(), dial).await.refused(Role::Dialer, Refusal::WrongIdentity).await;
}

#[tokio::test]
async fn the_authority_of_another_realm() {
    let (a, b) = (identity(1), identity(2));
    let (ours, theirs) = (RealmCa::generate(), RealmCa::generate());
    let reason = Refusal::UnknownIssuer;
    let node = in_realm(&a, &ours);
    meet(in_realm(&b, &theirs).server(), to(&node, &b)).await.refused(Role::Dialer, reason).await;
    let spy = Trust::Realm { ca: vec![ours.root()], chain: theirs.issue(&b), admit: Admit::Open };
    meet(node.server(), to(&tls(&b, spy), &a)).await.refused(Role::Acceptor, reason).await;
    // Nor does a realm take a node that certifies itself.
    let own = [certificate::self_signed(&b).unwrap().to_vec()].to_vec();
    let spy = Trust::Realm { ca: vec![ours.root()], chain: own, admit: Admit::Open };
    meet(node.server(), to(&tls(&b, spy.clone()), &a)).await.refused(Role::Acceptor, reason).await;
    meet(tls(&b, spy).server(), to(&node, &b)).await.refused(Role::Dialer, reason).await;
}

#[tokio::test]
async fn an_expired_realm_certificate() {
    let (a, b) = (identity(1), identity(2));
    let ca = RealmCa::generate();
    let node = in_realm(&a, &ca);
    let late = Trust::Realm { ca: vec![ca.root()], chain: ca.issue_expired(&b), admit: Admit::Open };
    let late = tls(&b, late);
    meet(node.server(), to(&late, &a)).await.refused(Role::Acceptor, Refusal::Expired).await;
    meet(late.server(), to(&node, &b)).await.refused(Role::Dialer, Refusal::Expired).await;
}

#[tokio::test]
async fn a_chain_of_two_in_pinned_mode() {
    let b = identity(2);
    let chain = [b.clone(), identity(3)].map(|node| certificate::self_signed(&node).unwrap()).to_vec();
    refused_on_both_sides(&Peer::showing(chain, &b), &b, Refusal::UnsupportedCertificate).await;
}

#[tokio::test]
async fn no_certificate_of_the_dialer() {
    let (a, ca) = (identity(1), RealmCa::generate());
    let nobody = Peer { shown: None, alpn: vec![ALPN.to_vec()] };
    let dial = (nobody.client(), mesh_name(&a.node_id()));
    meet(pinned(&a).server(), dial).await.refused(Role::Acceptor, Refusal::NoCertificate).await;
    let b = identity(2);
    let believer = MeshVerifier::new(ca.trust(&b, Admit::Open), &provider::provider()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(believer))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let dial = (Arc::new(QuicClientConfig::try_from(config).unwrap()), mesh_name(&a.node_id()));
    meet(in_realm(&a, &ca).server(), dial).await.refused(Role::Acceptor, Refusal::NoCertificate).await;
}

#[tokio::test]
async fn an_rsa_certificate() {
    let b = identity(2);
    let rsa = certificates_from_pem(include_bytes!("rsa.pem")).unwrap().remove(0);
    let peer = Peer::showing(vec![rsa.into()], &b);
    refused_on_both_sides(&peer, &b, Refusal::UnsupportedCertificate).await;
}

/// Such a peer that keeps to the rules of TLS shows nothing, because Ed25519 is all it is asked for.
#[tokio::test]
async fn a_p256_certificate() {
    let (a, b) = (identity(1), identity(2));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let p256 = params("p256").self_signed(&key).unwrap().der().clone();
    let forger = Peer::showing(vec![p256.clone()], &b);
    refused_on_both_sides(&forger, &b, Refusal::UnsupportedCertificate).await;

    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let shown = CertifiedKey::from_der(vec![p256], key.into(), &provider::provider()).unwrap();
    let honest = Peer { shown: Some(Arc::new(shown)), alpn: vec![ALPN.to_vec()] };
    let dial = (honest.client(), mesh_name(&a.node_id()));
    meet(pinned(&a).server(), dial).await.refused(Role::Acceptor, Refusal::NoCertificate).await;
    meet(honest.server(), to(&pinned(&a), &b)).await.refused(Role::Acceptor, Refusal::NoCommonCrypto).await;
}

#[tokio::test]
async fn another_application_protocol() {
    let (a, b) = (identity(1), identity(2));
    let reason = Refusal::NoCommonAlpn;
    let other = Peer::honest(&b).alpn(&[b"h3", b"macula"]);
    let dial = (other.client(), mesh_name(&a.node_id()));
    meet(pinned(&a).server(), dial).await.refused(Role::Acceptor, reason).await;
    meet(other.server(), to(&pinned(&a), &b)).await.refused(Role::Acceptor, reason).await;
    let silent = Peer::honest(&b).alpn(&[]);
    let dial = (silent.client(), mesh_name(&a.node_id()));
    meet(pinned(&a).server(), dial).await.refused(Role::Acceptor, reason).await;
    meet(silent.server(), to(&pinned(&a), &b)).await.refused(Role::Acceptor, reason).await;
}

#[tokio::test]
async fn a_signature_by_another_key() {
    let (victim, thief) = (identity(2), identity(3));
    let stolen = vec![certificate::self_signed(&victim).unwrap()];
    refused_on_both_sides(&Peer::showing(stolen, &thief), &victim, Refusal::BadSignature).await;

    let (a, ca) = (identity(1), RealmCa::generate());
    let stolen = Peer::showing(ca.issue(&victim).into_iter().map(CertificateDer::from).collect(), &thief);
    let node = in_realm(&a, &ca);
    meet(stolen.server(), to(&node, &victim)).await.refused(Role::Dialer, Refusal::BadSignature).await;
}

#[tokio::test]
async fn a_node_that_is_not_admitted() {
    let (a, b, c) = (identity(1), identity(2), identity(3));
    let reason = Refusal::NotAdmitted;
    let only_c = Admit::allow([c.node_id()]);
    let strict = tls(&a, Trust::Pinned { admit: only_c.clone() });
    assert!(strict.admits(&c.node_id()) && !strict.admits(&b.node_id()));
    meet(strict.server(), to(&pinned(&b), &a)).await.refused(Role::Acceptor, reason).await;
    meet(pinned(&b).server(), to(&strict, &b)).await.refused(Role::Dialer, reason).await;
    meet(strict.server(), to(&pinned(&c), &a)).await.connected();

    let ca = RealmCa::generate();
    let strict = tls(&a, ca.trust(&a, only_c));
    meet(strict.server(), to(&in_realm(&b, &ca), &a)).await.refused(Role::Acceptor, reason).await;
    let dial = strict.dial(Expect::Realm).unwrap();
    meet(in_realm(&b, &ca).server(), dial).await.refused(Role::Dialer, reason).await;
    let dial = strict.dial(Expect::Realm).unwrap();
    meet(in_realm(&c, &ca).server(), dial).await.connected();
}

#[tokio::test]
async fn a_critical_extension_that_nobody_knows() {
    let b = identity(2);
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    extension.set_criticality(true);
    let mut params = params("foveola node");
    params.custom_extensions = vec![extension];
    let key = KeyPair::from_pkcs8_der_and_sign_algo(
        &rustls::pki_types::PrivatePkcs8KeyDer::from(b.pkcs8_der().as_slice()),
        &rcgen::PKCS_ED25519,
    );
    let odd = params.self_signed(&key.unwrap()).unwrap().der().clone();
    refused_on_both_sides(&Peer::showing(vec![odd], &b), &b, Refusal::Malformed).await;
    let garbage = CertificateDer::from(vec![0x30, 0x80, 1, 2, 3]);
    refused_on_both_sides(&Peer::showing(vec![garbage], &b), &b, Refusal::Malformed).await;
}

#[tokio::test]
async fn trust_of_another_kind() {
    let (a, b) = (identity(1), identity(2));
    let (node, ca) = (pinned(&a), RealmCa::generate());
    let stranger = in_realm(&b, &ca);
    meet(node.server(), to(&stranger, &a)).await.refused(Role::Dialer, Refusal::UnknownIssuer).await;
    meet(stranger.server(), to(&node, &b)).await.refused(Role::Acceptor, Refusal::UnknownIssuer).await;
}

#[tokio::test]
async fn an_application_close_is_no_refusal() {
    let (a, b) = (identity(1), identity(2));
    let (acceptor, dialer, _endpoints) = meet(pinned(&a).server(), to(&pinned(&b), &a)).await.connected();
    dialer.close(0x130_u32.into(), b"bye");
    assert_eq!(refusal(&in_time(acceptor.closed()).await), None);
    assert_eq!(refusal(&in_time(dialer.closed()).await), None);
}
