//! The 16-byte header in front of every body, the kinds of messages and the classes of streams.
//!
//! `kind u8 | flags u8 | reserved u16 | body_len u32 | id u64`, numbers big-endian. The two reserved
//! bytes are sent as zero and ignored on receipt. Any 16 bytes are a header: whether its kind is known
//! and its body acceptable is for the reader to decide.

use bytes::{BufMut, BytesMut};

use super::error::EncodeError;

/// Bytes in a header.
pub const HEADER_LEN: usize = 16;

/// The largest body of a frame, in bytes.
pub const BODY_MAX: u32 = 1 << 20;

/// Where `body_len` is in a header.
const BODY_LEN_AT: usize = 4;

/// What a frame says about its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The kind as received, which may be none of [`Kind`].
    pub kind: u8,
    /// Bits whose meaning depends on the kind.
    pub flags: u8,
    /// Bytes in the body.
    pub body_len: u32,
    /// Pairs a reply with its request; unique among the open requests of a stream.
    pub id: u64,
}

impl Header {
    /// The header as it is sent.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0] = self.kind;
        out[1] = self.flags;
        out[BODY_LEN_AT..8].copy_from_slice(&self.body_len.to_be_bytes());
        out[8..].copy_from_slice(&self.id.to_be_bytes());
        out
    }

    /// The header that `bytes` are.
    #[inline]
    pub const fn decode(bytes: &[u8; HEADER_LEN]) -> Self {
        let [kind, flags, _, _, a, b, c, d, id @ ..] = *bytes;
        Self { kind, flags, body_len: u32::from_be_bytes([a, b, c, d]), id: u64::from_be_bytes(id) }
    }
}

/// The kinds of frames that this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kind {
    /// The dialer introduces itself; body [`Hello`](super::Hello).
    Hello = 0x01,
    /// The acceptor introduces itself in return; body [`Hello`](super::Hello).
    HelloAck = 0x02,
    /// Asks for a sign of life; body [`Ping`](super::Ping).
    Ping = 0x03,
    /// The sign of life; body [`Pong`](super::Pong).
    Pong = 0x04,
    /// The sender accepts nothing new; body [`GoAway`](super::GoAway).
    GoAway = 0x05,
    /// The sender no longer waits for the request that the header's id names; no body.
    Cancel = 0x06,
    /// First frame of every stream but the control stream; [`Class`] in the flags, no body, no reply.
    Open = 0x07,
    /// Reply to a frame of an unknown kind; no body.
    Unsupported = 0x08,
    /// Reply: the request could not be served; body [`Failed`](super::Failed).
    Failed = 0x09,
    /// Asks for the nodes closest to a key; body [`FindNode`](super::FindNode).
    FindNode = 0x10,
    /// Body [`FindNodeReply`](super::FindNodeReply).
    FindNodeReply = 0x11,
    /// Asks for the records under keys; see [`FindBatch`](super::FindBatch).
    FindValue = 0x12,
    /// The records, key by key; see [`FindReply`](super::FindReply).
    FindValueReply = 0x13,
    /// Records to keep; see [`StoreBatch`](super::StoreBatch).
    Store = 0x14,
    /// What became of each; see [`StoreReply`](super::StoreReply).
    StoreReply = 0x15,
    /// Asks for a service to be run; body [`Call`](super::Call).
    Call = 0x20,
    /// What came of it; body [`Reply`](super::Reply).
    Reply = 0x21,
    /// Publications on a topic; see [`PublishBatch`](super::PublishBatch).
    Publish = 0x30,
    /// What became of each; see [`PublishReply`](super::PublishReply).
    PublishReply = 0x31,
    /// A request in an envelope, to be passed on; body [`Route`](super::Route).
    Route = 0x40,
    /// What came of it; body [`RouteReply`](super::RouteReply).
    RouteReply = 0x41,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 21] = [
        Self::Hello,
        Self::HelloAck,
        Self::Ping,
        Self::Pong,
        Self::GoAway,
        Self::Cancel,
        Self::Open,
        Self::Unsupported,
        Self::Failed,
        Self::FindNode,
        Self::FindNodeReply,
        Self::FindValue,
        Self::FindValueReply,
        Self::Store,
        Self::StoreReply,
        Self::Call,
        Self::Reply,
        Self::Publish,
        Self::PublishReply,
        Self::Route,
        Self::RouteReply,
    ];

    /// The kind that has the number `kind`, if this version knows one.
    pub const fn from_u8(kind: u8) -> Option<Self> {
        Some(match kind {
            0x01 => Self::Hello,
            0x02 => Self::HelloAck,
            0x03 => Self::Ping,
            0x04 => Self::Pong,
            0x05 => Self::GoAway,
            0x06 => Self::Cancel,
            0x07 => Self::Open,
            0x08 => Self::Unsupported,
            0x09 => Self::Failed,
            0x10 => Self::FindNode,
            0x11 => Self::FindNodeReply,
            0x12 => Self::FindValue,
            0x13 => Self::FindValueReply,
            0x14 => Self::Store,
            0x15 => Self::StoreReply,
            0x20 => Self::Call,
            0x21 => Self::Reply,
            0x30 => Self::Publish,
            0x31 => Self::PublishReply,
            0x40 => Self::Route,
            0x41 => Self::RouteReply,
            _ => return None,
        })
    }

    /// The number of this kind in a header.
    pub const fn to_u8(self) -> u8 {
        self as u8
    }
}

