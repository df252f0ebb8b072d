//! One call to one provider.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::error::{CallError, Fault};
use super::known::Known;
use super::report::{Attempt, Path};
use super::{RpcCounts, RpcService};
use crate::id::NodeId;
use crate::pool::{AcquireError, LANE_FRAME_MAX, Lease, RequestError};
use crate::rpc::standing::{Begun, Ended};
use crate::runtime;
use crate::service::path::Access;
use crate::service::request::{request, request_alone};
use crate::wire::{CALL_OVERHEAD_MAX, CAST, Call, Class, Kind, Reply, SERVICE_MAX};

/// What is asked of each provider.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) name: Arc<str>,
    pub(super) args: Bytes,
    pub(super) cast: bool,
    /// Whether it goes on a stream of its own, for a large result.
    pub(super) alone: bool,
    pub(super) deadline: Instant,
}

/// Bytes of the frame of a call, at most.
pub(super) fn size_of(service: &str, args: usize) -> usize {
    CALL_OVERHEAD_MAX - SERVICE_MAX + service.len() + args
}

/// What the body of a REPLY of `provider` says.
fn result_of(provider: NodeId, body: &Bytes) -> Result<Bytes, CallError> {
    let reply = Reply::decode(body).map_err(|_| CallError::Protocol { provider })?;
    match Fault::of_reply(&reply) {
        Some(fault) => Err(CallError::of_fault(provider, fault)),
        None => Ok(body.slice_ref(reply.result)),
    }
}

/// How long one provider is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// When there must be a way to it.
    pub(super) connected: Instant,
    /// How long it may be silent before it is held to have failed, should the call be dropped.
    pub(super) silent: Option<Duration>,
}

impl Ask {
    /// Bytes of its frame, at most.
    fn size(&self) -> usize {
        size_of(&self.name, self.args.len())
    }

    fn flags(&self) -> u8 {
        if self.cast { CAST } else { 0 }
    }

    /// Appends the frame `id`, about `now`; its size was checked.
    fn encode(&self, now: Instant, id: u64, out: &mut BytesMut) {
        let left = self.deadline.saturating_duration_since(now);
        let timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
        let call = Call { service: &self.name, timeout_ms, args: &self.args };
        let encoded = call.encode(id, self.flags(), out);
        debug_assert_eq!(encoded, Ok(()));
    }
}

/// What became of one attempt.
pub(super) struct Tried {
    pub(super) provider: Arc<Known>,
    pub(super) path: Path,
    pub(super) took: Duration,
    pub(super) connecting: Duration,
    pub(super) result: Result<Bytes, CallError>,
}

impl Tried {
    pub(super) fn as_attempt(&self) -> Attempt {
        Attempt {
            provider: self.provider.id,
            path: self.path,
            took: self.took,
            connecting: self.connecting,
            error: self.result.as_ref().err().cloned(),
        }
    }
}

/// A call that counts as in flight at its provider until it has ended or is dropped.
pub(super) struct InFlight<'a> {
    provider: &'a Known,
    began: Instant,
    begun: Option<Begun>,
    /// How long the provider may take before its silence counts as a failure.
    patience: Option<Duration>,
}

impl<'a> InFlight<'a> {
    fn new(began: Instant, provider: &'a Known, patience: Option<Duration>) -> Self {
        let begun = provider.standing(|standing| standing.begin(began));
        Self { provider, began, begun: Some(begun), patience }
    }

    /// A call that has begun.
    pub(super) fn of(began: Instant, provider: &'a Known, begun: Begun) -> Self {
        Self { provider, began, begun: Some(begun), patience: None }
    }

    pub(super) fn provider(&self) -> &'a Known {
        self.provider
    }

    pub(super) fn end(mut self, now: Instant, ended: Ended) {
        if let Some(begun) = self.begun.take() {
            self.provider.standing(|standing| standing.end(now, begun, ended));
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let Some(begun) = self.begun.take() else { return };
        let now = runtime::now();
        let silent =
            || self.patience.is_some_and(|patience| now.saturating_duration_since(self.began) >= patience);
        let given_up = if silent() { Ended::Failed } else { Ended::Unjudged };
        self.provider.standing(|standing| standing.end(now, begun, given_up));
    }
}

