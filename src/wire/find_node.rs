//! FIND_NODE and its reply: who is close to a key.
//!
//! FIND_NODE `[layout, target bin32, count u8]`; reply `[layout, [id bin32, [endpoint str]*]*]`, closest
//! first. A lookup asks this of many nodes, so the reply is read without copying, and a node can be encoded
//! once for all the replies that name it.

use bytes::{BufMut, BytesMut};

use super::batch::{self, Tail};
use super::control::{CONTACTS_MAX, ENDPOINT_MAX, ENDPOINTS_MAX};
use super::error::{BodyError, EncodeError};
use super::header::Kind;
use super::pack::{ID_PACKED, Pen, Reader};
use crate::id::{Key, NodeId};

/// Layout, target, count.
const ASK_FIXED: u16 = 3;
/// Layout.
const REPLY_FIXED: u16 = 1;
/// Array marker, id, empty array.
const CONTACT_MIN: usize = 1 + ID_PACKED + 1;
/// The marker of an array without elements; up to 15 are added to it.
const EMPTY_ARRAY: u8 = 0x90;

/// Asks for the nodes closest to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FindNode {
    /// The key.
    pub target: Key,
    /// How many nodes are wanted; a reply never has more than [`CONTACTS_MAX`].
    pub count: u8,
}

impl FindNode {
    /// Appends a frame `id` with this question.
    ///
    /// # Errors
    ///
    /// As the other messages; a question always fits.
    pub fn encode(&self, id: u64, out: &mut BytesMut) -> Result<(), EncodeError> {
        Tail::open(Kind::FindNode, 0, id, ASK_FIXED, out, |out| {
            let mut pen = Pen::on(out);
            pen.bin(self.target.as_bytes());
            pen.uint(self.count.into());
        });
        Ok(())
    }

    /// Reads the body of a frame.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when `body` is anything but one whole question.
    pub fn decode(body: &[u8]) -> Result<Self, BodyError> {
        let (mut reader, more) = batch::open(body, ASK_FIXED.into(), 1)?;
        if more > 0 {
            return Err(BodyError::Length);
        }
        let find = Self { target: Key::from_bytes(reader.id()?), count: reader.u8()? };
        reader.finish()?;
        Ok(find)
    }
}

/// Appends a node and where it can be reached as one element of the reply to FIND_NODE, to be pushed into
/// any number of replies.
///
/// # Errors
///
/// [`EncodeError::TooLarge`] above [`ENDPOINTS_MAX`] endpoints or [`ENDPOINT_MAX`] bytes in one of them; `out`
/// is then as it was.
pub fn encode_contact<'e>(
    id: &NodeId,
    endpoints: impl IntoIterator<Item = &'e str>,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let start = out.len();
    let mut pen = Pen::on(out);
    pen.array(2);
    pen.bin(id.as_bytes());
    let at = out.len();
    out.put_u8(EMPTY_ARRAY);
    for (endpoint, count) in endpoints.into_iter().zip(1..) {
        if usize::from(count) > ENDPOINTS_MAX || endpoint.len() > ENDPOINT_MAX {
            out.truncate(start);
            return Err(EncodeError::TooLarge);
        }
        Pen::on(out).text(endpoint);
        out[at] = EMPTY_ARRAY | count;
    }
    Ok(())
}

/// The reply to a FIND_NODE, under construction at the end of a buffer; the rules of
/// [`StoreBatch`](super::StoreBatch) apply.
#[derive(Debug)]
pub struct FindNodeReply(Tail);

impl FindNodeReply {
    /// Appends the reply to the frame `id`, without contacts.
    pub fn open(id: u64, out: &mut BytesMut) -> Self {
        Self(Tail::open(Kind::FindNodeReply, 0, id, REPLY_FIXED, out, |_| ()))
    }

    /// Appends a node and where it can be reached.
    ///
    /// # Errors
    ///
    /// [`EncodeError::Full`] above [`CONTACTS_MAX`] contacts, [`EncodeError::Detached`], and as
    /// [`encode_contact`].
    pub fn push<'e>(
        &mut self,
        id: &NodeId,
        endpoints: impl IntoIterator<Item = &'e str>,
        out: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        self.has_room()?;
        self.0.end(out)?;
        encode_contact(id, endpoints, out)?;
        self.0.commit(out)
    }

    /// Appends a contact that [`encode_contact`] wrote.
    ///
    /// # Errors
    ///
    /// [`EncodeError::Full`] above [`CONTACTS_MAX`] contacts, [`EncodeError::Detached`].
    pub fn push_encoded(&mut self, contact: &[u8], out: &mut BytesMut) -> Result<(), EncodeError> {
        self.has_room()?;
        self.0.push(out, |out| out.put_slice(contact))
    }

    fn has_room(&self) -> Result<(), EncodeError> {
        if usize::from(self.count()) < CONTACTS_MAX { Ok(()) } else { Err(EncodeError::Full) }
    }

    /// Contacts in the reply.
    pub const fn count(&self) -> u16 {
        self.0.count()
    }
}

/// A node that a peer knows.
#[derive(Debug, Clone)]
pub struct ContactRef<'a> {
    /// The node.
    pub id: NodeId,
    /// Where the peer says that it can be reached.
    pub endpoints: Endpoints<'a>,
}

/// The endpoints of a contact: at most [`ENDPOINTS_MAX`] texts of [`ENDPOINT_MAX`] bytes.
#[derive(Debug, Clone)]
pub struct Endpoints<'a> {
    /// Stands before texts that were read once before.
    reader: Reader<'a>,
    left: u8,
}

impl<'a> Endpoints<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, BodyError> {
        let count = reader.array()?;
        let left = u8::try_from(count).ok().filter(|left| usize::from(*left) <= ENDPOINTS_MAX);
        let left = left.ok_or(BodyError::Count { count, max: ENDPOINTS_MAX })?;
        let endpoints = Self { reader: *reader, left };
        for _ in 0..left {
            reader.text(ENDPOINT_MAX)?;
        }
        Ok(endpoints)
    }
}

impl<'a> Iterator for Endpoints<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        self.reader.text(ENDPOINT_MAX).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Endpoints<'_> {}

/// Reads the body of the reply to a FIND_NODE. Endpoints borrow from `body`.
///
/// # Errors
///
/// [`BodyError`] when `body` is anything but one whole reply of at most [`CONTACTS_MAX`] contacts.
pub fn decode_find_node_reply(body: &[u8]) -> Result<Vec<ContactRef<'_>>, BodyError> {
    let (mut reader, count) = batch::open(body, REPLY_FIXED.into(), CONTACT_MIN)?;
    if count > CONTACTS_MAX {
        return Err(BodyError::Count { count, max: CONTACTS_MAX });
    }
    let mut contacts = Vec::with_capacity(count);
    for _ in 0..count {
        reader.array_of(2)?;
        let id = NodeId::from_bytes(reader.id()?);
        contacts.push(ContactRef { id, endpoints: Endpoints::read(&mut reader)? });
    }
    reader.finish()?;
    Ok(contacts)
}
