//! MessagePack values of the hot batches: borrowed reading with a short way for the encodings that we
//! write ourselves, and writing in the shortest form.
//!
//! The reader takes every valid encoding of a value. It looks first for the marker that [`Pen`] would
//! have written and leaves the others to `rmp`, whose errors carry more than a batch needs.

use std::io::Write;

use bytes::buf::Writer;
use bytes::{BufMut, BytesMut};
use rmp::decode::{NumValueReadError, ValueReadError};
use rmp::{decode, encode};

use super::error::BodyError;
use crate::id::ID_LEN;

/// The encoded length of an id: marker, length, bytes.
pub(super) const ID_PACKED: usize = ID_LEN + 2;

/// Reads values from the front of a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// Bytes not read yet.
    pub(super) const fn left(&self) -> usize {
        self.0.len()
    }

    /// Whether the next value is an array.
    #[inline]
    pub(super) fn is_array(&self) -> Result<bool, BodyError> {
        match self.0.first() {
            Some(marker) => Ok(matches!(marker, 0x90..=0x9f | 0xdc | 0xdd)),
            None => Err(BodyError::Truncated),
        }
    }

    /// Fails unless everything was read.
    pub(super) const fn finish(self) -> Result<(), BodyError> {
        match self.left() {
            0 => Ok(()),
            left => Err(BodyError::Trailing(left)),
        }
    }

    /// The number of elements of an array, which may be more than the body holds.
    pub(super) fn array(&mut self) -> Result<usize, BodyError> {
        let count = decode::read_array_len(&mut self.0).map_err(value_error)?;
        usize::try_from(count).map_err(|_| BodyError::Truncated)
    }

    /// The start of an array of exactly `count` elements, at most 15.
    #[inline]
    pub(super) fn array_of(&mut self, count: u8) -> Result<(), BodyError> {
        if let [marker, rest @ ..] = self.0
            && *marker == 0x90 | count
        {
            self.0 = rest;
            return Ok(());
        }
        if self.array()? == usize::from(count) { Ok(()) } else { Err(BodyError::Length) }
    }

    #[inline]
    pub(super) fn u64(&mut self) -> Result<u64, BodyError> {
        let (value, rest) = match *self.0 {
            [a @ 0..=0x7f, ref rest @ ..] => (u64::from(a), rest),
            [0xcc, a, ref rest @ ..] => (u64::from(a), rest),
            [0xcd, a, b, ref rest @ ..] => (u64::from(u16::from_be_bytes([a, b])), rest),
            [0xce, a, b, c, d, ref rest @ ..] => (u64::from(u32::from_be_bytes([a, b, c, d])), rest),
            [0xcf, a, b, c, d, e, f, g, h, ref rest @ ..] => {
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), rest)
            }
            _ => return self.any_u64(),
        };
        self.0 = rest;
        Ok(value)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, BodyError> {
        u32::try_from(self.u64()?).map_err(|_| BodyError::Range)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, BodyError> {
        u8::try_from(self.u64()?).map_err(|_| BodyError::Range)
    }

    /// A byte string of any length.
    #[inline]
    pub(super) fn bin(&mut self) -> Result<&'a [u8], BodyError> {
        let (len, rest) = match *self.0 {
            [0xc4, a, ref rest @ ..] => (usize::from(a), rest),
            [0xc5, a, b, ref rest @ ..] => (usize::from(u16::from_be_bytes([a, b])), rest),
            _ => return self.any_bin(),
        };
        let (value, rest) = rest.split_at_checked(len).ok_or(BodyError::Truncated)?;
        self.0 = rest;
        Ok(value)
    }

    /// A byte string as long as an id.
    #[inline]
    pub(super) fn id(&mut self) -> Result<[u8; ID_LEN], BodyError> {
        if let [0xc4, 0x20, rest @ ..] = self.0
            && let Some((id, rest)) = rest.split_first_chunk()
        {
            self.0 = rest;
            return Ok(*id);
        }
        self.any_bin()?.try_into().map_err(|_| BodyError::Length)
    }

    /// A byte string or nil.
    pub(super) fn bin_or_nil(&mut self) -> Result<Option<&'a [u8]>, BodyError> {
        if let [0xc0, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(None);
        }
        self.bin().map(Some)
    }

    /// A text of at most `max` bytes.
    pub(super) fn text(&mut self, max: usize) -> Result<&'a str, BodyError> {
        let len = decode::read_str_len(&mut self.0).map_err(value_error)?;
        let text = self.take(len)?;
        if text.len() > max {
            return Err(BodyError::Length);
        }
        str::from_utf8(text).map_err(|_| BodyError::Text)
    }

    #[cold]
    fn any_u64(&mut self) -> Result<u64, BodyError> {
        decode::read_int(&mut self.0).map_err(|error| match error {
            NumValueReadError::TypeMismatch(_) => BodyError::Type,
            NumValueReadError::OutOfRange => BodyError::Range,
            _ => BodyError::Truncated,
        })
    }

    #[cold]
    fn any_bin(&mut self) -> Result<&'a [u8], BodyError> {
        let len = decode::read_bin_len(&mut self.0).map_err(value_error)?;
        self.take(len)
    }

    fn take(&mut self, len: u32) -> Result<&'a [u8], BodyError> {
        let len = usize::try_from(len).map_err(|_| BodyError::Truncated)?;
        let (value, rest) = self.0.split_at_checked(len).ok_or(BodyError::Truncated)?;
        self.0 = rest;
        Ok(value)
    }
}

fn value_error(error: ValueReadError) -> BodyError {
    match error {
        ValueReadError::TypeMismatch(_) => BodyError::Type,
        _ => BodyError::Truncated,
    }
}

/// Why the writing of values cannot fail.
const MEMORY: &str = "a buffer in memory has room for every value";

/// Writes values, each in its shortest form, to memory that has room for them.
///
/// The caller has checked that lengths are at most [`BODY_MAX`](super::BODY_MAX).
#[derive(Debug)]
pub(super) struct Pen<W>(W);

impl<'a> Pen<Writer<&'a mut BytesMut>> {
    /// Appends to `out`.
    pub(super) fn on(out: &'a mut BytesMut) -> Self {
        Self(out.writer())
    }
}

impl<'a> Pen<&'a mut [u8]> {
    /// Writes from the front of `room`, which must be large enough.
    pub(super) const fn in_place(room: &'a mut [u8]) -> Self {
        Self(room)
    }

    /// Bytes of the room not written yet.
    pub(super) const fn left(&self) -> usize {
        self.0.len()
    }
}

impl<W: Write> Pen<W> {
    #[inline]
    pub(super) fn array(&mut self, count: u8) {
        encode::write_array_len(&mut self.0, count.into()).expect(MEMORY);
    }

    #[inline]
    pub(super) fn uint(&mut self, value: u64) {
        encode::write_uint(&mut self.0, value).expect(MEMORY);
    }

    #[inline]
    pub(super) fn bin(&mut self, value: &[u8]) {
        encode::write_bin(&mut self.0, value).expect(MEMORY);
    }

    /// The start of a byte string whose `len` bytes the caller appends.
    #[inline]
    pub(super) fn bin_len(&mut self, len: usize) {
        let len = u32::try_from(len).expect("a length within a body fits");
        encode::write_bin_len(&mut self.0, len).expect(MEMORY);
    }

    pub(super) fn text(&mut self, value: &str) {
        encode::write_str(&mut self.0, value).expect(MEMORY);
    }

    pub(super) fn nil(&mut self) {
        encode::write_nil(&mut self.0).expect(MEMORY);
    }
}
