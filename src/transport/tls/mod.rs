//! Verified TLS: the only place that names rustls, webpki and rcgen.
//!
//! Both sides of every connection show a certificate and check the other's. The node id in a peer's
//! certificate is the peer; there is no mode without that check, no resumption (which would skip it), no
//! early data, and no fallback. quinn's convenience constructors switch all of this the other way, so
//! both configurations are built here by hand.
//!
//! The expected node id travels to the verifier in the *server name* (`<base32 of the id>` below
//! [`MESH_DOMAIN`]), never on the wire: one verifier and one configuration serve all dials. Every refusal
//! ends in a TLS alert of its own, so that both sides learn the same [`Refusal`].

mod certificate;
mod proof;
mod provider;
#[cfg(any(test, feature = "test-util"))]
mod realm_ca;
mod refusal;
#[cfg(test)]
mod tests;
mod trust;
mod verify;

use std::sync::{Arc, LazyLock};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, DnsName};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::id::NodeId;
use crate::identity::{Identity, node_id_of};

pub(crate) use proof::{HelloClaim, HelloProof, Role};
#[cfg(any(test, feature = "test-util"))]
pub use realm_ca::RealmCa;
pub(crate) use refusal::By;
pub use refusal::Refusal;
pub(crate) use refusal::refusal;
pub use trust::{Admit, PemError, PublicCertificate, TlsError, Trust, certificates_from_pem};

use verify::{MeshVerifier, PublicVerifier};

/// The application protocol of every connection.
pub(crate) const ALPN: &[u8] = b"foveola/1";

/// The domain of the server names that carry an expected node id. It never resolves (RFC 2606).
const MESH_DOMAIN: &str = "foveola.invalid";
/// The server name of a dial to whichever node of the realm answers.
const ANY_NODE: &str = "any.foveola.invalid";

/// The authorities of the web, shared by all nodes of the process.
static WEB_ROOTS: LazyLock<Arc<RootCertStore>> =
    LazyLock::new(|| Arc::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }));

/// Whom a dial must reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect<'a> {
    /// This node.
    Node(NodeId),
    /// Any node that the authority of the realm vouches for.
    Realm,
    /// Whoever holds a certificate of a public authority for this DNS name; the node id remains to be
    /// proved by a [`HelloProof`].
    Public(&'a str),
}

/// Why a dial cannot even start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpectError {
    /// With pinned trust nobody but the node id vouches for a peer, so an address must name it.
    #[error("an address without a node id can be dialed in a realm only: write <node-id>@host:port")]
    IdNeeded,
    /// The host of a public address is not a DNS name.
    #[error("the host of a public address is not a dns name")]
    Name,
}

/// The TLS side of one node: what it shows, whom it believes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tls {
    server: Arc<QuicServerConfig>,
    mesh: Arc<QuicClientConfig>,
    public: Arc<QuicClientConfig>,
    in_realm: bool,
    has_public: bool,
    admit: Admit,
}

impl Tls {
    /// Prepares all configurations of the node that holds `identity`.
    ///
    /// An acceptor shows `public` to those who ask for its name. `extra_roots` (DER) are believed beside
    /// the authorities of the web, on dials to public addresses only.
    pub(crate) fn new(
        identity: &Identity,
        trust: Trust,
        public: Option<PublicCertificate>,
        extra_roots: &[Vec<u8>],
    ) -> Result<Self, TlsError> {
        let provider = provider::provider();
        let shown = Arc::new(certificate::mesh_certificate(identity, &trust, &provider)?);
        let public = public.map(|public| certificate::PublicKey::new(public, &provider)).transpose()?;
        let has_public = public.is_some();
        let in_realm = matches!(trust, Trust::Realm { .. });
        let admit = trust.admit().clone();
        let verifier = Arc::new(MeshVerifier::new(trust, &provider)?);
        let web = web_verifier(extra_roots, &provider)?;
        let certificates = certificate::Acceptor { mesh: shown.clone(), public };
        Ok(Self {
            server: Arc::new(server_config(&provider, verifier.clone(), certificates)?),
            mesh: Arc::new(client_config(&provider, verifier, shown.clone(), false)?),
            public: Arc::new(client_config(&provider, Arc::new(web), shown, true)?),
            in_realm,
            has_public,
            admit,
        })
    }

