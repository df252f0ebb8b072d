//! Why the baseline failed, with the peer that it was about.

use crate::id::NodeId;
use crate::transport::tls::TlsError;
use crate::transport::{AttemptError, BindError, Lost};
use crate::wire::{CallStatus, EncodeError, Status};

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The certificates cannot be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The socket could not be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Why a message was not taken by everybody it was for: a record by its replicas, a call by its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The node knows no other node: nothing was sent.
    #[error("no other node is known")]
    NoReplicas,
    /// The message cannot be encoded: nothing was sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// No IP address of the peer is known.
    #[error("no ip address of {0:.8} is known")]
    NoAddress(NodeId),
    /// No connection could be had.
    #[error("{0:.8}: {1}")]
    Dial(NodeId, #[source] AttemptError),
    /// The connection was lost; the peer may have taken the message.
    #[error("{0:.8}: {1}")]
    Lost(NodeId, #[source] Lost),
    /// No reply came in time; the peer may have taken the message.
    #[error("{0:.8} did not answer in time")]
    Timeout(NodeId),
    /// The peer did not take the record.
    #[error("{0:.8} did not take the record: {1:?}")]
    Refused(NodeId, Status),
    /// The peer has not run the call, or its handler has failed.
    #[error("{0:.8} has no result: {1:?}")]
    Failed(NodeId, CallStatus),
    /// The peer abandoned the stream, or answered with something that is no answer.
    #[error("{0:.8} gave no answer")]
    NoAnswer(NodeId),
    /// The client was dropped.
    #[error("the client is gone")]
    Shutdown,
}

impl MessageError {
    /// Whether something did not come in time.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::Timeout(_)
                | Self::Lost(_, Lost::TimedOut)
                | Self::Dial(_, AttemptError::Lost(Lost::TimedOut))
        )
    }
}
