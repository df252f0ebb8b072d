//! A map by key whose look-ups can be made ahead.
//!
//! A store of many records is bound by memory: each look-up waits for a line that no cache holds. The
//! hash of a key can be taken apart from its look-up here, so that a batch first hashes all its keys, then
//! looks all of them up without waiting for one before the next ([`KeyMap::warm`]), and only then changes
//! what it has found, which the caches now hold.

use std::borrow::Borrow;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::hash::Keyed;
use crate::id::Key;

/// Keys and what is held under them, hashed under an injected seed.
pub(super) struct KeyMap<V> {
    table: HashTable<(Key, V)>,
    hasher: Keyed,
}

impl<V> KeyMap<V> {
    pub(super) fn new(seed: (u64, u64)) -> Self {
        Self { table: HashTable::new(), hasher: Keyed::new(seed) }
    }

    /// The hash of `key` in this map.
    pub(super) fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn get(&self, key: &Key) -> Option<&V> {
        self.peek(self.hash(key), key)
    }

    fn peek(&self, hash: u64, key: &Key) -> Option<&V> {
        self.table.find(hash, |(other, _)| other == key).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut V> {
        let hash = self.hash(key);
        self.table.find_mut(hash, |(other, _)| other == key).map(|(_, value)| value)
    }

    /// The place of `key`, whose hash is `hash`.
    pub(super) fn entry(&mut self, hash: u64, key: &Key) -> Entry<'_, (Key, V)> {
        let hasher = self.hasher;
        self.table.entry(hash, |(other, _)| other == key, |(other, _)| hasher.hash_one(other))
    }

    /// Brings what is held under the keys into the caches: `look` sees each value and returns a byte of
    /// what will be changed, so that this is brought as well.
    pub(super) fn warm<K: Borrow<Key>>(&self, keys: impl Iterator<Item = (u64, K)>, look: impl Fn(&V) -> u8) {
        let seen = keys.fold(0, |seen, (hash, key)| seen ^ self.peek(hash, key.borrow()).map_or(0, &look));
        std::hint::black_box(seen);
    }

    /// All keys and what is held under them, in an order that follows from the seed and what was done.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &V)> {
        self.table.iter().map(|(key, value)| (key, value))
    }
}
