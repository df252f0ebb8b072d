//! A peer without manners: quinn and rustls with a valid identity, and nothing of the pool between the
//! test and the wire.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use foveola::NodeId;
use foveola::wire::{BODY_MAX, Class, Decoder, Grant, Header, Hello, Kind, Ping, Pong, encode_open};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// How long anything that must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// One frame with any header and any body.
pub(crate) fn frame(kind: u8, flags: u8, id: u64, body: &[u8]) -> Vec<u8> {
    claiming(kind, flags, id, u32::try_from(body.len()).unwrap(), body)
}

/// A frame whose header says `len`, whatever follows it.
pub(crate) fn claiming(kind: u8, flags: u8, id: u64, len: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Header { kind, flags, body_len: len, id }.encode().to_vec();
    out.extend_from_slice(body);
    out
}

pub(crate) fn ping(id: u64) -> Vec<u8> {
    let mut out = BytesMut::new();
    Ping { nonce: id }.encode(id, &mut out).unwrap();
    out.to_vec()
}

/// A valid introduction of a node that serves nobody.
pub(crate) fn hello() -> Hello {
    Hello {
        version_min: 1,
        version_max: 1,
        realm: String::new(),
        boot: 1,
        dial: 1,
        endpoints: Vec::new(),
        observed: None,
        serves: false,
        features: 0,
        grants: [Grant { requests: 64, bytes: 64 << 10 }; Class::LANES],
        proof: None,
    }
}

pub(crate) fn hello_frame(hello: &Hello) -> Vec<u8> {
    let mut out = BytesMut::new();
    hello.encode(0, &mut out).unwrap();
    out.to_vec()
}

/// A new node id, the certificate that carries it, and its key.
fn identity() -> (NodeId, CertificateDer<'static>, PrivatePkcs8KeyDer<'static>) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = rcgen::CertificateParams::default();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let leaf = webpki::EndEntityCert::try_from(&certificate).unwrap();
    let id = NodeId::of_spki(&leaf.subject_public_key_info());
    (id, certificate, PrivatePkcs8KeyDer::from(key.serialize_der()))
}

/// Who dials: one identity, one socket.
pub(crate) struct Dialer {
    pub(crate) id: NodeId,
    endpoint: Endpoint,
    crypto: Arc<QuicClientConfig>,
    transport: Arc<TransportConfig>,
}

impl Dialer {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    /// A dialer whose QUIC settings are as `tweak` leaves them.
    pub(crate) fn with(tweak: impl FnOnce(&mut TransportConfig)) -> Self {
        let (id, certificate, key) = identity();
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(AnyNode(Arc::clone(&provider)));
        let mut crypto = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(vec![certificate], key.into())
            .unwrap();
        crypto.alpn_protocols = vec![b"foveola/1".to_vec()];
        crypto.enable_sni = false;
        let mut transport = TransportConfig::default();
        transport.keep_alive_interval(Some(Duration::from_secs(1)));
        tweak(&mut transport);
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let crypto = Arc::new(QuicClientConfig::try_from(crypto).unwrap());
        Self { id, endpoint, crypto, transport: Arc::new(transport) }
    }

    /// Sends the first packet of a handshake, which `addr` need not answer.
    pub(crate) fn connecting(&self, addr: SocketAddr) -> quinn::Connecting {
        let mut config = quinn::ClientConfig::new(Arc::<QuicClientConfig>::clone(&self.crypto));
        config.transport_config(Arc::clone(&self.transport));
        self.endpoint.connect_with(config, addr, "raw.invalid").unwrap()
    }

    /// A TLS handshake and nothing more.
    pub(crate) async fn handshake(&self, addr: SocketAddr) -> Result<Connection, ConnectionError> {
        self.connecting(addr).await
    }

    /// A handshake and a HELLO that the node has accepted.
    pub(crate) async fn greet(&self, addr: SocketAddr) -> Raw {
        self.greet_as(addr, &hello()).await
    }

    pub(crate) async fn greet_as(&self, addr: SocketAddr, hello: &Hello) -> Raw {
        let greeted = async {
            let connection = self.handshake(addr).await.unwrap();
            let (mut send, recv) = connection.open_bi().await.unwrap();
            send.write_all(&hello_frame(hello)).await.unwrap();
            let mut control = Stream { send, recv, decoder: Decoder::new(BODY_MAX) };
            let (answer, body) = control.frame().await.expect("an answer to HELLO");
            assert_eq!(answer.kind, Kind::HelloAck as u8);
            Raw { answer: Hello::decode(&body).unwrap(), connection, control, id: self.id }
        };
        tokio::time::timeout(PATIENCE, greeted).await.expect("a greeting in time")
    }
}

/// Who is dialed: accepts every node and every HELLO.
pub(crate) struct Acceptor {
    pub(crate) id: NodeId,
    pub(crate) addr: SocketAddr,
    endpoint: Endpoint,
}

