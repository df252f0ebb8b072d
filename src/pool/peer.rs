//! One Ready connection to a peer: its lanes out, its lanes in, and how it ends.
//!
//! A connection ends in one of two ways. It is *lost*, and everyone who waits is told; or it is
//! *drained*: both sides say GOAWAY, each finishes its lanes once its own requests have their replies,
//! and whoever then sees that the other's lanes have ended as well closes. No side closes while the
//! other may still wait for something.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::inbound::{RequestError, Sink, Tag, Violation};
use super::lane;
use super::outbox::{Outbox, Refusal};
use super::policy::types::ConnId;
use super::{Inner, SINGLES_MAX};
use crate::id::NodeId;
use crate::runtime::Tasks;
use crate::transport::{CloseCode, Connection, Introduction, Side};
use crate::wire::{Class, GoAway};

/// How long a peer may leave every request on a lane unanswered before its connection is closed.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long a lane may be silent while requests wait before its peer counts as stalled.
const STALLED_AFTER: Duration = Duration::from_secs(1);

/// A Ready connection to a peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(super) conn: ConnId,
    pub(crate) connection: Connection,
    pub(super) outboxes: [Outbox; Class::LANES],
    /// Frames over the lane limit that may be in flight to the peer.
    pub(super) singles: Semaphore,
    /// The same from the peer.
    pub(super) singles_in: Semaphore,
    pub(super) tasks: Tasks,
    pub(super) pool: Weak<Inner>,
    pub(super) ending: Ending,
    /// An application frame has passed since this was last asked.
    pub(super) used: AtomicBool,
    /// A request was answered since this was last asked.
    pub(super) answered: AtomicBool,
    /// Replies that came after their requester had given up.
    pub(super) late: AtomicU64,
}

/// Room on a lane that is kept for STORE records to come; what is left of it goes back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    peer: Arc<Peer>,
    class: Class,
    left: u32,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.peer.outbox(self.class).give_back(self.left);
    }
}

/// The state of a drain, seen from both sides.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// This side takes no new requests of its own.
    draining: AtomicBool,
    /// The peer has said GOAWAY.
    told: AtomicBool,
    /// Lanes of the peer that have not ended.
    pub(super) lanes_in: AtomicU32,
    /// Bit per class: the peer has opened this lane.
    pub(super) classes_in: AtomicU32,
    /// The last request id accepted, per lane, and [`REFUSING`] once a shutdown accepts no more.
    accepted: [AtomicU64; Class::LANES],
    /// The connection is gone: there is nothing to wait for.
    dead: AtomicBool,
    /// Something above has changed.
    pub(super) changed: Notify,
}

/// Set in [`Ending::accepted`]: requests above the id beside it are not executed any more. Both are in
/// one word, so that none is executed above what GOAWAY says.
const REFUSING: u64 = 1 << 63;

impl Ending {
    /// Whether request `id` of a lane is to be executed.
    pub(super) fn accept(&self, lane: usize, id: u64) -> Result<bool, Violation> {
        if id >= REFUSING {
            return Err(Violation::Malformed);
        }
        let before = self.accepted[lane].fetch_max(id, Ordering::AcqRel);
        Ok(before < REFUSING || id <= before - REFUSING)
    }

    /// Accepts no request after this; returns the last one that was.
    fn refuse(&self, lane: usize) -> u64 {
        self.accepted[lane].fetch_or(REFUSING, Ordering::AcqRel) & !REFUSING
    }
}

