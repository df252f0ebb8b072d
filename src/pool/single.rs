//! Frames over the lane limit: each on a stream of its own, so that small ones need not wait behind.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::timeout_at;

use super::Pool;
use super::inbound::{Outcome, Promise, RequestError, Sink, Tag};
use super::peer::Peer;
use crate::transport::{Lane, LaneError};
use crate::wire::{self, BODY_MAX, Class, Decoder, Header, Kind};

/// Connections that a request is offered to while they come and go.
const CONNECTIONS_TRIED: usize = 3;

impl Peer {
    /// Sends one request frame on a stream of its own and tells `sink` what becomes of it.
    ///
    /// `encode` appends the frame under the id it is given. At most
    /// [`SINGLES_MAX`](super::SINGLES_MAX) are in flight; the others wait until `deadline`.
    pub(crate) fn single(
        self: &Arc<Self>,
        deadline: Instant,
        sink: Arc<dyn Sink>,
        tag: Tag,
        encode: impl FnOnce(u64, &mut BytesMut) + Send + 'static,
    ) {
        let peer = Arc::clone(self);
        let mut promise = Promise::new(sink, tag);
        self.tasks.spawn(async move {
            let exchange = peer.exchange_somewhere(deadline, Some(encode), &mut promise);
            let outcome = timeout_at(deadline.into(), exchange).await;
            match outcome {
                Ok(Ok((header, body))) => deliver(promise, tag.count, &header, &body),
                Ok(Err(error)) => promise.settle(Outcome::Failed(error)),
                Err(_) if promise.sent => promise.settle(Outcome::Failed(RequestError::Timeout)),
                Err(_) => promise.settle(Outcome::Failed(RequestError::Backpressure)),
            }
        });
    }

    /// The exchange, on this connection or on the one that replaces it while nothing was sent.
    async fn exchange_somewhere(
        self: &Arc<Self>,
        deadline: Instant,
        mut encode: Option<impl FnOnce(u64, &mut BytesMut)>,
        promise: &mut Promise,
    ) -> Result<(Header, Bytes), RequestError> {
        let mut result = self.exchange(&mut encode, promise).await;
        for _ in 1..CONNECTIONS_TRIED {
            let Some(inner) = self.pool.upgrade().filter(|_| result == Err(RequestError::NotSent)) else {
                break;
            };
            let lease = Pool { inner }.acquire(&self.id, deadline).await;
            let lease = lease.map_err(|_| RequestError::Unreachable)?;
            result = lease.exchange(&mut encode, promise).await;
        }
        result
    }

    async fn exchange(
        &self,
        encode: &mut Option<impl FnOnce(u64, &mut BytesMut)>,
        promise: &mut Promise,
    ) -> Result<(Header, Bytes), RequestError> {
        let _turn = self.singles.acquire().await.map_err(|_| RequestError::NotSent)?;
        let patience = super::upkeep::DRAIN;
        let lane = self.connection.open(patience).await.map_err(|_| RequestError::NotSent)?;
        let Lane { mut send, mut recv } = lane;
        send.prioritise(Class::Single);
        let mut out = BytesMut::new();
        wire::encode_open(Class::Single, &mut out);
        if let Some(encode) = encode.take() {
            encode(1, &mut out);
        }
        promise.sent = true;
        self.used.store(true, Ordering::Relaxed);
        send.write(out.freeze()).await.map_err(lost)?;
        send.finish();
        let mut decoder = Decoder::new(BODY_MAX);
        loop {
            if let Some(frame) = decoder.next().map_err(|_| RequestError::Malformed)? {
                let header = frame.header;
                let mut body = BytesMut::with_capacity(frame.body.len());
                body.put_slice(frame.body);
                return Ok((header, body.freeze()));
            }
            if !recv.fill(&mut decoder).await.map_err(lost)? {
                return Err(RequestError::Lost);
            }
        }
    }
}

fn lost(_: LaneError) -> RequestError {
    RequestError::Lost
}

/// Tells a requester of the reply frame to its request for `count` items.
pub(crate) fn deliver(promise: Promise, count: u32, header: &Header, body: &[u8]) {
    let durable = header.flags & wire::DURABLE != 0;
    let outcome = match Kind::from_u8(header.kind) {
        Some(Kind::StoreReply) => match wire::decode_store_reply(body) {
            Ok(statuses) if usize::try_from(count).is_ok_and(|count| count == statuses.len()) => {
                return promise.settle(Outcome::Statuses { statuses: &statuses, durable });
            }
            _ => Outcome::Failed(RequestError::Malformed),
        },
        Some(Kind::Unsupported) => Outcome::Failed(RequestError::Unsupported),
        Some(Kind::Failed) => Outcome::Failed(RequestError::of_failed(body)),
        _ => Outcome::Frame { kind: header.kind, body },
    };
    promise.settle(outcome);
}
