//! Lanes: the two halves of a bidirectional stream, made safe to drop.
//!
//! quinn finishes a stream whose sending half is dropped, so a cancelled write would look like a whole
//! message. [`LaneSend`] resets instead, unless it was finished on purpose.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, ready};

use bytes::Bytes;
use quinn::VarInt;

use super::close::{Lost, lost};
use crate::wire::{Class, Decoder};

/// Reset and stop code of a lane that was given up half-way.
const ABANDONED: VarInt = VarInt::from_u32(1);
/// Received chunks taken from quinn under one lock of its connection.
const CHUNKS: usize = 32;

/// Both halves of a lane.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) send: LaneSend,
    pub(crate) recv: LaneRecv,
}

/// How a lane ended other than by its clean end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LaneError {
    /// The peer reset its half, or stopped reading ours.
    #[error("the peer abandoned the lane")]
    Abandoned,
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl Lane {
    pub(super) fn new(send: quinn::SendStream, recv: quinn::RecvStream) -> Self {
        Self { send: LaneSend { stream: send, finished: false }, recv: LaneRecv { stream: recv } }
    }
}

/// The sending half; dropped before [`finish`](Self::finish), it resets the stream.
#[derive(Debug)]
pub(crate) struct LaneSend {
    stream: quinn::SendStream,
    finished: bool,
}

impl LaneSend {
    /// Lets what is written here go before lanes of lower classes.
    pub(crate) fn prioritise(&self, class: Class) {
        let priority = match class {
            Class::Control => 3,
            Class::Request => 2,
            Class::Bulk | Class::Single => 1,
            Class::Publish => 0,
        };
        let _ = self.stream.set_priority(priority);
    }

    /// Hands all of `bytes` to the connection, waiting for flow control.
    ///
    /// Not cancel safe: dropping the future loses the tail, after which the lane must be dropped too.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), LaneError> {
        self.stream.write_chunk(bytes).await.map_err(|error| match error {
            quinn::WriteError::ConnectionLost(error) => lost(&error).into(),
            quinn::WriteError::Stopped(_)
            | quinn::WriteError::ClosedStream
            | quinn::WriteError::ZeroRttRejected => LaneError::Abandoned,
        })
    }

    /// Returns when the peer reads this half no more, or the connection is gone. Cancel safe.
    pub(crate) async fn stopped(&self) {
        let _ = self.stream.stopped().await;
    }

    /// Ends the lane cleanly: the peer reads all that was written and then its end.
    pub(crate) fn finish(mut self) {
        self.finished = self.stream.finish().is_ok();
    }
}

impl Drop for LaneSend {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.stream.reset(ABANDONED);
        }
    }
}

/// The receiving half; dropped before its end, it asks the peer to stop sending.
#[derive(Debug)]
pub(crate) struct LaneRecv {
    stream: quinn::RecvStream,
}

impl LaneRecv {
    /// Moves what has arrived into `decoder`, waiting for at least one byte; `false` at the clean end.
    ///
    /// Cancel safe: a dropped future has taken nothing.
    pub(crate) async fn fill(&mut self, decoder: &mut Decoder) -> Result<bool, LaneError> {
        let read = poll_fn(|cx| {
            // On the stack of each poll, because a lane that waits must not hold room for chunks: the
            // future of `read_chunks` has no state of its own between polls.
            let mut chunks: [Bytes; CHUNKS] = Default::default();
            let read = ready!(pin!(self.stream.read_chunks(&mut chunks)).poll(cx));
            for chunk in read.iter().flatten().flat_map(|count| &chunks[..*count]) {
                decoder.feed(chunk);
            }
            Poll::Ready(read)
        });
        match read.await {
            Ok(read) => Ok(read.is_some()),
            Err(quinn::ReadError::ConnectionLost(error)) => Err(lost(&error).into()),
            Err(
                quinn::ReadError::Reset(_)
                | quinn::ReadError::ClosedStream
                | quinn::ReadError::IllegalOrderedRead
                | quinn::ReadError::ZeroRttRejected,
            ) => Err(LaneError::Abandoned),
        }
    }
}
