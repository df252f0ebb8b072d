//! What can go wrong with a call, and whether it may have run all the same.

use std::fmt;

use crate::id::NodeId;
use crate::pool::{AcquireError, RequestError};
use crate::rpc::attempts::Failure;
use crate::rpc::name::NameError;
use crate::rpc::standing::Ended;
use crate::service::dht::FindError;
use crate::wire::{CallStatus, Reply, ValueError};

/// The longest text of a handler's error that is sent, in bytes.
pub(super) const MESSAGE_MAX: usize = 1_024;

/// What a handler says has gone wrong. Made from any error, or from a text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerError {
    /// A number for the caller, of the service's choice; 0 by default.
    pub code: u32,
    /// A text for people. Its first 1,024 bytes are sent.
    pub message: String,
}

impl HandlerError {
    /// An error with this text.
    pub fn new(message: impl Into<String>) -> Self {
        Self { code: 0, message: message.into() }
    }

    /// Gives it a number.
    pub fn code(mut self, code: u32) -> Self {
        self.code = code;
        self
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may be a peer's: nothing of it steers a terminal.
        write!(f, "{}", self.message.escape_debug())?;
        if self.code == 0 { Ok(()) } else { write!(f, " (code {})", self.code) }
    }
}

impl<E: std::error::Error> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

/// Why a handler, or what stands before it, has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    Handler(HandlerError),
    NoService,
    Overloaded,
    Late,
    Panicked,
    Refused,
    BadArguments(String),
    TooLarge,
}

impl Fault {
    /// Status, code and text of the reply.
    pub(super) fn as_reply(&self) -> Reply<'_> {
        let of = |status| Reply { status, code: 0, result: b"" };
        match self {
            Self::Handler(HandlerError { code, message }) => {
                Reply { status: CallStatus::Failed, code: *code, result: cut(message).as_bytes() }
            }
            Self::BadArguments(message) => {
                Reply { status: CallStatus::BadArguments, code: 0, result: cut(message).as_bytes() }
            }
            Self::NoService => of(CallStatus::NoService),
            Self::Overloaded => of(CallStatus::Overloaded),
            Self::Late => of(CallStatus::Late),
            Self::Panicked => of(CallStatus::Panicked),
            Self::Refused => of(CallStatus::Refused),
            Self::TooLarge => of(CallStatus::TooLarge),
        }
    }

    /// What a reply without a result says.
    pub(super) fn of_reply(reply: &Reply<'_>) -> Option<Self> {
        let text =
            || String::from_utf8_lossy(&reply.result[..reply.result.len().min(MESSAGE_MAX)]).into_owned();
        Some(match reply.status {
            CallStatus::Done => return None,
            CallStatus::Failed => Self::Handler(HandlerError { code: reply.code, message: text() }),
            CallStatus::NoService => Self::NoService,
            CallStatus::Overloaded => Self::Overloaded,
            CallStatus::Late => Self::Late,
            CallStatus::Panicked => Self::Panicked,
            CallStatus::Refused => Self::Refused,
            CallStatus::BadArguments => Self::BadArguments(text()),
            CallStatus::TooLarge => Self::TooLarge,
        })
    }
}

/// The longest beginning of `text` that may be sent.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MESSAGE_MAX)]
}

/// Why a service cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AdvertiseRefusal {
    Taken,
    Full,
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// This cannot be the name of a service: nothing was sent.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Nobody offers the service, as far as the DHT knows.
    #[error("nobody offers the service")]
    NoProvider,
    /// The DHT could not be asked who offers the service, and nothing usable was remembered.
    #[error("who offers the service could not be found out: {0}")]
    Discovery(FindError),
    /// The provider offers no such service (any more): nothing was run.
    #[error("{provider} does not offer the service")]
    NoService {
        /// Who was asked.
        provider: NodeId,
    },
    /// The provider runs as many handlers as it may: nothing was run.
    #[error("{provider} is overloaded")]
    Overloaded {
        /// Who was asked.
        provider: NodeId,
    },
    /// The provider takes no calls, because it shuts down: nothing was run.
    #[error("{provider} takes no calls")]
    Refused {
        /// Who was asked.
        provider: NodeId,
    },
    /// The provider could not be reached: nothing was run.
    #[error("{provider} could not be reached: {error}")]
    Unreachable {
        /// Who was to be asked.
        provider: NodeId,
        /// Why it could not.
        error: AcquireError,
    },
    /// The provider could not be reached directly, and every way to it is over more nodes than may pass a
    /// call on ([`HOPS_MAX`](crate::wire::HOPS_MAX)): nothing was run.
    #[error("every way to {provider} is too long")]
    TooFar {
        /// Who was to be asked.
        provider: NodeId,
    },
    /// The queue to the provider is full: nothing was run.
    #[error("the queue to {provider} is full")]
    Backpressure {
        /// Who was to be asked.
        provider: NodeId,
    },
    /// The connection to the provider, or the route to it, was lost before its answer came.
    #[error("{provider} was lost before it answered; the call {}", ran(*.maybe_executed))]
    PeerLost {
        /// Who was asked.
        provider: NodeId,
        /// Whether the handler may have run.
        maybe_executed: bool,
    },
    /// There was no answer in time.
    #[error("no answer in time; the call {}", ran(*.maybe_executed))]
    Timeout {
        /// Who was asked last, if anybody was.
        provider: Option<NodeId>,
        /// Whether the handler may have run.
        maybe_executed: bool,
    },
    /// The handler has answered with an error.
    #[error("the handler failed: {error}")]
    Handler {
        /// Whose handler it was.
        provider: NodeId,
        /// What it said.
        error: HandlerError,
    },
    /// The handler has panicked.
    #[error("the handler at {provider} has panicked")]
    Panicked {
        /// Whose handler it was.
        provider: NodeId,
    },
    /// The service does not take these arguments: nothing was run.
    #[error("the service does not take these arguments: {}", .message.escape_debug())]
    BadArguments {
        /// Who was asked.
        provider: NodeId,
        /// What is wrong with them.
        message: String,
    },
    /// The arguments are larger than a call may be: nothing was sent.
    #[error("the arguments are too large")]
    TooLarge,
    /// The handler has run, but its result is larger than its reply could be.
    #[error("the result of {provider} is too large for its reply")]
    ResultTooLarge {
        /// Whose handler it was.
        provider: NodeId,
    },
    /// The arguments cannot be encoded: nothing was sent.
    #[error("the arguments cannot be encoded: {0}")]
    Encode(ValueError),
    /// The handler has run, but its result is not of the type that is expected.
    #[error("the result is not what is expected: {0}")]
    Decode(ValueError),
    /// The provider answered with something that is no answer; the handler may have run.
    #[error("{provider} does not keep to the protocol")]
    Protocol {
        /// Who was asked.
        provider: NodeId,
    },
    /// This node is shutting down: nothing was sent.
    #[error("this node is shutting down")]
    Shutdown,
}

