//! What can be wrong with bytes from a peer, and with messages that we are about to send.

use super::header::Header;

/// Why a stream of frames cannot be read on: where the next frame begins is no longer known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The peer announced a body above the limit of this stream. Nothing of it was kept.
    #[error("the peer announced a body of {} bytes, the limit is {max}", header.body_len)]
    TooLarge {
        /// The header as received.
        header: Header,
        /// The largest body that this decoder takes, in bytes.
        max: u32,
    },
}

/// Why the body of a frame from a peer is not the message that its kind promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The body ends before the message does, or announces more than it can hold.
    #[error("the peer sent a message that ends early")]
    Truncated,
    /// Bytes follow the message.
    #[error("the peer sent {0} bytes behind a message")]
    Trailing(usize),
    /// A value has another type than its place asks for.
    #[error("the peer sent a value of the wrong type")]
    Type,
    /// A number does not fit its field, or names nothing.
    #[error("the peer sent a number outside its range")]
    Range,
    /// A text, a byte string or an array does not have a permitted length.
    #[error("the peer sent a value of a length that is not permitted")]
    Length,
    /// A text is not UTF-8.
    #[error("the peer sent a text that is not utf-8")]
    Text,
    /// The batch has a layout that this version does not know.
    #[error("the peer sent a batch of unknown layout {0}")]
    Layout(u8),
    /// The batch or list has more elements than permitted.
    #[error("the peer sent {count} elements, {max} are permitted")]
    Count {
        /// How many elements the peer announced.
        count: usize,
        /// How many are permitted.
        max: usize,
    },
    /// Values are nested too deep.
    #[error("the peer nested values too deep")]
    Depth,
    /// A field of a map is missing, repeated, of the wrong type or outside its limits.
    #[error("the peer sent a map with a missing, repeated or invalid field")]
    Field,
}

/// Why a message cannot be encoded. What was in the buffer before is left as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The frame or one of its fields would be larger than a peer accepts.
    #[error("the message is larger than a peer accepts")]
    TooLarge,
    /// The batch has as many elements as a peer accepts.
    #[error("the batch is full")]
    Full,
    /// The proof of a record has neither 0 nor 96 bytes.
    #[error("a proof has 0 or 96 bytes, not {0}")]
    Proof(usize),
    /// The buffer does not end with the frame that the builder opened in it: the caller wrote behind
    /// it or took it away.
    #[error("the batch is no longer at the end of its buffer")]
    Detached,
}
