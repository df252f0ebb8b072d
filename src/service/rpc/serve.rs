//! Calls that arrive, and calls of this node to itself.
//!
//! A handler is polled once where its call was read, which is all that most need; one that has to wait
//! goes on in a task of its own, until it ends, its caller gives up, or its time is over. A panic is an
//! answer like any other.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::call::CallOptions;
use super::error::{CallError, Fault};
use super::registry::{Offer, Request, Turn, Work};
use super::report::{Attempt, CallReport, Path, Source};
use super::{RpcCounts, RpcService};
use crate::id::NodeId;
use crate::pool::{Later, Violation};
use crate::route::way::{LEFT_MAX, MARGIN};
use crate::rpc::config::CALL_TIMEOUT_MAX;
use crate::runtime;
use crate::wire::{CAST, Call, CallStatus, Header, REPLY_OVERHEAD_MAX, Reply};

/// How much longer than its caller a handler's promise holds, so that the caller is told what became of it.
const GRACE: Duration = Duration::from_secs(1);

/// Polls a handler, and takes its panic for its result.
struct Guarded(Work);

impl Future for Guarded {
    type Output = Result<Bytes, Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // What a handler leaves broken is its own: nothing of this node is behind it.
        let polled = catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx)));
        polled.unwrap_or(Poll::Ready(Err(Fault::Panicked)))
    }
}

/// A handler that was begun.
pub(super) enum Begun {
    Ended(Result<Bytes, Fault>),
    Running(Running),
}

/// A handler that has not ended at once.
pub(super) struct Running {
    work: Guarded,
    deadline: Instant,
    _turn: Turn,
}

impl Running {
    /// Its result, at its deadline at the latest. Dropped, it stops the handler.
    pub(super) async fn end(self) -> Result<Bytes, Fault> {
        tokio::time::timeout_at(self.deadline.into(), self.work).await.unwrap_or(Err(Fault::Late))
    }
}

