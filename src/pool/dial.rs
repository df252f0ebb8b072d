//! Dialing: one task per dial, which outlives the caller that began it.
//!
//! The addresses of a peer are tried one after another, best first, within one timeout for all. The
//! others that want the same peer wait for the same dial (single flight).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};

use super::admit::Admitted;
use super::policy::types::{DialFailure, Join};
use super::{AcquireError, DialState, Inner, Lease, Pool, State, book, upkeep};
use crate::addr::{Endpoint as Address, Mode, PeerAddr};
use crate::id::NodeId;
use crate::runtime;
use crate::transport::{AttemptError, CloseCode, Expect, Lost, Ready, Refusal};

/// The least time that one address is given before the next one is tried.
const ADDRESS_TIMEOUT_MIN: Duration = Duration::from_millis(500);

/// Why a dial failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// No address of the peer is known.
    #[error("no address of the peer is known")]
    NoAddress,
    /// The name of the address could not be resolved.
    #[error("{0} cannot be resolved")]
    Resolve(Address),
    /// No address answered in time.
    #[error("no address answered in time")]
    Timeout,
    /// The last attempt failed.
    #[error(transparent)]
    Attempt(#[from] AttemptError),
    /// The connection was made and lost against another one of the same pair.
    #[error("another connection of the same pair was kept")]
    Duplicate,
    /// This node had no room for the connection.
    #[error("the pool has no room")]
    Full,
}

impl DialError {
    fn failure(&self) -> DialFailure {
        match self {
            Self::Timeout | Self::Attempt(AttemptError::Lost(Lost::TimedOut)) => DialFailure::TimedOut,
            Self::Attempt(AttemptError::Lost(Lost::Refused(_))) => DialFailure::WrongIdentity,
            Self::Attempt(AttemptError::Lost(Lost::RefusedByPeer(_) | Lost::ByPeer(_) | Lost::Busy)) => {
                DialFailure::Refused
            }
            Self::Duplicate => DialFailure::Duplicate,
            _ => DialFailure::Unreachable,
        }
    }

    /// Whether the peer is not where it was thought to be: want of room, here or there, does not say so.
    fn is_unreachable(&self) -> bool {
        !matches!(self, Self::Full)
            && !matches!(self.failure(), DialFailure::Duplicate | DialFailure::Refused)
    }

    /// Whether somebody else answered at the address.
    pub fn is_wrong_identity(&self) -> bool {
        matches!(self, Self::Attempt(AttemptError::Lost(Lost::Refused(Refusal::WrongIdentity))))
    }
}

/// Begins the dial that the policy has reserved as `seq`.
pub(super) fn start(
    pool: &Arc<Inner>,
    state: &mut State,
    peer: NodeId,
    seq: u64,
) -> watch::Receiver<DialState> {
    let (done, result) = watch::channel(None);
    state.dials.insert(peer, (seq, result.clone()));
    let addresses = state.book.addresses(&peer);
    let dialer = Arc::clone(pool);
    pool.tasks.spawn(async move {
        let outcome = dialer.dial(peer, seq, addresses).await;
        let mut state = dialer.lock();
        // A newer dial may have taken the place of one that reached its peer.
        if state.dials.get(&peer).is_some_and(|(newest, _)| *newest == seq) {
            state.dials.remove(&peer);
        }
        match &outcome {
            // What a shutdown cuts short is no fault of the peer.
            Err(_) if dialer.closing.load(Ordering::Acquire) => state.policy.dial_aborted(peer, seq),
            Err(error) => state.policy.dial_failed(runtime::now(), peer, seq, error.failure()),
            Ok(_) => {}
        }
        drop(state);
        if outcome.as_ref().is_err_and(DialError::is_unreachable) {
            dialer.inbound.unreachable(&peer);
        }
        done.send_replace(Some(outcome));
        dialer.room.notify_waiters();
    });
    result
}

impl Inner {
    async fn dial(
        self: &Arc<Self>,
        peer: NodeId,
        seq: u64,
        addresses: Vec<Address>,
    ) -> Result<Lease, DialError> {
        let deadline = runtime::after(self.config.dial_timeout);
        let expect = Expect::Node(peer);
        let mut last = DialError::NoAddress;
        let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let share = (self.config.dial_timeout / count).max(ADDRESS_TIMEOUT_MIN);
        for address in addresses {
            let until = deadline.min(runtime::after(share));
            match self.attempt(&address, expect, seq, until).await {
                Ok(ready) => return self.take(ready),
                Err(error) => {
                    self.lock().book.demote(&peer, &address);
                    last = error;
                }
            }
            if runtime::now() >= deadline {
                break;
            }
        }
        Err(last)
    }

