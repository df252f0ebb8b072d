//! The one completion object of a find: what the replicas have answered for which key.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::receipt::Record;
use crate::id::{Key, NodeId};
use crate::pool::{Outcome, RequestError, Sink, Tag};
use crate::wire::{self, Kind, Rest};

/// The answers to one FIND_VALUE frame: for each key that it asked for, in order.
pub(super) type Answers = Vec<(Vec<Record>, Rest)>;

/// A frame that was answered, and by whom.
pub(super) struct Answered {
    /// Which of the operation's peers.
    pub(super) peer: u16,
    pub(super) result: Result<Answers, RequestError>,
}

/// The requests of one find that are under way.
#[derive(Default)]
pub(super) struct FindOp {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answered: Vec<Answered>,
    waker: Option<Waker>,
}

impl FindOp {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next answer; every request has one. Cancel safe.
    pub(super) async fn next(&self) -> Answered {
        poll_fn(|cx| {
            let mut state = self.lock();
            match state.answered.pop() {
                Some(answered) => Poll::Ready(answered),
                None => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Sink for FindOp {
    fn settle(&self, tag: Tag, outcome: Outcome<'_>) {
        let result = match outcome {
            Outcome::Frame { kind, body } if kind == Kind::FindValueReply as u8 => read(body, tag.count),
            Outcome::Frame { .. } | Outcome::Statuses(_) => Err(RequestError::Malformed),
            Outcome::Failed(error) => Err(error),
        };
        let mut state = self.lock();
        state.answered.push(Answered { peer: tag.peer, result });
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn read(body: &[u8], count: u32) -> Result<Answers, RequestError> {
    let frame = wire::decode_find_reply(body).map_err(|_| RequestError::Malformed)?;
    let answers = frame.answers();
    if u32::try_from(answers.len()).ok() != Some(count) {
        return Err(RequestError::Malformed);
    }
    // The keys are filled in by the one who knows which were asked for.
    let key = Key::from_bytes([0; 32]);
    Ok(answers
        .map(|answer| (answer.records.iter().map(|found| record(key, found)).collect(), answer.rest))
        .collect())
}

fn record(key: Key, found: &wire::Found<'_>) -> Record {
    Record {
        key,
        publisher: found.publisher,
        seq: found.seq,
        ttl: Duration::from_millis(u64::from(found.ttl_ms)),
        kind: found.kind,
        value: Bytes::copy_from_slice(found.value),
    }
}

/// Merges records of one key into `known`: the newest of each publisher stays.
pub(super) fn merge(known: &mut Vec<Record>, found: impl IntoIterator<Item = Record>) {
    for record in found {
        match known.iter_mut().find(|other| other.publisher == record.publisher) {
            Some(other) if newer(&record, other) => *other = record,
            Some(_) => {}
            None => known.push(record),
        }
    }
}

fn newer(a: &Record, b: &Record) -> bool {
    (a.seq, a.value.as_ref()) > (b.seq, b.value.as_ref())
}

/// The publishers of `records` in the order in which answers list them.
pub(super) fn by_publisher(records: &mut [Record]) {
    records.sort_unstable_by_key(|record: &Record| -> NodeId { record.publisher });
}
