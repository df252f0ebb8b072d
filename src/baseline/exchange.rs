//! One message on one connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{sleep, timeout};

use super::LEGACY_PAUSE;
use super::error::StoreError;
use super::slots::Slot;
use crate::id::{Key, NodeId};
use crate::transport::{CloseCode, Connection, Expect, Lane, LaneError, LaneRecv, Ready};
use crate::wire::{self, BODY_MAX, Class, Decoder, EncodeError, Kind, RecordKind, Status, StoreBatch};

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
    pub(super) async fn dial(&self) -> Result<Ready, StoreError> {
        let hello = self.slot.hello();
        let dialing = self.slot.endpoint().dial(self.remote, Expect::Node(self.peer), &hello);
        dialing.await.map_err(|error| StoreError::Dial(self.peer, error))
    }

    /// Writes the STORE on a new connection, right behind HELLO; it is closed as soon as the reply has come.
    pub(super) async fn store(self, frame: Bytes) -> Result<(), StoreError> {
        let hello = self.slot.hello();
        let dialing =
            self.slot.endpoint().dial_with(self.remote, Expect::Node(self.peer), &hello, Some(frame));
        let (ready, lane) = dialing.await.map_err(|error| StoreError::Dial(self.peer, error))?;
        let reply = async {
            let mut lane = lane.ok_or(StoreError::NoAnswer(self.peer))?;
            self.reply(&mut lane.recv).await
        };
        let result = timeout(self.patience, reply).await.unwrap_or(Err(StoreError::Timeout(self.peer)));
        ready.intro.connection.close(CloseCode::Shutdown);
        result
    }

    /// Writes the STORE on a new connection, which is closed after a pause.
    pub(super) async fn leave(self, frame: Bytes) -> Result<(), StoreError> {
        let ready = self.dial().await?;
        let connection = &ready.intro.connection;
        let written = timeout(self.patience, self.write(connection, frame)).await;
        let result = written.unwrap_or(Err(StoreError::Timeout(self.peer)));
        sleep(LEGACY_PAUSE).await;
        connection.close(CloseCode::Shutdown);
        result.map(drop)
    }

    async fn write(&self, connection: &Connection, frame: Bytes) -> Result<Lane, StoreError> {
        let mut lane = connection.open(self.patience).await.map_err(|error| self.broken(error))?;
        lane.send.write(frame).await.map_err(|error| self.broken(error))?;
        Ok(lane)
    }

    async fn reply(&self, recv: &mut LaneRecv) -> Result<(), StoreError> {
        let mut decoder = Decoder::new(BODY_MAX);
        loop {
            let frame = decoder.next().map_err(|_| StoreError::NoAnswer(self.peer))?;
            if let Some(frame) = frame {
                let statuses = (frame.header.kind == Kind::StoreReply as u8)
                    .then(|| wire::decode_store_reply(frame.body).ok())
                    .flatten();
                return match statuses.as_deref() {
                    Some([Status::Applied | Status::AlreadyHave]) => Ok(()),
                    Some([status]) => Err(StoreError::Refused(self.peer, *status)),
                    _ => Err(StoreError::NoAnswer(self.peer)),
                };
            }
            if !recv.fill(&mut decoder).await.map_err(|error| self.broken(error))? {
                return Err(StoreError::NoAnswer(self.peer));
            }
        }
    }

    fn broken(&self, error: LaneError) -> StoreError {
        match error {
            LaneError::Abandoned => StoreError::NoAnswer(self.peer),
            LaneError::Lost(lost) => StoreError::Lost(self.peer, lost),
        }
    }
}
