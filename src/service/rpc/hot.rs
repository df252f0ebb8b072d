//! The short way of a call: its provider is remembered and connected, and what remains is a request.
//!
//! Whatever else a call may need (finding providers, dialing, going to another one) is in [`call`](super::call)
//! and boxed, so that the state of a call that needs none of it is small.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::attempt::{InFlight, Tried, size_of};
use super::call::{CallOptions, Start};
use super::directory::Service;
use super::error::{CallError, Fault};
use super::known::Known;
use super::report::{CallReport, Path};
use super::{RpcCounts, RpcService};
use crate::pool::{LANE_FRAME_MAX, Lease, RequestError};
use crate::rpc::config::CALL_TIMEOUT_MAX;
use crate::rpc::select::choose;
use crate::rpc::standing::{Begun, Ended};
use crate::runtime;
use crate::service::request::{Read, request_for};
use crate::wire::{CAST, Call, Class, Kind, Reply};

impl RpcService {
    /// Calls `service` with `args`.
    ///
    /// Dropped, the handler is told to stop.
    pub(crate) async fn call(
        self: &Arc<Self>,
        service: &Arc<Service>,
        args: Bytes,
        options: &CallOptions,
    ) -> Result<Bytes, CallError> {
        RpcCounts::add(&self.counts.calls);
        let now = runtime::now();
        let mut turn = None;
        let mut first = None;
        if let Some((provider, begun, lease)) = self.ready(service, now, args.len(), options, &mut turn) {
            let flight = InFlight::of(now, &provider, begun);
            let result = self.call_ready(flight, &lease, service, &args, now, options).await;
            drop(lease);
            first = match result {
                Ok(result) => return Ok(result),
                Err(error) => error.map(|error| {
                    let took = runtime::now().saturating_duration_since(now);
                    Tried::direct(provider, took, Err(error))
                }),
            };
        }
        let start = Start { now, turn, first };
        let result = Box::pin(self.call_whole(service, args, options, start, None)).await;
        if result.is_err() {
            RpcCounts::add(&self.counts.failed);
        }
        result
    }

    /// As [`call`](Self::call), with what it went through.
    pub(crate) async fn call_reported(
        self: &Arc<Self>,
        service: &Arc<Service>,
        args: Bytes,
        options: &CallOptions,
    ) -> (Result<Bytes, CallError>, CallReport) {
        RpcCounts::add(&self.counts.calls);
        let mut report = CallReport::new();
        let now = runtime::now();
        let start = Start { now, turn: None, first: None };
        let result = self.call_whole(service, args, options, start, Some(&mut report)).await;
        report.total = runtime::now().saturating_duration_since(now);
        if result.is_err() {
            RpcCounts::add(&self.counts.failed);
        }
        (result, report)
    }

    /// The provider of choice and a connection to it, if nothing has to be waited for, and nothing to be done
    /// but to ask it.
    fn ready(
        self: &Arc<Self>,
        service: &Arc<Service>,
        now: Instant,
        args: usize,
        options: &CallOptions,
        turn: &mut Option<u64>,
    ) -> Option<(Arc<Known>, Begun, Arc<Lease>)> {
        let fits = size_of(&service.name, args) <= LANE_FRAME_MAX && !options.alone;
        if self.is_closing() || !fits || options.node.is_some() {
            return None;
        }
        let (provider, due) = service.pick(self, now, |providers| {
            let weight = |i: usize| providers[i].standing(|standing| standing.weight(now));
            match providers {
                [_] => weight(0).map(|_| 0),
                _ if options.idempotent => None,
                _ => {
                    let turn = *turn.insert(service.turn());
                    choose(options.selection, turn, self.draw(), providers.len(), weight)
                }
            }
        })?;
        if due {
            drop(self.discover_later(service));
        }
        let (begun, lease) = provider.begin(now, &self.pool)?;
        Some((provider, begun, lease))
    }

    /// The error is missing if nothing was sent because the connection takes nothing more.
    async fn call_ready(
        &self,
        flight: InFlight<'_>,
        lease: &Lease,
        service: &Service,
        args: &[u8],
        now: Instant,
        options: &CallOptions,
    ) -> Result<Bytes, Option<CallError>> {
        let provider = flight.provider();
        let timeout = options.timeout.min(CALL_TIMEOUT_MAX);
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1);
        let flags = if options.cast { CAST } else { 0 };
        let call = Call { service: &service.name, timeout_ms, args };
        let encode = |id, out: &mut BytesMut| {
            let encoded = call.encode(id, flags, out);
            debug_assert_eq!(encoded, Ok(()), "the arguments were measured");
        };
        let size = size_of(&service.name, args.len());
        let reply: (Kind, Read<Answer>) = (Kind::Reply, read);
        let sent = request_for(lease, Class::Request, size, now + timeout, reply, encode).await;
        let result = match sent {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(fault)) => Err(CallError::of_fault(provider.id, *fault)),
            Err(error) => {
                provider.disconnected();
                Err(CallError::of_request(provider.id, error))
            }
        };
        let ended = runtime::now();
        if let Err(CallError::PeerLost { maybe_executed: false, .. }) = result {
            // The connection was replaced: as good as none at hand.
            flight.end(ended, Ended::Unjudged);
            return Err(None);
        }
        let took = ended.saturating_duration_since(now);
        let verdict = match &result {
            Ok(_) => Ended::Answered { latency: took },
            Err(error) => error.verdict(took),
        };
        flight.end(ended, verdict);
        result.map_err(Some)
    }
}

/// What a provider has answered; what is rare is kept small.
type Answer = Result<Bytes, Box<Fault>>;

/// What the body of a REPLY says.
fn read(body: &[u8]) -> Result<Answer, RequestError> {
    let reply = Reply::decode(body).map_err(|_| RequestError::Malformed)?;
    Ok(match Fault::of_reply(&reply) {
        Some(fault) => Err(Box::new(fault)),
        None => Ok(Bytes::copy_from_slice(reply.result)),
    })
}

impl Tried {
    /// An attempt over a connection that was there.
    fn direct(provider: Arc<Known>, took: Duration, result: Result<Bytes, CallError>) -> Self {
        Self { provider, path: Path::Direct, took, connecting: Duration::ZERO, result }
    }
}
