//! Records as they travel: the same seven values in a STORE, where the first is the key, and in the
//! reply to a FIND_VALUE, where it is the publisher.
//!
//! `[id bin32, seq u64, ttl u32, kind u8, flags u8, proof bin 0|96, value bin]`

use bytes::BytesMut;

use super::error::{BodyError, EncodeError};
use super::header::BODY_MAX;
use super::pack::{ID_PACKED, Pen, Reader};
use crate::id::{ID_LEN, Key, NodeId};
use crate::identity::{PUBLIC_KEY_LEN, SIGNATURE_LEN};

/// Bytes in a proof that is not empty: the Ed25519 public key of the publisher and its signature.
pub const PROOF_LEN: usize = PUBLIC_KEY_LEN + SIGNATURE_LEN;

/// Flag of a record: it removes what its publisher had under the key. Its value is empty.
pub const TOMBSTONE: u8 = 1;

/// The fewest bytes that a record takes: array marker, id, four numbers and two empty byte strings.
pub(super) const RECORD_MIN: usize = 1 + ID_PACKED + 4 + 2 + 2;

/// The most bytes that a record takes besides its value.
pub const RECORD_OVERHEAD_MAX: usize = 1 + ID_PACKED + 9 + 5 + 2 + 2 + (2 + PROOF_LEN) + 5;

/// What a record is. Numbers that this version does not know are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKind(pub u8);

impl RecordKind {
    /// A value that its publisher may replace.
    pub const VALUE: Self = Self(0);
    /// A node that provides a service.
    pub const PROVIDER: Self = Self(1);
    /// A node that wants the publications of a topic.
    pub const SUBSCRIPTION: Self = Self(2);
}

/// One record of a STORE, whose publisher is named once for the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The key under which it is stored.
    pub key: Key,
    /// The sequence; the higher of two replaces the other.
    pub seq: u64,
    /// How long it lives from now on, in milliseconds.
    pub ttl_ms: u32,
    /// What it is.
    pub kind: RecordKind,
    /// Bits, of which only [`TOMBSTONE`] has a meaning.
    pub flags: u8,
    /// Empty, or a public key and a signature: [`PROOF_LEN`] bytes.
    pub proof: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

/// One record found under a key that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// Who published it.
    pub publisher: NodeId,
    /// The sequence; the higher of two replaces the other.
    pub seq: u64,
    /// How long it still lives, in milliseconds.
    pub ttl_ms: u32,
    /// What it is.
    pub kind: RecordKind,
    /// Bits, of which only [`TOMBSTONE`] has a meaning.
    pub flags: u8,
    /// Empty, or a public key and a signature: [`PROOF_LEN`] bytes.
    pub proof: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

/// Appends `record` as one element of a STORE, to be pushed into any number of batches.
///
/// # Errors
///
/// [`EncodeError::Proof`]; [`EncodeError::TooLarge`] when no frame can hold the value.
pub fn encode_record(record: &Record<'_>, out: &mut BytesMut) -> Result<(), EncodeError> {
    let Record { key, seq, ttl_ms, kind, flags, proof, value } = *record;
    Element { id: *key.as_bytes(), seq, ttl_ms, kind, flags, proof, value }.write(out)
}

impl Found<'_> {
    pub(super) fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        let Self { publisher, seq, ttl_ms, kind, flags, proof, value } = *self;
        Element { id: *publisher.as_bytes(), seq, ttl_ms, kind, flags, proof, value }.write(out)
    }
}

/// A record of either form.
#[derive(Debug)]
pub(super) struct Element<'a> {
    id: [u8; ID_LEN],
    seq: u64,
    ttl_ms: u32,
    kind: RecordKind,
    flags: u8,
    proof: &'a [u8],
    value: &'a [u8],
}

impl<'a> Element<'a> {
    #[inline]
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, BodyError> {
        reader.array_of(7)?;
        let element = Self {
            id: reader.id()?,
            seq: reader.u64()?,
            ttl_ms: reader.u32()?,
            kind: RecordKind(reader.u8()?),
            flags: reader.u8()?,
            proof: reader.bin()?,
            value: reader.bin()?,
        };
        if proof_len_is_valid(element.proof.len()) { Ok(element) } else { Err(BodyError::Length) }
    }

    #[inline]
    fn write(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        if !proof_len_is_valid(self.proof.len()) {
            return Err(EncodeError::Proof(self.proof.len()));
        }
        if self.value.len() > BODY_MAX as usize {
            return Err(EncodeError::TooLarge);
        }
        // Two appends for a record instead of one for each of its values.
        let mut head = [0; RECORD_OVERHEAD_MAX];
        let mut pen = Pen::in_place(&mut head);
        pen.array(7);
        pen.bin(&self.id);
        pen.uint(self.seq);
        pen.uint(self.ttl_ms.into());
        pen.uint(self.kind.0.into());
        pen.uint(self.flags.into());
        pen.bin(self.proof);
        pen.bin_len(self.value.len());
        let used = RECORD_OVERHEAD_MAX - pen.left();
        out.reserve(used + self.value.len());
        out.extend_from_slice(&head[..used]);
        out.extend_from_slice(self.value);
        Ok(())
    }

    #[inline]
    pub(super) fn into_record(self) -> Record<'a> {
        let Self { id, seq, ttl_ms, kind, flags, proof, value } = self;
        Record { key: Key::from_bytes(id), seq, ttl_ms, kind, flags, proof, value }
    }

    #[inline]
    pub(super) fn into_found(self) -> Found<'a> {
        let Self { id, seq, ttl_ms, kind, flags, proof, value } = self;
        Found { publisher: NodeId::from_bytes(id), seq, ttl_ms, kind, flags, proof, value }
    }
}

const fn proof_len_is_valid(len: usize) -> bool {
    len == 0 || len == PROOF_LEN
}