impl RpcService {
    /// Calls `provider` at `now`. Dropped, the call is cancelled there.
    pub(super) async fn attempt(
        self: &Arc<Self>,
        now: Instant,
        provider: Arc<Known>,
        ask: &Ask,
        patience: Patience,
    ) -> Tried {
        let flight = InFlight::new(now, &provider, patience.silent);
        let (mut connected, mut path) = (now, Path::None);
        let result = self.send(provider.id, ask, patience.connected, &mut path, &mut connected).await;
        let ended = runtime::now();
        let took = ended.saturating_duration_since(now);
        let verdict = match &result {
            Ok(_) => Ended::Answered { latency: took },
            Err(error) => error.verdict(took),
        };
        flight.end(ended, verdict);
        let connecting = connected.saturating_duration_since(now);
        Tried { provider, path, took, connecting, result }
    }

    async fn send(
        self: &Arc<Self>,
        provider: NodeId,
        ask: &Ask,
        connect_by: Instant,
        path: &mut Path,
        connected: &mut Instant,
    ) -> Result<Bytes, CallError> {
        let lost = |error| CallError::of_request(provider, error);
        let mut ready = self.pool.resident(&provider);
        let (mut tries, mut too_far) = (0, false);
        let body = loop {
            tries += 1;
            let access = match ready.take() {
                Some(lease) => Access::Direct(lease),
                None => {
                    let access = self.reach(provider, ask, connect_by).await;
                    let access = access
                        .map_err(|error| if too_far { CallError::TooFar { provider } } else { error })?;
                    *connected = runtime::now();
                    access
                }
            };
            let sent = match access {
                Access::Direct(lease) => {
                    *path = Path::Direct;
                    direct(&lease, *connected, ask).await
                }
                Access::Routed => {
                    *path = Path::Routed { hops: 0 };
                    self.routed(provider, ask, path).await
                }
            };
            match sent {
                // Another connection of the pair has won, or the route has failed and the direct way is due.
                Err(RequestError::NotSent | RequestError::Unreachable) if tries < TRIES => {}
                Err(RequestError::TooFar) if tries < TRIES => too_far = true,
                Err(error) => return Err(lost(error)),
                Ok(body) => break body,
            }
        };
        result_of(provider, &body)
    }

    /// A way to `provider`, who is searched for if nobody has said where it listens.
    async fn reach(self: &Arc<Self>, provider: NodeId, ask: &Ask, by: Instant) -> Result<Access, CallError> {
        if self.pool.is_stranger(&provider) && !self.path.has_route(&provider) {
            let search = self.dht.lookup(provider.to_key(), by);
            let _ = tokio::time::timeout_at(by.into(), search).await;
        }
        let reached = self.path.reach(&provider, ask.size(), by).await;
        reached.map_err(|error| match error {
            AcquireError::Shutdown => CallError::Shutdown,
            AcquireError::Timeout if by >= ask.deadline => {
                CallError::Timeout { provider: Some(provider), maybe_executed: false }
            }
            error => CallError::Unreachable { provider, error },
        })
    }

    async fn routed(&self, provider: NodeId, ask: &Ask, path: &mut Path) -> Result<Bytes, RequestError> {
        RpcCounts::add(&self.counts.routed);
        let mut frame = BytesMut::new();
        ask.encode(runtime::now(), 0, &mut frame);
        let answer = self.path.routed(&provider, &frame, ask.deadline).await?;
        *path = Path::Routed { hops: answer.hops };
        match Kind::from_u8(answer.header.kind) {
            Some(Kind::Reply) => Ok(answer.body),
            Some(Kind::Unsupported) => Err(RequestError::Unsupported),
            Some(Kind::Failed) => Err(RequestError::Abandoned),
            _ => Err(RequestError::Malformed),
        }
    }
}

/// Connections and routes that one attempt may try.
const TRIES: u32 = 3;

async fn direct(lease: &Lease, now: Instant, ask: &Ask) -> Result<Bytes, RequestError> {
    let (size, deadline) = (ask.size(), ask.deadline);
    if ask.alone || size > LANE_FRAME_MAX {
        let ask = ask.clone();
        return request_alone(lease, deadline, Kind::Reply, move |id, out| ask.encode(now, id, out)).await;
    }
    let encode = |id, out: &mut BytesMut| ask.encode(now, id, out);
    request(lease, Class::Request, size, deadline, Kind::Reply, encode).await
}
