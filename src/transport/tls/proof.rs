//! The proof of a node id where the certificate is a public one and carries none.
//!
//! The signed message names this very connection (a secret that TLS exports to its two ends only), the
//! side that signs, the realm, both nodes and the boot: a proof cannot be replayed on another connection,
//! by the other side, or for another realm.

use quinn::Connection;

use crate::id::{Key, NodeId};
use crate::identity::{Identity, PUBLIC_KEY_LEN, SIGNATURE_LEN, node_id_of, verify};

/// Bytes in a [`HelloProof`] on the wire.
pub(crate) const HELLO_PROOF_LEN: usize = PUBLIC_KEY_LEN + SIGNATURE_LEN;

const LABEL: &[u8] = b"EXPORTER-foveola-hello-v1";
/// Keeps the signature apart from those that the same key makes for other purposes.
const PURPOSE: &[u8] = b"foveola hello v1";
const EXPORTED_LEN: usize = 32;

/// The side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The side that opened the connection, whose certificate always names its node.
    #[cfg(test)]
    Dialer,
    /// The side that accepted it.
    Acceptor,
}

/// What a HELLO says that its proof must confirm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HelloClaim<'a> {
    /// The side that makes the proof.
    pub(crate) role: Role,
    /// The realm of both sides.
    pub(crate) realm: &'a str,
    /// The node that makes the proof.
    pub(crate) prover: NodeId,
    /// The node that checks it.
    pub(crate) verifier: NodeId,
    /// The boot id of the prover.
    pub(crate) boot: u64,
}

/// A public key, which the verifier cannot know from anywhere else, and its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HelloProof {
    public_key: [u8; PUBLIC_KEY_LEN],
    signature: [u8; SIGNATURE_LEN],
}

/// Why a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ProofError {
    /// The public key belongs to another node than the one claimed.
    #[error("the proof is made with the key of another node")]
    WrongKey,
    /// The signature does not fit the claim on this connection.
    #[error("the proof does not fit this connection")]
    BadSignature,
    /// TLS has no secret to export for this connection.
    #[error("the connection cannot export a secret")]
    NoSecret,
}

impl HelloProof {
    /// Proves to the other end of `connection` that `identity` is here and makes `claim`.
    pub(crate) fn new(
        connection: &Connection,
        identity: &Identity,
        claim: &HelloClaim<'_>,
    ) -> Result<Self, ProofError> {
        let signature = identity.sign(&claim.message(connection)?);
        Ok(Self { public_key: identity.public_key(), signature })
    }

    /// Checks that the other end of `connection` holds the key of the prover and makes `claim`.
    pub(crate) fn verify(&self, connection: &Connection, claim: &HelloClaim<'_>) -> Result<(), ProofError> {
        if node_id_of(&self.public_key) != claim.prover {
            return Err(ProofError::WrongKey);
        }
        let message = claim.message(connection)?;
        verify(&self.public_key, &message, &self.signature).map_err(|_| ProofError::BadSignature)
    }

    /// The proof as it travels: public key, signature.
    /// The node whose key made the proof; it says nothing until the proof is verified.
    pub(crate) fn prover(&self) -> NodeId {
        node_id_of(&self.public_key)
    }

    pub(crate) fn to_bytes(self) -> [u8; HELLO_PROOF_LEN] {
        let mut bytes = [0; HELLO_PROOF_LEN];
        let (public_key, signature) = bytes.split_at_mut(PUBLIC_KEY_LEN);
        public_key.copy_from_slice(&self.public_key);
        signature.copy_from_slice(&self.signature);
        bytes
    }

    /// The proof in `bytes`, not yet verified; `None` when the length is not [`HELLO_PROOF_LEN`].
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (public_key, signature) = bytes.split_first_chunk()?;
        Some(Self { public_key: *public_key, signature: signature.try_into().ok()? })
    }
}

impl HelloClaim<'_> {
    fn message(&self, connection: &Connection) -> Result<Vec<u8>, ProofError> {
        let mut exported = [0; EXPORTED_LEN];
        connection.export_keying_material(&mut exported, LABEL, b"").map_err(|_| ProofError::NoSecret)?;
        let role = match self.role {
            #[cfg(test)]
            Role::Dialer => 0,
            Role::Acceptor => 1,
        };
        // Every field has a fixed length: the realm enters as its hash.
        Ok([
            PURPOSE,
            &exported,
            &[role],
            Key::of_name(self.realm).as_bytes(),
            self.prover.as_bytes(),
            self.verifier.as_bytes(),
            &self.boot.to_be_bytes(),
        ]
        .concat())
    }
}
