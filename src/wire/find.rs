//! FIND_VALUE and its reply.
//!
//! FIND_VALUE `[layout, [key bin32, kind u8, after bin 0|32 | nil]*]`; reply `[layout, [[record*], rest]*]`
//! in the order of the keys, where `rest` is nil when the answer is complete, the publisher of the last
//! record when there are more behind it, and an empty byte string when nothing of the key fitted. An answer
//! has records of the kind that was asked for, their publishers ascending.

use std::io::Write;
use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::batch::{self, Tail};
use super::error::{BodyError, EncodeError};
use super::header::{HEADER_LEN, Kind};
use super::pack::{ID_PACKED, Pen};
use super::record::{Element, Found, RECORD_MIN, RecordKind};
use crate::id::{Key, NodeId};

/// Layout.
const FIXED: u16 = 1;
/// Array marker, key, kind, nil.
const ASK_MIN: usize = 1 + ID_PACKED + 1 + 1;
/// Array marker, empty array, nil.
const ANSWER_MIN: usize = 3;

/// A FIND_VALUE under construction at the end of a buffer; the rules of
/// [`StoreBatch`](super::StoreBatch) apply.
#[derive(Debug)]
pub struct FindBatch(Tail);

impl FindBatch {
    /// Appends a frame `id` that asks for nothing yet.
    pub fn open(id: u64, out: &mut BytesMut) -> Self {
        Self(Tail::open(Kind::FindValue, 0, id, FIXED, out, |_| ()))
    }

    /// Asks for the records of `kind` under `key`, those behind the publisher `after` if there is one.
    ///
    /// # Errors
    ///
    /// As [`StoreBatch::push`](super::StoreBatch::push).
    pub fn push(
        &mut self,
        key: &Key,
        kind: RecordKind,
        after: Option<&NodeId>,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        self.0.push(out, |out| {
            let mut pen = Pen::on(out);
            pen.array(3);
            pen.bin(key.as_bytes());
            pen.uint(kind.0.into());
            match after {
                Some(publisher) => pen.bin(publisher.as_bytes()),
                None => pen.nil(),
            }
        })
    }

    /// Keys asked for.
    pub const fn count(&self) -> u16 {
        self.0.count()
    }

    /// Whether the batch asks for nothing.
    pub const fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Bytes in the frame, header included.
    pub const fn len(&self) -> usize {
        self.0.len()
    }
}

/// One question of a FIND_VALUE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The key whose records are asked for.
    pub key: Key,
    /// The kind of the records.
    pub kind: RecordKind,
    /// Only publishers greater than this one, if any.
    pub after: Option<NodeId>,
}

/// Reads the body of a FIND_VALUE.
///
/// # Errors
///
/// [`BodyError`] when `body` is anything but one whole, permitted batch.
pub fn decode_find(body: &[u8]) -> Result<Vec<Ask>, BodyError> {
    let (mut reader, count) = batch::open(body, FIXED.into(), ASK_MIN)?;
    let mut asks = Vec::with_capacity(count);
    for _ in 0..count {
        reader.array_of(3)?;
        let key = Key::from_bytes(reader.id()?);
        let kind = RecordKind(reader.u8()?);
        let after = match Rest::read(reader.bin_or_nil()?)? {
            Rest::After(publisher) => Some(publisher),
            Rest::Nothing | Rest::Everything => None,
        };
        asks.push(Ask { key, kind, after });
    }
    reader.finish()?;
    Ok(asks)
}

/// What an answer leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing: these are all records under the key.
    Nothing,
    /// Everything: no record fitted any more. Ask for the key again.
    Everything,
    /// The records of publishers greater than this one. Ask for those.
    After(NodeId),
}

impl Rest {
    fn read(cursor: Option<&[u8]>) -> Result<Self, BodyError> {
        Ok(match cursor {
            None => Self::Nothing,
            Some([]) => Self::Everything,
            Some(id) => Self::After(NodeId::from_bytes(id.try_into().map_err(|_| BodyError::Length)?)),
        })
    }

    fn write(&self, pen: &mut Pen<impl Write>) {
        match self {
            Self::Nothing => pen.nil(),
            Self::Everything => pen.bin(&[]),
            Self::After(publisher) => pen.bin(publisher.as_bytes()),
        }
    }
}

/// The reply to a FIND_VALUE, under construction at the end of a buffer; the rules of
/// [`StoreBatch`](super::StoreBatch) apply.
#[derive(Debug)]
pub struct FindReply(Tail);

