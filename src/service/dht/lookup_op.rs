//! The one completion object of a lookup: what its peers have answered and nobody has looked at yet.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;

use super::find_op::{self, Answers};
use crate::pool::{Outcome, RequestError, Sink, Tag};
use crate::wire::Kind;

/// The [`Tag::first`] of a FIND_NODE.
pub(super) const NODES: u32 = 0;
/// The [`Tag::first`] of the FIND_VALUE that goes before it.
pub(super) const VALUES: u32 = 1;

/// What became of one request.
pub(super) struct Answer {
    /// The place of the peer among those that the lookup has asked.
    pub(super) peer: u16,
    pub(super) reply: Reply,
}

pub(super) enum Reply {
    /// The body of a reply to FIND_NODE.
    Nodes(Bytes),
    /// What the peer holds under the key.
    Values(Result<Answers, RequestError>),
    /// FIND_NODE has no reply.
    Failed,
}

/// The requests of one lookup that are under way.
#[derive(Default)]
pub(super) struct LookupOp {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answers: Vec<Answer>,
    waker: Option<Waker>,
}

impl LookupOp {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something was answered and exchanges it for `taken`, which is empty. Cancel safe.
    pub(super) async fn next(&self, taken: &mut Vec<Answer>) {
        poll_fn(|cx| {
            let mut state = self.lock();
            if !state.answers.is_empty() {
                std::mem::swap(&mut state.answers, taken);
                return Poll::Ready(());
            }
            if state.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

impl Sink for LookupOp {
    fn settle(&self, tag: Tag, outcome: Outcome<'_>) {
        let reply = match outcome {
            Outcome::Frame { kind, body } if tag.first == VALUES => {
                let known = kind == Kind::FindValueReply as u8;
                Reply::Values(if known {
                    find_op::read(body, tag.count)
                } else {
                    Err(RequestError::Malformed)
                })
            }
            Outcome::Frame { kind, body } if kind == Kind::FindNodeReply as u8 => {
                Reply::Nodes(Bytes::copy_from_slice(body))
            }
            Outcome::Failed(error) if tag.first == VALUES => Reply::Values(Err(error)),
            Outcome::Frame { .. } | Outcome::Statuses { .. } | Outcome::Failed(_) => Reply::Failed,
        };
        let mut state = self.lock();
        state.answers.push(Answer { peer: tag.peer, reply });
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
