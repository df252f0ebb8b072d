//! The way to a peer: directly, or through others that pass requests on.
//!
//! The services below ask [`PathService::reach`] how to get to a peer. Direct is tried first and has a
//! head start; when it fails, the same request goes in an envelope ([`PathService::routed`]). What has
//! worked is remembered, and the direct way tried again in the background. What arrives in envelopes,
//! for this node or for others, is handled in [`relay`].

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use tokio::time::timeout_at;

use super::request::request;
use crate::id::{Key, NodeId};
use crate::identity::Identity;
use crate::pool::{AcquireError, Lease, Pool, RequestError};
use crate::route::answers::Answers;
use crate::route::envelope::{self, Request};
use crate::route::numbers::Numbers;
use crate::route::passed::Passed;
use crate::route::relays::{RelayConfig, Relays};
use crate::route::seen::Seen;
use crate::route::strategy::{Choice, Strategies};
use crate::route::way::{Hop, Way};
use crate::runtime::{self, Tasks};
use crate::wire::{
    Class, HEADER_LEN, Header, Kind, ROUTE_OVERHEAD_MAX, ROUTED_BODY_MAX, Route, RouteError, RouteReply,
    Routed,
};

mod relay;

/// How long the direct way is tried before a route is looked for, at most half of the time there is.
/// The dial goes on meanwhile.
const HEAD_START: Duration = Duration::from_millis(500);
/// How long the direct way is tried in the background.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reaches peers, and passes on what others send to theirs.
pub(crate) struct PathService {
    local: NodeId,
    identity: Identity,
    /// The mesh that the node belongs to: the SHA-256 of its name.
    realm: Key,
    pool: Pool,
    tasks: Tasks,
    state: Mutex<State>,
    counts: PathCounts,
}

struct State {
    strategies: Strategies,
    /// The numbers of own envelopes.
    numbers: Numbers,
    /// The envelopes that were for this node.
    seen: Seen,
    /// What came of them.
    answers: Answers<relay::Told>,
    /// Those that were passed on.
    passed: Passed,
    relays: Relays,
}

/// What the path service has done so far.
#[derive(Debug, Default)]
pub(crate) struct PathCounts {
    /// Requests passed on for others.
    pub(crate) relayed: AtomicU64,
    /// Requests for others that were not passed on.
    pub(crate) relay_refused: AtomicU64,
    /// Own requests that took a route.
    pub(crate) routed_sent: AtomicU64,
    /// Requests for this node that came by a route.
    pub(crate) routed_received: AtomicU64,
    /// Times the direct way to a peer with a route was tried in the background.
    pub(crate) direct_probes: AtomicU64,
}

/// How a peer is reached.
#[derive(Debug)]
pub(crate) enum Access {
    /// Over this connection.
    Direct(Lease),
    /// By [`PathService::routed`].
    Routed,
}

/// The reply frame of a routed request, verified to be its destination's.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// How many times the request was passed on, ways that led nowhere included.
    pub(crate) hops: u8,
    pub(crate) header: Header,
    pub(crate) body: Bytes,
    key: [u8; 32],
    signature: [u8; 64],
}

/// What became of an attempt.
enum Handed {
    Answered(u8, Answer),
    Failed(u8, RouteError),
    Unsent,
    Silent,
}

/// An attempt that is under way.
type Handing<'f> = Pin<Box<dyn Future<Output = Handed> + Send + 'f>>;

/// The first of `under_way` to end, which is taken out, and where it was.
async fn first(under_way: &mut SmallVec<[Handing<'_>; 2]>) -> (usize, Handed) {
    poll_fn(|cx| {
        for i in 0..under_way.len() {
            if let Poll::Ready(handed) = under_way[i].as_mut().poll(cx) {
                drop(under_way.remove(i));
                return Poll::Ready((i, handed));
            }
        }
        Poll::Pending
    })
    .await
}

impl std::fmt::Debug for PathService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PathService").field("local", &self.local).finish_non_exhaustive()
    }
}