impl RpcService {
    /// Runs the handler of `offer`, up to where it has to wait for the first time.
    pub(super) fn begin(&self, offer: &Arc<Offer>, request: Request) -> Begun {
        if self.is_closing() {
            return Begun::Ended(Err(Fault::Refused));
        }
        let Some(entered) = self.registry.enter(offer, self.config.running) else {
            return Begun::Ended(Err(Fault::Overloaded));
        };
        let deadline = request.deadline;
        let Ok(work) = catch_unwind(AssertUnwindSafe(|| (offer.handler)(request))) else {
            return Begun::Ended(Err(Fault::Panicked));
        };
        let mut work = Guarded(work);
        // Whoever polls it next brings a waker.
        match Pin::new(&mut work).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Begun::Ended(result),
            Poll::Pending => Begun::Running(Running { work, deadline, _turn: entered.stay() }),
        }
    }

    /// Counts what is to be known of the faults of handlers.
    pub(super) fn count_fault(&self, result: &Result<Bytes, Fault>) {
        match result {
            Err(Fault::Panicked) => RpcCounts::add(&self.counts.panics),
            Err(Fault::NoService | Fault::Overloaded | Fault::Refused) => {
                RpcCounts::add(&self.counts.refused)
            }
            _ => {}
        }
    }

    /// Runs what `from` calls, and appends the reply or promises it.
    pub(crate) fn answer_call(
        self: &Arc<Self>,
        from: &NodeId,
        header: &Header,
        body: &[u8],
        out: &mut BytesMut,
        later: &mut Later,
    ) -> Result<(), Violation> {
        let call = Call::decode(body).map_err(|_| Violation::Malformed)?;
        RpcCounts::add(&self.counts.served);
        let deadline = later.now() + time_for(&call, later.hops());
        let begun = match self.registry.get(call.service) {
            Some(offer) => {
                let args = Bytes::copy_from_slice(call.args);
                self.begin(&offer, Request { caller: *from, args, deadline })
            }
            None if self.is_closing() => Begun::Ended(Err(Fault::Refused)),
            None => Begun::Ended(Err(Fault::NoService)),
        };
        let room = later.reply_max().saturating_sub(REPLY_OVERHEAD_MAX);
        let cast = header.flags & CAST != 0;
        match begun {
            Begun::Ended(result) => {
                self.count_fault(&result);
                let ran = !matches!(result, Err(Fault::NoService | Fault::Overloaded | Fault::Refused));
                let result = if cast && ran { Ok(Bytes::new()) } else { result };
                reply(result, room, header.id, out);
            }
            Begun::Running(running) if cast => {
                reply(Ok(Bytes::new()), room, header.id, out);
                let service = Arc::clone(self);
                self.tasks.spawn(async move { service.count_fault(&running.end().await) });
            }
            Begun::Running(running) => self.promise(running, room, later),
        }
        Ok(())
    }

    /// A call of this node to itself.
    pub(super) async fn call_own(
        self: &Arc<Self>,
        offer: &Arc<Offer>,
        args: Bytes,
        options: &CallOptions,
        deadline: Instant,
        report: Option<&mut CallReport>,
    ) -> Result<Bytes, CallError> {
        RpcCounts::add(&self.counts.local);
        let began = report.is_some().then(runtime::now);
        let result = match self.begin(offer, Request { caller: self.local, args, deadline }) {
            Begun::Ended(result) => result,
            Begun::Running(running) if options.cast => {
                let rpc = Arc::clone(self);
                self.tasks.spawn(async move { rpc.count_fault(&running.end().await) });
                Ok(Bytes::new())
            }
            Begun::Running(running) => running.end().await,
        };
        self.count_fault(&result);
        let taken = options.cast && !matches!(result, Err(Fault::Overloaded | Fault::Refused));
        let result = if taken { Ok(Bytes::new()) } else { result };
        let result = result.map_err(|fault| CallError::of_fault(self.local, fault));
        if let (Some(report), Some(began)) = (report, began) {
            report.source = Source::Local;
            report.attempts.push(Attempt {
                provider: self.local,
                path: Path::Local,
                took: runtime::now().saturating_duration_since(began),
                connecting: Duration::ZERO,
                error: result.as_ref().err().cloned(),
            });
        }
        result
    }

    /// Answers when the handler has ended.
    fn promise(self: &Arc<Self>, running: Running, room: usize, later: &mut Later) {
        let mut replier = later.promise_until(running.deadline + GRACE);
        let service = Arc::clone(self);
        self.tasks.spawn(async move {
            let result = tokio::select! {
                biased;
                result = running.end() => result,
                () = replier.cancelled() => {
                    RpcCounts::add(&service.counts.cancelled);
                    return;
                }
            };
            service.count_fault(&result);
            replier.reply(|id, out| reply(result, room, id, out));
        });
    }
}

/// How long the handler of a call has that so many nodes have passed on: each of them needs a part of the
/// time to bring the answer back.
fn time_for(call: &Call<'_>, hops: usize) -> Duration {
    let most = if hops == 0 { CALL_TIMEOUT_MAX } else { LEFT_MAX };
    let timeout = Duration::from_millis(call.timeout_ms.into()).min(most);
    (0..hops).fold(timeout, |left, _| left - left / MARGIN)
}

/// Appends the reply to the call `id`, whose result may have `room` bytes.
fn reply(result: Result<Bytes, Fault>, room: usize, id: u64, out: &mut BytesMut) {
    let result =
        result.and_then(|result| if result.len() > room { Err(Fault::TooLarge) } else { Ok(result) });
    let reply = match &result {
        Ok(result) => Reply { status: CallStatus::Done, code: 0, result },
        Err(fault) => fault.as_reply(),
    };
    // Its result was measured, and texts are cut.
    let encoded = reply.encode(id, out);
    debug_assert_eq!(encoded, Ok(()));
}
