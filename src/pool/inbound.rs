//! The seams of the pool: what it asks of the services above it, and what it promises them.
//!
//! The pool knows peers, lanes and frames. What a frame means is decided by the one [`Inbound`] that
//! the services implement, on the task that read the frame; what became of a request is told to the
//! [`Sink`] that the requester left, on the task that read the reply. Neither may wait.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;

use super::later::Later;
use crate::id::NodeId;
use crate::wire::{Failed, Header, Hello, Status};

/// The services, as the pool sees them.
pub(crate) trait Inbound: Send + Sync {
    /// Answers one request frame of `from` by appending one reply frame to `out`, or promises an answer
    /// by `later`.
    ///
    /// Called on the reading task: it must not block or wait.
    fn request(
        &self,
        from: &NodeId,
        header: &Header,
        body: &[u8],
        out: &mut BytesMut,
        later: &mut Later,
    ) -> Result<(), Violation>;

    /// A peer is becoming Ready, over its first connection or a further one, which ends at `remote`. Who
    /// waits for it is told afterwards.
    fn connected(&self, peer: &NodeId, hello: &Hello, remote: SocketAddr);

    /// The peer has said that it shuts down.
    fn left(&self, peer: &NodeId);

    /// No address of the peer answered.
    fn unreachable(&self, peer: &NodeId);
}

/// What a peer did that ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("a frame could not be decoded")]
    Malformed,
    #[error("a frame came where its kind is not allowed")]
    Misplaced,
    #[error("more was in flight than was granted")]
    Excess,
}

/// Which part of an operation a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    /// The index of the peer in the operation's list of peers.
    pub(crate) peer: u16,
    /// The first item of the operation that the request carried.
    pub(crate) first: u32,
    /// How many items it carried.
    pub(crate) count: u32,
}

/// What became of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome<'a> {
    /// A reply frame of this kind.
    Frame { kind: u8, body: &'a [u8] },
    /// The statuses of the STORE items that [`Tag`] names, in order, and whether those that were taken
    /// are on disk.
    Statuses { statuses: &'a [Status], durable: bool },
    /// No reply will come.
    Failed(RequestError),
}

/// The requester's end of a request: told exactly once what became of it.
pub(crate) trait Sink: Send + Sync {
    fn settle(&self, tag: Tag, outcome: Outcome<'_>);
}

/// A [`Sink`] that is told even when the task that was to tell it is cancelled.
pub(crate) struct Promise {
    sink: Option<Arc<dyn Sink>>,
    tag: Tag,
    /// The request was handed to a connection, and may be executed.
    pub(crate) sent: bool,
}

impl Promise {
    pub(crate) fn new(sink: Arc<dyn Sink>, tag: Tag) -> Self {
        Self { sink: Some(sink), tag, sent: false }
    }

    /// Tells the sink.
    pub(crate) fn settle(mut self, outcome: Outcome<'_>) {
        if let Some(sink) = self.sink.take() {
            sink.settle(self.tag, outcome);
        }
    }

    /// Hands the sink to someone else who will tell it.
    pub(crate) fn hand_over(mut self) {
        self.sink = None;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            let error = if self.sent { RequestError::Lost } else { RequestError::Shutdown };
            sink.settle(self.tag, Outcome::Failed(error));
        }
    }
}

/// Why a request has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The peer did not answer in time; the request may have been executed.
    #[error("no answer in time")]
    Timeout,
    /// The connection was lost before the request was handed to it: it was not executed.
    #[error("the connection was lost before the request was sent")]
    NotSent,
    /// The connection was lost after the request was handed to it: it may have been executed.
    #[error("the connection was lost before the answer came")]
    Lost,
    /// The queue to the peer is full: the request was not sent.
    #[error("the queue to the peer is full")]
    Backpressure,
    /// No connection to the peer could be had: the request was not sent.
    #[error("no connection to the peer")]
    Unreachable,
    /// Every way to the peer is longer than a request may travel: it was not executed.
    #[error("every way to the peer is too long")]
    TooFar,
    /// The peer is going away and did not execute the request.
    #[error("the peer is going away")]
    GoingAway,
    /// The peer gave the request up; it may have been executed.
    #[error("the peer gave the request up")]
    Abandoned,
    /// The peer does not know this kind of request.
    #[error("the peer does not support the request")]
    Unsupported,
    /// The peer answered with something that is no answer.
    #[error("the answer of the peer is malformed")]
    Malformed,
    /// The request is larger than a frame may be.
    #[error("the request is too large")]
    TooLarge,
    /// This node is shutting down: the request was not sent.
    #[error("this node is shutting down")]
    Shutdown,
}

impl RequestError {
    /// What the body of a [`Failed`] reply says about the request.
    pub(super) fn of_failed(body: &[u8]) -> Self {
        match Failed::decode(body) {
            Ok(Failed { code: Failed::GOING_AWAY }) => Self::GoingAway,
            _ => Self::Abandoned,
        }
    }

    /// Whether the peer may have executed the request.
    pub fn maybe_executed(self) -> bool {
        matches!(self, Self::Timeout | Self::Lost | Self::Abandoned | Self::Malformed)
    }

    /// Whether the same request may succeed later or elsewhere.
    pub fn is_retryable(self) -> bool {
        !matches!(self, Self::Unsupported | Self::TooLarge | Self::Shutdown)
    }
}
