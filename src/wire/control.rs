//! The messages that are rare: maps with named fields, of which unknown ones are ignored.
//!
//! A later version may add fields without being refused by this one. Required fields must be there, none
//! may come twice, and every text and list is bounded while it is read.

use bytes::{BufMut, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bounded;
use super::error::{BodyError, EncodeError};
use super::header::{Class, Kind, patch_body_len, put_header};

/// The longest realm, in bytes.
pub const REALM_MAX: usize = 255;
/// The longest endpoint, in bytes: a DNS name, a colon and a port.
pub const ENDPOINT_MAX: usize = 261;
/// The most endpoints that a node may announce.
pub const ENDPOINTS_MAX: usize = 8;
/// Bytes in the proof of a HELLO: an Ed25519 public key and a signature.
pub const HELLO_PROOF_LEN: usize = 96;
/// The most contacts in the reply to a [`FindNode`](super::FindNode).
pub const CONTACTS_MAX: usize = 20;
/// The longest body that is a map, in bytes.
pub const MAP_BODY_MAX: usize = 64 * 1024;
/// How deep values may nest in a map, the map itself included.
pub const MAP_DEPTH_MAX: usize = 8;

/// What a peer allows us to have in flight on one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Grant {
    /// Requests without a reply.
    pub requests: u32,
    /// Bytes in frames of such requests.
    pub bytes: u32,
}

/// How a node introduces itself, as dialer in [`Kind::Hello`], as acceptor in [`Kind::HelloAck`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The lowest version of the protocol that the node speaks.
    pub version_min: u16,
    /// The highest version of the protocol that the node speaks.
    pub version_max: u16,
    /// The mesh to which the node belongs, at most [`REALM_MAX`] bytes.
    #[serde(deserialize_with = "bounded::realm")]
    pub realm: String,
    /// Names this life of the node. Drawn at random: it tells lives apart and does not order them.
    pub boot: u64,
    /// The place of this dial among all dials of the dialer's life. The acceptor repeats it.
    pub dial: u64,
    /// Where the node can be reached: at most [`ENDPOINTS_MAX`] texts of [`ENDPOINT_MAX`] bytes.
    #[serde(deserialize_with = "bounded::endpoints")]
    pub endpoints: Vec<String>,
    /// The address from which the other was seen to come, at most [`ENDPOINT_MAX`] bytes.
    #[serde(default, deserialize_with = "bounded::observed")]
    pub observed: Option<String>,
    /// Whether the node answers requests of others; if not, it belongs in nobody's table.
    pub serves: bool,
    /// Bits of optional abilities. Unknown ones are ignored.
    pub features: u64,
    /// What the other may have in flight, lane by lane in the order of [`Class`].
    pub grants: [Grant; Class::LANES],
    /// A public key and its signature over the TLS exporter, where the certificate does not name the node.
    #[serde(default, with = "bounded::proof")]
    pub proof: Option<[u8; HELLO_PROOF_LEN]>,
}

/// Asks for a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Comes back in the [`Pong`].
    pub nonce: u64,
}

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The nonce of the [`Ping`].
    pub nonce: u64,
}

/// The sender accepts nothing new on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoAway {
    /// Why.
    pub code: u16,
    /// The id of the last request accepted on each lane, in the order of [`Class`]; what came after it
    /// was not looked at and may be sent elsewhere.
    pub last: [u64; Class::LANES],
}

/// The request could not be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Why.
    pub code: u16,
}

impl Failed {
    /// The request came after GOAWAY and was not looked at.
    pub const GOING_AWAY: u16 = 1;
    /// No answer will come: the request was cancelled, took too long, or was given up. It may have been
    /// executed.
    pub const ABANDONED: u16 = 2;
}

impl Hello {
    /// Appends a frame with this introduction as the acceptor's.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLarge`] when a text or a list is longer than permitted.
    pub fn encode_ack(&self, id: u64, out: &mut BytesMut) -> Result<(), EncodeError> {
        encode_map(Kind::HelloAck, id, self, self.fits(), out)
    }