impl Peer {
    /// The state of a connection to a peer that has said HELLO.
    pub(super) fn new(intro: &Introduction, conn: ConnId, pool: &Arc<Inner>) -> Self {
        let grants = &intro.hello.grants;
        let dialed = intro.dialer == Side::Us;
        let outbox =
            |class: Class| Outbox::new(class, grants[class.index()], dialed && class == Class::Control);
        Self {
            id: intro.peer,
            conn,
            connection: intro.connection.clone(),
            outboxes: [
                outbox(Class::Control),
                outbox(Class::Request),
                outbox(Class::Bulk),
                outbox(Class::Publish),
            ],
            singles: Semaphore::new(SINGLES_MAX),
            singles_in: Semaphore::new(SINGLES_MAX),
            tasks: pool.tasks.clone(),
            pool: Arc::downgrade(pool),
            ending: Ending::default(),
            used: AtomicBool::new(true),
            answered: AtomicBool::new(false),
            late: AtomicU64::new(0),
        }
    }

    pub(super) fn outbox(&self, class: Class) -> &Outbox {
        &self.outboxes[class.index().min(Class::LANES - 1)]
    }

    /// Queues encoded STORE records without waiting; concurrent calls share a frame.
    pub(crate) fn try_store(
        self: &Arc<Self>,
        class: Class,
        publisher: &NodeId,
        records: &[u8],
        deadline: Instant,
        waiting: (&Arc<dyn Sink>, Tag),
        room: Option<&mut Room>,
    ) -> Result<(), Refusal> {
        let kept = room.map(|room| &mut room.left);
        let open = self.outbox(class).push_store(publisher, records, deadline, waiting, kept)?;
        self.open_if(open, class);
        Ok(())
    }

    /// Waits for the room of STORE records of `bytes` on the lane and keeps it for them. Cancel safe.
    pub(crate) async fn keep_room(
        self: &Arc<Self>,
        class: Class,
        bytes: usize,
        deadline: Instant,
    ) -> Option<Room> {
        let keeping = self.outbox(class).keep_room(bytes);
        let left = tokio::time::timeout_at(deadline.into(), keeping).await.ok()?.ok()?;
        Some(Room { peer: Arc::clone(self), class, left })
    }

    /// Queues one request frame of about `size` bytes without waiting; returns its id on the lane.
    pub(crate) fn try_request(
        self: &Arc<Self>,
        class: Class,
        size: usize,
        deadline: Instant,
        waiting: (Arc<dyn Sink>, Tag),
        encode: impl FnOnce(u64, &mut bytes::BytesMut),
    ) -> Result<u64, Refusal> {
        let pushed = self.outbox(class).push(size, deadline, waiting, encode)?;
        self.open_if(pushed.open, class);
        Ok(pushed.id)
    }

    /// Nobody waits for request `id` of the lane any more: the peer is told, its [`Sink`] is not.
    pub(crate) fn give_up(&self, class: Class, id: u64) {
        self.outbox(class).give_up(id);
    }

    /// Waits until `size` bytes would have had room on the lane. Cancel safe.
    pub(crate) async fn room_for(
        &self,
        class: Class,
        size: usize,
        deadline: Instant,
    ) -> Result<(), RequestError> {
        match tokio::time::timeout_at(deadline.into(), self.outbox(class).room_for(size)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(RequestError::NotSent),
            Err(_) => Err(RequestError::Backpressure),
        }
    }

