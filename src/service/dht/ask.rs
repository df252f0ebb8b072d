//! Asking one peer what it holds, page by page.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::DhtService;
use super::find_op::{Answers, FindOp, Reading, Step, live};
use super::part::CONNECTIONS_TRIED;
use super::receipt::Record;
use crate::id::{Key, NodeId};
use crate::pool::{AcquireError, Lease, Outcome, Promise, Refusal, RequestError, Sink, Tag, deliver};
use crate::runtime;
use crate::service::path::{Access, Answer};
use crate::wire::{Class, FindBatch, HEADER_LEN, RecordKind};

/// Encoded bytes of a key in a FIND_VALUE frame, at most.
pub(super) const ASK_BYTES_MAX: usize = 80;

/// Why one peer did not answer a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// No connection could be had.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// The request has no answer.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl QueryError {
    /// Whether the same query may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Acquire(error) => error.is_retryable(),
            Self::Request(error) => error.is_retryable(),
        }
    }

    /// Whether the answer did not come in time.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Request(RequestError::Timeout) | Self::Acquire(AcquireError::Timeout))
    }
}

impl DhtService {
    /// The records of an answer for one key, with the pages that it left out.
    ///
    /// Fails when there is nothing and the peer did not say so properly.
    pub(super) async fn complete(
        self: &Arc<Self>,
        peer: NodeId,
        key: Key,
        kind: RecordKind,
        answers: Answers,
        deadline: Instant,
    ) -> Result<Vec<Record>, RequestError> {
        match self.pages(peer, key, kind, answers, deadline).await {
            (records, Some(error)) if records.is_empty() => Err(error),
            (records, _) => Ok(records),
        }
    }

    /// The records of an answer for one key, with the pages that it left out, and why they are not all.
    pub(super) async fn pages(
        self: &Arc<Self>,
        peer: NodeId,
        key: Key,
        kind: RecordKind,
        answers: Answers,
        deadline: Instant,
    ) -> (Vec<Record>, Option<RequestError>) {
        let mut next = answers.into_iter().next();
        let mut reading = Reading::default();
        let mut records = Vec::new();
        let error = loop {
            let Some(mut page) = next else { break RequestError::Malformed };
            self.keep_proven(key, kind, &mut page.records);
            let step = reading.turn(&mut page);
            if records.is_empty() {
                records = page.records;
            } else {
                records.extend(page.records);
            }
            match step {
                Step::Done => return (records, None),
                Step::More => {}
                Step::NoRoom | Step::Wrong => break RequestError::Malformed,
            }
            if runtime::now() >= deadline {
                break RequestError::Timeout;
            }
            let op = FindOp::new();
            self.ask(&op, peer, 0, kind, vec![(key, reading.cursor)], deadline);
            match op.next().await.result {
                Ok(answers) => next = answers.into_iter().next(),
                Err(error) => break error,
            }
        };
        (records, Some(error))
    }

    /// Asks one peer for some keys; `op` hears of it exactly once.
    ///
    /// A peer without a warm connection or without room is waited for in a task of its own.
    pub(super) fn ask(
        self: &Arc<Self>,
        op: &Arc<FindOp>,
        node: NodeId,
        peer: u16,
        kind: RecordKind,
        keys: Vec<(Key, Option<NodeId>)>,
        deadline: Instant,
    ) {
        let sink: Arc<dyn Sink> = Arc::<FindOp>::clone(op);
        let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let tag = Tag { peer, first: 0, count };
        if let Some(lease) = self.pool.try_acquire(&node)
            && push(&lease, kind, &keys, deadline, &sink, tag).is_ok()
        {
            return;
        }
        let promise = Promise::new(Arc::clone(&sink), tag);
        let Ok(permit) = Arc::clone(&self.deferred).try_acquire_owned() else {
            return promise.settle(Outcome::Failed(RequestError::Backpressure));
        };
        let service = Arc::clone(self);
        self.tasks.spawn(async move {
            match service.ask_late(&node, kind, &keys, deadline, &sink, tag).await {
                Ok(None) => promise.hand_over(),
                Ok(Some(answer)) => deliver(promise, tag.count, &answer.header, &answer.body),
                Err(error) => promise.settle(Outcome::Failed(error)),
            }
            drop(permit);
        });
    }

