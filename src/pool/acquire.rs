//! Getting a lease: of what is there, of what is being dialed, or of what is dialed now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::policy::types::Acquire;
use super::{DialError, DialState, Lease, Leases, Peer, Pool, State, dial};
use crate::id::NodeId;
use crate::runtime;

/// Why no connection to a peer could be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// The peer is this node itself.
    #[error("a node does not connect to itself")]
    SelfDial,
    /// Every connection is in use and none became free within
    /// [`PoolConfig::wait`](crate::PoolConfig::wait).
    #[error("every connection of the pool is in use")]
    PoolExhausted,
    /// The last dials to this peer failed; the next one is allowed after this pause.
    #[error("the peer could not be reached; the next dial is due in {0:?}")]
    BackOff(Duration),
    /// The dial failed.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The caller's deadline passed first.
    #[error("no connection before the deadline")]
    Timeout,
    /// This node is shutting down.
    #[error("this node is shutting down")]
    Shutdown,
}

impl AcquireError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::SelfDial | Self::Shutdown)
    }
}

/// What [`Pool::poll`] found.
enum Step {
    /// The resident connection, of which a lease is counted.
    Ready(Arc<Peer>),
    Dialing(watch::Receiver<DialState>),
    Full,
    /// No dial before this.
    BackOff(Instant),
    Failed(AcquireError),
}

impl Step {
    fn ready(self) -> Option<Arc<Peer>> {
        match self {
            Self::Ready(peer) => Some(peer),
            Self::Dialing(_) | Self::Full | Self::BackOff(_) | Self::Failed(_) => None,
        }
    }
}

impl Pool {
    /// A lease of a connection to `peer`: the resident one, the one being dialed, or a new one.
    ///
    /// A pause after failed dials is waited for if it ends before `deadline`.
    ///
    /// Cancel safe: a dial that was begun goes on for the others that wait for it.
    pub(crate) async fn acquire(&self, peer: &NodeId, deadline: Instant) -> Result<Lease, AcquireError> {
        match tokio::time::timeout_at(deadline.into(), self.acquired(peer, deadline)).await {
            Ok(result) => result,
            Err(_) => Err(AcquireError::Timeout),
        }
    }

    async fn acquired(&self, peer: &NodeId, deadline: Instant) -> Result<Lease, AcquireError> {
        let mut patience: Option<Instant> = None;
        // The dial that was waited for: its lease must outlive the next look at the pool.
        let mut waited: Option<watch::Receiver<DialState>> = None;
        loop {
            let room = self.inner.room.notified();
            let step = self.poll(&mut self.inner.lock(), runtime::now(), peer);
            drop(waited.take());
            match step {
                Step::Ready(peer) => return Ok(self.lease_of(peer)),
                Step::Failed(error) => return Err(error),
                Step::Dialing(mut dial) => {
                    let failed = tokio::select! {
                        biased;
                        ended = dial.wait_for(Option::is_some) => match ended.as_deref() {
                            // The other connection of the pair is there and will do.
                            Ok(Some(Err(DialError::Duplicate)) | Some(Ok(_)) | None) | Err(_) => None,
                            Ok(Some(Err(error))) => Some(error.clone()),
                        },
                        () = self.arrival(peer) => None,
                    };
                    if let Some(error) = failed {
                        return Err(error.into());
                    }
                    waited = Some(dial);
                }
                Step::BackOff(until) if until < deadline => {
                    let _ = tokio::time::timeout_at(until.into(), self.arrival(peer)).await;
                }
                Step::BackOff(until) => {
                    return Err(AcquireError::BackOff(until.saturating_duration_since(runtime::now())));
                }
                Step::Full => {
                    let until = *patience.get_or_insert_with(|| runtime::after(self.inner.config.wait));
                    if tokio::time::timeout_at(until.into(), room).await.is_err() {
                        self.inner.lock().policy.exhausted();
                        return Err(AcquireError::PoolExhausted);
                    }
                }
            }
        }
    }

    /// Returns once there is a connection to `peer`, whoever dialed it.
    async fn arrival(&self, peer: &NodeId) {
        loop {
            let arrived = self.inner.arrived.notified();
            if self.inner.lock().policy.is_live(*peer) {
                return;
            }
            arrived.await;
        }
    }

    /// A lease of the connection to `peer` if it is resident; otherwise a dial is begun.
    pub(crate) fn try_acquire(&self, peer: &NodeId) -> Option<Lease> {
        let step = self.poll(&mut self.inner.lock(), runtime::now(), peer);
        step.ready().map(|peer| self.lease_of(peer))
    }

    /// Leases of those of `peers` that are resident; a dial is begun to the others.
    pub(crate) fn try_acquire_all(&self, peers: &[NodeId]) -> Leases {
        let now = runtime::now();
        let mut state = self.inner.lock();
        let peers = peers.iter().map(|peer| self.poll(&mut state, now, peer).ready()).collect();
        Leases::new(peers, Arc::clone(&self.inner))
    }

    /// A lease of the connection to `peer` if it is resident; nobody is dialed.
    pub(crate) fn resident(&self, peer: &NodeId) -> Option<Lease> {
        let ready = self.poll_resident(&mut self.inner.lock(), runtime::now(), peer);
        ready.map(|peer| self.lease_of(peer))
    }

    /// Leases of those of `peers` that are resident; nobody is dialed.
    pub(crate) fn resident_all(&self, peers: &[NodeId]) -> Leases {
        let now = runtime::now();
        let mut state = self.inner.lock();
        let peers = peers.iter().map(|peer| self.poll_resident(&mut state, now, peer)).collect();
        Leases::new(peers, Arc::clone(&self.inner))
    }

    fn lease_of(&self, peer: Arc<Peer>) -> Lease {
        Lease::new(peer, Arc::clone(&self.inner))
    }

    fn poll_resident(&self, state: &mut State, now: Instant, peer: &NodeId) -> Option<Arc<Peer>> {
        if state.policy.is_live(*peer) { self.poll(state, now, peer).ready() } else { None }
    }

    fn poll(&self, state: &mut State, now: Instant, peer: &NodeId) -> Step {
        match state.policy.acquire(now, *peer) {
            Acquire::Ready { id, handle } => {
                debug_assert_eq!(id, handle.conn, "a lease is given back by the connection itself");
                Step::Ready(handle)
            }
            Acquire::Dialing => match state.dials.get(peer) {
                Some((_, dial)) => Step::Dialing(dial.clone()),
                None => Step::Full,
            },
            Acquire::Dial { seq, evict } => {
                self.inner.retire(evict);
                Step::Dialing(dial::start(&self.inner, state, *peer, seq))
            }
            Acquire::Full { evict } => {
                self.inner.retire(evict);
                Step::Full
            }
            Acquire::BackOff { until } => Step::BackOff(until),
            Acquire::Own => Step::Failed(AcquireError::SelfDial),
            Acquire::Closed => Step::Failed(AcquireError::Shutdown),
        }
    }
}
