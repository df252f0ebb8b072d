//! Drives the iterative search of [`crate::dht::lookup`] over the connections of the pool.
//!
//! A peer with a warm connection is asked at once, without a task of its own. Whoever was only heard of is
//! connected to first; where it listens is read again out of the answers that told of it, so that nothing
//! is parsed or remembered for the many that are never asked. A lookup that looks for a value sends
//! FIND_VALUE before FIND_NODE to the same peer, in one go, and knows the first answer before the second.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::find_op::Answers;
use super::lookup_op::{Answer, LookupOp, NODES, Reply, VALUES};
use super::part::CONNECTIONS_TRIED;
use super::{DhtService, lock};
use crate::addr::Endpoint;
use crate::dht::lookup::{ALPHA_MAX, Lookup, LookupConfig, Outcome, Step};
use crate::dht::rtt::Timing;
use crate::id::{Key, NodeId};
use crate::pool::{Outcome as Ended, Peer, Promise, Refusal, RequestError, Sink, Tag, deliver};
use crate::runtime;
use crate::service::path::{Access, Answer as Routed};
use crate::wire::{self, CONTACTS_MAX, Class, FindBatch, FindNode, HEADER_LEN, RecordKind};

/// Bytes of a FIND_NODE frame, and of a FIND_VALUE for one key, at most.
pub(super) const QUERY_BYTES: usize = HEADER_LEN + 80;

/// What all lookups of a node have done.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LookupTally {
    pub(crate) lookups: u64,
    pub(crate) queries: u64,
    pub(crate) failed: u64,
    pub(crate) hops: u64,
}

/// What every peer of a lookup is asked.
#[derive(Clone, Copy)]
struct Query {
    target: Key,
    count: u8,
    /// Whether records under the target are asked for as well, and of which kind.
    value: Option<RecordKind>,
    deadline: Instant,
}

struct Asked {
    node: NodeId,
    at: Instant,
    warm: bool,
}

/// A lookup under way.
struct Search<'a> {
    service: &'a Arc<DhtService>,
    lookup: Lookup,
    query: Query,
    deadline: Instant,
    op: Arc<LookupOp>,
    /// The same.
    sink: Arc<dyn Sink>,
    asked: Vec<Asked>,
    /// The answers so far, for the endpoints in them.
    told: Vec<Bytes>,
    /// How long answers took, and whether over a warm connection.
    samples: SmallVec<[(Duration, bool); 32]>,
    cold: Timing,
}

impl DhtService {
    /// Searches the network for the k nodes closest to `target`. Cancel safe.
    pub(crate) async fn lookup(self: &Arc<Self>, target: Key, deadline: Instant) -> Outcome {
        let search = Search::new(self, target, deadline, None, &[]);
        search.run(|_, _| false).await
    }

    /// Searches for the nodes closest to this one, through `peers` as well, who may be no members yet.
    pub(super) async fn look_around(self: &Arc<Self>, peers: &[NodeId], deadline: Instant) -> Outcome {
        let search = Search::new(self, self.local.to_key(), deadline, None, peers);
        search.run(|_, _| false).await
    }

    /// Searches once more for a target, beginning at what another search has `found` as well.
    pub(super) async fn look_again(
        self: &Arc<Self>,
        target: Key,
        found: &[NodeId],
        deadline: Instant,
    ) -> Outcome {
        Search::new(self, target, deadline, None, found).run(|_, _| false).await
    }

    /// As [`lookup`](Self::lookup), and asks every peer on the way for the records of one kind under the
    /// key; ends when `found` says so of what one of them holds.
    pub(super) async fn search(
        self: &Arc<Self>,
        target: Key,
        deadline: Instant,
        kind: RecordKind,
        found: impl FnMut(NodeId, Result<Answers, RequestError>) -> bool,
    ) -> Outcome {
        Search::new(self, target, deadline, Some(kind), &[]).run(found).await
    }

    /// How long a peer on a warm connection has before somebody else is asked as well.
    pub(super) fn slow(&self) -> Duration {
        lock(&self.patience).warm().slow
    }

    /// What the lookups so far have done.
    pub(crate) fn lookups(&self) -> LookupTally {
        *lock(&self.lookups)
    }