    async fn ask_late(
        self: &Arc<Self>,
        node: &NodeId,
        kind: RecordKind,
        keys: &[(Key, Option<NodeId>)],
        deadline: Instant,
        sink: &Arc<dyn Sink>,
        tag: Tag,
    ) -> Result<Option<Answer>, RequestError> {
        let mut last = RequestError::NotSent;
        for _ in 0..CONNECTIONS_TRIED {
            let access = self.path.reach(node, size(keys), deadline).await;
            let lease = match access.map_err(|_| RequestError::Unreachable)? {
                Access::Direct(lease) => lease,
                Access::Routed => match self.path.routed(node, &frame(kind, keys), deadline).await {
                    Err(error @ (RequestError::Unreachable | RequestError::TooFar)) => {
                        last = error;
                        continue;
                    }
                    answer => return answer.map(Some),
                },
            };
            loop {
                match push(&lease, kind, keys, deadline, sink, tag) {
                    Ok(()) => return Ok(None),
                    Err(Refusal::NoRoom) => match lease.room_for(class(keys), size(keys), deadline).await {
                        Ok(()) => {}
                        Err(RequestError::NotSent) => break,
                        Err(error) => return Err(error),
                    },
                    Err(Refusal::Closed) => break,
                    Err(Refusal::TooLarge) => return Err(RequestError::TooLarge),
                }
            }
        }
        Err(last)
    }

    /// What one peer holds under `key`, asked over the network whatever this node holds itself.
    pub(crate) async fn query_peer(
        self: &Arc<Self>,
        peer: NodeId,
        key: Key,
        kind: RecordKind,
        timeout: Duration,
    ) -> Result<Vec<Record>, QueryError> {
        let deadline = runtime::after(timeout);
        if self.pool.is_stranger(&peer) {
            // Its neighbours know where it listens; to ask it on the way is to connect to it.
            self.lookup(peer.to_key(), deadline).await;
        }
        // Held until the answer is there, so that the question finds this connection.
        let _access = self.path.reach(&peer, ASK_BYTES_MAX, deadline).await?;
        let op = FindOp::new();
        self.ask(&op, peer, 0, kind, vec![(key, None)], deadline);
        let answers = op.next().await.result?;
        Ok(live(self.complete(peer, key, kind, answers, deadline).await?))
    }
}

fn size(keys: &[(Key, Option<NodeId>)]) -> usize {
    HEADER_LEN + 8 + keys.len() * ASK_BYTES_MAX
}

/// One key is a request; many are bulk.
fn class(keys: &[(Key, Option<NodeId>)]) -> Class {
    if keys.len() == 1 { Class::Request } else { Class::Bulk }
}

fn push(
    lease: &Lease,
    kind: RecordKind,
    keys: &[(Key, Option<NodeId>)],
    deadline: Instant,
    sink: &Arc<dyn Sink>,
    tag: Tag,
) -> Result<(), Refusal> {
    let waiting = (Arc::clone(sink), tag);
    let encode = |id, out: &mut BytesMut| encode(kind, keys, id, out);
    lease.try_request(class(keys), size(keys), deadline, waiting, encode).map(drop)
}

/// The question as a frame of its own.
fn frame(kind: RecordKind, keys: &[(Key, Option<NodeId>)]) -> BytesMut {
    let mut frame = BytesMut::with_capacity(size(keys));
    encode(kind, keys, 0, &mut frame);
    frame
}

fn encode(kind: RecordKind, keys: &[(Key, Option<NodeId>)], id: u64, out: &mut BytesMut) {
    let mut batch = FindBatch::open(id, out);
    for (key, after) in keys {
        // The frame is far below its limits: `find_many` cuts its keys accordingly.
        let _ = batch.push(key, kind, after.as_ref(), out);
    }
}
