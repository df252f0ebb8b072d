//! What a node shows: its own certificate to the mesh, a public one to those who ask for its name.

use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ED25519};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::trust::{PublicCertificate, TlsError, Trust};
use super::verify;
use crate::identity::Identity;

/// The certificate that `identity` shows under `trust`, ready to sign handshakes.
pub(super) fn mesh_certificate(
    identity: &Identity,
    trust: &Trust,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = match trust {
        Trust::Pinned { .. } => vec![self_signed(identity)?],
        Trust::Realm { chain, .. } => owned(chain),
    };
    let key = chain.first().and_then(|leaf| verify::public_key(leaf).ok());
    if key != Some(identity.public_key()) {
        return Err(TlsError::ChainKey);
    }
    let key = identity.pkcs8_der();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.as_slice())).clone_key();
    let key = provider.key_provider.load_private_key(key).map_err(TlsError::library)?;
    Ok(CertifiedKey::new(chain, key))
}

/// The self-signed certificate of `identity`. It carries the key and nothing else that anyone reads.
pub(super) fn self_signed(identity: &Identity) -> Result<CertificateDer<'static>, TlsError> {
    let key = identity.pkcs8_der();
    let key = PrivatePkcs8KeyDer::from(key.as_slice());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519).map_err(TlsError::library)?;
    let certificate = params("foveola node").self_signed(&key).map_err(TlsError::library)?;
    Ok(certificate.der().clone())
}

/// Certificate parameters with `name` as subject, valid as long as rcgen can say (1975 to 4096).
pub(super) fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// A public certificate, ready to sign handshakes.
#[derive(Debug)]
pub(super) struct PublicKey {
    name: String,
    key: Arc<CertifiedKey>,
}

impl PublicKey {
    pub(super) fn new(public: PublicCertificate, provider: &CryptoProvider) -> Result<Self, TlsError> {
        DnsName::try_from(public.name.as_str()).map_err(|_| TlsError::PublicName)?;
        let key = PrivateKeyDer::try_from(public.key.as_slice()).map_err(|_| TlsError::PublicKey)?;
        let key = CertifiedKey::from_der(owned(&public.chain), key.clone_key(), provider)
            .map_err(|_| TlsError::PublicKey)?;
        Ok(Self { name: public.name, key: Arc::new(key) })
    }
}

/// Chooses what the accepting side shows.
#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) mesh: Arc<CertifiedKey>,
    pub(super) public: Option<PublicKey>,
}

impl ResolvesServerCert for Acceptor {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name();
        let public = self
            .public
            .as_ref()
            .filter(|public| asked.is_some_and(|name| name.eq_ignore_ascii_case(&public.name)));
        Some(public.map_or(&self.mesh, |public| &public.key).clone())
    }
}

fn owned(chain: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    chain.iter().cloned().map(CertificateDer::from).collect()
}