    /// Asks over a connection that has to be made, or has no room yet, or by a route. Without an answer the
    /// connection will bring it.
    async fn ask_when_reached(
        &self,
        node: &NodeId,
        query: &Query,
        sink: &Arc<dyn Sink>,
        peer: u16,
    ) -> Result<Option<Routed>, RequestError> {
        for _ in 0..CONNECTIONS_TRIED {
            let access = self.path.reach(node, 2 * QUERY_BYTES, query.deadline).await;
            let lease = match access.map_err(|_| RequestError::Unreachable)? {
                Access::Direct(lease) => lease,
                Access::Routed => return self.ask_by_route(node, query, sink, peer).await.map(Some),
            };
            loop {
                match query.push(&lease, sink, peer) {
                    Ok(()) => return Ok(None),
                    Err(Refusal::NoRoom) => {
                        match lease.room_for(Class::Request, QUERY_BYTES, query.deadline).await {
                            Ok(()) => {}
                            Err(RequestError::NotSent) => break,
                            Err(error) => return Err(error),
                        }
                    }
                    Err(Refusal::Closed) => break,
                    Err(Refusal::TooLarge) => return Err(RequestError::TooLarge),
                }
            }
        }
        Err(RequestError::NotSent)
    }

    async fn ask_by_route(
        &self,
        node: &NodeId,
        query: &Query,
        sink: &Arc<dyn Sink>,
        peer: u16,
    ) -> Result<Routed, RequestError> {
        let mut frame = BytesMut::with_capacity(QUERY_BYTES);
        if let Some(kind) = query.value {
            let promise = Promise::new(Arc::clone(sink), Tag { peer, first: VALUES, count: 1 });
            query.encode_value(kind, 0, &mut frame);
            match self.path.routed(node, &frame, query.deadline).await {
                Ok(answer) => deliver(promise, 1, &answer.header, &answer.body),
                Err(error) => promise.settle(Ended::Failed(error)),
            }
            frame.clear();
        }
        query.encode_nodes(0, &mut frame);
        self.path.routed(node, &frame, query.deadline).await
    }
}

impl Query {
    /// Queues the query. A refusal may come after half of it: it may be queued again.
    fn push(&self, to: &Arc<Peer>, sink: &Arc<dyn Sink>, peer: u16) -> Result<(), Refusal> {
        let waiting = |first| (Arc::clone(sink), Tag { peer, first, count: 1 });
        if let Some(kind) = self.value {
            let encode = |id, out: &mut BytesMut| self.encode_value(kind, id, out);
            to.try_request(Class::Request, QUERY_BYTES, self.deadline, waiting(VALUES), encode)?;
        }
        let encode = |id, out: &mut BytesMut| self.encode_nodes(id, out);
        to.try_request(Class::Request, QUERY_BYTES, self.deadline, waiting(NODES), encode).map(drop)
    }

    // Both are far below the limits of a frame.

    fn encode_value(&self, kind: RecordKind, id: u64, out: &mut BytesMut) {
        let _ = FindBatch::open(id, out).push(&self.target, kind, None, out);
    }

    fn encode_nodes(&self, id: u64, out: &mut BytesMut) {
        let _ = FindNode { target: self.target, count: self.count }.encode(id, out);
    }
}

impl<'a> Search<'a> {
    fn new(
        service: &'a Arc<DhtService>,
        target: Key,
        deadline: Instant,
        value: Option<RecordKind>,
        peers: &[NodeId],
    ) -> Self {
        let (now, k) = (runtime::now(), service.config.k);
        let mut seeds = lock(&service.members).search_from(now, &target);
        seeds.extend_from_slice(peers);
        if seeds.is_empty() {
            // A peer is resident a moment before it is a member.
            seeds.extend(service.pool.residents().into_iter().take(k));
        }
        let op = Arc::new(LookupOp::default());
        let (warm, cold) = {
            let patience = lock(&service.patience);
            (patience.warm(), patience.cold())
        };
        let config = LookupConfig::new(k, service.config.alpha);
        // Answers that come too late for their hop are still welcome.
        let until = deadline.min(runtime::after(service.config.request_timeout));
        let count = u8::try_from(k.min(CONTACTS_MAX)).unwrap_or(u8::MAX);
        Self {
            service,
            lookup: Lookup::new(now, service.local, target, config, warm, deadline, seeds),
            query: Query { target, count, value, deadline: until },
            deadline,
            sink: Arc::<LookupOp>::clone(&op),
            op,
            asked: Vec::with_capacity(k + k / 2),
            told: Vec::with_capacity(k + k / 2),
            samples: SmallVec::new(),
            cold,
        }
    }

    /// Carries the search out. `found` is told what a peer holds, if that was asked for, and says whether
    /// the search is over.
    async fn run(mut self, mut found: impl FnMut(NodeId, Result<Answers, RequestError>) -> bool) -> Outcome {
        let op = Arc::clone(&self.op);
        let mut answers = Vec::new();
        // Set anew only when it is too late or has gone off: the usual lookup ends before it is due.
        let mut alarm = self.deadline;
        let mut timer = pin!(tokio::time::sleep_until(alarm.into()));
        while let Some(until) = self.advance(runtime::now()) {
            if until < alarm || timer.is_elapsed() {
                alarm = until;
                timer.as_mut().reset(alarm.into());
            }
            tokio::select! {
                biased;
                () = op.next(&mut answers) => {}
                () = &mut timer => {}
            }
            let now = runtime::now();
            answers.drain(..).for_each(|answer| self.take(now, answer, &mut found));
        }
        self.end()
    }

