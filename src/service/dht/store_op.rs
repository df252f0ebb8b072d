//! The one completion object of a store: who has acknowledged which of its records.
//!
//! Replies settle it on the task that read them; the caller waits on it. It holds the leases of the
//! replicas until the last of them has answered, also when the caller has long gone on.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Poll, Waker};

use smallvec::SmallVec;

use super::DhtService;
use super::receipt::Receipt;
use crate::dht::tally::Tally;
use crate::id::{Key, NodeId};
use crate::pool::{Leases, Outcome, Peer, RequestError, Sink, Tag};
use crate::wire::Status;

/// A store of some records to one replica set.
pub(super) struct StoreOp {
    replicas: Arc<[NodeId]>,
    required: usize,
    target: usize,
    state: Mutex<State>,
    /// Who stores again what is refused after the receipts were handed out.
    late: Weak<DhtService>,
    /// Keeps the connections of the replicas from eviction.
    leases: Leases,
}

struct State {
    items: SmallVec<[Item; 1]>,
    undecided: usize,
    waker: Option<Waker>,
    /// The receipts were handed out.
    taken: bool,
}

#[derive(Clone, Copy)]
struct Item {
    key: Key,
    seq: u64,
    tally: Tally,
    full: bool,
    superseded: u64,
    decided: bool,
    log_full: bool,
}

impl Item {
    fn new(key: Key) -> Self {
        let tally = Tally::default();
        Self { key, seq: 0, tally, full: false, superseded: 0, decided: false, log_full: false }
    }
}

impl StoreOp {
    pub(super) fn new(
        replicas: Arc<[NodeId]>,
        target: usize,
        required: usize,
        keys: impl Iterator<Item = Key>,
        leases: Leases,
        late: Weak<DhtService>,
    ) -> Self {
        let items: SmallVec<[Item; 1]> = keys.map(Item::new).collect();
        let undecided = if required == 0 { 0 } else { items.len() };
        let state = Mutex::new(State { items, undecided, waker: None, taken: false });
        Self { replicas, required, target, state, late, leases }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections to the replicas, where there are any.
    pub(super) fn peers(&self) -> &[Option<Arc<Peer>>] {
        self.leases.peers()
    }

    /// The sequence number that item `i` was given.
    pub(super) fn numbered(&self, first: usize, seqs: impl Iterator<Item = u64>) {
        let mut state = self.lock();
        for (item, seq) in state.items[first..].iter_mut().zip(seqs) {
            item.seq = seq;
        }
    }

    /// The publication log had no room for these items: they are sent to nobody.
    pub(super) fn unsent(&self, items: Range<usize>) {
        let tally = Tally::unsent(self.replicas.len());
        let mut guard = self.lock();
        let state = &mut *guard;
        for item in &mut state.items[items] {
            item.tally = tally;
            item.log_full = true;
            if !item.decided {
                item.decided = true;
                state.undecided = state.undecided.saturating_sub(1);
            }
        }
    }

    /// Waits until it is known of each record whether its level is met. Cancel safe.
    pub(super) async fn decided(&self) {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.undecided == 0 {
                return Poll::Ready(());
            }
            if state.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Hands out the receipts as they stand, in the order of the items, and whether a replica was full.
    pub(super) fn receipts(&self, mut each: impl FnMut(Receipt, bool)) {
        let mut state = self.lock();
        state.taken = true;
        for item in &state.items {
            let receipt = Receipt {
                key: item.key,
                seq: item.seq,
                replicas: Arc::clone(&self.replicas),
                tally: item.tally,
                required: self.required,
                target: self.target,
                superseded: (item.superseded > 0).then_some(item.superseded),
                log_full: item.log_full,
                lookup: None,
            };
            each(receipt, item.full);
        }
    }

    fn update(&self, tag: Tag, mut each: impl FnMut(usize, &mut Item, usize)) {
        let (replica, replicas) = (usize::from(tag.peer), self.replicas.len());
        let mut guard = self.lock();
        let state = &mut *guard;
        let first = tag.first as usize;
        let mine = state.items.iter_mut().skip(first).take(tag.count as usize);
        for (i, item) in mine.enumerate() {
            each(i, item, replica);
            if !item.decided && item.tally.is_decided(self.required, replicas) {
                item.decided = true;
                state.undecided = state.undecided.saturating_sub(1);
            }
        }
        let waker = if state.undecided == 0 { state.waker.take() } else { None };
        drop(guard);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Sink for StoreOp {
    fn settle(&self, tag: Tag, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Statuses { statuses, durable } => {
                self.statuses(tag, statuses, durable);
                if statuses.iter().any(|status| matches!(status, Status::Superseded { .. })) {
                    self.refused_late(tag, statuses);
                }
            }
            Outcome::Frame { .. } => self.fail(tag, RequestError::Malformed),
            Outcome::Failed(error) => self.fail(tag, error),
        }
    }
}

impl StoreOp {
    fn statuses(&self, tag: Tag, statuses: &[Status], durable: bool) {
        self.update(tag, |i, item, replica| match statuses.get(i) {
            Some(Status::Applied | Status::AlreadyHave) if durable => item.tally.durable(replica),
            Some(Status::Applied | Status::AlreadyHave) => item.tally.acked(replica),
            Some(Status::Superseded { seq }) => {
                item.tally.refused(replica);
                item.superseded = item.superseded.max(*seq);
            }
            Some(Status::StorageFull) => {
                item.tally.refused(replica);
                item.full = true;
            }
            _ => item.tally.refused(replica),
        });
    }

    /// Nobody looks at the receipts any more: what an earlier process of this node got ahead of is stored
    /// again without the caller.
    fn refused_late(&self, tag: Tag, statuses: &[Status]) {
        let state = self.lock();
        let Some(service) = self.late.upgrade().filter(|_| state.taken) else { return };
        let mine = state.items.iter().skip(tag.first as usize);
        let refused = mine.zip(statuses).filter_map(|(item, status)| match status {
            Status::Superseded { seq } => Some((item.key, item.seq, *seq)),
            _ => None,
        });
        let refused: Vec<_> = refused.collect();
        drop(state);
        let tasks = service.tasks.clone();
        tasks.spawn(service.resend(refused));
    }

    fn fail(&self, tag: Tag, error: RequestError) {
        let maybe_executed = error.maybe_executed();
        self.update(tag, |_, item, replica| item.tally.lost(replica, maybe_executed));
    }
}
