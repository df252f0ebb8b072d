//! The outbox: what one lane has yet to write, and what it has yet to hear.
//!
//! Callers append whole frames under a short lock; the lane's one writer task takes all that has
//! gathered while it was busy and writes it at once. That is the adaptive batching: an idle writer
//! flushes at once, a busy one lets work accumulate, and no timer is involved. STORE records of
//! concurrent callers are merged into one frame while it is still the last in the queue.
//!
//! What a peer granted bounds both the queue and the requests in flight: a request takes room when it
//! is queued and gives it back when its reply has come, not when its caller has lost patience.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;
use tokio::sync::{Notify, Semaphore};

use super::inbound::{Sink, Tag};
use crate::id::NodeId;
use crate::wire::{self, BATCH_RECORDS_MAX, Class, Grant, Header, Kind, StoreBatch};

mod room;
mod settle;
#[cfg(test)]
mod tests;

pub(super) use settle::{Freed, Replied};

/// The largest frame that shares a lane; a larger one travels on a stream of its own, bytes.
pub(crate) const LANE_FRAME_MAX: usize = 64 << 10;

/// How far apart the deadlines of stores that share a frame may be; a frame has one.
const DEADLINE_SPAN: Duration = Duration::from_millis(50);
/// What a grant is taken for at most, requests and bytes: however much a peer offers to take, what it does
/// not read is held here.
const GRANT_MAX: Grant = Grant { requests: 1 << 16, bytes: 8 << 20 };

/// The requests for which an idle lane keeps places.
const PENDING_KEEP: usize = 16;

/// Why nothing could be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The peer's grant is used up.
    NoRoom,
    /// The lane ends or has ended.
    Closed,
    /// The frame does not fit a lane.
    TooLarge,
}

/// What the writer does next.
#[derive(Debug)]
pub(super) enum Next {
    Write(Bytes),
    Finish,
}

/// A request that was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pushed {
    /// Its id on the lane.
    pub(super) id: u64,
    /// Whether the lane must be opened.
    pub(super) open: bool,
}

#[derive(Debug)]
pub(super) struct Outbox {
    /// Bytes of the grant that are free; a request takes at least `unit` of them.
    room: Semaphore,
    /// Of those who wait for room, the one that is next. Were they all to wait on `room`, what one gives
    /// up to queue its request would go to the next, and nobody would ever get to queue anything.
    turn: Semaphore,
    unit: u32,
    capacity: u32,
    /// Frames that may be queued or await their reply besides those that are or do.
    frames: Semaphore,
    wake: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queue: BytesMut,
    /// Bytes that the writer took last: there is room for as many at once.
    usual: usize,
    /// The STORE frame at the tail of `queue` that may still grow.
    batch: Option<Batch>,
    /// By ids of our own choice: their hashes need no secret.
    pending: HashMap<u64, Pending>,
    next_id: u64,
    /// Requests below this id were handed to the connection.
    written_below: u64,
    /// Requests queued since the writer last took the queue.
    gathered: u32,
    /// Whether it took more than one then.
    company: bool,
    stage: Stage,
    /// No pending request has its deadline before this.
    earliest: Option<Instant>,
    /// When the last reply came, or the first request after a quiet time went.
    progress: Option<Instant>,
    /// The PING that asks whether the peer is there although it answers none of the requests.
    ping: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was sent yet and the lane is not open.
    Unopened,
    Open,
    /// No new requests; the lane ends when those in flight have their replies.
    Finishing,
    Dead,
}

struct Batch {
    frame: StoreBatch,
    id: u64,
    cost: u32,
    deadline: Instant,
    parts: Vec<(Arc<dyn Sink>, Tag)>,
}

struct Pending {
    cost: u32,
    deadline: Instant,
    /// Empty once the requester was told of a timeout.
    waiting: Waiting,
}

