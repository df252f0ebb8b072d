//! Real handshakes on loopback between honest nodes and peers that show whatever a test wants.

#![expect(clippy::disallowed_methods, reason = "tests read the clock and build what the library may not")]

mod accepted;
mod proof;
mod refused;
mod resumed;

use std::net::Ipv4Addr;
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint};
use rustls::client::danger::ServerCertVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::certificate::params;
use super::*;

type End = Result<Connection, ConnectionError>;

/// Both ends of one handshake, and the endpoints that must outlive them.
struct Met {
    acceptor: End,
    dialer: End,
    _endpoints: [Endpoint; 2],
}

async fn meet(
    server: Arc<QuicServerConfig>,
    (client, name): (Arc<QuicClientConfig>, impl AsRef<str>),
) -> Met {
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let listening = Endpoint::server(quinn::ServerConfig::with_crypto(server), any).unwrap();
    let dialing = Endpoint::client(any).unwrap();
    let connecting = dialing
        .connect_with(quinn::ClientConfig::new(client), listening.local_addr().unwrap(), name.as_ref())
        .unwrap();
    let accepting = async { listening.accept().await.unwrap().await };
    let both = async { tokio::join!(accepting, connecting) };
    let (acceptor, dialer) = in_time(both).await;
    Met { acceptor, dialer, _endpoints: [listening, dialing] }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("a verdict in time")
}

impl Met {
    fn connected(self) -> (Connection, Connection, [Endpoint; 2]) {
        (self.acceptor.expect("accepted"), self.dialer.expect("dialed"), self._endpoints)
    }

    /// Asserts that `by` refused the other side, that both sides know the same reason, and that the
    /// acceptor had no connection on which an application could have heard the peer.
    async fn refused(self, by: Role, reason: Refusal) {
        let error = self.acceptor.expect_err("the acceptor has no connection");
        let (us, them) = match by {
            Role::Acceptor => (By::Us, By::Them),
            Role::Dialer => (By::Them, By::Us),
        };
        assert_eq!(refusal(&error), Some((us, reason)), "acceptor: {error:?}");
        let error = match (self.dialer, by) {
            (Err(error), _) => error,
            (Ok(connection), Role::Acceptor) => in_time(connection.closed()).await,
            (Ok(_), Role::Dialer) => panic!("the dialer connected to a peer that it refuses"),
        };
        assert_eq!(refusal(&error), Some((them, reason)), "dialer: {error:?}");
    }
}

fn identity(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

fn tls(identity: &Identity, trust: Trust) -> Tls {
    Tls::new(identity, trust, None, &[]).unwrap()
}

fn pinned(identity: &Identity) -> Tls {
    tls(identity, Trust::pinned())
}

fn in_realm(identity: &Identity, ca: &RealmCa) -> Tls {
    tls(identity, ca.trust(identity, Admit::Open))
}

fn to(tls: &Tls, node: &Identity) -> (Arc<QuicClientConfig>, String) {
    tls.dial(Expect::Node(node.node_id())).unwrap()
}

/// A peer that shows `chain` and signs with the key of `signer`, whether or not they fit.
struct Peer {
    shown: Option<Arc<CertifiedKey>>,
    alpn: Vec<Vec<u8>>,
}

impl Peer {
    fn showing(chain: Vec<CertificateDer<'static>>, signer: &Identity) -> Self {
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(signer.pkcs8_der().to_vec());
        let key = provider::provider().key_provider.load_private_key(key.into()).unwrap();
        Self { shown: Some(Arc::new(CertifiedKey::new(chain, key))), alpn: vec![ALPN.to_vec()] }
    }

    fn honest(identity: &Identity) -> Self {
        Self::showing(vec![certificate::self_signed(identity).unwrap()], identity)
    }

    fn alpn(mut self, alpn: &[&[u8]]) -> Self {
        self.alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        self
    }

    fn client(&self) -> Arc<QuicClientConfig> {
        let verifier: Arc<dyn ServerCertVerifier> = any_node();
        let builder = ClientConfig::builder_with_provider(provider::provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.shown {
            Some(shown) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown.clone()))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.clone();
        config.enable_sni = false;
        Arc::new(QuicClientConfig::try_from(config).unwrap())
    }

    fn server(&self) -> Arc<QuicServerConfig> {
        let verifier: Arc<dyn ClientCertVerifier> = any_node();
        let shown = self.shown.clone().expect("an acceptor shows something");
        let mut config = ServerConfig::builder_with_provider(provider::provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
        config.alpn_protocols = self.alpn.clone();
        Arc::new(QuicServerConfig::try_from(config).unwrap())
    }
}

fn any_node() -> Arc<MeshVerifier> {
    Arc::new(MeshVerifier::new(Trust::pinned(), &provider::provider()).unwrap())
}

/// Lets an honest pinned node accept `peer`, then dial it: each time it must refuse for `reason`.
async fn refused_on_both_sides(peer: &Peer, claimed: &Identity, reason: Refusal) {
    let node = identity(1);
    let honest = pinned(&node);
    meet(honest.server(), (peer.client(), mesh_name(&node.node_id())))
        .await
        .refused(Role::Acceptor, reason)
        .await;
    meet(peer.server(), to(&honest, claimed)).await.refused(Role::Dialer, reason).await;
}
