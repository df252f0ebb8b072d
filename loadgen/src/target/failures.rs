//! The errors of the library by kind.

use foveola::{
    AcquireError, AttemptError, CallError, DialError, FindError, Lost, QueryError, Receipt, RequestError,
    StoreError, baseline,
};

use crate::errors::{Failure, Kind};

pub fn store(error: &StoreError) -> Failure {
    let kind = match error {
        error if error.is_timeout() => Kind::Timeout,
        StoreError::NotEnoughReplicas(_) | StoreError::NotAcknowledged(_) => Kind::NotEnoughReplicas,
        StoreError::StorageFull(_) | StoreError::LogFull(_) => Kind::StorageFull,
        StoreError::Shutdown => Kind::Cancelled,
        _ => Kind::Remote,
    };
    Failure::new(kind, error)
}

/// A record of a batch that too few replicas acknowledged.
pub fn unmet(receipt: &Receipt) -> Failure {
    let (failed, unknown) = (receipt.failed().count(), receipt.unknown().count());
    let kind = if unknown > 0 { Kind::Timeout } else { Kind::NotEnoughReplicas };
    let (acks, required) = (receipt.acks(), receipt.required());
    let message =
        format!("{acks} of {required} replicas acknowledged, {failed} did not take it, {unknown} unknown");
    let message = match receipt.superseded() {
        Some(_) => message + ", overtaken by a later store of the key",
        None => message,
    };
    Failure::new(kind, message)
}

pub fn find(error: &FindError) -> Failure {
    let kind = match error {
        FindError::NoPeers => Kind::Connect,
        FindError::Incomplete { last, .. } => request_kind(*last),
        FindError::Overloaded => Kind::Timeout,
        FindError::Shutdown => Kind::Cancelled,
        _ => Kind::Remote,
    };
    Failure::new(kind, error)
}

pub fn call(error: &CallError) -> Failure {
    let kind = match error {
        CallError::Timeout { .. } => Kind::Timeout,
        CallError::NoProvider => Kind::NoProvider,
        CallError::Discovery(_) => Kind::Discovery,
        CallError::NoService { .. } => Kind::NoService,
        CallError::Overloaded { .. } => Kind::Overloaded,
        CallError::Refused { .. } => Kind::Refused,
        CallError::Unreachable { .. } => Kind::Connect,
        CallError::Backpressure { .. } => Kind::Backpressure,
        CallError::PeerLost { .. } => Kind::Reset,
        CallError::Handler { .. } | CallError::Panicked { .. } => Kind::Handler,
        CallError::Shutdown => Kind::Cancelled,
        _ => Kind::Remote,
    };
    Failure::new(kind, error)
}

pub fn query(error: &QueryError) -> Failure {
    let kind = match error {
        QueryError::Request(error) => request_kind(*error),
        QueryError::Acquire(AcquireError::Timeout) => Kind::Timeout,
        QueryError::Acquire(AcquireError::PoolExhausted) => Kind::Exhausted,
        QueryError::Acquire(AcquireError::Shutdown) => Kind::Cancelled,
        QueryError::Acquire(AcquireError::Dial(DialError::Timeout)) => Kind::Timeout,
        QueryError::Acquire(AcquireError::Dial(DialError::Attempt(error))) => attempt_kind(*error),
        QueryError::Acquire(_) => Kind::Connect,
        _ => Kind::Remote,
    };
    Failure::new(kind, error)
}

pub fn baseline(error: &baseline::MessageError) -> Failure {
    use baseline::MessageError as E;
    let kind = match error {
        error if error.is_timeout() => Kind::Timeout,
        E::NoReplicas => Kind::NotEnoughReplicas,
        E::NoAddress(_) => Kind::Connect,
        E::Dial(_, error) => attempt_kind(*error),
        E::Lost(..) | E::NoAnswer(_) => Kind::Reset,
        E::Refused(_, foveola::wire::Status::StorageFull) => Kind::StorageFull,
        E::Shutdown => Kind::Cancelled,
        _ => Kind::Remote,
    };
    Failure::new(kind, error)
}

const fn request_kind(error: RequestError) -> Kind {
    match error {
        RequestError::Timeout => Kind::Timeout,
        RequestError::NotSent | RequestError::Lost | RequestError::GoingAway => Kind::Reset,
        RequestError::Backpressure => Kind::Backpressure,
        RequestError::Unreachable | RequestError::TooFar => Kind::Connect,
        RequestError::Shutdown => Kind::Cancelled,
        _ => Kind::Remote,
    }
}

const fn attempt_kind(error: AttemptError) -> Kind {
    match error {
        AttemptError::Lost(Lost::TimedOut) => Kind::Timeout,
        AttemptError::Lost(Lost::Refused(_) | Lost::RefusedByPeer(_)) => Kind::Tls,
        _ => Kind::Connect,
    }
}