enum Waiting {
    One(Arc<dyn Sink>, Tag),
    Store(Vec<(Arc<dyn Sink>, Tag)>),
    Nobody,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("id", &self.id).field("parts", &self.parts.len()).finish()
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl Outbox {
    /// An outbox for a lane that the peer granted `grant`; `open` when its stream exists already.
    pub(super) fn new(class: Class, grant: Grant, open: bool) -> Self {
        let mut queue = BytesMut::new();
        if !open {
            let header = Header { kind: Kind::Open as u8, flags: class as u8, body_len: 0, id: 0 };
            queue.extend_from_slice(&header.encode());
        }
        let capacity = grant.bytes.clamp(1, GRANT_MAX.bytes);
        let requests = grant.requests.clamp(1, GRANT_MAX.requests);
        Self {
            room: Semaphore::new(usize::try_from(capacity).unwrap_or(usize::MAX)),
            turn: Semaphore::new(1),
            unit: (capacity / requests).max(1),
            capacity,
            frames: Semaphore::new(usize::try_from(requests).unwrap_or(usize::MAX)),
            wake: Notify::new(),
            state: Mutex::new(State {
                queue,
                usual: 0,
                batch: None,
                pending: HashMap::new(),
                next_id: 1,
                written_below: 1,
                gathered: 0,
                company: false,
                stage: if open { Stage::Open } else { Stage::Unopened },
                earliest: None,
                progress: None,
                ping: None,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues one request frame, which `encode` appends under the id it is given.
    pub(super) fn push(
        &self,
        size: usize,
        deadline: Instant,
        waiting: (Arc<dyn Sink>, Tag),
        encode: impl FnOnce(u64, &mut BytesMut),
    ) -> Result<Pushed, Refusal> {
        if size > LANE_FRAME_MAX {
            return Err(Refusal::TooLarge);
        }
        let cost = self.cost(size);
        self.take_room(cost)?;
        let mut state = self.lock();
        if let Err(refusal) = if state.accepts() { self.take_frame() } else { Err(Refusal::Closed) } {
            drop(state);
            self.give_back(cost);
            return Err(refusal);
        }
        state.seal();
        let id = state.id();
        encode(id, &mut state.queue);
        state.expect(id, Pending { cost, deadline, waiting: Waiting::One(waiting.0, waiting.1) });
        Ok(Pushed { id, open: self.gathered(state) })
    }

    /// Queues a frame that has no reply and needs no room: GOAWAY, CANCEL.
    pub(super) fn tell(&self, encode: impl FnOnce(&mut BytesMut)) -> Result<bool, Refusal> {
        let mut state = self.lock();
        if !state.accepts() {
            return Err(Refusal::Closed);
        }
        state.seal();
        encode(&mut state.queue);
        Ok(self.gathered(state))
    }

    /// Queues encoded STORE records of `publisher`, merging them with those that already wait.
    ///
    /// Their room comes out of `kept`, if that is given and enough.
    ///
    /// `Ok(true)` means that the lane must be opened.
    pub(super) fn push_store(
        &self,
        publisher: &NodeId,
        records: &[u8],
        deadline: Instant,
        (sink, tag): (&Arc<dyn Sink>, Tag),
        kept: Option<&mut u32>,
    ) -> Result<bool, Refusal> {
        let count = u16::try_from(tag.count).map_err(|_| Refusal::TooLarge)?;
        if records.len() + wire::STORE_PREFIX > LANE_FRAME_MAX || usize::from(count) > BATCH_RECORDS_MAX {
            return Err(Refusal::TooLarge);
        }
        let cost = self.store_cost(records.len());
        self.take_store_room(cost, kept)?;
        let mut guard = self.lock();
        let state = &mut *guard;
        let fits = state.batch.as_ref().is_some_and(|batch| {
            batch.deadline.saturating_duration_since(deadline) <= 2 * DEADLINE_SPAN
                && deadline <= batch.deadline
                && batch.frame.len() + records.len() <= LANE_FRAME_MAX
                && usize::from(batch.frame.count()) + usize::from(count) <= BATCH_RECORDS_MAX
        });
        let taken = match (state.accepts(), fits) {
            (false, _) => Err(Refusal::Closed),
            (true, false) => self.take_frame(),
            (true, true) => Ok(()),
        };
        if let Err(refusal) = taken {
            drop(guard);
            self.give_back(cost);
            return Err(refusal);
        }
        if !fits {
            state.seal();
            let id = state.id();
            let frame = StoreBatch::open(id, publisher, &mut state.queue);
            let deadline = deadline + DEADLINE_SPAN;
            state.batch = Some(Batch { frame, id, cost: 0, deadline, parts: Vec::new() });
        }
        if let Some(batch) = &mut state.batch {
            // The batch is open at the tail of the queue and was measured above: nothing can refuse.
            let pushed = batch.frame.push_many(records, count, &mut state.queue);
            debug_assert_eq!(pushed, Ok(()));
            batch.cost = batch.cost.saturating_add(cost);
            batch.parts.push((Arc::clone(sink), tag));
        }
        Ok(self.gathered(guard))
    }

    fn gathered(&self, mut state: MutexGuard<'_, State>) -> bool {
        state.gathered += 1;
        let first = state.gathered == 1;
        let open = state.stage == Stage::Unopened;
        if open {
            state.stage = Stage::Open;
        }
        drop(state);
        if first {
            self.wake.notify_one();
        }
        open
    }

    /// Waits for something to write; the one writer task calls it. Cancel safe.
    pub(super) async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.wake.notified().await;
            // Work that came in company is likely to come in company again: let the other callers,
            // who are ready to run, queue theirs before the connection is woken for one of them.
            if self.lock().company {
                tokio::task::yield_now().await;
            }
        }
    }

    fn take(&self) -> Option<Next> {
        let mut state = self.lock();
        if state.gathered > 0 {
            state.seal();
            state.company = state.gathered > 1;
            state.gathered = 0;
            state.written_below = state.next_id;
            state.usual = state.queue.len();
            return Some(Next::Write(state.queue.split().freeze()));
        }
        match state.stage {
            Stage::Dead => Some(Next::Finish),
            Stage::Finishing if state.pending.is_empty() => Some(Next::Finish),
            _ => None,
        }
    }

    /// Request frames queued so far.
    pub(super) fn messages(&self) -> u64 {
        self.lock().next_id - 1
    }

    /// Whether nothing is queued or awaited.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.gathered == 0 && state.pending.is_empty() && state.batch.is_none()
    }

    /// Takes no new requests; the writer ends the lane once those in flight have their replies.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        if matches!(state.stage, Stage::Open | Stage::Unopened) {
            state.stage = if state.stage == Stage::Open { Stage::Finishing } else { Stage::Dead };
        }
        drop(state);
        self.close_room();
        self.wake.notify_one();
    }
}

impl State {
    fn accepts(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Unopened)
    }

    /// The id of a frame that is about to be appended.
    fn id(&mut self) -> u64 {
        if self.queue.is_empty() {
            let usual = self.usual;
            self.queue.reserve(usual);
        }
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Closes the growing STORE frame: what comes next starts a new one.
    fn seal(&mut self) {
        if let Some(batch) = self.batch.take() {
            let waiting = Waiting::Store(batch.parts);
            self.expect(batch.id, Pending { cost: batch.cost, deadline: batch.deadline, waiting });
        }
    }

    /// Gives back what a burst has made grow, with nothing in flight: an idle lane holds no buffer, and no
    /// table for more than a few requests.
    fn rest(&mut self) {
        if self.queue.is_empty() {
            // Even empty it keeps hold of what was last taken from it.
            self.queue = BytesMut::new();
        }
        if self.pending.capacity() > PENDING_KEEP {
            self.pending = HashMap::new();
        }
    }

    fn expect(&mut self, id: u64, pending: Pending) {
        let deadline = pending.deadline;
        self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        self.pending.insert(id, pending);
    }
}
