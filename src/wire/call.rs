//! CALL and REPLY.
//!
//! CALL `[layout, service str, timeout_ms u32, arguments bin]`, with [`CAST`] in the header's flags when
//! the caller does not wait for the result. REPLY `[layout, status u8, code u32, result bin]`.

use bytes::{BufMut, BytesMut};

use super::batch::LAYOUT;
use super::error::{BodyError, EncodeError};
use super::header::{BODY_MAX, HEADER_LEN, Kind, patch_body_len, put_header};
use super::pack::{Pen, Reader};

/// In the flags of a CALL: its REPLY says that the call was taken, not what came of it.
pub const CAST: u8 = 1;

/// The longest name of a service, in bytes.
pub const SERVICE_MAX: usize = 255;

/// The most that a CALL takes beside its arguments, header included, in bytes.
pub const CALL_OVERHEAD_MAX: usize = HEADER_LEN + 2 + (2 + SERVICE_MAX) + 5 + 5;
/// The most that a REPLY takes beside its result, header included, in bytes.
pub const REPLY_OVERHEAD_MAX: usize = HEADER_LEN + 2 + 1 + 5 + 5;

/// Layout, service, timeout, arguments; layout, status, code, result.
const VALUES: u8 = 4;

/// Asks a peer to run one of its services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// The name of the service, at most [`SERVICE_MAX`] bytes.
    pub service: &'a str,
    /// How long the caller still waits, in milliseconds.
    pub timeout_ms: u32,
    /// What the service is given.
    pub args: &'a [u8],
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum CallStatus {
    /// The result is there; of a cast, the call was taken.
    Done = 0,
    /// The handler has answered with an error: the code is its own, the result its text.
    Failed = 1,
    /// No such service is offered here: nothing was run.
    NoService = 2,
    /// As many calls as may be are running: nothing was run.
    Overloaded = 3,
    /// The caller's time was over before there was a result.
    Late = 4,
    /// The handler has panicked.
    Panicked = 5,
    /// The node takes no calls any more: nothing was run.
    Refused = 6,
    /// The arguments are not what the service takes: nothing was run.
    BadArguments = 7,
    /// The result is larger than a reply may be.
    TooLarge = 8,
}

impl CallStatus {
    /// The status that has the number `status`, if this version knows one.
    pub const fn from_u8(status: u8) -> Option<Self> {
        Some(match status {
            0 => Self::Done,
            1 => Self::Failed,
            2 => Self::NoService,
            3 => Self::Overloaded,
            4 => Self::Late,
            5 => Self::Panicked,
            6 => Self::Refused,
            7 => Self::BadArguments,
            8 => Self::TooLarge,
            _ => return None,
        })
    }
}

/// Tells a caller what came of its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// What came of the call.
    pub status: CallStatus,
    /// The handler's own number of its error, zero without one.
    pub code: u32,
    /// The result, or the text of the error.
    pub result: &'a [u8],
}

impl<'a> Call<'a> {
    /// Appends a frame `id` with this call and `flags`, which are zero or [`CAST`].
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLarge`] when the name is longer than [`SERVICE_MAX`] or no frame can hold the
    /// arguments.
    pub fn encode(&self, id: u64, flags: u8, out: &mut BytesMut) -> Result<(), EncodeError> {
        if self.service.len() > SERVICE_MAX {
            return Err(EncodeError::TooLarge);
        }
        frame((Kind::Call, flags), id, self.args, out, |pen| {
            pen.text(self.service);
            pen.uint(self.timeout_ms.into());
        })
    }

    /// Reads the body of a CALL. The name and the arguments borrow from `body`.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when `body` is anything but one whole, permitted message.
    pub fn decode(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = open(body)?;
        let service = reader.text(SERVICE_MAX)?;
        let call = Self { service, timeout_ms: reader.u32()?, args: reader.bin()? };
        reader.finish()?;
        Ok(call)
    }
}

impl<'a> Reply<'a> {
    /// Appends the reply to the frame `id`.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLarge`] when no frame can hold the result.
    pub fn encode(&self, id: u64, out: &mut BytesMut) -> Result<(), EncodeError> {
        frame((Kind::Reply, 0), id, self.result, out, |pen| {
            pen.uint((self.status as u8).into());
            pen.uint(self.code.into());
        })
    }

    /// Reads the body of a REPLY. The result borrows from `body`.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when `body` is anything but one whole, permitted message.
    pub fn decode(body: &'a [u8]) -> Result<Self, BodyError> {
        let mut reader = open(body)?;
        let status = CallStatus::from_u8(reader.u8()?).ok_or(BodyError::Range)?;
        let reply = Self { status, code: reader.u32()?, result: reader.bin()? };
        reader.finish()?;
        Ok(reply)
    }
}

/// Appends a frame of what `head` writes and, last, `tail`. The buffer stays as it was on an error.
fn frame(
    (kind, flags): (Kind, u8),
    id: u64,
    tail: &[u8],
    out: &mut BytesMut,
    head: impl FnOnce(&mut Pen<bytes::buf::Writer<&mut BytesMut>>),
) -> Result<(), EncodeError> {
    if tail.len() > BODY_MAX as usize {
        return Err(EncodeError::TooLarge);
    }
    let start = out.len();
    out.reserve(CALL_OVERHEAD_MAX.min(64) + tail.len());
    put_header(kind, flags, id, out);
    let mut pen = Pen::on(out);
    pen.array(VALUES);
    pen.uint(LAYOUT.into());
    head(&mut pen);
    pen.bin_len(tail.len());
    out.put_slice(tail);
    patch_body_len(start, out).inspect_err(|_| out.truncate(start))
}

fn open(body: &[u8]) -> Result<Reader<'_>, BodyError> {
    let mut reader = Reader::new(body);
    reader.array_of(VALUES)?;
    match reader.u8()? {
        LAYOUT => Ok(reader),
        other => Err(BodyError::Layout(other)),
    }
}
