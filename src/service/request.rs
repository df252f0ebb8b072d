//! One request to one peer, and its one reply.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::id::NodeId;
use crate::pool::{AcquireError, Lease, Outcome, Pool, Refusal, RequestError, Sink, Tag};
use crate::runtime;
use crate::wire::{Class, Kind, Ping, Pong};

/// Connections that a request is offered to when the one it found takes no more: another one of the same
/// pair has won, or the peer has restarted.
const TRIES: u32 = 3;

/// Where the reply of one request arrives.
#[derive(Debug, Default)]
struct Reply(Mutex<Slot>);

#[derive(Debug, Default)]
struct Slot {
    result: Option<Result<(u8, Bytes), RequestError>>,
    waker: Option<Waker>,
}

impl Sink for Reply {
    fn settle(&self, _: Tag, outcome: Outcome<'_>) {
        let result = match outcome {
            Outcome::Frame { kind, body } => Ok((kind, Bytes::copy_from_slice(body))),
            Outcome::Statuses { .. } => Err(RequestError::Malformed),
            Outcome::Failed(error) => Err(error),
        };
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.result = Some(result);
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Reply {
    async fn received(&self) -> Result<(u8, Bytes), RequestError> {
        poll_fn(|cx| {
            let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match slot.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    slot.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// A request that is under way; dropped before its reply has come, it tells the peer that nobody waits.
struct Waiting<'a> {
    lease: &'a Lease,
    class: Class,
    id: Option<u64>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.lease.give_up(self.class, id);
        }
    }
}

/// Sends one request of about `size` bytes over the lane of `class` and returns the reply of kind
/// `reply`.
///
/// Cancel safe: the peer is told that nobody waits for the reply of a dropped future.
pub(crate) async fn request(
    lease: &Lease,
    class: Class,
    size: usize,
    deadline: Instant,
    reply: Kind,
    encode: impl Fn(u64, &mut BytesMut),
) -> Result<Bytes, RequestError> {
    let slot = Arc::new(Reply::default());
    let tag = Tag { peer: 0, first: 0, count: 1 };
    let id = loop {
        let waiting: (Arc<dyn Sink>, Tag) = (Arc::<Reply>::clone(&slot), tag);
        match lease.try_request(class, size, deadline, waiting, &encode) {
            Ok(id) => break id,
            Err(Refusal::NoRoom) => lease.room_for(class, size, deadline).await?,
            Err(Refusal::Closed) => return Err(RequestError::NotSent),
            Err(Refusal::TooLarge) => return Err(RequestError::TooLarge),
        }
    };
    let mut waiting = Waiting { lease, class, id: Some(id) };
    let received = slot.received().await;
    waiting.id = None;
    let (kind, body) = received?;
    if kind == reply as u8 { Ok(body) } else { Err(RequestError::Malformed) }
}

/// As [`request`], on a stream of its own, for what is too large for a lane.
pub(crate) async fn request_alone(
    lease: &Lease,
    deadline: Instant,
    reply: Kind,
    encode: impl FnOnce(u64, &mut BytesMut) + Send + 'static,
) -> Result<Bytes, RequestError> {
    let slot = Arc::new(Reply::default());
    let waiting: Arc<dyn Sink> = Arc::<Reply>::clone(&slot);
    lease.single(deadline, waiting, Tag { peer: 0, first: 0, count: 1 }, encode);
    let (kind, body) = slot.received().await?;
    if kind == reply as u8 { Ok(body) } else { Err(RequestError::Malformed) }
}

/// Asks `peer` for a sign of life and returns how long it took to come, connecting first if need be.
pub(crate) async fn ping(pool: &Pool, peer: &NodeId, timeout: Duration) -> Result<Duration, RequestError> {
    let deadline = runtime::after(timeout);
    let nonce = runtime::entropy();
    let mut tries = 0;
    let (start, body) = loop {
        let lease = pool.acquire(peer, deadline).await.map_err(|error| match error {
            AcquireError::PoolExhausted => RequestError::Backpressure,
            AcquireError::Shutdown => RequestError::Shutdown,
            _ => RequestError::Unreachable,
        })?;
        let start = runtime::now();
        let encode = |id, out: &mut BytesMut| {
            let _ = Ping { nonce }.encode(id, out);
        };
        tries += 1;
        match request(&lease, Class::Control, 32, deadline, Kind::Pong, encode).await {
            Err(RequestError::NotSent) if tries < TRIES => {}
            result => break (start, result?),
        }
    };
    match Pong::decode(&body) {
        Ok(pong) if pong.nonce == nonce => Ok(runtime::now().saturating_duration_since(start)),
        _ => Err(RequestError::Malformed),
    }
}
