//! STORE and its reply, the hottest messages of the system.
//!
//! STORE `[layout, publisher bin32, record*]`, reply `[layout, status*]` in the order of the records.
//! A status is a number, or an array when there is more to say: `[2, seq]`, `[3, reason]`.

use std::io::Write;

use bytes::{BufMut, BytesMut};

use super::batch::{self, Tail};
use super::error::{BodyError, EncodeError};
use super::header::{HEADER_LEN, Kind};
use super::pack::{ID_PACKED, Pen, Reader};
use super::record::{Element, RECORD_MIN, Record};
use crate::id::NodeId;

/// Layout and publisher.
const STORE_FIXED: u16 = 2;
/// Bytes of a STORE frame before its first record.
pub const STORE_PREFIX: usize = HEADER_LEN + 3 + 1 + ID_PACKED;
/// Flag in the header of the reply to a STORE: every record that the reply acknowledges
/// ([`Status::Applied`], [`Status::AlreadyHave`]) is on disk and survives a restart of the replica.
pub const DURABLE: u8 = 1;
/// Layout.
const REPLY_FIXED: u16 = 1;

/// A STORE under construction at the end of a buffer.
///
/// Between `open` and the last `push`, nothing else may be written to the buffer or split from its
/// front; a push that finds the frame gone returns [`EncodeError::Detached`].
#[derive(Debug)]
pub struct StoreBatch(Tail);

impl StoreBatch {
    /// Appends a frame `id` without records, whose records will all be of `publisher`.
    pub fn open(id: u64, publisher: &NodeId, out: &mut BytesMut) -> Self {
        let prefix = |out: &mut BytesMut| Pen::on(out).bin(publisher.as_bytes());
        Self(Tail::open(Kind::Store, 0, id, STORE_FIXED, out, prefix))
    }

    /// Appends a record that [`encode_record`](super::encode_record) wrote. The frame is whole and can
    /// be sent after each.
    ///
    /// # Errors
    ///
    /// [`EncodeError::Full`] above [`BATCH_RECORDS_MAX`](super::BATCH_RECORDS_MAX) records,
    /// [`EncodeError::TooLarge`] above [`BODY_MAX`](super::BODY_MAX) bytes, [`EncodeError::Detached`].
    pub fn push(&mut self, encoded_record: &[u8], out: &mut BytesMut) -> Result<(), EncodeError> {
        self.0.push(out, |out| out.put_slice(encoded_record))
    }

    /// Appends `count` records that were encoded one behind the other.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push); none of the records is appended then.
    pub fn push_many(
        &mut self,
        encoded_records: &[u8],
        count: u16,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        self.0.push_many(encoded_records, count, out)
    }

    /// Records in the batch.
    pub const fn count(&self) -> u16 {
        self.0.count()
    }

    /// Whether the batch has no record.
    pub const fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Bytes in the frame, header included.
    pub const fn len(&self) -> usize {
        self.0.len()
    }
}

/// The body of a STORE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFrame<'a> {
    /// Who published the records.
    pub publisher: NodeId,
    /// The records, in the order in which the statuses are expected.
    pub records: Vec<Record<'a>>,
}

/// Reads the body of a STORE. Proofs and values borrow from `body`.
///
/// # Errors
///
/// [`BodyError`] when `body` is anything but one whole, permitted batch. Unknown record kinds and flags
/// are not errors.
pub fn decode_store(body: &[u8]) -> Result<StoreFrame<'_>, BodyError> {
    let (mut reader, count) = batch::open(body, STORE_FIXED.into(), RECORD_MIN)?;
    let publisher = NodeId::from_bytes(reader.id()?);
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        records.push(Element::read(&mut reader)?.into_record());
    }
    reader.finish()?;
    Ok(StoreFrame { publisher, records })
}

/// What became of a record at a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// It is in the store.
    Applied,
    /// The same record was in the store already.
    AlreadyHave,
    /// The store has a later record of this publisher under the key.
    Superseded {
        /// The sequence of the later record.
        seq: u64,
    },
    /// The replica does not take such a record from us.
    Rejected(Reject),
    /// The replica has no room.
    StorageFull,
    /// The replica has no time.
    Overloaded,
    /// The replica is not among the nodes closest to the key.
    NotResponsible,
}

