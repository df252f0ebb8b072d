//! Bytes on the wire, understood in one place: frames, and the messages in their bodies.
//!
//! A frame is a [`Header`] and a body of at most [`BODY_MAX`] bytes; a [`Decoder`] finds frames in a
//! stream. Bodies are MessagePack, in two styles. What is rare is a map: fields have names, unknown ones
//! are ignored, so a later version may add some. What is hot is a batch: an array that begins with a
//! layout number, is read without copying and grows in place while it is written.
//!
//! Nothing here trusts a length from a peer: a count is compared with the bytes that are there before
//! anything is reserved for it. Bytes of a peer never panic; each decoder takes exactly one message and
//! nothing behind it.

mod batch;
mod bounded;
mod call;
mod control;
mod decoder;
mod error;
mod find;
mod find_node;
mod header;
mod pack;
mod provider;
mod publish;
mod record;
mod route;
mod store;
mod value;

pub use batch::{BATCH_RECORDS_MAX, LAYOUT};
pub use call::{CALL_OVERHEAD_MAX, CAST, Call, CallStatus, REPLY_OVERHEAD_MAX, Reply, SERVICE_MAX};
pub use control::{
    CONTACTS_MAX, ENDPOINT_MAX, ENDPOINTS_MAX, Failed, GoAway, Grant, HELLO_PROOF_LEN, Hello, MAP_BODY_MAX,
    MAP_DEPTH_MAX, Ping, Pong, REALM_MAX,
};
pub use decoder::{DECODER_KEEP, DECODER_RESERVE_MAX, Decoder, Frame};
pub use error::{BodyError, EncodeError, FrameError};
pub use find::{
    Answer, Answering, Ask, FIND_REPLY_PREFIX, FindBatch, FindReply, FindReplyFrame, Rest, decode_find,
    decode_find_reply,
};
pub use find_node::{ContactRef, Endpoints, FindNode, FindNodeReply, decode_find_node_reply, encode_contact};
pub use header::{BODY_MAX, Class, HEADER_LEN, Header, Kind, encode_cancel, encode_open, encode_unsupported};
pub use provider::{METADATA_MAX, ProviderEntry};
pub use publish::{
    Publication, PublishBatch, PublishFrame, PublishReply, TOPIC_MAX, decode_publish, decode_publish_reply,
    encode_publication,
};
pub use record::{Found, PROOF_LEN, RECORD_OVERHEAD_MAX, Record, RecordKind, TOMBSTONE, encode_record};
pub use route::{
    HOPS_MAX, ROUTE_OVERHEAD_MAX, ROUTED_BODY_MAX, ROUTED_REPLY_MAX, Route, RouteError, RouteReply, Routed,
};
pub use store::{
    DURABLE, Reject, STORE_PREFIX, Status, StoreBatch, StoreFrame, StoreReply, decode_store,
    decode_store_reply,
};
pub use value::{VALUE_DEPTH_MAX, ValueError, pack, unpack};

#[cfg(test)]
mod tests;
