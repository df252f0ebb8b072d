//! A peer on bare QUIC that shows, signs and says whatever a test wants.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;
use foveola::wire::{self, Class, Grant, Hello, Kind, RecordKind, StoreBatch};
use foveola::{CloseCode, Identity, Key};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

#[cfg(not(feature = "ring"))]
use rustls::crypto::aws_lc_rs as tls_crypto;
#[cfg(feature = "ring")]
use rustls::crypto::ring as tls_crypto;

use crate::util::in_time;

/// PKCS#8 of an Ed25519 key, up to the 32 bytes of the key (RFC 8410, section 7).
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

pub(crate) fn identity(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

/// The private key of [`identity`].
fn key(seed: u8) -> PrivatePkcs8KeyDer<'static> {
    PrivatePkcs8KeyDer::from([&PKCS8[..], &[seed; 32]].concat())
}

/// The certificate that the node of [`identity`] would show.
pub(crate) fn self_signed(seed: u8) -> Vec<u8> {
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&key(seed), &PKCS_ED25519).unwrap();
    CertificateParams::default().self_signed(&key).unwrap().der().to_vec()
}

/// What the peer shows and speaks.
#[derive(Debug)]
pub(crate) struct Raw {
    shown: Option<Arc<CertifiedKey>>,
    alpn: Vec<Vec<u8>>,
    seed: u8,
}

/// One end of a connection, with the endpoint that must outlive it.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) connection: Connection,
    _endpoint: Endpoint,
}

/// The two streams of [`Raw::barge_in`].
#[derive(Debug)]
pub(crate) struct Lanes {
    pub(crate) control: (SendStream, RecvStream),
    pub(crate) request: (SendStream, RecvStream),
}

impl Raw {
    /// Shows `chain` and signs with the key of `seed`, whether or not they fit.
    pub(crate) fn showing(chain: Vec<Vec<u8>>, seed: u8) -> Self {
        Self::with_key(chain, key(seed).into(), seed)
    }

    pub(crate) fn with_key(chain: Vec<Vec<u8>>, key: PrivateKeyDer<'static>, seed: u8) -> Self {
        let key = provider().key_provider.load_private_key(key).unwrap();
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        Self { shown: Some(Arc::new(CertifiedKey::new(chain, key))), ..Self::nobody(seed) }
    }

    pub(crate) fn honest(seed: u8) -> Self {
        Self::showing(vec![self_signed(seed)], seed)
    }

    /// Shows no certificate.
    pub(crate) fn nobody(seed: u8) -> Self {
        Self { shown: None, alpn: vec![b"foveola/1".to_vec()], seed }
    }

    pub(crate) fn alpn(mut self, alpn: &[&[u8]]) -> Self {
        self.alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        self
    }

    /// Dials the node at `to`. In TLS 1.3 success says nothing about what the node thinks of it.
    pub(crate) async fn dial(&self, to: SocketAddr) -> Result<Met, ConnectionError> {
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone));
        let mut config = match &self.shown {
            Some(shown) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown.clone()))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.clone();
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let connection = in_time(endpoint.connect_with(config, to, "raw.invalid").unwrap()).await?;
        Ok(Met { connection, _endpoint: endpoint })
    }

    pub(crate) fn listen(&self) -> Endpoint {
        let shown = self.shown.clone().expect("an acceptor shows something");
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(Anyone))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
        config.alpn_protocols = self.alpn.clone();
        let config = Arc::new(QuicServerConfig::try_from(config).unwrap());
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        Endpoint::server(quinn::ServerConfig::with_crypto(config), any).unwrap()
    }

    /// Says `hello` and stores a record in the same breath, without waiting to be let in.
    pub(crate) async fn barge_in(
        &self,
        connection: &Connection,
        hello: &Hello,
    ) -> Result<Lanes, ConnectionError> {
        let mut control = connection.open_bi().await?;
        let mut request = connection.open_bi().await?;
        // A refusal may come at any point of this.
        let _ = control.0.write_all(&framed(|out| hello.encode(0, out).unwrap())).await;
        let _ = request.0.write_all(&self.store()).await;
        Ok(Lanes { control, request })
    }

    /// The first frames of a request lane: one record of this peer to be stored.
    pub(crate) fn store(&self) -> BytesMut {
        let mut record = BytesMut::new();
        let value = wire::Record {
            key: Key::of_name("raw"),
            seq: 1,
            ttl_ms: 60_000,
            kind: RecordKind::VALUE,
            flags: 0,
            proof: &[],
            value: b"raw",
        };
        wire::encode_record(&value, &mut record).unwrap();
        framed(|out| {
            wire::encode_open(Class::Request, out);
            let mut batch = StoreBatch::open(1, &identity(self.seed).node_id(), out);
            batch.push(&record, out).unwrap();
        })
    }
}

/// An introduction that every node accepts.
pub(crate) fn hello() -> Hello {
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
        grants: [Grant { requests: 64, bytes: 64 << 10 }; Class::LANES],
        proof: None,
    }
}

pub(crate) fn framed(write: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    write(&mut out);
    out
}

/// Reads frames until one of `kind` comes; returns its body.
pub(crate) async fn frame(recv: &mut RecvStream, kind: Kind) -> Vec<u8> {
    loop {
        let mut header = [0; wire::HEADER_LEN];
        in_time(recv.read_exact(&mut header)).await.unwrap();
        let header = wire::Header::decode(&header);
        let mut body = vec![0; header.body_len as usize];
        in_time(recv.read_exact(&mut body)).await.unwrap();
        if header.kind == kind.to_u8() {
            return body;
        }
    }
}

/// The TLS alert that ended a handshake, whoever sent it.
pub(crate) fn alert(error: &ConnectionError) -> Option<u8> {
    let code = match error {
        ConnectionError::TransportError(error) => error.code,
        ConnectionError::ConnectionClosed(close) => close.error_code,
        _ => return None,
    };
    u8::try_from(u64::from(code).checked_sub(0x100)?).ok()
}

/// The close code with which the node ended a connection.
pub(crate) fn close_code(error: &ConnectionError) -> Option<CloseCode> {
    let ConnectionError::ApplicationClosed(close) = error else { return None };
    Some(CloseCode::from_u32(u32::try_from(close.error_code.into_inner()).ok()?))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(tls_crypto::default_provider())
}

/// Believes everybody who holds the key that he shows.
#[derive(Debug)]
struct Anyone;

impl Anyone {
    fn check(
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, &algorithms)
    }
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::check(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::check(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _rest: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::check(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::check(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
