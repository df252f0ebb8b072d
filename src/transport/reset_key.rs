//! The key of stateless resets, derived from the node key.
//!
//! A node that restarts on its port no longer knows its connections. With the key of the process
//! before it, its first answer tells the peers so at once, who otherwise wait out the idle timeout
//! (RFC 9000, section 10.3).

use quinn::crypto::{CryptoError, HmacKey};
use sha2::{Digest, Sha256};

use crate::identity::Identity;

const LABEL: &[u8] = b"foveola stateless reset v1";
const BLOCK: usize = 64;
const OUTPUT: usize = 32;

/// HMAC-SHA-256 (RFC 2104) under a secret that only the holder of the node key can compute.
pub(super) struct ResetKey {
    secret: [u8; OUTPUT],
}

impl ResetKey {
    /// Ed25519 signatures are deterministic and secret unless published; this one never is.
    pub(super) fn of(identity: &Identity) -> Self {
        Self { secret: Sha256::digest(identity.sign(LABEL)).into() }
    }

    /// What connection ids are made with. quinn resets only connections whose ids it could have made, so a
    /// restarted node must make them as the process before it did.
    pub(super) fn connection_id_key(&self) -> u64 {
        let mac = self.mac(b"connection ids");
        u64::from_le_bytes(*mac.first_chunk().expect("a mac is longer than eight bytes"))
    }

    fn mac(&self, data: &[u8]) -> [u8; OUTPUT] {
        let mut inner = [0x36; BLOCK];
        let mut outer = [0x5c; BLOCK];
        for (i, byte) in self.secret.iter().enumerate() {
            inner[i] ^= byte;
            outer[i] ^= byte;
        }
        let digest = Sha256::new().chain_update(inner).chain_update(data).finalize();
        Sha256::new().chain_update(outer).chain_update(digest).finalize().into()
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let mac = self.mac(data);
        let length = signature_out.len().min(OUTPUT);
        signature_out[..length].copy_from_slice(&mac[..length]);
    }

    fn signature_len(&self) -> usize {
        OUTPUT
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let mac = self.mac(data);
        let difference = mac.iter().zip(signature).fold(0, |all, (a, b)| all | (a ^ b));
        if signature.len() == OUTPUT && difference == 0 { Ok(()) } else { Err(CryptoError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_node_has_the_same_key_after_a_restart() {
        let [mut a, mut b, mut c] = [[0; OUTPUT]; 3];
        let seed = [7; 32];
        ResetKey::of(&Identity::from_seed(&seed)).sign(b"cid", &mut a);
        ResetKey::of(&Identity::from_seed(&seed)).sign(b"cid", &mut b);
        ResetKey::of(&Identity::from_seed(&[8; 32])).sign(b"cid", &mut c);
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert!(ResetKey::of(&Identity::from_seed(&seed)).verify(b"cid", &a).is_ok());
        assert!(ResetKey::of(&Identity::from_seed(&seed)).verify(b"cid", &c).is_err());
    }
}
