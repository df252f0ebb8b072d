//! Whom a node believes, and the certificates it needs for that, as plain values.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::id::NodeId;

/// Which of the nodes that proved who they are may connect, in both directions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Admit {
    /// Every node.
    #[default]
    Open,
    /// The nodes in this set.
    Allow(Arc<BTreeSet<NodeId>>),
}

impl Admit {
    /// Admits the nodes in `ids` and no others.
    pub fn allow(ids: impl IntoIterator<Item = NodeId>) -> Self {
        Self::Allow(Arc::new(ids.into_iter().collect()))
    }

    /// Whether `id` may connect.
    pub fn admits(&self, id: &NodeId) -> bool {
        match self {
            Self::Open => true,
            Self::Allow(ids) => ids.contains(id),
        }
    }
}

/// What makes a node believe that a peer is who it says. Two nodes must share a kind of trust to meet.
///
/// In both kinds a certificate carries the Ed25519 key of its node, and the SHA-256 of that key is the
/// node id; a dial to a node id reaches that node or nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// Every node certifies itself; who knows its id can verify it. Validity times are ignored, because
    /// the key alone is the identity and a wrong clock must not part a mesh.
    Pinned {
        /// Which nodes may connect.
        admit: Admit,
    },
    /// A private authority certifies the nodes of its realm. Validity times count.
    Realm {
        /// The certificates of the authority, DER; at least one. No other authority is believed. Their own
        /// validity times are not checked: whoever lists them here believes them.
        ca: Vec<Vec<u8>>,
        /// The certificate of this node and, after it, those of intermediate authorities, DER.
        chain: Vec<Vec<u8>>,
        /// Which nodes may connect.
        admit: Admit,
    },
}

impl Trust {
    /// Pinned trust that admits every node.
    pub fn pinned() -> Self {
        Self::Pinned { admit: Admit::Open }
    }

    /// Which nodes may connect.
    pub fn admit(&self) -> &Admit {
        match self {
            Self::Pinned { admit } | Self::Realm { admit, .. } => admit,
        }
    }
}

/// A certificate of a public authority for the DNS name of this host, shown to dialers that ask for that
/// name (addresses written `public:name:port`) and to no others.
#[derive(Clone)]
pub struct PublicCertificate {
    /// The DNS name, compared without regard to case.
    pub name: String,
    /// The certificate and those of intermediate authorities, DER.
    pub chain: Vec<Vec<u8>>,
    /// Its private key, DER: PKCS#8, PKCS#1 or SEC1.
    pub key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for PublicCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicCertificate").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PublicCertificate {
    /// The certificate for `name` from the PEM files that authorities hand out.
    ///
    /// # Errors
    ///
    /// [`PemError`] when `chain` holds no certificate or `key` no private key.
    pub fn from_pem(name: impl Into<String>, chain: &[u8], key: &[u8]) -> Result<Self, PemError> {
        let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key).map_err(|_| PemError::NoKey)?;
        let key = Zeroizing::new(key.secret_der().to_vec());
        Ok(Self { name: name.into(), chain: certificates_from_pem(chain)?, key })
    }
}

/// The certificates in a PEM text, in order, as DER. Other PEM blocks are skipped.
///
/// # Errors
///
/// [`PemError`] when the text is damaged or holds no certificate.
pub fn certificates_from_pem(pem: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .map(|certificate| certificate.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|_| PemError::Malformed)?;
    if certificates.is_empty() { Err(PemError::NoCertificate) } else { Ok(certificates) }
}

/// Why a PEM text cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// A PEM block does not end, or is not base64.
    #[error("the text is not valid PEM")]
    Malformed,
    /// There is no certificate in it.
    #[error("the text holds no certificate")]
    NoCertificate,
    /// There is no private key in it.
    #[error("the text holds no private key")]
    NoKey,
}

/// Why the certificates of a node cannot be used. All of these are faults of the own configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Realm trust without an authority.
    #[error("realm trust needs the certificate of its authority")]
    NoAuthority,
    /// The certificate of the realm's authority at this index cannot be read.
    #[error("certificate {index} of the realm's authority cannot be read")]
    Authority {
        /// Its place, from 0.
        index: usize,
    },
    /// The extra root at this index cannot be read.
    #[error("extra root {index} cannot be read")]
    ExtraRoot {
        /// Its place, from 0.
        index: usize,
    },
    /// The realm chain is empty, or its first certificate was issued for another key than the node's.
    #[error("the first certificate of the realm chain does not belong to the key of this node")]
    ChainKey,
    /// The name of the public certificate is not a DNS name.
    #[error("the name of the public certificate is not a dns name")]
    PublicName,
    /// The public certificate cannot be used: no chain, an unknown kind of key, or a key that does not
    /// belong to it.
    #[error("the public certificate and its key cannot be used")]
    PublicKey,
    /// The TLS library refused the configuration.
    #[error("the tls library refused the configuration")]
    Library {
        /// What it said.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl TlsError {
    pub(super) fn library(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Library { source: source.into() }
    }
}
