//! Replies that come later than the frame that asks for them was read.
//!
//! A service that cannot answer on the spot takes a [`Replier`] and answers from wherever it likes. The
//! reply goes to the desk of the stream, from which the stream's one reader takes and writes it: nobody
//! else ever writes on a stream. Every promise ends in exactly one reply frame, a failure when the
//! promise was cancelled, dropped or too old, so that the requester always gets its room back.
//!
//! What a peer may have promised at a time is what it was granted. A stream without promises has no
//! desk, and costs neither a lock nor an atomic.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout_at;

use crate::runtime;
use crate::wire::{Failed, Grant, Header, ROUTED_REPLY_MAX};

#[cfg(test)]
mod tests;

/// How long a promise holds; then the requester is told that no answer will come.
pub(super) const PROMISE_MAX: Duration = Duration::from_secs(30);
/// Bytes of replies that wait for a reader that the requester holds up, per stream; a reply beyond them
/// is replaced by a failure.
const READY_MAX: usize = 1 << 20;

/// Makes promises for the frames of one stream; dropped, it takes back those that are open.
#[derive(Debug)]
pub(crate) struct Later {
    /// What the peer may have promised at a time.
    limit: Grant,
    /// The request that is being answered: its id, and the bytes of its body.
    request: (u64, u32),
    /// How many nodes have passed the request on.
    hops: usize,
    /// When it was read.
    now: Instant,
    /// The largest body of a reply, bytes.
    reply_max: usize,
    desk: Option<Arc<Desk>>,
}

/// Where promised replies arrive.
#[derive(Debug, Default)]
struct Desk {
    state: Mutex<State>,
    /// There is something to write.
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    promised: BTreeMap<u64, Promised>,
    /// Bytes in the bodies of the promised requests.
    held: u64,
    /// No promise ends before this.
    earliest: Option<Instant>,
    /// Reply frames that are yet to be written.
    ready: BytesMut,
}

#[derive(Debug)]
struct Promised {
    bytes: u32,
    until: Instant,
    /// Dropped with the promise, which is how its [`Replier`] learns of it.
    _open: oneshot::Sender<()>,
}

/// The right, and the duty, to answer one request; dropped, it tells the requester that there will be
/// no answer.
#[derive(Debug)]
pub(crate) struct Replier {
    desk: Arc<Desk>,
    id: u64,
    gone: oneshot::Receiver<()>,
}

impl Later {
    /// A stream on which the peer may have `limit` in flight, and takes replies of `reply_max` bytes.
    pub(super) fn new(limit: Grant, reply_max: u32) -> Self {
        let reply_max = usize::try_from(reply_max).unwrap_or(usize::MAX);
        Self { limit, request: (0, 0), hops: 0, now: runtime::now(), reply_max, desk: None }
    }

    /// For one request that came in another, which so many nodes have passed on.
    pub(crate) fn alone(header: &Header, hops: usize) -> Self {
        let mut later = Self::new(Grant { requests: 1, bytes: header.body_len }, 0);
        later.hops = hops;
        later.reply_max = ROUTED_REPLY_MAX;
        later.begin(later.now, header);
        later
    }

    /// The request with this header, read at `now`, is the one that is being answered.
    pub(super) fn begin(&mut self, now: Instant, header: &Header) {
        self.now = now;
        self.request = (header.id, header.body_len);
    }

    /// When the request that is being answered was read: the clock is not read for each.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Promises a reply to the request that is being answered, which then must append none itself.
    ///
    /// The promise holds for [`PROMISE_MAX`].
    pub(crate) fn promise(&mut self) -> Replier {
        self.promise_until(runtime::after(PROMISE_MAX))
    }

    /// As [`promise`](Self::promise), but the promise holds until the instant that is given.
    pub(crate) fn promise_until(&mut self, until: Instant) -> Replier {
        let (id, bytes) = self.request;
        let (open, gone) = oneshot::channel();
        let desk = Arc::clone(self.desk.get_or_insert_default());
        let mut state = desk.lock();
        state.earliest = Some(state.earliest.map_or(until, |earliest| earliest.min(until)));
        state.held += u64::from(bytes);
        // A peer that uses an id twice gets one answer for both.
        let before = state.promised.insert(id, Promised { bytes, until, _open: open });
        state.held -= before.as_ref().map_or(0, |promised| u64::from(promised.bytes));
        drop(state);
        drop(before);
        Replier { desk, id, gone }
    }

