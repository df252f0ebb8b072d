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

/// Takes what it needs from the body of a reply.
pub(crate) type Read<T> = fn(&[u8]) -> Result<T, RequestError>;

/// Where the reply of one request arrives.
#[derive(Debug)]
struct Reply<T> {
    kind: Kind,
    read: Read<T>,
    slot: Mutex<Slot<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    result: Option<Result<T, RequestError>>,
    waker: Option<Waker>,
}

impl<T: Send> Sink for Reply<T> {
    fn settle(&self, _: Tag, outcome: Outcome<'_>) {
        let result = match outcome {
            Outcome::Frame { kind, body } if kind == self.kind as u8 => (self.read)(body),
            Outcome::Frame { .. } | Outcome::Statuses { .. } => Err(RequestError::Malformed),
            Outcome::Failed(error) => Err(error),
        };
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.result = Some(result);
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Reply<T> {
    fn new(kind: Kind, read: Read<T>) -> Self {
        Self { kind, read, slot: Mutex::new(Slot { result: None, waker: None }) }
    }

    async fn received(&self) -> Result<T, RequestError> {
        poll_fn(|cx| {
            let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Sends one request of about `size` bytes over the lane of `class` and returns the body of the reply of kind
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
    request_for(lease, class, size, deadline, (reply, keep), encode).await
}

fn keep(body: &[u8]) -> Result<Bytes, RequestError> {
    Ok(Bytes::copy_from_slice(body))
}

/// As [`request`], with what `read` takes from the body, on the task that has received it.
pub(crate) async fn request_for<T: Send + 'static>(
    lease: &Lease,
    class: Class,
    size: usize,
    deadline: Instant,
    (kind, read): (Kind, Read<T>),
    encode: impl Fn(u64, &mut BytesMut),
) -> Result<T, RequestError> {
    let slot = Arc::new(Reply::new(kind, read));
    let tag = Tag { peer: 0, first: 0, count: 1 };
    let id = loop {
        let waiting: (Arc<dyn Sink>, Tag) = (Arc::<Reply<T>>::clone(&slot), tag);
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
    received
}

/// As [`request`], on a stream of its own, for what is too large for a lane.
pub(crate) async fn request_alone(
    lease: &Lease,
    deadline: Instant,
    reply: Kind,
    encode: impl FnOnce(u64, &mut BytesMut) + Send + 'static,
) -> Result<Bytes, RequestError> {
    let slot = Arc::new(Reply::new(reply, keep));
    let waiting: Arc<dyn Sink> = Arc::<Reply<Bytes>>::clone(&slot);
    lease.single(deadline, waiting, Tag { peer: 0, first: 0, count: 1 }, encode);
    slot.received().await
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
