//! A resumed handshake would skip the verifier, so no node offers one or takes one.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::danger::ClientCertVerified;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::*;

/// A verifier that counts the certificates it was asked about.
#[derive(Debug)]
struct Counted {
    inner: Arc<MeshVerifier>,
    asked: AtomicUsize,
}

impl Counted {
    fn new() -> Arc<Self> {
        Arc::new(Self { inner: any_node(), asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ServerCertVerifier for Counted {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.verify_server_cert(leaf, rest, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(&*self.inner, message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(&*self.inner, message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(&*self.inner)
    }
}

impl ClientCertVerifier for Counted {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.inner.verify_client_cert(leaf, rest, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ClientCertVerifier::verify_tls12_signature(&*self.inner, message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ClientCertVerifier::verify_tls13_signature(&*self.inner, message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ClientCertVerifier::supported_verify_schemes(&*self.inner)
    }
}

/// A dialer that would resume: rustls does so unless told otherwise.
fn eager_client(identity: &Identity, verifier: &Arc<Counted>) -> Arc<QuicClientConfig> {
    let verifier: Arc<dyn ServerCertVerifier> = verifier.clone();
    let shown = Peer::honest(identity).shown.unwrap();
    let mut config = ClientConfig::builder_with_provider(provider::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(QuicClientConfig::try_from(config).unwrap())
}

/// An acceptor that offers to resume: rustls does so unless told otherwise.
fn eager_server(identity: &Identity, verifier: &Arc<Counted>) -> Arc<QuicServerConfig> {
    let verifier: Arc<dyn ClientCertVerifier> = verifier.clone();
    let shown = Peer::honest(identity).shown.unwrap();
    let mut config = ServerConfig::builder_with_provider(provider::provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(QuicServerConfig::try_from(config).unwrap())
}

/// Dials twice, the second time when all that follows the first handshake has arrived.
async fn twice(server: Arc<QuicServerConfig>, dial: (Arc<QuicClientConfig>, String)) {
    for _ in 0..2 {
        let met = meet(server.clone(), dial.clone()).await;
        let (acceptor, dialer, _endpoints) = met.connected();
        acceptor.open_uni().await.unwrap().write_all(b"x").await.unwrap();
        in_time(dialer.accept_uni()).await.unwrap();
    }
}

#[tokio::test]
async fn every_handshake_asks_the_verifier() {
    let (a, b) = (identity(1), identity(2));
    let (theirs, ours) = (Counted::new(), Counted::new());
    let name = mesh_name(&a.node_id());
    twice(eager_server(&a, &theirs), (eager_client(&b, &ours), name.clone())).await;
    assert_eq!((theirs.asked(), ours.asked()), (1, 1), "two eager peers do resume");

    let verifier = Counted::new();
    twice(pinned(&a).server(), (eager_client(&b, &verifier), name)).await;
    assert_eq!(verifier.asked(), 2, "our acceptor offers nothing to resume");

    let verifier = Counted::new();
    twice(eager_server(&a, &verifier), to(&pinned(&b), &a)).await;
    assert_eq!(verifier.asked(), 2, "our dialer keeps nothing to resume");
}
