//! One message on one connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{sleep, timeout};

use super::LEGACY_PAUSE;
use super::error::MessageError;
use super::slots::Slot;
use crate::id::{Key, NodeId};
use crate::transport::{CloseCode, Connection, Expect, Lane, LaneError, LaneRecv, Ready};
use crate::wire::{
    self, BODY_MAX, CallStatus, Class, Decoder, EncodeError, Frame, Kind, RecordKind, Status, StoreBatch,
};

/// A stream of its own for one STORE of one record: how it is opened, and the frame.
pub(super) fn frame(
    publisher: NodeId,
    key: Key,
    seq: u64,
    ttl: Duration,
    value: &[u8],
) -> Result<Bytes, EncodeError> {
    let ttl_ms = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX);
    let mut record = BytesMut::new();
    let fields = wire::Record { key, seq, ttl_ms, kind: RecordKind::VALUE, flags: 0, proof: &[], value };
    wire::encode_record(&fields, &mut record)?;
    let mut out = BytesMut::with_capacity(wire::HEADER_LEN + wire::STORE_PREFIX + record.len());
    wire::encode_open(Class::Single, &mut out);
    StoreBatch::open(seq, &publisher, &mut out).push(&record, &mut out)?;
    Ok(out.freeze())
}

/// A stream of its own for one CALL: how it is opened, and the frame.
pub(super) fn call_frame(
    service: &str,
    args: &[u8],
    id: u64,
    patience: Duration,
) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::with_capacity(wire::HEADER_LEN + wire::CALL_OVERHEAD_MAX + args.len());
    wire::encode_open(Class::Single, &mut out);
    let timeout_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    wire::Call { service, timeout_ms, args }.encode(id, 0, &mut out)?;
    Ok(out.freeze())
}

/// Where one message goes, and as whose.
pub(super) struct Order {
    pub(super) slot: Arc<Slot>,
    pub(super) peer: NodeId,
    pub(super) remote: SocketAddr,
    /// How long the peer has for each step.
    pub(super) patience: Duration,
}

impl Order {
    /// A connection on which both sides have accepted HELLO.
    pub(super) async fn dial(&self) -> Result<Ready, MessageError> {
        let hello = self.slot.hello();
        let dialing = self.slot.endpoint().dial(self.remote, Expect::Node(self.peer), &hello);
        dialing.await.map_err(|error| MessageError::Dial(self.peer, error))
    }

    /// Writes the message on a new connection, right behind HELLO; it is closed as soon as the reply has
    /// come, which `read` understands.
    pub(super) async fn exchange<T>(
        self,
        frame: Bytes,
        read: impl FnOnce(NodeId, Frame<'_>) -> Result<T, MessageError>,
    ) -> Result<T, MessageError> {
        let hello = self.slot.hello();
        let dialing =
            self.slot.endpoint().dial_with(self.remote, Expect::Node(self.peer), &hello, Some(frame));
        let (ready, lane) = dialing.await.map_err(|error| MessageError::Dial(self.peer, error))?;
        let reply = async {
            let mut lane = lane.ok_or(MessageError::NoAnswer(self.peer))?;
            self.reply(&mut lane.recv, read).await
        };
        let result = timeout(self.patience, reply).await.unwrap_or(Err(MessageError::Timeout(self.peer)));
        ready.intro.connection.close(CloseCode::Shutdown);
        result
    }

    /// Writes the message on a new connection, which is closed after a pause.
    pub(super) async fn leave(self, frame: Bytes) -> Result<(), MessageError> {
        let ready = self.dial().await?;
        let connection = &ready.intro.connection;
        let written = timeout(self.patience, self.write(connection, frame)).await;
        let result = written.unwrap_or(Err(MessageError::Timeout(self.peer)));
        sleep(LEGACY_PAUSE).await;
        connection.close(CloseCode::Shutdown);
        result.map(drop)
    }

    async fn write(&self, connection: &Connection, frame: Bytes) -> Result<Lane, MessageError> {
        let mut lane = connection.open(self.patience).await.map_err(|error| self.broken(error))?;
        lane.send.write(frame).await.map_err(|error| self.broken(error))?;
        Ok(lane)
    }

    async fn reply<T>(
        &self,
        recv: &mut LaneRecv,
        read: impl FnOnce(NodeId, Frame<'_>) -> Result<T, MessageError>,
    ) -> Result<T, MessageError> {
        let mut decoder = Decoder::new(BODY_MAX);
        loop {
            let frame = decoder.next().map_err(|_| MessageError::NoAnswer(self.peer))?;
            if let Some(frame) = frame {
                return read(self.peer, frame);
            }
            if !recv.fill(&mut decoder).await.map_err(|error| self.broken(error))? {
                return Err(MessageError::NoAnswer(self.peer));
            }
        }
    }

    fn broken(&self, error: LaneError) -> MessageError {
        match error {
            LaneError::Abandoned => MessageError::NoAnswer(self.peer),
            LaneError::Lost(lost) => MessageError::Lost(self.peer, lost),
        }
    }
}

/// The reply to a STORE of one record.
pub(super) fn stored(peer: NodeId, frame: Frame<'_>) -> Result<(), MessageError> {
    let statuses = (frame.header.kind == Kind::StoreReply as u8)
        .then(|| wire::decode_store_reply(frame.body).ok())
        .flatten();
    match statuses.as_deref() {
        Some([Status::Applied | Status::AlreadyHave]) => Ok(()),
        Some([status]) => Err(MessageError::Refused(peer, *status)),
        _ => Err(MessageError::NoAnswer(peer)),
    }
}

/// The reply to a CALL.
pub(super) fn answered(peer: NodeId, frame: Frame<'_>) -> Result<Bytes, MessageError> {
    let is_reply = frame.header.kind == Kind::Reply as u8;
    match is_reply.then(|| wire::Reply::decode(frame.body)) {
        Some(Ok(reply)) if reply.status == CallStatus::Done => Ok(Bytes::copy_from_slice(reply.result)),
        Some(Ok(reply)) => Err(MessageError::Failed(peer, reply.status)),
        _ => Err(MessageError::NoAnswer(peer)),
    }
}
