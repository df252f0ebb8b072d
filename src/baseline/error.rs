//! Why the baseline failed, with the peer that it was about.

use crate::id::NodeId;
use crate::transport::tls::TlsError;
use crate::transport::{AttemptError, BindError, Lost};
use crate::wire::{EncodeError, Status};

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

/// Why a record was not stored on every replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The node knows no other node: nothing was sent.
    #[error("no other node is known")]
    NoReplicas,
    /// The record cannot be encoded: nothing was sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// No IP address of the peer is known.
    #[error("no ip address of {0:.8} is known")]
    NoAddress(NodeId),
    /// No connection could be had.
    #[error("{0:.8}: {1}")]
    Dial(NodeId, #[source] AttemptError),
    /// The connection was lost; the peer may hold the record.
    #[error("{0:.8}: {1}")]
    Lost(NodeId, #[source] Lost),
    /// No reply came in time; the peer may hold the record.
    #[error("{0:.8} did not answer in time")]
    Timeout(NodeId),
    /// The peer did not take the record.
    #[error("{0:.8} did not take the record: {1:?}")]
    Refused(NodeId, Status),
    /// The peer abandoned the stream, or answered with something that is no answer.
    #[error("{0:.8} gave no answer to the record")]
    NoAnswer(NodeId),
    /// The client was dropped.
    #[error("the client is gone")]
    Shutdown,
}

impl StoreError {
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
