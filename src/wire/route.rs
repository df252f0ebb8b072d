//! ROUTE and its reply: a request in an envelope, for a node that others have to pass it on to.
//!
//! ROUTE `[layout, destination bin32, origin_key bin32, nonce u64, issued_ms u64, left_ms u32, hops u8,
//! [passed bin32 *], kind u8, flags u8, body bin, signature bin64]`; reply `[layout, hops u8, kind u8,
//! flags u8, body bin, key bin32, signature bin64]`, or `[layout, hops u8, error u8]` when there is no
//! answer. What is signed, and by whom, is said where it is signed; this module only reads and writes.

use bytes::BytesMut;

use super::batch::{LAYOUT, bounded};
use super::error::{BodyError, EncodeError};
use super::header::{HEADER_LEN, Kind, patch_body_len, put_header};
use super::pack::{ID_PACKED, Pen, Reader};
use crate::id::NodeId;
use crate::identity::{PUBLIC_KEY_LEN, SIGNATURE_LEN};

/// The most relays that a request may pass.
pub const HOPS_MAX: u8 = 10;
/// The largest body of a request in an envelope, in bytes: with the envelope it still fits a lane.
pub const ROUTED_BODY_MAX: usize = 60 << 10;
/// The largest body of an answer in an envelope, in bytes.
pub const ROUTED_REPLY_MAX: usize = 120 << 10;
/// The most bytes that an envelope adds to the body of a request, the header included.
pub const ROUTE_OVERHEAD_MAX: usize = HEADER_LEN
    + 2
    + 2 * ID_PACKED
    + 2 * 9
    + 5
    + 2
    + 1
    + HOPS_MAX as usize * ID_PACKED
    + 2 * 2
    + 3
    + 2
    + SIGNATURE_LEN;

/// Values in a ROUTE, in an answer, in an error.
const ROUTE: u8 = 12;
const ANSWER: u8 = 7;
const ERROR: u8 = 3;

/// A request on its way through other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'a> {
    /// The node that it is for.
    pub destination: NodeId,
    /// The public key of the node that asks; its id follows from it.
    pub origin_key: [u8; PUBLIC_KEY_LEN],
    /// Tells the requests of an origin apart: each has a higher one than those before it to the same node.
    pub nonce: u64,
    /// When the origin made it, in milliseconds since 1970.
    pub issued_ms: u64,
    /// How long the receiver has to answer, in milliseconds.
    pub left_ms: u32,
    /// How many more times it may be passed on.
    pub hops: u8,
    /// The nodes that passed it on, in their order, the origin not among them; at most [`HOPS_MAX`].
    pub passed: Vec<NodeId>,
    /// The kind of the request.
    pub kind: u8,
    /// The flags of the request.
    pub flags: u8,
    /// The body of the request, at most [`ROUTED_BODY_MAX`] bytes.
    pub body: &'a [u8],
    /// The signature of the origin over what no relay changes.
    pub signature: [u8; SIGNATURE_LEN],
}

/// What came of a routed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteReply<'a> {
    /// How many times the request was passed on.
    pub hops: u8,
    /// The answer of the destination, or why there is none.
    pub result: Result<Routed<'a>, RouteError>,
}

/// The answer of the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routed<'a> {
    /// The kind of the reply.
    pub kind: u8,
    /// The flags of the reply.
    pub flags: u8,
    /// The body of the reply, at most [`ROUTED_REPLY_MAX`] bytes.
    pub body: &'a [u8],
    /// The public key of the destination.
    pub key: [u8; PUBLIC_KEY_LEN],
    /// Its signature over the answer and the request that it is for.
    pub signature: [u8; SIGNATURE_LEN],
}

/// Why a routed request has no answer. Only the word of whoever says so: unlike an answer it is not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
#[non_exhaustive]
pub enum RouteError {
    /// No connected node is left to pass it on to.
    #[error("no route to the node was found")]
    NoRoute = 1,
    /// It was passed on as often as it may be.
    #[error("the request was passed on too often")]
    MaxHops = 2,
    /// Its time was over; the destination may have received it.
    #[error("the time of the request was over")]
    Expired = 3,
    /// It is not genuine, too old, or was seen before.
    #[error("the request was refused")]
    Refused = 4,
    /// The node has too much to do.
    #[error("the node is overloaded")]
    Overloaded = 5,
}

impl RouteError {
    /// The error with the number `error`, if there is one.
    pub const fn from_u8(error: u8) -> Option<Self> {
        Some(match error {
            1 => Self::NoRoute,
            2 => Self::MaxHops,
            3 => Self::Expired,
            4 => Self::Refused,
            5 => Self::Overloaded,
            _ => return None,
        })
    }
}