/// What a stream is for. The first four are lanes; [`Class::Single`] is a stream for one large frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Introductions, signs of life, farewells, cancellations.
    Control = 0,
    /// Single requests and their replies.
    Request = 1,
    /// Batches that may wait behind single requests.
    Bulk = 2,
    /// Publications.
    Publish = 3,
    /// One frame that is too large to share a lane.
    Single = 4,
}

impl Class {
    /// How many classes there are.
    pub const COUNT: usize = 5;
    /// How many of them are lanes, which come first.
    pub const LANES: usize = 4;
    /// Every class, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Control, Self::Request, Self::Bulk, Self::Publish, Self::Single];

    /// The class that has the number `class`, if there is one.
    pub const fn from_u8(class: u8) -> Option<Self> {
        Some(match class {
            0 => Self::Control,
            1 => Self::Request,
            2 => Self::Bulk,
            3 => Self::Publish,
            4 => Self::Single,
            _ => return None,
        })
    }

    /// The number of this class, as in the flags of [`Kind::Open`].
    pub const fn to_u8(self) -> u8 {
        self as u8
    }

    /// The number of this class as an index into an array of [`Class::COUNT`] elements.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Appends the first frame of a stream of `class`.
pub fn encode_open(class: Class, out: &mut BytesMut) {
    put_header(Kind::Open, class.to_u8(), 0, out);
}

/// Appends a frame that says that the request `id` is no longer waited for.
pub fn encode_cancel(id: u64, out: &mut BytesMut) {
    put_header(Kind::Cancel, 0, id, out);
}

/// Appends the reply to the frame `id`, whose kind is unknown here.
pub fn encode_unsupported(id: u64, out: &mut BytesMut) {
    put_header(Kind::Unsupported, 0, id, out);
}

/// Appends a header that announces an empty body.
pub(super) fn put_header(kind: Kind, flags: u8, id: u64, out: &mut BytesMut) {
    out.put_slice(&Header { kind: kind.to_u8(), flags, body_len: 0, id }.encode());
}

/// Writes the length of the body that lies between the header at `start` and the end of `out` into
/// that header.
pub(super) fn patch_body_len(start: usize, out: &mut BytesMut) -> Result<(), EncodeError> {
    let body = out.len().checked_sub(start + HEADER_LEN).ok_or(EncodeError::Detached)?;
    let body = u32::try_from(body).ok().filter(|len| *len <= BODY_MAX).ok_or(EncodeError::TooLarge)?;
    let at = start + BODY_LEN_AT;
    out[at..at + 4].copy_from_slice(&body.to_be_bytes());
    Ok(())
}
