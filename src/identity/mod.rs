//! Who a node is: one Ed25519 key, from which its [`NodeId`] follows.
//!
//! Everything that proves something about a node (its TLS certificate, its signed records, its proof in
//! HELLO) is a signature by this key; nothing else about a node is trusted. The private half stays in
//! this module and in the TLS library, is wiped from memory on drop, and is never printed.

mod file;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ed25519_dalek::pkcs8::{EncodePrivateKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rand::TryRng;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use crate::id::NodeId;

pub use file::KeyFileError;

/// Bytes in an Ed25519 public key.
pub const PUBLIC_KEY_LEN: usize = 32;
/// Bytes in an Ed25519 signature.
pub const SIGNATURE_LEN: usize = 64;
/// Bytes in the DER `SubjectPublicKeyInfo` of an Ed25519 key.
pub const SPKI_LEN: usize = 44;

/// What precedes the key in the only DER `SubjectPublicKeyInfo` that RFC 8410 allows for Ed25519.
const SPKI_PREFIX: [u8; SPKI_LEN - PUBLIC_KEY_LEN] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An Ed25519 key pair and the node id that follows from it. Cheap to clone; clones share the key.
///
/// `Debug` prints the node id and nothing of the key.
#[derive(Clone)]
pub struct Identity {
    key: Arc<SigningKey>,
    node_id: NodeId,
}

impl Identity {
    /// A new identity from the entropy of the operating system.
    ///
    /// # Panics
    ///
    /// When the operating system has no entropy to give, in which case no TLS could work either.
    pub fn generate() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        SysRng.try_fill_bytes(seed.as_mut()).expect("the operating system provides entropy");
        Self::from_seed(&seed)
    }

    /// The identity whose Ed25519 private key (RFC 8032 seed) is `seed`: for keys kept elsewhere, and for
    /// tests that must be repeatable. Whoever knows the seed is the node.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let node_id = node_id_of(&key.verifying_key().to_bytes());
        Self { key: Arc::new(key), node_id }
    }

    /// Reads the identity in the key file at `path`: PEM, PKCS#8, Ed25519, as `openssl genpkey` writes it.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`], always naming the file: it is missing, a symbolic link, not a regular file,
    /// readable by its group or others, or not such a key.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        file::load(path.as_ref())
    }

    /// As [`load`](Self::load), but creates the file with a new identity when nothing is there.
    ///
    /// The file appears whole or not at all, readable by its owner only, and is on disk when this
    /// returns. Of two processes that create it at once, one wins and both return its identity.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and when the file cannot be created.
    pub fn load_or_generate(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        file::load_or_generate(path.as_ref())
    }

    /// The id of the node that holds this key: SHA-256 of [`spki_der`](Self::spki_der).
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The public key, in the encoding of RFC 8032.
    pub fn public_key(&self) -> [u8; PUBLIC_KEY_LEN] {
        self.key.verifying_key().to_bytes()
    }

    /// The public key as a DER `SubjectPublicKeyInfo`, as it stands in the certificate.
    pub fn spki_der(&self) -> [u8; SPKI_LEN] {
        spki_of(&self.public_key())
    }

    /// An Ed25519 signature over `message`. The same message gives the same signature.
    ///
    /// Callers put what the signature is for at the start of `message`, so that no signature made for one
    /// purpose can serve another.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.key.sign(message).to_bytes()
    }

    /// The private key as PKCS#8 version 1 DER, the form that every TLS library reads.
    pub(crate) fn pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        let der = self.pkcs8().to_pkcs8_der().expect("32 bytes fit any DER length");
        Zeroizing::new(der.as_bytes().to_vec())
    }

    fn pkcs8(&self) -> KeypairBytes {
        KeypairBytes { secret_key: self.key.to_bytes(), public_key: None }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("node_id", &self.node_id).finish_non_exhaustive()
    }
}

/// The signature is not one of this key over this message, or the key is not a usable point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not belong to this key and message")]
pub struct BadSignature;

/// Checks that `signature` is one of `public_key` over `message`, by the strict rules (`verify_strict`):
/// keys of small order and malleable signatures are refused, so no two encodings pass for one signature.
///
/// # Errors
///
/// [`BadSignature`] when it is not.
pub fn verify(
    public_key: &[u8; PUBLIC_KEY_LEN],
    message: &[u8],
    signature: &[u8; SIGNATURE_LEN],
) -> Result<(), BadSignature> {
    let key = VerifyingKey::from_bytes(public_key).map_err(|_| BadSignature)?;
    key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| BadSignature)
}

/// The DER `SubjectPublicKeyInfo` of an Ed25519 public key.
pub fn spki_of(public_key: &[u8; PUBLIC_KEY_LEN]) -> [u8; SPKI_LEN] {
    let mut spki = [0; SPKI_LEN];
    let (prefix, key) = spki.split_at_mut(SPKI_PREFIX.len());
    prefix.copy_from_slice(&SPKI_PREFIX);
    key.copy_from_slice(public_key);
    spki
}

/// The Ed25519 public key in a DER `SubjectPublicKeyInfo`, or `None` when it holds any other kind of key.
pub fn public_key_of(spki: &[u8]) -> Option<[u8; PUBLIC_KEY_LEN]> {
    spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()
}

/// The id of the node that holds the private half of `public_key`.
pub fn node_id_of(public_key: &[u8; PUBLIC_KEY_LEN]) -> NodeId {
    NodeId::of_spki(&spki_of(public_key))
}
