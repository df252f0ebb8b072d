//! The verifiers. Each flaw is told as the error whose TLS alert stands for it in
//! [`Refusal`](super::Refusal).

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible,
    SignatureScheme,
};
use webpki::{EndEntityCert, KeyUsage};

use super::provider::NODE_SIGNATURES;
use super::trust::{Admit, TlsError, Trust};
use super::{ANY_NODE, mesh_name};
use crate::id::NodeId;
use crate::identity::{PUBLIC_KEY_LEN, node_id_of, public_key_of};

/// The key in a certificate that a node may show: Ed25519 and nothing else.
pub(super) fn public_key(leaf: &CertificateDer<'_>) -> Result<[u8; PUBLIC_KEY_LEN], CertificateError> {
    let leaf = EndEntityCert::try_from(leaf).map_err(flaw)?;
    public_key_of(&leaf.subject_public_key_info()).ok_or(CertificateError::InvalidPurpose)
}

/// Checks the certificates that nodes show each other, on both sides. Holds no state of any connection.
#[derive(Debug)]
pub(super) struct MeshVerifier {
    /// The authorities of the realm, or nothing when nodes certify themselves.
    realm: Option<Authorities>,
    admit: Admit,
}

#[derive(Debug)]
struct Authorities {
    anchors: Vec<TrustAnchor<'static>>,
    /// What authorities may sign certificates with; nodes themselves are held to Ed25519.
    algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
}

impl MeshVerifier {
    pub(super) fn new(trust: Trust, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let (ca, admit) = match trust {
            Trust::Pinned { admit } => return Ok(Self { realm: None, admit }),
            Trust::Realm { ca, admit, .. } => (ca, admit),
        };
        if ca.is_empty() {
            return Err(TlsError::NoAuthority);
        }
        let anchors = ca.into_iter().enumerate().map(|(index, der)| {
            let certificate = CertificateDer::from(der);
            let anchor = webpki::anchor_from_trusted_cert(&certificate);
            anchor.map(|anchor| anchor.to_owned()).map_err(|_| TlsError::Authority { index })
        });
        let anchors = anchors.collect::<Result<_, _>>()?;
        let algorithms = provider.signature_verification_algorithms.all;
        Ok(Self { realm: Some(Authorities { anchors, algorithms }), admit })
    }

    /// The node that a chain certifies.
    fn identify(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<NodeId, CertificateError> {
        if self.realm.is_none() && !rest.is_empty() {
            return Err(CertificateError::InvalidPurpose);
        }
        let id = node_id_of(&public_key(leaf)?);
        if let Some(realm) = &self.realm {
            let leaf = EndEntityCert::try_from(leaf).map_err(flaw)?;
            leaf.verify_for_usage(realm.algorithms, &realm.anchors, rest, now, usage, None, None)
                .map_err(flaw)?;
        }
        Ok(id)
    }

    fn check_admitted(&self, id: &NodeId) -> Result<(), CertificateError> {
        let admitted = self.admit.admits(id);
        if admitted { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure) }
    }

    fn check_expected(&self, id: &NodeId, name: &ServerName<'_>) -> Result<(), CertificateError> {
        let ServerName::DnsName(name) = name else { return Err(wrong_identity()) };
        let name = name.as_ref();
        let any = self.realm.is_some() && name == ANY_NODE;
        if any || name == mesh_name(id) { Ok(()) } else { Err(wrong_identity()) }
    }
}

impl ServerCertVerifier for MeshVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let id = self.identify(leaf, rest, now, KeyUsage::server_auth())?;
        self.check_expected(&id, name)?;
        self.check_admitted(&id)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &NODE_SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        NODE_SIGNATURES.supported_schemes()
    }
}

impl ClientCertVerifier for MeshVerifier {
    /// No hints: they would tell a stranger the name of the realm's authority.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let id = self.identify(leaf, rest, now, KeyUsage::client_auth())?;
        self.check_admitted(&id)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &NODE_SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        NODE_SIGNATURES.supported_schemes()
    }
}

/// Checks the certificate of a host on a public dial: the authorities of the web, the DNS name, the time.
#[derive(Debug)]
pub(super) struct PublicVerifier(Arc<WebPkiServerVerifier>);

impl PublicVerifier {
    pub(super) fn new(web: Arc<WebPkiServerVerifier>) -> Self {
        Self(web)
    }
}

impl ServerCertVerifier for PublicVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verify_server_cert(leaf, rest, name, ocsp, now).map_err(|error| match error {
            Error::InvalidCertificate(error) => web_flaw(error).into(),
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the certificate belongs to another node")]
struct WrongIdentity;

fn wrong_identity() -> CertificateError {
    CertificateError::Other(OtherError(Arc::new(WrongIdentity)))
}

/// What is wrong with a chain. A bad signature in it means that no authority of ours issued it, whatever
/// name it gives; the error of that name is kept for the handshake.
fn flaw(error: webpki::Error) -> CertificateError {
    use webpki::Error as Flaw;
    match error {
        Flaw::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        Flaw::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }
        }
        Flaw::InvalidCertValidity => CertificateError::Expired,
        Flaw::UnknownIssuer | Flaw::InvalidSignatureForPublicKey => CertificateError::UnknownIssuer,
        Flaw::UnsupportedSignatureAlgorithmContext(_)
        | Flaw::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | Flaw::RequiredEkuNotFoundContext(_)
        | Flaw::CaUsedAsEndEntity => CertificateError::InvalidPurpose,
        Flaw::UnsupportedCriticalExtension => CertificateError::UnhandledCriticalExtension,
        _ => CertificateError::BadEncoding,
    }
}

/// As [`flaw`], for what the verifier of the web reports.
fn web_flaw(error: CertificateError) -> CertificateError {
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            wrong_identity()
        }
        CertificateError::BadSignature => CertificateError::UnknownIssuer,
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            CertificateError::InvalidPurpose
        }
        CertificateError::Other(_) => CertificateError::BadEncoding,
        error => error,
    }
}
