//! The peer manager: at most one live connection per peer, kept warm and given out by lease.
//!
//! [`policy`] decides and is pure; this module carries out what it says: it dials, accepts, drains,
//! and watches the clock. All of it hangs on one short lock. What peers ask is answered by the
//! [`Inbound`] that the services implement.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::addr::Endpoint as Address;
use crate::id::NodeId;
use crate::runtime::{self, Tasks};
use crate::transport::{CloseCode, Endpoint, Lost, Traffic, TransportConfig};
use crate::wire::Hello;

mod acquire;
mod admit;
mod book;
mod dial;
mod inbound;
mod lane;
mod later;
mod lease;
mod outbox;
mod peer;
pub(crate) mod policy;
mod report;
mod serve;
mod single;
mod upkeep;

pub use acquire::AcquireError;
pub use dial::DialError;
pub use inbound::RequestError;
pub(crate) use inbound::{Inbound, Outcome, Promise, Sink, Tag, Violation};
pub(crate) use later::Later;
pub(crate) use lease::{Lease, Leases};
pub(crate) use outbox::{LANE_FRAME_MAX, Refusal};
pub(crate) use peer::{Peer, Room};
pub use policy::config::{PoolConfig, PoolConfigError};
pub use policy::report::{ClosedConnection, Closes, Explain, OpenConnection, PoolStats};
pub use policy::types::{CloseReason, DialFailure};
pub(crate) use single::deliver;

use policy::Policy;
use policy::types::{ConnId, Release, Retire};

/// Frames over the lane limit that may be in flight to one peer, in each direction.
pub(super) const SINGLES_MAX: usize = 4;

/// The peers of one node; clones are the same pool.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    local: NodeId,
    endpoint: Endpoint,
    transport: TransportConfig,
    /// What this node says about itself, without the fields that differ per connection.
    hello: Hello,
    config: PoolConfig,
    tasks: Tasks,
    inbound: Arc<dyn Inbound>,
    state: Mutex<State>,
    /// A connection has ended or a place has become free.
    room: Notify,
    /// A peer has connected.
    arrived: Notify,
    closing: AtomicBool,
    /// Handshakes completed with HELLO, dialed and accepted.
    handshakes: [AtomicU64; 2],
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("local", &self.local).finish_non_exhaustive()
    }
}

struct State {
    policy: Policy<Arc<Peer>>,
    /// The dial under way to each peer, by its number.
    dials: BTreeMap<NodeId, (u64, watch::Receiver<DialState>)>,
    book: book::AddressBook,
    /// Every connection that has not ended, draining ones included.
    live: BTreeMap<ConnId, Arc<Peer>>,
    next_conn: u64,
    past: Past,
    /// How the last inbound attempts failed, oldest first.
    refusals: VecDeque<Lost>,
}

/// What ended connections have done.
#[derive(Debug, Default)]
struct Past {
    traffic: Traffic,
    /// Request frames sent.
    messages: u64,
    late_replies: u64,
}

/// `None` while the dial is under way; then its end, leased until those who waited have their leases.
type DialState = Option<Result<Lease, DialError>>;

/// What a pool is made of.
pub(crate) struct Parts {
    pub(crate) local: NodeId,
    pub(crate) endpoint: Endpoint,
    pub(crate) transport: TransportConfig,
    pub(crate) hello: Hello,
    pub(crate) config: PoolConfig,
    pub(crate) tasks: Tasks,
    pub(crate) inbound: Arc<dyn Inbound>,
    pub(crate) seed: u64,
}

impl Pool {
    /// A pool that dials and keeps house from now on, and accepts after [`open`](Self::open).
    pub(crate) fn start(parts: Parts) -> Self {
        let policy = Policy::new(parts.local, parts.config.clone(), parts.seed);
        let inner = Arc::new(Inner {
            local: parts.local,
            endpoint: parts.endpoint,
            transport: parts.transport,
            hello: parts.hello,
            config: parts.config,
            tasks: parts.tasks,
            inbound: parts.inbound,
            state: Mutex::new(State {
                policy,
                dials: BTreeMap::new(),
                book: book::AddressBook::new(),
                live: BTreeMap::new(),
                next_conn: 0,
                past: Past::default(),
                refusals: VecDeque::new(),
            }),
            room: Notify::new(),
            arrived: Notify::new(),
            closing: AtomicBool::new(false),
            handshakes: Default::default(),
        });
        inner.tasks.spawn(upkeep::run(Arc::downgrade(&inner)));
        Self { inner }
    }

    /// Lets peers in, from now on: called once, when the services are there to answer them.
    pub(crate) fn open(&self) {
        self.inner.tasks.spawn(admit::accept_all(Arc::clone(&self.inner)));
    }

    /// Remembers where `peer` listens.
    pub(crate) fn learn(&self, peer: NodeId, addresses: impl IntoIterator<Item = Address>) {
        if peer != self.inner.local {
            self.inner.lock().book.learn(peer, addresses);
        }
    }

    /// Remembers where `peer` listens according to somebody else; what it said itself comes first.
    pub(crate) fn hear(&self, peer: NodeId, addresses: impl IntoIterator<Item = Address>) {
        if peer != self.inner.local {
            self.inner.lock().book.hear(peer, addresses);
        }
    }

