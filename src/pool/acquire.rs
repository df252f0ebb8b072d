//! Getting a lease: of what is there, of what is being dialed, or of what is dialed now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tokio::sync::watch;

use super::policy::types::Acquire;
use super::{DialError, DialState, Lease, Pool, State, dial};
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
    Ready(Lease),
    Dialing(watch::Receiver<DialState>),
    Full,
    /// No dial before this.
    BackOff(Instant),
    Failed(AcquireError),
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
                Step::Ready(lease) => return Ok(lease),
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

    /// Leases of those of `peers` that are resident, in their order; a dial is begun to the others.
    ///
    /// Takes the lock once for all of them.
    pub(crate) fn try_acquire(&self, peers: &[NodeId], mut each: impl FnMut(usize, Option<Lease>)) {
        let now = runtime::now();
        let mut state = self.inner.lock();
        let steps: SmallVec<[Step; 4]> = peers.iter().map(|peer| self.poll(&mut state, now, peer)).collect();
        // A lease that is dropped takes the lock: it must not be held when leases are handed out.
        drop(state);
        for (i, step) in steps.into_iter().enumerate() {
            match step {
                Step::Ready(lease) => each(i, Some(lease)),
                Step::Dialing(_) | Step::Full | Step::BackOff(_) | Step::Failed(_) => each(i, None),
            }
        }
    }

    /// Leases of those of `peers` that are resident, in their order; nobody is dialed.
    ///
    /// Takes the lock once for all of them.
    pub(crate) fn resident(&self, peers: &[NodeId], mut each: impl FnMut(usize, Option<Lease>)) {
        let now = runtime::now();
        let mut state = self.inner.lock();
        let mut lease =
            |peer: &NodeId| match state.policy.is_live(*peer).then(|| self.poll(&mut state, now, peer)) {
                Some(Step::Ready(lease)) => Some(lease),
                _ => None,
            };
        let leases: SmallVec<[Option<Lease>; 4]> = peers.iter().map(&mut lease).collect();
        drop(state);
        leases.into_iter().enumerate().for_each(|(i, lease)| each(i, lease));
    }

    fn poll(&self, state: &mut State, now: Instant, peer: &NodeId) -> Step {
        match state.policy.acquire(now, *peer) {
            Acquire::Ready { id, handle } => Step::Ready(Lease::new(handle, id, Arc::clone(&self.inner))),
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