fn ran(maybe: bool) -> &'static str {
    if maybe { "may have run" } else { "was not run" }
}

impl CallError {
    /// Whether the handler may have run, to its end or in part.
    pub fn maybe_executed(&self) -> bool {
        match self {
            Self::PeerLost { maybe_executed, .. } | Self::Timeout { maybe_executed, .. } => *maybe_executed,
            Self::Handler { .. }
            | Self::Panicked { .. }
            | Self::ResultTooLarge { .. }
            | Self::Decode(_)
            | Self::Protocol { .. } => true,
            _ => false,
        }
    }

    /// Whether the same call may succeed later. Whether it would then run a second time is said by
    /// [`maybe_executed`](Self::maybe_executed).
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::NoProvider
                | Self::Discovery(_)
                | Self::NoService { .. }
                | Self::Overloaded { .. }
                | Self::Refused { .. }
                | Self::Unreachable { .. }
                | Self::TooFar { .. }
                | Self::Backpressure { .. }
                | Self::PeerLost { .. }
                | Self::Timeout { .. }
        )
    }

    /// The provider that was asked last.
    pub fn provider(&self) -> Option<NodeId> {
        match self {
            Self::NoService { provider }
            | Self::Overloaded { provider }
            | Self::Refused { provider }
            | Self::Unreachable { provider, .. }
            | Self::TooFar { provider }
            | Self::Backpressure { provider }
            | Self::PeerLost { provider, .. }
            | Self::Handler { provider, .. }
            | Self::Panicked { provider }
            | Self::BadArguments { provider, .. }
            | Self::ResultTooLarge { provider }
            | Self::Protocol { provider } => Some(*provider),
            Self::Timeout { provider, .. } => *provider,
            _ => None,
        }
    }

    pub(super) fn of_fault(provider: NodeId, fault: Fault) -> Self {
        match fault {
            Fault::Handler(error) => Self::Handler { provider, error },
            Fault::NoService => Self::NoService { provider },
            Fault::Overloaded => Self::Overloaded { provider },
            Fault::Late => Self::Timeout { provider: Some(provider), maybe_executed: true },
            Fault::Panicked => Self::Panicked { provider },
            Fault::Refused => Self::Refused { provider },
            Fault::BadArguments(message) => Self::BadArguments { provider, message },
            Fault::TooLarge => Self::ResultTooLarge { provider },
        }
    }

    pub(super) fn of_request(provider: NodeId, error: RequestError) -> Self {
        let maybe_executed = error.maybe_executed();
        match error {
            RequestError::Timeout => Self::Timeout { provider: Some(provider), maybe_executed },
            RequestError::Backpressure => Self::Backpressure { provider },
            RequestError::TooFar => Self::TooFar { provider },
            RequestError::GoingAway => Self::Refused { provider },
            RequestError::Unsupported => Self::NoService { provider },
            RequestError::Malformed => Self::Protocol { provider },
            RequestError::TooLarge => Self::TooLarge,
            RequestError::Shutdown => Self::Shutdown,
            _ => Self::PeerLost { provider, maybe_executed },
        }
    }

    /// What it means for the same call to another provider.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Self::Timeout { maybe_executed: true, .. } | Self::PeerLost { maybe_executed: true, .. } => {
                Failure::MaybeExecuted
            }
            Self::Protocol { .. } => Failure::MaybeExecuted,
            Self::Overloaded { .. } | Self::Backpressure { .. } => Failure::Overloaded,
            Self::NoService { .. }
            | Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::TooFar { .. }
            | Self::PeerLost { .. }
            | Self::Timeout { .. } => Failure::NotExecuted,
            _ => Failure::Final,
        }
    }

    /// What it says about the provider.
    pub(super) fn verdict(&self, latency: std::time::Duration) -> Ended {
        match self {
            Self::Handler { .. }
            | Self::Panicked { .. }
            | Self::BadArguments { .. }
            | Self::ResultTooLarge { .. } => Ended::Answered { latency },
            Self::NoService { .. } | Self::TooLarge | Self::Shutdown => Ended::Unjudged,
            _ => Ended::Failed,
        }
    }
}
