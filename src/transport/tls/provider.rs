//! Which cryptography TLS runs on: `ring`, or `aws-lc-rs` when it alone is chosen. Named here only.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::SignatureVerificationAlgorithm;

#[cfg(all(feature = "aws-lc-rs", not(feature = "ring")))]
use rustls::crypto::aws_lc_rs as tls_crypto;
#[cfg(feature = "ring")]
use rustls::crypto::ring as tls_crypto;
#[cfg(all(feature = "aws-lc-rs", not(feature = "ring")))]
use webpki::aws_lc_rs as signatures;
#[cfg(feature = "ring")]
use webpki::ring as signatures;

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
compile_error!("enable one of the features `ring` and `aws-lc-rs`");

const ED25519: &[&dyn SignatureVerificationAlgorithm] = &[signatures::ED25519];

/// The only handshake signatures that nodes make and accept.
pub(super) const NODE_SIGNATURES: WebPkiSupportedAlgorithms =
    WebPkiSupportedAlgorithms { all: ED25519, mapping: &[(SignatureScheme::ED25519, ED25519)] };

/// The provider, passed to rustls explicitly: the process default belongs to the application.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(tls_crypto::default_provider())
}