/// Bytes of a FIND_VALUE reply before its first answer.
pub const FIND_REPLY_PREFIX: usize = HEADER_LEN + 4;

impl FindReply {
    /// Appends the reply to the frame `id`, without answers.
    pub fn open(id: u64, out: &mut BytesMut) -> Self {
        Self(Tail::open(Kind::FindValueReply, 0, id, FIXED, out, |_| ()))
    }

    /// Begins the answer for the next key. It counts once [`Answering::end`] was called; dropped
    /// before, it leaves no trace.
    ///
    /// # Errors
    ///
    /// As [`StoreBatch::push`](super::StoreBatch::push).
    pub fn answer<'a>(&'a mut self, out: &'a mut BytesMut) -> Result<Answering<'a>, EncodeError> {
        let start = self.0.end(out)?;
        out.put_slice(&[0x92, 0xdc, 0, 0]);
        Ok(Answering { reply: self, out, start, count: 0, ended: false })
    }

    /// Answers in the reply.
    pub const fn count(&self) -> u16 {
        self.0.count()
    }

    /// Bytes in the frame, header included.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the reply has no answer.
    pub const fn is_empty(&self) -> bool {
        self.count() == 0
    }
}

/// The answer for one key, under construction.
#[derive(Debug)]
pub struct Answering<'a> {
    reply: &'a mut FindReply,
    out: &'a mut BytesMut,
    /// Where the answer begins in `out`.
    start: usize,
    count: u16,
    ended: bool,
}

impl Answering<'_> {
    /// Appends a record.
    ///
    /// # Errors
    ///
    /// [`EncodeError::Full`] above [`BATCH_RECORDS_MAX`](super::BATCH_RECORDS_MAX) records in this
    /// answer, [`EncodeError::Proof`], [`EncodeError::TooLarge`] when no frame can hold the value.
    pub fn push(&mut self, record: &Found<'_>) -> Result<(), EncodeError> {
        if usize::from(self.count) == batch::BATCH_RECORDS_MAX {
            return Err(EncodeError::Full);
        }
        record.write(self.out)?;
        self.count += 1;
        Ok(())
    }

    /// Records in this answer.
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Bytes in the frame, header and this answer included.
    pub fn len(&self) -> usize {
        self.reply.len() + self.out.len() - self.start
    }

    /// Whether this answer has no record.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Ends the answer, saying what it leaves out.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLarge`] when the frame with this answer would be; it is then taken out again.
    pub fn end(mut self, rest: Rest) -> Result<(), EncodeError> {
        let at = self.start + 2;
        self.out[at..at + 2].copy_from_slice(&self.count.to_be_bytes());
        rest.write(&mut Pen::on(self.out));
        self.ended = true;
        self.reply.0.commit(self.out)
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.out.truncate(self.start);
        }
    }
}

/// The body of the reply to a FIND_VALUE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindReplyFrame<'a> {
    /// The records of all answers, one behind the other: two allocations serve any number of answers.
    records: Vec<Found<'a>>,
    answers: Vec<(Range<usize>, Rest)>,
}

/// The answer for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'f, 'a> {
    /// The records under the key.
    pub records: &'f [Found<'a>],
    /// What is left out.
    pub rest: Rest,
}

impl<'a> FindReplyFrame<'a> {
    /// The answers, in the order in which the keys were asked for.
    pub fn answers(&self) -> impl ExactSizeIterator<Item = Answer<'_, 'a>> {
        self.answers.iter().map(|(range, rest)| Answer { records: &self.records[range.clone()], rest: *rest })
    }
}

/// Reads the body of the reply to a FIND_VALUE. Proofs and values borrow from `body`.
///
/// # Errors
///
/// [`BodyError`] when `body` is anything but one whole, permitted batch.
pub fn decode_find_reply(body: &[u8]) -> Result<FindReplyFrame<'_>, BodyError> {
    let (mut reader, count) = batch::open(body, FIXED.into(), ANSWER_MIN)?;
    let mut answers = Vec::with_capacity(count);
    let mut records = Vec::with_capacity(count.min(body.len() / RECORD_MIN));
    for _ in 0..count {
        reader.array_of(2)?;
        let start = records.len();
        let found = reader.array()?;
        for _ in 0..batch::bounded(&reader, found, RECORD_MIN)? {
            records.push(Element::read(&mut reader)?.into_found());
        }
        answers.push((start..records.len(), Rest::read(reader.bin_or_nil()?)?));
    }
    reader.finish()?;
    Ok(FindReplyFrame { records, answers })
}
