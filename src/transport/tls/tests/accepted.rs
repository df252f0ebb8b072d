//! Who is let in, what is shown to whom, and what of it can be read on the wire.

use quinn::crypto::rustls::HandshakeData;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256, date_time_ymd};
use zeroize::Zeroizing;

use super::*;

/// The DNS name in the first packet of the dialer, if it carried one.
fn sni(acceptor: &Connection) -> Option<String> {
    acceptor.handshake_data().unwrap().downcast::<HandshakeData>().unwrap().server_name
}

#[tokio::test]
async fn both_sides_know_each_other() {
    let (a, b) = (identity(1), identity(2));
    let ca = RealmCa::generate();
    let (ra, rb) = (in_realm(&a, &ca), in_realm(&b, &ca));
    let rows = [
        (pinned(&a).server(), to(&pinned(&b), &a)),
        (ra.server(), to(&rb, &a)),
        (ra.server(), rb.dial(Expect::Realm).unwrap()),
    ];
    for (server, dial) in rows {
        let (acceptor, dialer, _endpoints) = meet(server, dial).await.connected();
        assert_eq!(peer_id(&acceptor), Some(b.node_id()));
        assert_eq!(peer_id(&dialer), Some(a.node_id()));
        assert_eq!(sni(&acceptor), None, "the node id is not on the wire");
    }
}

#[tokio::test]
async fn pinned_trust_needs_an_id_and_ignores_the_clock() {
    let (a, b) = (identity(1), identity(2));
    assert_eq!(pinned(&a).dial(Expect::Realm).map(drop), Err(ExpectError::IdNeeded));
    let mut old = params("foveola node");
    old.not_after = date_time_ymd(1976, 1, 1);
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(b.pkcs8_der().to_vec());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ED25519).unwrap();
    let old = Peer::showing(vec![old.self_signed(&key).unwrap().der().clone()], &b);
    meet(old.server(), to(&pinned(&a), &b)).await.connected();
    meet(pinned(&a).server(), (old.client(), mesh_name(&a.node_id()))).await.connected();
}

/// The name for a dial to any node of a realm must not open a pinned node's eyes to strangers.
#[tokio::test]
async fn the_name_of_any_node_means_nothing_to_a_pinned_dialer() {
    let (a, b) = (identity(1), identity(2));
    let (client, _) = to(&pinned(&a), &b);
    let met = meet(pinned(&b).server(), (client, ANY_NODE)).await;
    met.refused(Role::Dialer, Refusal::WrongIdentity).await;
}

/// A public host: an authority of its own, a P-256 key, a name.
struct Host {
    root: Vec<u8>,
    public: PublicCertificate,
}

fn host(name: &str) -> Host {
    let generate = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let (ca_key, key) = (generate(), generate());
    let mut ca = params("web");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = ca.self_signed(&ca_key).unwrap();
    let mut leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(ca, ca_key)).unwrap();
    let public = PublicCertificate::from_pem(
        name.to_uppercase(),
        leaf.pem().as_bytes(),
        key.serialize_pem().as_bytes(),
    );
    Host { root: root.der().to_vec(), public: public.unwrap() }
}

#[tokio::test]
async fn a_public_host_shows_its_certificate_to_those_who_ask_for_its_name() {
    let (a, b) = (identity(1), identity(2));
    let host = host("relay.example");
    let server = Tls::new(&a, Trust::pinned(), Some(host.public), &[]).unwrap();
    let dialer = Tls::new(&b, Trust::pinned(), None, &[host.root]).unwrap();

    let dial = dialer.dial(Expect::Public("relay.example")).unwrap();
    let (acceptor, dialed, _endpoints) = meet(server.server(), dial).await.connected();
    assert_eq!(peer_id(&acceptor), Some(b.node_id()));
    assert_eq!(peer_id(&dialed), None, "the node id remains to be proved");
    assert_eq!(sni(&acceptor).as_deref(), Some("relay.example"));

    let (_, dialed, _endpoints) = meet(server.server(), to(&dialer, &a)).await.connected();
    assert_eq!(peer_id(&dialed), Some(a.node_id()), "the mesh sees the certificate of the node");

    let (client, _) = dialer.dial(Expect::Public("relay.example")).unwrap();
    let other = meet(server.server(), (client, "other.example")).await;
    other.refused(Role::Dialer, Refusal::UnknownIssuer).await;
    assert_eq!(dialer.dial(Expect::Public("no name")).map(drop), Err(ExpectError::Name));
    assert_eq!(dialer.dial(Expect::Public("192.0.2.1")).map(drop), Err(ExpectError::Name));
}