impl PathService {
    pub(crate) fn new(
        identity: Identity,
        realm: Key,
        pool: Pool,
        tasks: Tasks,
        relay: RelayConfig,
    ) -> Arc<Self> {
        let state = State {
            strategies: Strategies::new(),
            numbers: Numbers::new(),
            seen: Seen::default(),
            answers: Answers::new(),
            passed: Passed::new(),
            relays: Relays::new(relay),
        };
        Arc::new(Self {
            local: identity.node_id(),
            identity,
            realm,
            pool,
            tasks,
            state: Mutex::new(state),
            counts: PathCounts::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self) -> &PathCounts {
        &self.counts
    }

    /// A connection to `peer` is there.
    pub(crate) fn connected(&self, peer: &NodeId) {
        self.lock().strategies.direct(peer);
    }

    /// Whether `peer` has lately answered by a route.
    pub(crate) fn has_route(&self, peer: &NodeId) -> bool {
        self.lock().strategies.works(runtime::now(), peer)
    }

    /// How a request of `size` bytes gets to `peer`: over its connection, dialed if need be, or by a
    /// route, when the direct way fails or is known to.
    ///
    /// # Errors
    ///
    /// As [`Pool::acquire`], when there is nobody to route through either, or lately was no route.
    ///
    /// # Cancel safety
    ///
    /// A dial that was begun goes on.
    pub(crate) async fn reach(
        self: &Arc<Self>,
        peer: &NodeId,
        size: usize,
        deadline: Instant,
    ) -> Result<Access, AcquireError> {
        let now = runtime::now();
        if size > ROUTED_BODY_MAX {
            return self.pool.acquire(peer, deadline).await.map(Access::Direct);
        }
        let choice = self.lock().strategies.choose(now, peer);
        match choice {
            Choice::Routed { probe } if !self.pool.is_live(peer) => {
                if probe {
                    self.probe(*peer);
                }
                return Ok(Access::Routed);
            }
            Choice::Direct => {
                let share = deadline.saturating_duration_since(now) / 2;
                let error = match self.pool.acquire(peer, now + share.min(HEAD_START)).await {
                    Ok(lease) => return Ok(Access::Direct(lease)),
                    Err(error) => error,
                };
                // Without room for a connection the peer may well be there: that is for the caller to know.
                let cut_off = error.is_retryable() && error != AcquireError::PoolExhausted;
                if cut_off && !self.pool.responsive().is_empty() {
                    // Until a route has failed as well, or the dial that goes on has reached its peer.
                    self.lock().strategies.trying(runtime::now(), *peer);
                    return Ok(Access::Routed);
                }
            }
            Choice::Routed { .. } | Choice::DirectOnly => {}
        }
        self.pool.acquire(peer, deadline).await.map(Access::Direct)
    }

    /// Tries the direct way in the background: its connection ends the preference for the route.
    fn probe(self: &Arc<Self>, peer: NodeId) {
        self.counts.direct_probes.fetch_add(1, Ordering::Relaxed);
        let pool = self.pool.clone();
        self.tasks.spawn(async move {
            let _ = pool.acquire(&peer, runtime::after(PROBE_TIMEOUT)).await;
        });
    }

    /// Sends the request in `frame`, a whole encoded frame of any id, to `peer` by a route.
    ///
    /// # Errors
    ///
    /// [`RequestError::Unreachable`] and [`RequestError::TooFar`] when no route was found, as far as those say who were asked: it is
    /// only their word that the request was not executed. It is sent at most once all the same: the
    /// peer refuses an envelope that it has seen. [`RequestError::TooLarge`] above [`ROUTED_BODY_MAX`].
    ///
    /// # Cancel safety
    ///
    /// The reply of a dropped future is dropped; the request may be executed.
    pub(crate) async fn routed(
        &self,
        peer: &NodeId,
        frame: &[u8],
        deadline: Instant,
    ) -> Result<Answer, RequestError> {
        let (head, body) = frame.split_first_chunk::<HEADER_LEN>().ok_or(RequestError::Malformed)?;
        if body.len() > ROUTED_BODY_MAX {
            return Err(RequestError::TooLarge);
        }
        let Header { kind, flags, .. } = Header::decode(head);
        let issued_ms = runtime::unix_ms();
        let nonce = self.lock().numbers.next(issued_ms, *peer);
        let made = Request { destination: *peer, nonce, issued_ms, kind, flags, body };
        let route = envelope::seal(&self.identity, &self.realm, &made);
        self.counts.routed_sent.fetch_add(1, Ordering::Relaxed);
        let way = Way::of_origin(self.local, *peer, deadline);
        let (hops, result) = self.walk(way, &route, &self.local).await;
        let now = runtime::now();
        match result {
            Ok(answer) => {
                self.lock().strategies.routed(now, *peer);
                // The first to send it was this node.
                Ok(Answer { hops: hops.saturating_sub(1), ..answer })
            }
            Err(error) => {
                match error {
                    RouteError::NoRoute | RouteError::MaxHops => self.lock().strategies.nowhere(now, *peer),
                    _ => self.lock().strategies.doubt(peer),
                }
                Err(match error {
                    RouteError::NoRoute => RequestError::Unreachable,
                    RouteError::MaxHops => RequestError::TooFar,
                    RouteError::Overloaded => RequestError::Backpressure,
                    RouteError::Expired => RequestError::Timeout,
                    _ => RequestError::Abandoned,
                })
            }
        }
    }

    /// Tries the ways of an envelope one after another; returns how many times it was passed on, and what
    /// came of it. An answer counts by whatever way it comes, also one that was held to be silent.
    async fn walk(
        &self,
        mut way: Way,
        route: &Route<'_>,
        origin: &NodeId,
    ) -> (u8, Result<Answer, RouteError>) {
        let mut under_way: SmallVec<[Handing<'_>; 2]> = SmallVec::new();
        let mut last = runtime::now();
        loop {
            let (until, end) = match way.next(runtime::now(), &self.pool.responsive()) {
                Ok(hop) => {
                    let passed = way.passed().to_vec();
                    under_way.push(Box::pin(self.hand_on(hop, passed, route, origin)));
                    last = last.max(hop.last);
                    (hop.until, None)
                }
                Err(error) => (last, Some(error)),
            };
            loop {
                if let Some(error) = end
                    && under_way.is_empty()
                {
                    return (way.spent(), Err(error));
                }
                let Ok((i, handed)) = timeout_at(until.into(), first(&mut under_way)).await else {
                    match end {
                        Some(error) => return (way.spent(), Err(error)),
                        None => way.silent(),
                    }
                    break;
                };
                let in_time = end.is_none() && i == under_way.len();
                match handed {
                    Handed::Answered(hops, answer) => {
                        let own = u8::from(in_time);
                        return (hops.saturating_add(own).saturating_add(way.spent()), Ok(answer));
                    }
                    // It was held to be silent when its time was over.
                    _ if !in_time => continue,
                    Handed::Failed(hops, error) => way.failed(error, hops),
                    Handed::Unsent => way.unsent(),
                    Handed::Silent => way.silent(),
                }
                break;
            }
        }
    }

    async fn hand_on(&self, hop: Hop, passed: Vec<NodeId>, route: &Route<'_>, origin: &NodeId) -> Handed {
        let Some(lease) = self.pool.try_acquire(&hop.next) else { return Handed::Unsent };
        let left_ms = u32::try_from(hop.left.as_millis()).unwrap_or(u32::MAX);
        let next = Route { left_ms, hops: hop.hops, passed, ..route.clone() };
        let size = ROUTE_OVERHEAD_MAX + route.body.len();
        let encode = |id, out: &mut BytesMut| {
            // Its lists and its body were measured when it was made or read.
            let _ = next.encode(id, out);
        };
        let body = match request(&lease, Class::Request, size, hop.last, Kind::RouteReply, encode).await {
            Ok(body) => body,
            Err(error) if error.maybe_executed() => return Handed::Silent,
            Err(_) => return Handed::Unsent,
        };
        self.read(&body, route, origin)
    }

    /// Reads what the next node has answered. Each node checks the answer, so that one who makes it up
    /// is found out by the node before it, which has other ways to try.
    fn read(&self, body: &Bytes, route: &Route<'_>, origin: &NodeId) -> Handed {
        let forged = Handed::Failed(u8::MAX, RouteError::Refused);
        let Ok(RouteReply { hops, result }) = RouteReply::decode(body) else { return forged };
        match result {
            Ok(routed) => {
                let asked = (origin, route.nonce);
                if envelope::check(&self.realm, &route.destination, asked, &routed).is_err() {
                    return forged;
                }
                let Routed { kind, flags, key, signature, .. } = routed;
                let body_len = u32::try_from(routed.body.len()).unwrap_or(u32::MAX);
                let header = Header { kind, flags, body_len, id: 0 };
                let body = body.slice_ref(routed.body);
                Handed::Answered(hops, Answer { hops, header, body, key, signature })
            }
            Err(error) => Handed::Failed(hops, error),
        }
    }
}
