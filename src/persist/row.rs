//! Rows: fixed layouts of big-endian numbers, each value to its last byte.
//!
//! Held records have the key `key 32 | kind 1 | publisher 32`, own publications `key 32 | kind 1`, both the
//! value `written u64 | ttl u32 | seq u64 | flags u8 | authentic u8 | proof length u8 | proof | value`.
//! Contacts have the key `id 32` and the value `seen u64 | (length u16 | endpoint)*`.

use redb::TableDefinition;

use super::clock::left;
use super::{Contact, Content, Mark, Saved};
use crate::addr::Endpoint;
use crate::id::{ID_LEN, Key, NodeId};
use crate::wire::{PROOF_LEN, Record, RecordKind};

pub(super) const HELD_KEY: usize = 2 * ID_LEN + 1;
pub(super) const OWN_KEY: usize = ID_LEN + 1;

pub(super) const HELD: TableDefinition<'_, &[u8; HELD_KEY], &[u8]> = TableDefinition::new("held");
pub(super) const OWN: TableDefinition<'_, &[u8; OWN_KEY], &[u8]> = TableDefinition::new("own");
pub(super) const CONTACTS: TableDefinition<'_, &[u8; ID_LEN], &[u8]> = TableDefinition::new("contacts");
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

pub(super) fn held_key(key: &Key, kind: RecordKind, publisher: &NodeId) -> [u8; HELD_KEY] {
    let mut row = [0; HELD_KEY];
    row[..OWN_KEY].copy_from_slice(&own_key(key, kind));
    row[OWN_KEY..].copy_from_slice(publisher.as_bytes());
    row
}

pub(super) fn own_key(key: &Key, kind: RecordKind) -> [u8; OWN_KEY] {
    let mut row = [0; OWN_KEY];
    row[..ID_LEN].copy_from_slice(key.as_bytes());
    row[ID_LEN] = kind.0;
    row
}

/// The mark of a row in the table of held records.
pub(super) fn held_mark(row: &[u8; HELD_KEY]) -> Mark {
    let (own, publisher) = row.split_at(OWN_KEY);
    let (key, kind) = split(own);
    Mark::Held { key, kind, publisher: NodeId::from_bytes(array(publisher)) }
}

/// The mark of a row in the table of own publications.
pub(super) fn own_mark(row: &[u8; OWN_KEY]) -> Mark {
    let (key, kind) = split(row);
    Mark::Own { key, kind }
}

fn split(own: &[u8]) -> (Key, RecordKind) {
    (Key::from_bytes(array(&own[..ID_LEN])), RecordKind(own[ID_LEN]))
}

/// The first bytes of `bytes`, which has as many.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}

/// Appends the value of a row that is written at `now`.
pub(super) fn encode(now: u64, content: &Content<'_>, out: &mut Vec<u8>) {
    out.extend(now.to_be_bytes());
    match content {
        Content::Record { record, authentic } => {
            out.extend(record.ttl_ms.to_be_bytes());
            out.extend(record.seq.to_be_bytes());
            let proof = u8::try_from(record.proof.len()).unwrap_or(0);
            out.extend([record.flags, u8::from(*authentic), proof]);
            out.extend(&record.proof[..usize::from(proof)]);
            out.extend(record.value);
        }
        Content::Contact(endpoints) => {
            for endpoint in *endpoints {
                let text = endpoint.to_string();
                let Ok(len) = u16::try_from(text.len()) else { continue };
                out.extend(len.to_be_bytes());
                out.extend(text.as_bytes());
            }
        }
    }
}

/// Takes values from the front of a row.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N).map(array)
    }
}

/// A row of one of the two tables of records.
pub(super) struct Row<'a> {
    written: u64,
    ttl_ms: u32,
    seq: u64,
    flags: u8,
    authentic: bool,
    proof: &'a [u8],
    value: &'a [u8],
}