    /// How many nodes have passed the request on.
    pub(crate) fn hops(&self) -> usize {
        self.hops
    }

    /// The largest body that the reply may have, bytes.
    pub(crate) fn reply_max(&self) -> usize {
        self.reply_max
    }

    /// Whether the peer has more in flight than it was granted.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.desk.as_ref().is_some_and(|desk| {
            let state = desk.lock();
            let count = u32::try_from(state.promised.len()).unwrap_or(u32::MAX);
            count > self.limit.requests || state.held > u64::from(self.limit.bytes)
        })
    }

    /// Whether nothing is promised and nothing is yet to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.desk.is_none()
    }

    /// The requester no longer waits for `id`: if it is promised, it is told that nothing will come.
    pub(super) fn cancel(&self, id: u64) {
        if let Some(desk) = &self.desk {
            desk.settle(id, fail);
        }
    }

    /// Returns when a reply may be ready, at once if none is promised. Cancel safe.
    pub(crate) async fn ready(&self) {
        let Some(desk) = &self.desk else { return };
        let earliest = desk.lock().earliest;
        let wake = desk.wake.notified();
        match earliest {
            Some(until) => drop(timeout_at(until.into(), wake).await),
            None => wake.await,
        }
    }

    /// Appends the replies that are ready to `out`, and a failure for each promise that is too old.
    pub(crate) fn take(&mut self, out: &mut BytesMut) {
        let Some(desk) = &self.desk else { return };
        let now = runtime::now();
        let mut state = desk.lock();
        let late = state.late(now);
        if out.is_empty() {
            *out = std::mem::take(&mut state.ready);
        } else {
            out.put(std::mem::take(&mut state.ready));
        }
        let idle = state.promised.is_empty();
        drop(state);
        late.into_keys().for_each(|id| fail(id, out));
        if idle {
            self.desk = None;
        }
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        let Some(desk) = self.desk.take() else { return };
        let promised = std::mem::take(&mut desk.lock().promised);
        drop(promised);
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the promise `id` with the frame that `encode` appends, if it is still open.
    fn settle(&self, id: u64, encode: impl FnOnce(u64, &mut BytesMut)) {
        let mut state = self.lock();
        let Some(promised) = state.promised.remove(&id) else { return };
        state.held -= u64::from(promised.bytes);
        let before = state.ready.len();
        encode(id, &mut state.ready);
        if state.ready.len() > READY_MAX || state.ready.len() == before {
            state.ready.truncate(before);
            fail(id, &mut state.ready);
        }
        drop(state);
        self.wake.notify_one();
    }
}

impl State {
    /// Takes out the promises that are too old.
    fn late(&mut self, now: Instant) -> BTreeMap<u64, Promised> {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return BTreeMap::new();
        }
        let late: BTreeMap<_, _> =
            self.promised.extract_if(.., |_, promised| promised.until <= now).collect();
        self.held -= late.values().map(|promised| u64::from(promised.bytes)).sum::<u64>();
        self.earliest = self.promised.values().map(|promised| promised.until).min();
        late
    }
}

fn fail(id: u64, out: &mut BytesMut) {
    // A number in a map is never too large for a frame.
    let _ = Failed { code: Failed::ABANDONED }.encode(id, out);
}

impl Replier {
    /// Answers: `encode` appends one reply frame under the id that it is given. A promise that has
    /// ended is not answered, and `encode` not called.
    ///
    /// Never waits.
    pub(crate) fn reply(self, encode: impl FnOnce(u64, &mut BytesMut)) {
        self.desk.settle(self.id, encode);
    }

    /// Whether nobody waits for the answer any more.
    #[cfg(test)]
    pub(crate) fn is_cancelled(&self) -> bool {
        !self.desk.lock().promised.contains_key(&self.id)
    }

    /// Returns when nobody waits for the answer any more: the requester has given up, is gone, or has
    /// waited for [`PROMISE_MAX`]. Cancel safe.
    pub(crate) async fn cancelled(&mut self) {
        let _ = (&mut self.gone).await;
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        self.desk.settle(self.id, fail);
    }
}