#[tokio::test]
async fn a_public_host_must_hold_a_certificate_for_its_name_from_a_known_authority() {
    let (a, b) = (identity(1), identity(2));
    let mut host = host("relay.example");
    let stranger = pinned(&b).dial(Expect::Public("relay.example")).unwrap();
    let server = Tls::new(&a, Trust::pinned(), Some(host.public.clone()), &[]).unwrap();
    meet(server.server(), stranger).await.refused(Role::Dialer, Refusal::UnknownIssuer).await;

    host.public.name = "relay2.example".into();
    let server = Tls::new(&a, Trust::pinned(), Some(host.public), &[]).unwrap();
    let dialer = Tls::new(&b, Trust::pinned(), None, &[host.root]).unwrap();
    let dial = dialer.dial(Expect::Public("relay2.example")).unwrap();
    meet(server.server(), dial).await.refused(Role::Dialer, Refusal::WrongIdentity).await;
}

#[test]
fn faulty_certificates_of_ones_own_are_named() {
    let (a, b) = (identity(1), identity(2));
    let ca = RealmCa::generate();
    let realm = |ca, chain| Trust::Realm { ca, chain, admit: Admit::Open };
    let new = |trust, public, roots: &[Vec<u8>]| Tls::new(&a, trust, public, roots).map(drop).unwrap_err();
    let junk = || vec![1, 2, 3];

    let foreign = realm(vec![ca.root()], ca.issue(&b));
    assert!(matches!(new(foreign, None, &[]), TlsError::ChainKey));
    assert!(matches!(new(realm(vec![ca.root()], vec![]), None, &[]), TlsError::ChainKey));
    assert!(matches!(new(realm(vec![], ca.issue(&a)), None, &[]), TlsError::NoAuthority));
    let authorities = realm(vec![ca.root(), junk()], ca.issue(&a));
    assert!(matches!(new(authorities, None, &[]), TlsError::Authority { index: 1 }));
    assert!(matches!(new(Trust::pinned(), None, &[junk()]), TlsError::ExtraRoot { index: 0 }));

    let good = host("relay.example").public;
    let bad = |change: fn(&mut PublicCertificate)| {
        let mut public = good.clone();
        change(&mut public);
        new(Trust::pinned(), Some(public), &[])
    };
    assert!(matches!(bad(|public| public.name = "10.0.0.1".into()), TlsError::PublicName));
    assert!(matches!(bad(|public| public.chain.clear()), TlsError::PublicKey));
    assert!(matches!(bad(|public| public.key = Zeroizing::new(vec![0; 9])), TlsError::PublicKey));
    assert!(matches!(bad(|public| public.key = identity(9).pkcs8_der()), TlsError::PublicKey));
    assert!(!format!("{good:?}").contains("key"));
}

#[test]
fn pem_texts_are_read() {
    let rsa = include_bytes!("rsa.pem");
    assert_eq!(certificates_from_pem(&rsa.repeat(2)).unwrap().len(), 2);
    assert_eq!(certificates_from_pem(b"none"), Err(PemError::NoCertificate));
    assert_eq!(certificates_from_pem(&rsa[..200]), Err(PemError::Malformed));
    assert_eq!(PublicCertificate::from_pem("a.b", rsa, b"").map(drop), Err(PemError::NoKey));
}

#[test]
fn a_node_id_fits_a_dns_label() {
    // RFC 4648, section 10: "foobar" is MZXW6YTBOI.
    let mut id = [0; 32];
    id[..6].copy_from_slice(b"foobar");
    let name = mesh_name(&NodeId::from_bytes(id));
    assert_eq!(name, format!("mzxw6ytboi{}.foveola.invalid", "a".repeat(42)));
    assert_eq!(mesh_name(&NodeId::from_bytes([0xff; 32])), format!("{}q.foveola.invalid", "7".repeat(51)));
}