    /// Asks whom there is to ask; when something is due, or nothing if the search is over.
    fn advance(&mut self, now: Instant) -> Option<Instant> {
        let first = self.asked.len();
        let mut nodes: SmallVec<[NodeId; ALPHA_MAX]> = SmallVec::new();
        let until = loop {
            match self.lookup.step(now) {
                Step::Ask { node, .. } => nodes.push(node),
                Step::Wait { until } => break Some(until),
                Step::Done => break None,
            }
        };
        if nodes.is_empty() {
            return until;
        }
        self.query.deadline = runtime::after(self.service.config.request_timeout);
        let leases = self.service.pool.resident_all(&nodes);
        for ((node, connected), peer) in nodes.into_iter().zip(leases.peers()).zip(first..) {
            let peer = u16::try_from(peer).unwrap_or(u16::MAX);
            let warm = connected.is_some();
            self.asked.push(Asked { node, at: now, warm });
            if !warm {
                self.lookup.allow(now, &node, self.cold);
            }
            if connected.as_ref().is_none_or(|to| self.query.push(to, &self.sink, peer).is_err()) {
                self.connect(node, peer);
            }
        }
        until
    }

    /// Leaves the question to a task that connects to the peer first, or waits for room.
    fn connect(&self, node: NodeId, peer: u16) {
        let promise = Promise::new(Arc::clone(&self.sink), Tag { peer, first: NODES, count: 1 });
        let Ok(permit) = Arc::clone(&self.service.deferred).try_acquire_owned() else {
            return promise.settle(Ended::Failed(RequestError::Backpressure));
        };
        self.hear(&node);
        let (service, sink, query) = (Arc::clone(self.service), Arc::clone(&self.sink), self.query);
        self.service.tasks.spawn(async move {
            match service.ask_when_reached(&node, &query, &sink, peer).await {
                Ok(None) => promise.hand_over(),
                Ok(Some(answer)) => deliver(promise, 1, &answer.header, &answer.body),
                Err(error) => promise.settle(Ended::Failed(error)),
            }
            drop(permit);
        });
    }

    /// Tells the pool where the answers say that a peer listens.
    fn hear(&self, node: &NodeId) {
        for body in &self.told {
            let contacts = wire::decode_find_node_reply(body).unwrap_or_default();
            if let Some(contact) = contacts.into_iter().find(|contact| contact.id == *node) {
                let endpoints = contact.endpoints.filter_map(|text| text.parse().ok());
                self.service.pool.hear(*node, endpoints.filter(is_dialable));
            }
        }
    }

    fn take(
        &mut self,
        now: Instant,
        answer: Answer,
        found: &mut impl FnMut(NodeId, Result<Answers, RequestError>) -> bool,
    ) {
        let Some(Asked { node, at, warm }) = self.asked.get(usize::from(answer.peer)) else { return };
        match answer.reply {
            Reply::Nodes(body) => match wire::decode_find_node_reply(&body) {
                Ok(contacts) => {
                    self.samples.push((now.saturating_duration_since(*at), *warm));
                    self.lookup.answered(node, contacts.iter().map(|contact| contact.id));
                    drop(contacts);
                    self.told.push(body);
                }
                Err(_) => self.lookup.failed(node),
            },
            Reply::Failed => self.lookup.failed(node),
            Reply::Values(values) => {
                if found(*node, values) {
                    self.lookup.finish();
                }
            }
        }
    }

    fn end(self) -> Outcome {
        let outcome = self.lookup.outcome();
        let mut patience = lock(&self.service.patience);
        if self.samples.is_empty() && outcome.failed > 0 {
            patience.back_off();
        }
        for (sample, warm) in self.samples {
            patience.observe(sample, warm);
        }
        drop(patience);
        self.service.searched(&outcome.target);
        let mut tally = lock(&self.service.lookups);
        tally.lookups += 1;
        tally.queries += u64::from(outcome.queries);
        tally.failed += u64::from(outcome.failed);
        tally.hops += u64::from(outcome.hops);
        outcome
    }
}

/// Whether one host could listen there.
fn is_dialable(endpoint: &Endpoint) -> bool {
    let multicast = endpoint.socket_addr().is_some_and(|addr| addr.ip().to_canonical().is_multicast());
    !endpoint.is_unspecified() && !multicast
}