impl<'a> Route<'a> {
    /// Appends a frame `id` with this request.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLarge`] when the body or the list of nodes passed is larger than permitted.
    pub fn encode(&self, id: u64, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.body.len() > ROUTED_BODY_MAX || self.passed.len() > HOPS_MAX.into() {
            return Err(EncodeError::TooLarge);
        }
        frame(Kind::Route, id, ROUTE, out, |pen| {
            pen.bin(self.destination.as_bytes());
            pen.bin(&self.origin_key);
            pen.uint(self.nonce);
            pen.uint(self.issued_ms);
            pen.uint(self.left_ms.into());
            pen.uint(self.hops.into());
            pen.array(u8::try_from(self.passed.len()).unwrap_or(HOPS_MAX));
            self.passed.iter().for_each(|node| pen.bin(node.as_bytes()));
            pen.uint(self.kind.into());
            pen.uint(self.flags.into());
            pen.bin(self.body);
            pen.bin(&self.signature);
        })
    }

    /// Reads the body of a ROUTE. The request in it borrows from `body`.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when `body` is anything but one whole, permitted message. Nothing is verified.
    pub fn decode(body: &'a [u8]) -> Result<Self, BodyError> {
        let (mut reader, values) = open(body)?;
        if values != usize::from(ROUTE) {
            return Err(BodyError::Length);
        }
        let route = Self {
            destination: NodeId::from_bytes(reader.id()?),
            origin_key: reader.id()?,
            nonce: reader.u64()?,
            issued_ms: reader.u64()?,
            left_ms: reader.u32()?,
            hops: reader.u8()?,
            passed: passed(&mut reader)?,
            kind: reader.u8()?,
            flags: reader.u8()?,
            body: up_to(ROUTED_BODY_MAX, reader.bin()?)?,
            signature: signature(&mut reader)?,
        };
        reader.finish()?;
        Ok(route)
    }
}

impl<'a> RouteReply<'a> {
    /// Appends the reply to the frame `id`.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLarge`] when the body is larger than permitted.
    pub fn encode(&self, id: u64, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self.result {
            Ok(Routed { body, .. }) if body.len() > ROUTED_REPLY_MAX => Err(EncodeError::TooLarge),
            Ok(Routed { kind, flags, body, key, signature }) => {
                frame(Kind::RouteReply, id, ANSWER, out, |pen| {
                    pen.uint(self.hops.into());
                    pen.uint(kind.into());
                    pen.uint(flags.into());
                    pen.bin(body);
                    pen.bin(&key);
                    pen.bin(&signature);
                })
            }
            Err(error) => frame(Kind::RouteReply, id, ERROR, out, |pen| {
                pen.uint(self.hops.into());
                pen.uint((error as u8).into());
            }),
        }
    }

    /// Reads the body of a reply to ROUTE. The answer in it borrows from `body`.
    ///
    /// # Errors
    ///
    /// As [`Route::decode`].
    pub fn decode(body: &'a [u8]) -> Result<Self, BodyError> {
        let (mut reader, values) = open(body)?;
        let hops = reader.u8()?;
        let result = if values == usize::from(ERROR) {
            Err(RouteError::from_u8(reader.u8()?).ok_or(BodyError::Range)?)
        } else if values == usize::from(ANSWER) {
            Ok(Routed {
                kind: reader.u8()?,
                flags: reader.u8()?,
                body: up_to(ROUTED_REPLY_MAX, reader.bin()?)?,
                key: reader.id()?,
                signature: signature(&mut reader)?,
            })
        } else {
            return Err(BodyError::Length);
        };
        reader.finish()?;
        Ok(Self { hops, result })
    }
}

/// Writes a frame whose body is an array of `values` values, the layout the first of them.
fn frame(
    kind: Kind,
    id: u64,
    values: u8,
    out: &mut BytesMut,
    write: impl FnOnce(&mut Pen<bytes::buf::Writer<&mut BytesMut>>),
) -> Result<(), EncodeError> {
    let start = out.len();
    put_header(kind, 0, id, out);
    let mut pen = Pen::on(out);
    pen.array(values);
    pen.uint(LAYOUT.into());
    write(&mut pen);
    patch_body_len(start, out)
}

fn open(body: &[u8]) -> Result<(Reader<'_>, usize), BodyError> {
    let mut reader = Reader::new(body);
    let values = reader.array()?;
    if values == 0 {
        return Err(BodyError::Length);
    }
    let layout = reader.u8()?;
    if layout == LAYOUT { Ok((reader, values)) } else { Err(BodyError::Layout(layout)) }
}

fn passed(reader: &mut Reader<'_>) -> Result<Vec<NodeId>, BodyError> {
    let count = reader.array()?;
    if count > usize::from(HOPS_MAX) {
        return Err(BodyError::Count { count, max: HOPS_MAX.into() });
    }
    (0..bounded(reader, count, ID_PACKED)?).map(|_| Ok(NodeId::from_bytes(reader.id()?))).collect()
}

fn signature(reader: &mut Reader<'_>) -> Result<[u8; SIGNATURE_LEN], BodyError> {
    reader.bin()?.try_into().map_err(|_| BodyError::Length)
}

fn up_to(max: usize, body: &[u8]) -> Result<&[u8], BodyError> {
    if body.len() > max { Err(BodyError::Length) } else { Ok(body) }
}
