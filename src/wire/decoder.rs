//! Finds frames in a stream of bytes, whatever the pieces in which they arrive.
//!
//! The buffer grows with what has arrived, never with what a header announces, so a peer pays for every
//! byte that it makes us hold. The one exception keeps long runs of batches cheap: when a frame begins,
//! room is made for it up to the size of the frame before it, which the peer has sent in full.

use super::error::FrameError;
use super::header::{HEADER_LEN, Header};

/// The capacity that an empty decoder may keep, in bytes; above it the memory is given back.
pub const DECODER_KEEP: usize = 512;

/// The most that is reserved for a frame because the one before it was as large, in bytes.
pub const DECODER_RESERVE_MAX: usize = 64 * 1024 + HEADER_LEN;

/// One whole frame, borrowed from the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The header as received.
    pub header: Header,
    /// The body, `header.body_len` bytes.
    pub body: &'a [u8],
}

/// An incremental decoder of frames.
///
/// Alternate [`feed`](Self::feed) with calls of [`next`](Self::next) until that returns `None`. A frame
/// that is too large ends the stream: the decoder keeps returning the error and ignores what it is fed.
#[derive(Debug)]
pub struct Decoder {
    buf: Vec<u8>,
    /// Bytes at the front of `buf` that were handed out.
    at: usize,
    body_max: u32,
    /// Bytes in the last whole frame, at most [`DECODER_RESERVE_MAX`].
    last: usize,
    failed: Option<FrameError>,
}

impl Decoder {
    /// A decoder that takes bodies of at most `body_max` bytes. It holds no memory yet.
    pub const fn new(body_max: u32) -> Self {
        Self { buf: Vec::new(), at: 0, body_max, last: 0, failed: None }
    }

    /// Changes the limit, in bytes, for frames that [`next`](Self::next) has not looked at yet.
    pub const fn set_body_max(&mut self, body_max: u32) {
        self.body_max = body_max;
    }

    /// Appends bytes that arrived.
    pub fn feed(&mut self, chunk: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        // Moving what is left only when it is no more than what was handed out keeps the cost of all
        // moves below the bytes fed.
        if self.at > 0 && self.at >= self.buf.len() - self.at {
            self.buf.copy_within(self.at.., 0);
            self.buf.truncate(self.buf.len() - self.at);
            self.at = 0;
        }
        self.buf.extend_from_slice(chunk);
        let pending = &self.buf[self.at..];
        if let Some(head) = pending.first_chunk() {
            let frame = HEADER_LEN.saturating_add(Header::decode(head).body_len as usize);
            self.buf.reserve_exact(frame.min(self.last).saturating_sub(pending.len()));
        }
    }

    /// The next whole frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`FrameError::TooLarge`] as soon as the header of such a frame is complete, and from then on.
    #[expect(clippy::should_implement_trait, reason = "a frame borrows from the decoder")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let Some(head) = self.buf[self.at..].first_chunk() else {
            self.rest();
            return Ok(None);
        };
        let header = Header::decode(head);
        if header.body_len > self.body_max {
            let error = FrameError::TooLarge { header, max: self.body_max };
            *self = Self { failed: Some(error), ..Self::new(self.body_max) };
            return Err(error);
        }
        let start = self.at + HEADER_LEN;
        let len = header.body_len as usize;
        if self.buf.len() - start < len {
            return Ok(None);
        }
        self.at = start + len;
        self.last = (HEADER_LEN + len).min(DECODER_RESERVE_MAX);
        Ok(Some(Frame { header, body: &self.buf[start..self.at] }))
    }

    /// Whether a part of a frame is held. Meaningful once [`next`](Self::next) has returned `None`.
    pub const fn is_partial(&self) -> bool {
        self.at < self.buf.len()
    }

    /// Bytes of memory held.
    pub const fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// Gives the buffer back when everything in it was handed out.
    fn rest(&mut self) {
        if self.is_partial() {
            return;
        }
        self.at = 0;
        if self.buf.capacity() > DECODER_KEEP {
            self.buf = Vec::new();
        } else {
            self.buf.clear();
        }
    }
}
