//! The hasher of the stores: SipHash-1-3 under an injected seed.
//!
//! Peers choose the keys, so the hash must be keyed or they could make a map degenerate; the key comes from
//! the driver, so that the same seed gives the same run.

use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

/// Builds the hashers of one map.
#[derive(Clone, Copy)]
pub(super) struct Keyed {
    seed: (u64, u64),
}

impl Keyed {
    pub(super) fn new(seed: (u64, u64)) -> Self {
        Self { seed }
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.seed.0, self.seed.1)
    }
}
