//! Nodes with chosen identities, and a peer that speaks the protocol by hand and so can break its manners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use foveola::wire::{Class, Decoder, Grant, Hello, Kind};
use foveola::{Config, Identity, Key, Node};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// As long as a test waits between two looks at a condition.
pub(crate) async fn tick() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// The identity that follows from `n`.
pub(crate) fn identity(n: u64) -> Identity {
    Identity::from_seed(&seed(n))
}

fn seed(n: u64) -> [u8; 32] {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    seed
}

/// A node without peers, whose identity follows from `n`.
pub(crate) async fn node(n: u64, config: Config) -> Node {
    Node::builder().identity(identity(n)).seed(n).config(config).spawn().await.unwrap()
}

/// Default settings, changed by `change`.
pub(crate) fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

/// A key that no other part of the test uses.
pub(crate) fn key(name: impl std::fmt::Display) -> Key {
    Key::of_name(name.to_string())
}

/// A peer made of bare quinn, with a valid identity.
pub(crate) struct RawPeer {
    pub(crate) connection: quinn::Connection,
    /// The control lane, on which HELLO has passed.
    pub(crate) send: quinn::SendStream,
    pub(crate) recv: quinn::RecvStream,
    pub(crate) decoder: Decoder,
    _endpoint: quinn::Endpoint,
}

impl RawPeer {
    /// Dials `node` as the identity of `n`, says HELLO, and lets the node send `stream_window` bytes on each
    /// stream and no more until they are read.
    pub(crate) async fn dial(n: u64, node: &Node, stream_window: u32) -> Self {
        let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let mut transport = quinn::TransportConfig::default();
        transport.stream_receive_window(stream_window.into());
        transport.keep_alive_interval(Some(Duration::from_secs(2)));
        let mut client = quinn::ClientConfig::new(Arc::new(client_tls(n)));
        client.transport_config(Arc::new(transport));
        let connection =
            endpoint.connect_with(client, node.local_addr(), "raw.invalid").unwrap().await.unwrap();
        let (send, recv) = connection.open_bi().await.unwrap();
        let decoder = Decoder::new(1 << 20);
        let mut peer = Self { connection, send, recv, decoder, _endpoint: endpoint };
        let mut out = BytesMut::new();
        hello().encode(0, &mut out).unwrap();
        peer.send.write_all(&out).await.unwrap();
        let (kind, _, _) = peer.frame().await;
        assert_eq!(kind, Kind::HelloAck as u8);
        peer
    }

    /// The next frame on the control lane: kind, id and body.
    pub(crate) async fn frame(&mut self) -> (u8, u64, Vec<u8>) {
        next_frame(&mut self.recv, &mut self.decoder).await
    }
}

/// The next frame on a stream: kind, id and body.
pub(crate) async fn next_frame(recv: &mut quinn::RecvStream, decoder: &mut Decoder) -> (u8, u64, Vec<u8>) {
    loop {
        if let Some(frame) = decoder.next().unwrap() {
            return (frame.header.kind, frame.header.id, frame.body.to_vec());
        }
        let chunk = recv.read_chunk(64 << 10, true).await.unwrap().expect("the stream goes on");
        decoder.feed(&chunk.bytes);
    }
}

fn hello() -> Hello {
    Hello {
        version_min: 1,
        version_max: 1,
        realm: String::new(),
        boot: 1,
        dial: 1,
        endpoints: Vec::new(),
        observed: None,
        serves: true,
        features: 0,
        grants: [Grant { requests: 1_024, bytes: 1 << 20 }; Class::LANES],
        proof: None,
    }
}

fn client_tls(n: u64) -> QuicClientConfig {
    let mut der = PKCS8_ED25519.to_vec();
    der.extend_from_slice(&seed(n));
    let der = PrivatePkcs8KeyDer::from(der);
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&pair).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(ring::default_provider())))
        .with_client_auth_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(der))
        .unwrap();
    config.alpn_protocols = vec![b"foveola/1".to_vec()];
    QuicClientConfig::try_from(config).unwrap()
}

/// What precedes the seed of an Ed25519 key in PKCS#8 (RFC 8410).
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Believes whoever answers: the raw peer is the one that is judged.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unreachable!("tls 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