    fn fits(&self) -> bool {
        self.realm.len() <= REALM_MAX
            && endpoints_fit(&self.endpoints)
            && self.observed.as_ref().is_none_or(|observed| observed.len() <= ENDPOINT_MAX)
    }
}

/// Whether a peer would take these endpoints.
pub(super) fn endpoints_fit(endpoints: &[String]) -> bool {
    endpoints.len() <= ENDPOINTS_MAX && endpoints.iter().all(|endpoint| endpoint.len() <= ENDPOINT_MAX)
}

/// Gives a message its `encode` and `decode`.
macro_rules! map_message {
    ($message:ident, |$it:ident| $fits:expr) => {
        impl $message {
            /// Appends a frame `id` with this message.
            ///
            /// # Errors
            ///
            /// [`EncodeError::TooLarge`] when a text or a list is longer than permitted.
            pub fn encode(&self, id: u64, out: &mut BytesMut) -> Result<(), EncodeError> {
                let $it = self;
                encode_map(Kind::$message, id, self, $fits, out)
            }

            /// Reads the body of a frame.
            ///
            /// # Errors
            ///
            /// [`BodyError`] when `body` is anything but one whole, permitted message.
            pub fn decode(body: &[u8]) -> Result<Self, BodyError> {
                decode_map(body)
            }
        }
    };
}

map_message!(Hello, |it| it.fits());
map_message!(Ping, |_it| true);
map_message!(Pong, |_it| true);
map_message!(GoAway, |_it| true);
map_message!(Failed, |_it| true);

fn encode_map<T: Serialize>(
    kind: Kind,
    id: u64,
    message: &T,
    fits: bool,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    if !fits {
        return Err(EncodeError::TooLarge);
    }
    let start = out.len();
    put_header(kind, 0, id, out);
    let done = put_map(message, out).and_then(|()| patch_body_len(start, out));
    if done.is_err() {
        out.truncate(start);
    }
    done
}

/// Appends `message` as a map with named fields; what was appended before an error stays.
pub(super) fn put_map<T: Serialize>(message: &T, out: &mut BytesMut) -> Result<(), EncodeError> {
    let start = out.len();
    let mut serializer = rmp_serde::Serializer::new(out.writer()).with_struct_map();
    message.serialize(&mut serializer).map_err(|_| EncodeError::TooLarge)?;
    if out.len() - start > MAP_BODY_MAX { Err(EncodeError::TooLarge) } else { Ok(()) }
}

/// Reads exactly one map with named fields.
pub(super) fn decode_map<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    if body.len() > MAP_BODY_MAX {
        return Err(BodyError::Length);
    }
    // serde would also take the fields as an array, which breaks with the first field that is added.
    if !matches!(body.first(), Some(0x80..=0x8f | 0xde | 0xdf)) {
        return Err(if body.is_empty() { BodyError::Truncated } else { BodyError::Type });
    }
    let mut rest = body;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    // The limit is decremented before it is compared with zero.
    deserializer.set_max_depth(MAP_DEPTH_MAX + 1);
    let message = T::deserialize(&mut deserializer).map_err(map_error)?;
    if rest.is_empty() { Ok(message) } else { Err(BodyError::Trailing(rest.len())) }
}

fn map_error(error: rmp_serde::decode::Error) -> BodyError {
    use rmp_serde::decode::Error;
    match error {
        Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => BodyError::Truncated,
        Error::TypeMismatch(_) => BodyError::Type,
        Error::OutOfRange => BodyError::Range,
        Error::LengthMismatch(_) => BodyError::Length,
        Error::Utf8Error(_) => BodyError::Text,
        Error::DepthLimitExceeded => BodyError::Depth,
        // The text of the others quotes the peer.
        Error::Uncategorized(_) | Error::Syntax(_) => BodyError::Field,
    }
}
