//! PUBLISH and its reply.
//!
//! PUBLISH `[layout, topic str, publisher bin32, epoch u64, [seq u64, payload bin]*]`: what all
//! publications of a batch share is said once. Reply `[layout, status u8*]` in their order.

use bytes::BytesMut;

use super::batch::{self, Tail};
use super::error::{BodyError, EncodeError};
use super::header::{BODY_MAX, Kind};
use super::pack::Pen;
use crate::id::NodeId;

/// The longest topic, in bytes.
pub const TOPIC_MAX: usize = 255;

/// Layout, topic, publisher, epoch.
const PUBLISH_FIXED: u16 = 4;
/// Layout.
const REPLY_FIXED: u16 = 1;
/// Array marker, sequence, empty byte string.
const PUBLICATION_MIN: usize = 1 + 1 + 2;

/// One publication of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication<'a> {
    /// Its place among the publications of the publisher's epoch on the topic.
    pub seq: u64,
    /// What is published.
    pub payload: &'a [u8],
}

/// Appends `publication` as one element of a PUBLISH, to be pushed into any number of batches.
///
/// # Errors
///
/// [`EncodeError::TooLarge`] when no frame can hold the payload.
pub fn encode_publication(publication: &Publication<'_>, out: &mut BytesMut) -> Result<(), EncodeError> {
    if publication.payload.len() > BODY_MAX as usize {
        return Err(EncodeError::TooLarge);
    }
    let mut pen = Pen::on(out);
    pen.array(2);
    pen.uint(publication.seq);
    pen.bin(publication.payload);
    Ok(())
}

/// A PUBLISH under construction at the end of a buffer; the rules of
/// [`StoreBatch`](super::StoreBatch) apply.
#[derive(Debug)]
pub struct PublishBatch(Tail);

impl PublishBatch {
    /// Appends a frame `id` without publications, whose publications will all be of `publisher`, of its
    /// `epoch`, on `topic`.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLarge`] when the topic is longer than [`TOPIC_MAX`].
    pub fn open(
        id: u64,
        topic: &str,
        publisher: &NodeId,
        epoch: u64,
        out: &mut BytesMut,
    ) -> Result<Self, EncodeError> {
        if topic.len() > TOPIC_MAX {
            return Err(EncodeError::TooLarge);
        }
        Ok(Self(Tail::open(Kind::Publish, 0, id, PUBLISH_FIXED, out, |out| {
            let mut pen = Pen::on(out);
            pen.text(topic);
            pen.bin(publisher.as_bytes());
            pen.uint(epoch);
        })))
    }

    /// Appends a publication that [`encode_publication`] wrote.
    ///
    /// # Errors
    ///
    /// As [`StoreBatch::push`](super::StoreBatch::push).
    pub fn push(&mut self, encoded: &[u8], out: &mut BytesMut) -> Result<(), EncodeError> {
        self.0.push(out, |out| out.extend_from_slice(encoded))
    }

    /// Publications in the batch.
    pub const fn count(&self) -> u16 {
        self.0.count()
    }

    /// Whether the batch has no publication.
    pub const fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Bytes in the frame, header included.
    pub const fn len(&self) -> usize {
        self.0.len()
    }
}

/// The body of a PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishFrame<'a> {
    /// The topic of all publications.
    pub topic: &'a str,
    /// Who published them.
    pub publisher: NodeId,
    /// The life of the publisher in which their sequences count.
    pub epoch: u64,
    /// The publications, in the order in which the statuses are expected.
    pub publications: Vec<Publication<'a>>,
}

/// Reads the body of a PUBLISH. The topic and the payloads borrow from `body`.
///
/// # Errors
///
/// [`BodyError`] when `body` is anything but one whole, permitted batch.
pub fn decode_publish(body: &[u8]) -> Result<PublishFrame<'_>, BodyError> {
    let (mut reader, count) = batch::open(body, PUBLISH_FIXED.into(), PUBLICATION_MIN)?;
    let topic = reader.text(TOPIC_MAX)?;
    let publisher = NodeId::from_bytes(reader.id()?);
    let epoch = reader.u64()?;
    let mut publications = Vec::with_capacity(count);
    for _ in 0..count {
        reader.array_of(2)?;
        publications.push(Publication { seq: reader.u64()?, payload: reader.bin()? });
    }
    reader.finish()?;
    Ok(PublishFrame { topic, publisher, epoch, publications })
}

/// The reply to a PUBLISH, under construction at the end of a buffer; the rules of
/// [`StoreBatch`](super::StoreBatch) apply.
#[derive(Debug)]
pub struct PublishReply(Tail);

impl PublishReply {
    /// Appends the reply to the frame `id`, without statuses.
    pub fn open(id: u64, out: &mut BytesMut) -> Self {
        Self(Tail::open(Kind::PublishReply, 0, id, REPLY_FIXED, out, |_| ()))
    }

    /// Appends what became of the next publication, as a number.
    ///
    /// # Errors
    ///
    /// As [`StoreBatch::push`](super::StoreBatch::push).
    pub fn push(&mut self, status: u8, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.0.push(out, |out| Pen::on(out).uint(status.into()))
    }

    /// Statuses in the reply.
    pub const fn count(&self) -> u16 {
        self.0.count()
    }
}

/// Reads the body of the reply to a PUBLISH.
///
/// # Errors
///
/// [`BodyError`] when `body` is anything but one whole, permitted batch.
pub fn decode_publish_reply(body: &[u8]) -> Result<Vec<u8>, BodyError> {
    let (mut reader, count) = batch::open(body, REPLY_FIXED.into(), 1)?;
    let mut statuses = Vec::with_capacity(count);
    for _ in 0..count {
        statuses.push(reader.u8()?);
    }
    reader.finish()?;
    Ok(statuses)
}