impl<'a> Row<'a> {
    /// Reads a row; `None` when it is malformed.
    pub(super) fn decode(row: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(row);
        let written = u64::from_be_bytes(reader.number()?);
        let ttl_ms = u32::from_be_bytes(reader.number()?);
        let seq = u64::from_be_bytes(reader.number()?);
        let [flags, authentic, proof] = reader.number()?;
        let proof = reader.take(proof.into())?;
        let whole = authentic <= 1 && (proof.is_empty() || proof.len() == PROOF_LEN);
        let row = Self { written, ttl_ms, seq, flags, authentic: authentic == 1, proof, value: reader.0 };
        whole.then_some(row)
    }

    /// Milliseconds that it still lives at `now`.
    pub(super) fn left(&self, now: u64) -> u32 {
        left(now, self.written, self.ttl_ms)
    }

    /// What a row in the table of held records is at `now`.
    pub(super) fn held(&self, now: u64, row: &[u8; HELD_KEY]) -> Saved<'a> {
        let (own, publisher) = row.split_at(OWN_KEY);
        let publisher = NodeId::from_bytes(array(publisher));
        Saved::Held { publisher, record: self.record(now, own), authentic: self.authentic }
    }

    /// What a row in the table of own publications is at `now`.
    pub(super) fn own(&self, now: u64, row: &[u8; OWN_KEY]) -> Saved<'a> {
        Saved::Own(self.record(now, row))
    }

    fn record(&self, now: u64, own: &[u8]) -> Record<'a> {
        let (key, kind) = split(own);
        let Self { seq, flags, proof, value, .. } = *self;
        Record { key, seq, ttl_ms: self.left(now), kind, flags, proof, value }
    }
}

/// Reads the row of a contact; `None` when it is malformed. Endpoints that this version cannot read are
/// left out.
pub(super) fn contact(id: &[u8; ID_LEN], row: &[u8]) -> Option<Contact> {
    let mut reader = Reader(row);
    let seen = u64::from_be_bytes(reader.number()?);
    let mut endpoints: Vec<Endpoint> = Vec::new();
    while !reader.0.is_empty() {
        let len = u16::from_be_bytes(reader.number()?);
        let text = std::str::from_utf8(reader.take(len.into())?).ok()?;
        endpoints.extend(text.parse::<Endpoint>().ok());
    }
    Some(Contact { id: NodeId::from_bytes(*id), endpoints, seen })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_with_what_is_left_of_its_life() {
        let (key, publisher) = (Key::of_name("a"), NodeId::from_bytes([3; ID_LEN]));
        for proof in [&[][..], &[9; PROOF_LEN]] {
            let record =
                Record { key, seq: 7, ttl_ms: 500, kind: RecordKind(2), flags: 1, proof, value: b"value" };
            let mut row = Vec::new();
            encode(1_000, &Content::Record { record, authentic: true }, &mut row);
            let id = held_key(&key, record.kind, &publisher);
            assert_eq!(held_mark(&id), Mark::Held { key, kind: record.kind, publisher });
            let read = Row::decode(&row).unwrap();
            let Saved::Held { publisher: who, record: read, authentic } = read.held(1_200, &id) else {
                panic!("another table");
            };
            assert_eq!((who, read, authentic), (publisher, Record { ttl_ms: 300, ..record }, true));
            for len in 0..row.len() - record.value.len() {
                assert!(Row::decode(&row[..len]).is_none(), "{len} bytes of {}", row.len());
            }
        }
    }

    #[test]
    fn a_contact_comes_back_whole_or_not_at_all() {
        let endpoints: Vec<Endpoint> =
            ["10.0.0.1:1", "seed.example:9443"].map(|text| text.parse().unwrap()).into();
        let mut row = Vec::new();
        encode(77, &Content::Contact(&endpoints), &mut row);
        let id = [5; ID_LEN];
        let expected = Contact { id: NodeId::from_bytes(id), endpoints, seen: 77 };
        assert_eq!(contact(&id, &row), Some(expected.clone()));
        for len in 0..row.len() {
            assert_ne!(contact(&id, &row[..len]), Some(expected.clone()));
        }
    }
}
