//! Batches: frames whose body is one array that grows in place.
//!
//! `[layout, fixed.., element..]`. The array is always written with a 16-bit count, so that appending an
//! element means to append its bytes and to patch two numbers, however many elements there are already.

use bytes::{BufMut, BytesMut};

use super::error::{BodyError, EncodeError};
use super::header::{HEADER_LEN, Kind, patch_body_len, put_header};
use super::pack::Reader;

/// The layout of the batches that this version writes and reads.
pub const LAYOUT: u8 = 1;

/// The most elements in one batch.
pub const BATCH_RECORDS_MAX: usize = 4096;

const ARRAY16: u8 = 0xdc;
/// Where the count is, from the start of the frame: behind the header and the marker.
const COUNT_AT: usize = HEADER_LEN + 1;

/// A batch under construction at the end of a buffer.
#[derive(Debug)]
pub(super) struct Tail {
    /// Where the frame begins in the buffer.
    start: usize,
    /// Bytes in the frame so far.
    len: usize,
    /// Elements that every batch of the kind has, the layout included.
    fixed: u16,
    count: u16,
}

impl Tail {
    /// Opens a frame with `flags` in its header; `prefix` writes the `fixed - 1` values behind the layout.
    pub(super) fn open(
        kind: Kind,
        flags: u8,
        id: u64,
        fixed: u16,
        out: &mut BytesMut,
        prefix: impl FnOnce(&mut BytesMut),
    ) -> Self {
        let start = out.len();
        put_header(kind, flags, id, out);
        out.put_u8(ARRAY16);
        out.put_u16(fixed);
        out.put_u8(LAYOUT);
        prefix(out);
        let mut tail = Self { start, len: out.len() - start, fixed, count: 0 };
        let patched = tail.patch(out);
        debug_assert_eq!(patched, Ok(()), "a prefix is small");
        tail
    }

    /// Elements appended so far.
    pub(super) const fn count(&self) -> u16 {
        self.count
    }

    /// Bytes in the frame so far, header included.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Where the next element begins, if the buffer still ends with this frame and has room for one.
    pub(super) fn end(&self, out: &BytesMut) -> Result<usize, EncodeError> {
        if out.len() != self.start + self.len {
            return Err(EncodeError::Detached);
        }
        if usize::from(self.count) == BATCH_RECORDS_MAX {
            return Err(EncodeError::Full);
        }
        Ok(out.len())
    }

    /// Counts the element that was just written behind the frame, or takes it away again.
    pub(super) fn commit(&mut self, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.commit_many(1, out)
    }

    /// Counts the `count` elements that were just written behind the frame, or takes them away again.
    fn commit_many(&mut self, count: u16, out: &mut BytesMut) -> Result<(), EncodeError> {
        let before = self.start + self.len;
        self.count += count;
        let patched = self.patch(out);
        if patched.is_err() {
            out.truncate(before);
            self.count -= count;
        }
        patched
    }

    /// Appends `count` elements that are already encoded, one behind the other.
    pub(super) fn push_many(
        &mut self,
        encoded: &[u8],
        count: u16,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        self.end(out)?;
        if usize::from(self.count) + usize::from(count) > BATCH_RECORDS_MAX {
            return Err(EncodeError::Full);
        }
        out.put_slice(encoded);
        self.commit_many(count, out)
    }

    /// Appends one element that `write` writes.
    #[inline]
    pub(super) fn push(
        &mut self,
        out: &mut BytesMut,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), EncodeError> {
        self.end(out)?;
        write(out);
        self.commit(out)
    }

    fn patch(&mut self, out: &mut BytesMut) -> Result<(), EncodeError> {
        patch_body_len(self.start, out)?;
        let at = self.start + COUNT_AT;
        out[at..at + 2].copy_from_slice(&(self.fixed + self.count).to_be_bytes());
        self.len = out.len() - self.start;
        Ok(())
    }
}

/// Reads the start of a batch with `fixed` elements, the layout included, before the ones that repeat.
///
/// Returns the reader behind the layout and how many elements repeat, at most [`BATCH_RECORDS_MAX`]
/// and no more than fit into the body at `min` bytes each.
pub(super) fn open(body: &[u8], fixed: usize, min: usize) -> Result<(Reader<'_>, usize), BodyError> {
    let mut reader = Reader::new(body);
    let elements = reader.array()?;
    if elements == 0 {
        return Err(BodyError::Length);
    }
    let layout = reader.u8()?;
    if layout != LAYOUT {
        return Err(BodyError::Layout(layout));
    }
    let count = elements.checked_sub(fixed).ok_or(BodyError::Length)?;
    Ok((reader, bounded(&reader, count, min)?))
}

/// `count` if it is permitted and so many elements of at least `min` bytes can follow.
pub(super) fn bounded(reader: &Reader<'_>, count: usize, min: usize) -> Result<usize, BodyError> {
    if count > BATCH_RECORDS_MAX {
        return Err(BodyError::Count { count, max: BATCH_RECORDS_MAX });
    }
    if count > reader.left() / min {
        return Err(BodyError::Truncated);
    }
    Ok(count)
}
