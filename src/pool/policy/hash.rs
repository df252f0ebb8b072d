//! Hashing keyed by the injected seed: peers cannot aim at one bucket, and a run can be repeated.

use std::collections::HashMap;
use std::hash::BuildHasher;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use siphasher::sip::SipHasher13;

/// A map that is hashed with the pool's key.
pub(super) type Map<K, V> = HashMap<K, V, Keyed>;

/// Makes hashers with one secret key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keyed(u64, u64);

impl Keyed {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        Self(rng.random(), rng.random())
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}