    fn open_if(self: &Arc<Self>, open: bool, class: Class) {
        if open {
            lane::open(self, class);
        }
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether an application frame passed since the last call.
    pub(super) fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Tells requesters whose deadline has passed; closes a connection on which nothing moves.
    ///
    /// Returns how many were told, and whether requests wait on a lane that has lately been silent.
    pub(super) fn expire(&self, now: Instant) -> (usize, bool) {
        let mut expired = 0;
        let mut stalled = false;
        for outbox in &self.outboxes {
            let (late, silence) = outbox.expire(now);
            expired += late;
            stalled |= silence.is_some_and(|silence| silence > STALLED_AFTER);
            if silence.is_some_and(|silence| silence > SILENCE_MAX) {
                self.connection.close(CloseCode::Unresponsive);
            }
        }
        (expired, stalled)
    }

    /// Request frames sent on this connection so far.
    pub(super) fn messages(&self) -> u64 {
        self.outboxes.iter().map(Outbox::messages).sum()
    }

    /// Says GOAWAY and lets the connection end when both sides are done, after `patience` at the latest.
    ///
    /// `code` is the reason that the peer learns. Only the first call has an effect.
    pub(super) fn drain(self: &Arc<Self>, code: CloseCode, patience: Duration) {
        if self.ending.draining.swap(true, Ordering::AcqRel) {
            return;
        }
        self.say_goodbye(code);
        let peer = Arc::clone(self);
        self.tasks.spawn(async move {
            let _ = timeout(patience, peer.drained()).await;
            peer.connection.close(code);
        });
    }

    fn say_goodbye(self: &Arc<Self>, code: CloseCode) {
        let last = match code {
            CloseCode::Shutdown => std::array::from_fn(|lane| self.ending.refuse(lane)),
            _ => [u64::MAX; Class::LANES],
        };
        let goaway = GoAway { code: u16::try_from(code.to_u32()).unwrap_or(u16::MAX), last };
        let told = self.outbox(Class::Control).tell(|out| {
            let _ = goaway.encode(0, out);
        });
        self.open_if(told == Ok(true), Class::Control);
    }

    /// Finishes the lanes, control last: its end tells the peer that nothing else is under way.
    async fn drained(&self) {
        let (control, others) = (&self.outboxes[0], &self.outboxes[1..]);
        others.iter().for_each(Outbox::finish);
        self.until(|| others.iter().all(Outbox::is_idle)).await;
        // Those who hold or await a turn have theirs first; there is none after them.
        let turns = u32::try_from(SINGLES_MAX).unwrap_or(u32::MAX);
        let _ = self.singles.acquire_many(turns).await;
        self.singles.close();
        control.finish();
        self.until(|| {
            control.is_idle()
                && self.ending.told.load(Ordering::Acquire)
                && self.ending.lanes_in.load(Ordering::Acquire) == 0
        })
        .await;
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        loop {
            let changed = self.ending.changed.notified();
            if condition() || self.ending.dead.load(Ordering::Acquire) {
                return;
            }
            changed.await;
        }
    }

    /// The peer has said GOAWAY: no new requests, and an answer in kind. Saying it again means nothing.
    pub(super) fn told_goodbye(self: &Arc<Self>, code: CloseCode) {
        if self.ending.told.swap(true, Ordering::AcqRel) {
            return;
        }
        self.ending.changed.notify_waiters();
        if let Some(pool) = self.pool.upgrade() {
            pool.peer_leaves(self, code);
        }
    }

    /// The peer has ended a lane that this side still uses. It cannot be opened again, so the connection
    /// is used no more: the next request gets a new one.
    pub(super) fn lost_lane(self: &Arc<Self>) {
        if self.ending.draining.load(Ordering::Acquire) {
            return;
        }
        if let Some(pool) = self.pool.upgrade() {
            pool.peer_fails(self);
        }
    }

    /// The connection is gone: everyone who waits is told.
    pub(super) fn die(&self) {
        for outbox in &self.outboxes {
            outbox.die();
        }
        self.singles.close();
        self.singles_in.close();
        self.ending.dead.store(true, Ordering::Release);
        self.ending.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_accepted_above_what_goaway_says() {
        let ending = Ending::default();
        assert_eq!(ending.accept(1, 7), Ok(true));
        assert_eq!(ending.refuse(1), 7);
        assert_eq!(ending.accept(1, 8), Ok(false));
        assert_eq!(ending.accept(1, 7), Ok(true));
        assert_eq!(ending.refuse(1), 7, "a refused request counts as accepted");
        assert_eq!(ending.accept(2, 8), Ok(true), "another lane");
        assert_eq!(ending.accept(2, u64::MAX), Err(Violation::Malformed));
        assert_eq!(ending.accept(2, 9), Ok(true));
    }
}