    /// Where the connection to `peer` ends.
    pub(crate) fn remote(&self, peer: &NodeId) -> Option<SocketAddr> {
        let state = self.inner.lock();
        let draining = || state.live.values().find(|conn| conn.id == *peer);
        let handle = state.policy.live_handle(*peer).or_else(draining).cloned();
        drop(state);
        handle.map(|peer| peer.connection.remote())
    }

    /// Whether there is neither a connection to `peer` nor an address of it.
    pub(crate) fn is_stranger(&self, peer: &NodeId) -> bool {
        let mut state = self.inner.lock();
        !state.policy.is_live(*peer) && state.book.addresses(peer).is_empty()
    }

    /// Where `peer` was last known to listen, best first.
    #[cfg(any(feature = "baseline", feature = "persist"))]
    pub(crate) fn addresses(&self, peer: &NodeId) -> Vec<Address> {
        self.inner.lock().book.addresses(peer)
    }

    /// What this node says about itself.
    #[cfg(feature = "baseline")]
    pub(crate) fn hello(&self) -> &Hello {
        &self.inner.hello
    }

    /// Whether the peer has lately left requests unanswered.
    pub(crate) fn is_suspect(&self, peer: &NodeId) -> bool {
        self.inner.lock().policy.is_suspect(*peer)
    }

    /// Moves the peers that have lately left requests unanswered behind the others.
    pub(crate) fn suspects_last(&self, peers: &mut [NodeId]) {
        let state = self.inner.lock();
        if peers.iter().any(|peer| state.policy.is_suspect(*peer)) {
            peers.sort_by_key(|peer| state.policy.is_suspect(*peer));
        }
    }

    /// Whether there is a connection to `peer` that takes requests.
    pub(crate) fn is_live(&self, peer: &NodeId) -> bool {
        self.inner.lock().policy.is_live(*peer)
    }

    /// The peers with a resident connection that have not lately left requests unanswered.
    pub(crate) fn responsive(&self) -> Vec<NodeId> {
        let state = self.inner.lock();
        let residents = state.policy.residents().map(|(id, _)| id);
        residents.filter(|id| !state.policy.is_suspect(*id)).collect()
    }

    /// The peers with a resident connection.
    pub(crate) fn residents(&self) -> Vec<NodeId> {
        self.inner.lock().policy.residents().map(|(id, _)| id).collect()
    }

    /// Ends every connection at once; everyone who waits is told.
    pub(crate) fn abort(&self) {
        self.inner.closing.store(true, Ordering::Release);
        let mut state = self.inner.lock();
        let _ = state.policy.retire_all(CloseReason::Shutdown);
        let live = std::mem::take(&mut state.live);
        drop(state);
        self.inner.endpoint.close(CloseCode::Shutdown);
        for peer in live.values() {
            peer.die();
        }
        self.inner.room.notify_waiters();
    }

    /// Takes no new work, says GOAWAY to every peer, and closes when the work in flight is done or
    /// after `patience`.
    pub(crate) async fn shutdown(&self, patience: Duration) {
        self.inner.closing.store(true, Ordering::Release);
        let retired = self.inner.lock().policy.retire_all(CloseReason::Shutdown);
        for retire in retired {
            retire.handle.drain(CloseCode::Shutdown, patience);
        }
        let drained = async {
            loop {
                let room = self.inner.room.notified();
                if self.inner.lock().live.is_empty() {
                    return;
                }
                room.await;
            }
        };
        let _ = tokio::time::timeout(patience, drained).await;
        self.inner.endpoint.close(CloseCode::Shutdown);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release<'p>(&self, peers: impl IntoIterator<Item = &'p Arc<Peer>>) {
        let now = runtime::now();
        let mut evicted = Vec::new();
        let mut state = self.lock();
        for peer in peers {
            match state.policy.release(now, peer.conn) {
                Release::Done => {}
                // A drain watches the connection itself: nothing is left to be done at the last release.
                Release::Drained { id, handle } => {
                    tracing::trace!(peer = %format_args!("{:.8}", handle.id), conn = id.0, "last lease released");
                }
                Release::Evict(retire) => evicted.push(retire),
            }
        }
        drop(state);
        self.retire(evicted);
        self.room.notify_waiters();
    }

    /// Drains the connections that the policy has retired.
    fn retire(&self, retired: impl IntoIterator<Item = Retire<Arc<Peer>>>) {
        for retire in retired {
            let Retire { peer, id, handle, reason, leases } = retire;
            tracing::debug!(peer = %format_args!("{peer:.8}"), conn = id.0, %reason, leases, "retired");
            let code = admit::close_code(reason);
            match reason {
                // The process at the other end is gone: nobody is left to finish anything.
                CloseReason::Superseded => handle.connection.close(code),
                _ => handle.drain(code, upkeep::DRAIN),
            }
        }
    }

    /// The peer has ended a lane on this connection, which lives on for what the others carry.
    fn peer_fails(&self, peer: &Arc<Peer>) {
        let _ = self.lock().policy.retire_one(peer.conn, CloseReason::Error);
        peer.drain(CloseCode::Unresponsive, upkeep::DRAIN_FAILED);
    }

    /// The peer has said GOAWAY on this connection: it is used no more, and drained from this side too.
    fn peer_leaves(&self, peer: &Arc<Peer>, code: CloseCode) {
        let _ = self.lock().policy.retire_one(peer.conn, admit::close_reason(code));
        peer.drain(code, upkeep::DRAIN);
        if code == CloseCode::Shutdown {
            self.inbound.left(&peer.id);
        }
    }
}
