//! The record that is stored: MessagePack as an array, byte strings as such, decoded in place.

use std::collections::HashMap;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Distinct keys, used in turn.
pub(crate) const KEYS: usize = 50_000;
/// Bytes of a value.
pub(crate) const VALUE: usize = 100;

const TTL: u32 = 3_600;
const SEED: u64 = 1;

/// A STORE on the wire.
#[derive(Debug, Deserialize, Serialize)]
struct Record<'a> {
    #[serde(borrow, with = "serde_bytes")]
    key: &'a [u8],
    #[serde(borrow, with = "serde_bytes")]
    value: &'a [u8],
    ttl: u32,
    seq: u64,
}

/// The records to be sent: the n-th has the n-th key, in turn.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    keys: Arc<Vec<[u8; 32]>>,
    value: [u8; VALUE],
}

impl Source {
    pub(crate) fn new() -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        Self { keys: Arc::new((0..KEYS).map(|_| rng.random()).collect()), value: rng.random() }
    }

    /// Appends the `seq`-th record.
    pub(crate) fn encode(&self, seq: u64, out: &mut Vec<u8>) {
        let key = &self.keys[seq as usize % KEYS];
        let record = Record { key, value: &self.value, ttl: TTL, seq };
        rmp_serde::encode::write(out, &record).expect("into memory");
    }
}

/// What has been received.
#[derive(Debug, Default)]
pub(crate) struct Map(HashMap<[u8; 32], Box<[u8]>>);

impl Map {
    /// Decodes a record and keeps a copy of its value.
    pub(crate) fn insert(&mut self, body: &[u8]) {
        let record: Record<'_> = rmp_serde::from_slice(body).expect("a record");
        let key = record.key.try_into().expect("a key of 32 bytes");
        self.0.insert(key, record.value.into());
    }
}