    /// Resolves one address and dials what it resolves to.
    async fn attempt(
        &self,
        address: &Address,
        expect: Expect<'_>,
        seq: u64,
        until: Instant,
    ) -> Result<Ready, DialError> {
        let mut hello = self.hello.clone();
        hello.dial = seq;
        let attempt = async {
            let mut last = DialError::Resolve(address.clone());
            let remotes = resolve(address).await?;
            for (left, remote) in (1..=remotes.len()).rev().zip(remotes) {
                // One that swallows packets must not use up the time of the others.
                let share = fair_share(until.saturating_duration_since(runtime::now()), left);
                match timeout(share, self.endpoint.dial(remote, expect, &hello)).await {
                    Err(_) => last = DialError::Timeout,
                    Ok(Ok(ready)) => return Ok(ready),
                    // A name often has an address of a family that our socket cannot reach; what the
                    // others answered says more.
                    Ok(Err(AttemptError::Address)) if !matches!(last, DialError::Resolve(_)) => {}
                    Ok(Err(error)) => last = error.into(),
                }
            }
            Err(last)
        };
        timeout_at(until.into(), attempt).await.map_err(|_| DialError::Timeout)?
    }

    /// Offers a dialed connection to the policy.
    fn take(self: &Arc<Self>, ready: Ready) -> Result<Lease, DialError> {
        let connection = ready.intro.connection.clone();
        match self.admit(&ready.intro) {
            Admitted::Kept(lease) => {
                self.started(lease.peer(), ready);
                Ok(lease)
            }
            Admitted::Duplicate(peer) => {
                self.started(&peer, ready);
                peer.drain(CloseCode::Duplicate, upkeep::DRAIN);
                Err(DialError::Duplicate)
            }
            Admitted::Full => {
                self.lock().policy.turned_away();
                connection.close(CloseCode::Full);
                Err(DialError::Full)
            }
            Admitted::Refused(code) => {
                connection.close(code);
                Err(AttemptError::Lost(Lost::ByUs(code)).into())
            }
        }
    }
}

impl Pool {
    /// Connects to whoever answers at `address`, and returns who that is.
    ///
    /// An address without a node id can be dialed where a certificate authority vouches for the
    /// acceptor: in a realm, or as `public:`.
    pub(crate) async fn join(&self, address: &PeerAddr, deadline: Instant) -> Result<NodeId, AcquireError> {
        if let Some(id) = address.id() {
            self.learn(id, [address.endpoint().clone()]);
            return self.acquire(&id, deadline).await.map(|lease| lease.id);
        }
        let seq = match self.inner.lock().policy.join(runtime::now()) {
            Join::Dial { seq, evict } => {
                self.inner.retire(evict);
                seq
            }
            Join::Full { evict } => {
                self.inner.retire(evict);
                return Err(AcquireError::PoolExhausted);
            }
            Join::Closed => return Err(AcquireError::Shutdown),
        };
        let place = Place { pool: Arc::clone(&self.inner), seq };
        let host = address.endpoint().host();
        let expect = match address.mode() {
            Mode::Public => Expect::Public(&host),
            Mode::Mesh => Expect::Realm,
        };
        let until = deadline.min(runtime::after(self.inner.config.dial_timeout));
        let ready = self.inner.attempt(address.endpoint(), expect, seq, until).await?;
        let id = ready.intro.peer;
        self.learn(id, [address.endpoint().clone()]);
        match self.inner.take(ready) {
            Ok(_) | Err(DialError::Duplicate) => {
                drop(place);
                Ok(id)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A place that a join holds in the pool, given back however the join ends.
struct Place {
    pool: Arc<Inner>,
    seq: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.lock().policy.join_failed(self.seq);
    }
}

/// An equal part of `time` for each of the `left` addresses that are yet to be tried.
fn fair_share(time: Duration, left: usize) -> Duration {
    time / u32::try_from(left).unwrap_or(u32::MAX).max(1)
}

async fn resolve(address: &Address) -> Result<Vec<SocketAddr>, DialError> {
    if let Some(address) = address.socket_addr() {
        return Ok(vec![address]);
    }
    let host = address.host();
    let found = lookup_host((host.as_str(), address.port())).await;
    let found = found.map_err(|_| DialError::Resolve(address.clone()))?;
    Ok(found.take(book::ADDRESSES_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_swallows_packets_leaves_time_for_the_others() {
        let mut time = Duration::from_secs(5);
        for left in (1..=8).rev() {
            let share = fair_share(time, left);
            assert_eq!(share, Duration::from_millis(625));
            time -= share;
        }
        assert_eq!(fair_share(time, 1), Duration::ZERO);
    }
}
