//! The one completion object of a find: what the replicas have answered for which key.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::receipt::Record;
use crate::dht::record;
use crate::dht::store::KEY_RECORDS_MAX;
use crate::id::{Key, NodeId};
use crate::pool::{Outcome, RequestError, Sink, Tag};
use crate::wire::{self, Kind, Rest};

/// The answers to one FIND_VALUE frame: a page for each key that it asked for, in order.
pub(super) type Answers = Vec<Page>;

/// One answer for one key. Its publishers ascend, and a cursor is the last of them.
pub(super) struct Page {
    /// The records that a replica may hold; others are left out.
    pub(super) records: Vec<Record>,
    /// The first publisher of the page as it was sent.
    first: Option<NodeId>,
    /// Records as they were sent.
    sent: usize,
    rest: Rest,
}

impl Page {
    /// Whether a record is there, or may be on a page behind this one, that `from` has published, if that
    /// matters.
    pub(super) fn may_hold(&self, from: Option<NodeId>) -> bool {
        let wanted = |record: &Record| from.is_none_or(|from| from == record.publisher);
        self.rest != Rest::Nothing || self.records.iter().any(wanted)
    }
}

/// How far one replica has been read under one key.
#[derive(Default)]
pub(super) struct Reading {
    /// The last publisher that it has sent.
    pub(super) cursor: Option<NodeId>,
    /// Whether it has sent a live record that counts.
    pub(super) found: bool,
    taken: usize,
}

/// What a page leads to.
pub(super) enum Step {
    /// The replica has said all, or as much as any replica may hold.
    Done,
    /// There is another page.
    More,
    /// The keys before this one took the whole frame.
    NoRoom,
    /// The page does not follow the one before it.
    Wrong,
}

impl Reading {
    /// Takes the next page; no sequence of pages gives more than [`KEY_RECORDS_MAX`] records.
    pub(super) fn turn(&mut self, page: &mut Page) -> Step {
        let Some(first) = page.first else {
            return match page.rest {
                Rest::Nothing => Step::Done,
                Rest::Everything => Step::NoRoom,
                Rest::After(publisher) if Some(publisher) == self.cursor => Step::NoRoom,
                Rest::After(_) => Step::Wrong,
            };
        };
        if self.cursor.is_some_and(|cursor| first <= cursor) {
            page.records.clear();
            return Step::Wrong;
        }
        page.records.truncate(KEY_RECORDS_MAX - self.taken);
        self.taken = KEY_RECORDS_MAX.min(self.taken + page.sent);
        self.found |= page.records.iter().any(|record| !record.is_tombstone());
        match page.rest {
            Rest::After(publisher) if self.taken < KEY_RECORDS_MAX => {
                self.cursor = Some(publisher);
                Step::More
            }
            _ => Step::Done,
        }
    }
}

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
            Outcome::Frame { .. } | Outcome::Statuses { .. } => Err(RequestError::Malformed),
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

/// The answers in a reply to a frame that asked for `count` keys.
pub(super) fn read(body: &[u8], count: u32) -> Result<Answers, RequestError> {
    let frame = wire::decode_find_reply(body).map_err(|_| RequestError::Malformed)?;
    let answers = frame.answers();
    if u32::try_from(answers.len()).ok() != Some(count) {
        return Err(RequestError::Malformed);
    }
    answers.map(|answer| page(&answer).ok_or(RequestError::Malformed)).collect()
}

/// Nothing when the publishers do not ascend or the cursor is not the last of them.
fn page(answer: &wire::Answer<'_, '_>) -> Option<Page> {
    let found = answer.records;
    let last = found.last().map(|found| found.publisher);
    let follows = match answer.rest {
        Rest::Nothing => true,
        Rest::Everything => last.is_none(),
        Rest::After(publisher) => last.is_none_or(|last| last == publisher),
    };
    if !follows || !found.is_sorted_by(|a, b| a.publisher < b.publisher) {
        return None;
    }
    Some(Page {
        records: found.iter().filter_map(accept).collect(),
        first: found.first().map(|found| found.publisher),
        sent: found.len(),
        rest: answer.rest,
    })
}

/// The record, if a replica may hold one like it.
fn accept(found: &wire::Found<'_>) -> Option<Record> {
    // The keys are filled in by the one who knows which were asked for.
    let key = Key::from_bytes([0; 32]);
    let wire::Found { publisher, seq, ttl_ms, kind, flags, proof, value } = *found;
    record::check(&wire::Record { key, seq, ttl_ms, kind, flags, proof, value }).ok()?;
    let ttl = record::life(flags, Duration::from_millis(u64::from(ttl_ms)));
    let (value, proof) = (Bytes::copy_from_slice(value), Bytes::copy_from_slice(proof));
    // The one who knows what was asked for verifies the proof as well.
    Some(Record { key, publisher, seq, ttl, kind, value, signed: false, flags, proof })
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
    let said = |record: &Record| record::digest(record.flags, &record.value);
    (a.signed, a.seq).cmp(&(b.signed, b.seq)).then_with(|| said(a).cmp(&said(b))).is_gt()
}

/// Leaves out what was removed.
pub(super) fn live(mut records: Vec<Record>) -> Vec<Record> {
    records.retain(|record| !record.is_tombstone());
    records
}

/// The publishers of `records` in the order in which answers list them.
pub(super) fn by_publisher(records: &mut [Record]) {
    records.sort_unstable_by_key(|record: &Record| -> NodeId { record.publisher });
}