    /// Whether dials to a public name end here, which cannot prove the node id.
    pub(crate) fn answers_publicly(&self) -> bool {
        self.has_public
    }

    /// The configuration of the accepting side.
    pub(crate) fn server(&self) -> Arc<QuicServerConfig> {
        self.server.clone()
    }

    /// The configuration and the server name of a dial to `expect`.
    pub(crate) fn dial(&self, expect: Expect<'_>) -> Result<(Arc<QuicClientConfig>, String), ExpectError> {
        match expect {
            Expect::Node(id) => Ok((self.mesh.clone(), mesh_name(&id))),
            Expect::Realm if self.in_realm => Ok((self.mesh.clone(), ANY_NODE.to_owned())),
            Expect::Realm => Err(ExpectError::IdNeeded),
            Expect::Public(name) => match DnsName::try_from(name) {
                Ok(_) => Ok((self.public.clone(), name.to_owned())),
                Err(_) => Err(ExpectError::Name),
            },
        }
    }

    /// Whether `id` may connect. The verifiers ask this for every node key in a certificate; the caller
    /// asks it for a node id that was proved in HELLO.
    pub(crate) fn admits(&self, id: &NodeId) -> bool {
        self.admit.admits(id)
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("in_realm", &self.in_realm).finish_non_exhaustive()
    }
}

/// The node whose key the peer's certificate carries. `None` when it carries no node key: on a public
/// dial that is the rule and the peer must prove its id in HELLO, anywhere else a protocol error.
pub(crate) fn peer_id(connection: &quinn::Connection) -> Option<NodeId> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    verify::public_key(chain.first()?).ok().map(|key| node_id_of(&key))
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<MeshVerifier>,
    certificates: certificate::Acceptor,
) -> Result<QuicServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::library)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // quinn panics on the first connection when this is neither 0 nor the maximum.
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    QuicServerConfig::try_from(config).map_err(TlsError::library)
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>,
    shown: Arc<CertifiedKey>,
    sni: bool,
) -> Result<QuicClientConfig, TlsError> {
    let shown: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(shown));
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::library)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(shown);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    // Anyone on the path can read the first packet, and the name says which node is dialed.
    config.enable_sni = sni;
    QuicClientConfig::try_from(config).map_err(TlsError::library)
}

fn web_verifier(extra: &[Vec<u8>], provider: &Arc<CryptoProvider>) -> Result<PublicVerifier, TlsError> {
    let mut roots = WEB_ROOTS.clone();
    for (index, der) in extra.iter().enumerate() {
        let root = CertificateDer::from(der.as_slice());
        Arc::make_mut(&mut roots).add(root).map_err(|_| TlsError::ExtraRoot { index })?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
    Ok(PublicVerifier::new(verifier.build().map_err(TlsError::library)?))
}

/// The server name that carries `id`. Hexadecimal would pass the 63 characters of a DNS label.
fn mesh_name(id: &NodeId) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut name = String::with_capacity(52 + 1 + MESH_DOMAIN.len());
    for chunk in id.as_bytes().chunks(5) {
        let mut word = [0; 8];
        word[3..3 + chunk.len()].copy_from_slice(chunk);
        let word = u64::from_be_bytes(word);
        for digit in 0..(chunk.len() * 8).div_ceil(5) {
            let five_bits = (word >> (35 - 5 * digit)) & 31;
            name.push(char::from(DIGITS[usize::try_from(five_bits).unwrap_or(0)]));
        }
    }
    name.push('.');
    name.push_str(MESH_DOMAIN);
    name
}