/// Why a replica does not take a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reject {
    /// A reason that this version does not know.
    Unknown,
    /// The sender may not store records of this publisher.
    Publisher,
    /// The proof is missing or wrong.
    Proof,
    /// The kind is unknown.
    Kind,
    /// A flag is unknown, or not permitted with this kind.
    Flags,
    /// The value is too large.
    TooLarge,
    /// The time to live is not permitted.
    Ttl,
}

impl Reject {
    /// The reason that has the number `reason`; [`Reject::Unknown`] for numbers that no reason has.
    pub const fn from_u8(reason: u8) -> Self {
        match reason {
            1 => Self::Publisher,
            2 => Self::Proof,
            3 => Self::Kind,
            4 => Self::Flags,
            5 => Self::TooLarge,
            6 => Self::Ttl,
            _ => Self::Unknown,
        }
    }

    /// The number of this reason.
    pub const fn to_u8(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Publisher => 1,
            Self::Proof => 2,
            Self::Kind => 3,
            Self::Flags => 4,
            Self::TooLarge => 5,
            Self::Ttl => 6,
        }
    }
}

const SUPERSEDED: u8 = 2;
const REJECTED: u8 = 3;

impl Status {
    fn write(self, pen: &mut Pen<impl Write>) {
        let (code, detail) = match self {
            Self::Applied => (0, None),
            Self::AlreadyHave => (1, None),
            Self::Superseded { seq } => (SUPERSEDED, Some(seq)),
            Self::Rejected(reason) => (REJECTED, Some(reason.to_u8().into())),
            Self::StorageFull => (4, None),
            Self::Overloaded => (5, None),
            Self::NotResponsible => (6, None),
        };
        if detail.is_some() {
            pen.array(2);
        }
        pen.uint(code.into());
        if let Some(detail) = detail {
            pen.uint(detail);
        }
    }

    #[inline]
    fn read(reader: &mut Reader<'_>) -> Result<Self, BodyError> {
        if reader.is_array()? {
            reader.array_of(2)?;
            return match reader.u8()? {
                SUPERSEDED => Ok(Self::Superseded { seq: reader.u64()? }),
                REJECTED => Ok(Self::Rejected(Reject::from_u8(reader.u8()?))),
                _ => Err(BodyError::Range),
            };
        }
        match reader.u8()? {
            0 => Ok(Self::Applied),
            1 => Ok(Self::AlreadyHave),
            4 => Ok(Self::StorageFull),
            5 => Ok(Self::Overloaded),
            6 => Ok(Self::NotResponsible),
            _ => Err(BodyError::Range),
        }
    }
}

/// The reply to a STORE, under construction at the end of a buffer; the rules of [`StoreBatch`] apply.
#[derive(Debug)]
pub struct StoreReply(Tail);

impl StoreReply {
    /// Appends the reply to the frame `id`, without statuses; `durable` sets [`DURABLE`].
    pub fn open(id: u64, durable: bool, out: &mut BytesMut) -> Self {
        let flags = if durable { DURABLE } else { 0 };
        Self(Tail::open(Kind::StoreReply, flags, id, REPLY_FIXED, out, |_| ()))
    }

    /// Appends what became of the next record.
    ///
    /// # Errors
    ///
    /// As [`StoreBatch::push`].
    pub fn push(&mut self, status: Status, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.0.push(out, |out| status.write(&mut Pen::on(out)))
    }

    /// Statuses in the reply.
    pub const fn count(&self) -> u16 {
        self.0.count()
    }
}

/// Reads the body of the reply to a STORE.
///
/// # Errors
///
/// [`BodyError`] when `body` is anything but one whole, permitted batch.
pub fn decode_store_reply(body: &[u8]) -> Result<Vec<Status>, BodyError> {
    let (mut reader, count) = batch::open(body, REPLY_FIXED.into(), 1)?;
    let mut statuses = Vec::with_capacity(count);
    for _ in 0..count {
        statuses.push(Status::read(&mut reader)?);
    }
    reader.finish()?;
    Ok(statuses)
}