impl Acceptor {
    pub(crate) fn new() -> Self {
        let (id, certificate, key) = identity();
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(AnyNode(Arc::clone(&provider)));
        let mut crypto = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], key.into())
            .unwrap();
        crypto.alpn_protocols = vec![b"foveola/1".to_vec()];
        let crypto = Arc::new(QuicServerConfig::try_from(crypto).unwrap());
        let config = quinn::ServerConfig::with_crypto(crypto);
        let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self { id, addr: endpoint.local_addr().unwrap(), endpoint }
    }

    /// The next node that dials, its HELLO answered.
    pub(crate) async fn accept(&self) -> Option<Raw> {
        let connection = self.endpoint.accept().await?.await.ok()?;
        let (send, recv) = connection.accept_bi().await.ok()?;
        let mut control = Stream { send, recv, decoder: Decoder::new(BODY_MAX) };
        let (_, body) = control.frame().await?;
        let said = Hello::decode(&body).ok()?;
        let mut out = BytesMut::new();
        Hello { dial: said.dial, serves: true, ..hello() }.encode_ack(0, &mut out).unwrap();
        control.send.write_all(&out).await.ok()?;
        Some(Raw { id: self.id, connection, control, answer: said })
    }
}

/// A connection on which HELLO was accepted.
pub(crate) struct Raw {
    pub(crate) id: NodeId,
    pub(crate) connection: Connection,
    pub(crate) control: Stream,
    /// What the other side said about itself.
    pub(crate) answer: Hello,
}

/// One stream, both ways.
pub(crate) struct Stream {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    decoder: Decoder,
}

impl Raw {
    /// A stream on which nothing was sent.
    pub(crate) async fn stream(&self) -> Stream {
        let (send, recv) = self.connection.open_bi().await.unwrap();
        Stream { send, recv, decoder: Decoder::new(BODY_MAX) }
    }

    /// A lane of `class`, opened properly.
    pub(crate) async fn lane(&self, class: Class) -> Stream {
        let mut stream = self.stream().await;
        let mut open = BytesMut::new();
        encode_open(class, &mut open);
        stream.send.write_all(&open).await.unwrap();
        stream
    }

    /// Whether the node still answers on the control lane.
    pub(crate) async fn is_served(&mut self) -> bool {
        let id = 1 << 40;
        let exchange = async {
            self.control.send.write_all(&ping(id)).await.ok()?;
            loop {
                let (header, body) = self.control.frame().await?;
                if header.id == id {
                    return Some(Pong::decode(&body).is_ok_and(|pong| pong.nonce == id));
                }
            }
        };
        matches!(tokio::time::timeout(PATIENCE, exchange).await, Ok(Some(true)))
    }

    /// The code with which the node closes the connection, if it does so in time.
    pub(crate) async fn closed(&self) -> Option<u64> {
        close_code(&self.connection).await
    }
}

/// The code with which the other side closes, if it does so in time.
pub(crate) async fn close_code(connection: &Connection) -> Option<u64> {
    match tokio::time::timeout(PATIENCE, connection.closed()).await {
        Ok(ConnectionError::ApplicationClosed(close)) => Some(close.error_code.into_inner()),
        _ => None,
    }
}

impl Stream {
    pub(crate) fn new(send: SendStream, recv: RecvStream) -> Self {
        Self { send, recv, decoder: Decoder::new(BODY_MAX) }
    }

    /// The next frame, or nothing when the stream has ended in whatever way.
    pub(crate) async fn frame(&mut self) -> Option<(Header, Vec<u8>)> {
        loop {
            if let Some(frame) = self.decoder.next().ok()? {
                return Some((frame.header, frame.body.to_vec()));
            }
            let chunk = self.recv.read_chunk(64 << 10, true).await.ok()??;
            self.decoder.feed(&chunk.bytes);
        }
    }

    /// As [`frame`](Self::frame), in time.
    pub(crate) async fn reply(&mut self) -> Option<(Header, Vec<u8>)> {
        tokio::time::timeout(PATIENCE, self.frame()).await.ok()?
    }

    /// Whether the node gives this stream up in time, in either direction.
    pub(crate) async fn is_given_up(&mut self) -> bool {
        let Self { send, recv, .. } = self;
        let stopped = async {
            // Nothing more can be heard of our half once it has been taken whole, or was reset.
            if !matches!(send.stopped().await, Ok(Some(_))) {
                std::future::pending::<()>().await;
            }
        };
        let ended = async {
            loop {
                match recv.read_chunk(64 << 10, true).await {
                    Ok(Some(_)) => {}
                    Ok(None) | Err(quinn::ReadError::Reset(_)) => return true,
                    Err(_) => return false,
                }
            }
        };
        let either = async {
            tokio::select! { () = stopped => true, given_up = ended => given_up }
        };
        tokio::time::timeout(PATIENCE, either).await.unwrap_or(false)
    }
}

/// Takes any certificate whose key has signed the handshake: whom we attack is not in doubt.
#[derive(Debug)]
struct AnyNode(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyNode {
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
        Err(Error::General("tls 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for AnyNode {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("tls 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
