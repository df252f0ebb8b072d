//! Connections come in and go out: the accept loop, admission, and what follows a loss.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::policy::types::{Acquire, Admit, Candidate, CloseReason, ConnId, Refusal};
use super::serve::{self, Service};
use super::{Inner, Lease, Peer, lane, upkeep};
use crate::runtime;
use crate::transport::{Attempt, CloseCode, Introduction, Lost, Ready, Side};
use crate::wire::Class;

/// Failed inbound attempts that are remembered.
const REFUSALS_KEPT: usize = 64;

/// Completes every attempt in a task of its own; the gate of the transport bounds them.
pub(super) async fn accept_all(pool: Arc<Inner>) {
    while let Some(attempt) = pool.endpoint.accept().await {
        if pool.closing.load(Ordering::Acquire) {
            attempt.refuse();
            continue;
        }
        let acceptor = Arc::clone(&pool);
        pool.tasks.spawn(async move { accept(acceptor, attempt).await });
    }
}

async fn accept(pool: Arc<Inner>, attempt: Attempt) {
    let greeting = match attempt.greeting().await {
        Ok(greeting) => greeting,
        Err(lost) => return pool.refused(lost),
    };
    // The lease keeps the connection from being evicted before its peer knows of it.
    let (peer, _lease) = match pool.admit_inbound(&greeting.intro).await {
        Ok(admitted) => admitted,
        Err(code) => {
            greeting.refuse(code);
            return pool.refused(Lost::ByUs(code));
        }
    };
    match greeting.welcome(&pool.hello).await {
        Ok(ready) => pool.started(&peer, ready),
        Err(lost) => pool.lost(&peer, lost),
    }
}

/// What became of a candidate.
pub(super) enum Admitted {
    /// It is the connection to its peer, leased so that it cannot be evicted before its first use.
    Kept(Lease),
    /// Another one stays; this one serves out what it carries.
    Duplicate(Arc<Peer>),
    /// No room until another connection ends.
    Full,
    Refused(CloseCode),
}

impl Inner {
    /// Waits for room as long as a request would, then gives up.
    async fn admit_inbound(
        self: &Arc<Self>,
        intro: &Introduction,
    ) -> Result<(Arc<Peer>, Option<Lease>), CloseCode> {
        let until = runtime::after(self.config.wait);
        loop {
            let room = self.room.notified();
            match self.admit(intro) {
                Admitted::Kept(lease) => return Ok((Arc::clone(lease.peer()), Some(lease))),
                Admitted::Duplicate(peer) => {
                    peer.drain(CloseCode::Duplicate, upkeep::DRAIN);
                    return Ok((peer, None));
                }
                Admitted::Refused(code) => return Err(code),
                Admitted::Full => {
                    if tokio::time::timeout_at(until.into(), room).await.is_err() {
                        self.lock().policy.turned_away();
                        return Err(CloseCode::Full);
                    }
                }
            }
        }
    }

    /// Asks the policy about a candidate and retires whom it beat.
    pub(super) fn admit(self: &Arc<Self>, intro: &Introduction) -> Admitted {
        let mut state = self.lock();
        state.next_conn += 1;
        let id = ConnId(state.next_conn);
        let peer = Arc::new(Peer::new(intro, id, self));
        let candidate = Candidate {
            peer: intro.peer,
            id,
            dialer: intro.dialer,
            dial_seq: intro.dial,
            boot: intro.hello.boot,
            handle: Arc::clone(&peer),
        };
        let now = runtime::now();
        let (admitted, retired) = match state.policy.admit(now, candidate) {
            Admit::Kept { retire } => match state.policy.acquire(now, intro.peer) {
                Acquire::Ready { handle, .. } => {
                    (Admitted::Kept(Lease::new(handle, Arc::clone(self))), retire)
                }
                _ => unreachable!("a connection that was kept under this lock is ready"),
            },
            Admit::Duplicate => (Admitted::Duplicate(peer), Vec::new()),
            Admit::Full { retire } => (Admitted::Full, retire),
            Admit::Refused(refusal) => (Admitted::Refused(refusal_code(refusal)), Vec::new()),
        };
        let live = match &admitted {
            Admitted::Kept(lease) => Some(lease.peer()),
            Admitted::Duplicate(peer) => Some(peer),
            Admitted::Full | Admitted::Refused(_) => None,
        };
        if let Some(peer) = live {
            state.live.insert(id, Arc::clone(peer));
        }
        drop(state);
        if let Admitted::Kept(lease) = &admitted {
            // Whoever waits for the peer finds it where the services keep their peers.
            self.inbound.connected(&intro.peer, &intro.hello, lease.peer().connection.remote());
            self.arrived.notify_waiters();
        }
        self.retire(retired);
        admitted
    }

    /// Sets an admitted connection running.
    pub(super) fn started(self: &Arc<Self>, peer: &Arc<Peer>, ready: Ready) {
        let dialer = ready.intro.dialer;
        self.handshakes[usize::from(dialer == Side::Them)].fetch_add(1, Ordering::Relaxed);
        let service = Service::new(Arc::clone(&self.inbound), self.hello.grants, &self.transport);
        match dialer {
            Side::Us => lane::adopt(peer, ready.control, ready.decoder),
            Side::Them => {
                serve::serve(peer, &service, ready.control, ready.decoder, Some(Class::Control));
            }
        }
        let pool = Arc::clone(self);
        let served = Arc::clone(peer);
        self.tasks.spawn(async move {
            let lost = serve::accept(Arc::clone(&served), service).await;
            pool.lost(&served, lost);
        });
    }

    /// The connection has ended: its requesters are told and its place is free.
    pub(super) fn lost(&self, peer: &Arc<Peer>, lost: Lost) {
        peer.die();
        let reason = match lost {
            Lost::ByUs(CloseCode::Shutdown) | Lost::LocalEndpoint => CloseReason::Shutdown,
            Lost::ByUs(code) | Lost::ByPeer(code) => close_reason(code),
            _ => CloseReason::Error,
        };
        let traffic = peer.connection.traffic();
        let mut state = self.lock();
        if state.live.remove(&peer.conn).is_some() {
            state.past.traffic += traffic;
            state.past.messages += peer.messages();
            state.past.late_replies += peer.late.load(Ordering::Relaxed);
            state.policy.closed(runtime::now(), peer.conn, reason);
        }
        drop(state);
        tracing::debug!(peer = %format_args!("{:.8}", peer.id), %lost, "connection ended");
        self.room.notify_waiters();
    }

    /// An attempt failed before it was admitted.
    fn refused(&self, lost: Lost) {
        tracing::debug!(%lost, "inbound attempt failed");
        let mut state = self.lock();
        if state.refusals.len() == REFUSALS_KEPT {
            state.refusals.pop_front();
        }
        state.refusals.push_back(lost);
    }
}

/// The close code that tells a peer why the policy retired its connection.
pub(super) fn close_code(reason: CloseReason) -> CloseCode {
    match reason {
        CloseReason::Capacity => CloseCode::Capacity,
        CloseReason::Idle => CloseCode::Idle,
        CloseReason::Duplicate => CloseCode::Duplicate,
        CloseReason::Superseded => CloseCode::Superseded,
        CloseReason::Shutdown => CloseCode::Shutdown,
        _ => CloseCode::Protocol,
    }
}

/// Why a connection ends, from the code that a peer gave.
pub(super) fn close_reason(code: CloseCode) -> CloseReason {
    match code {
        CloseCode::Capacity => CloseReason::Capacity,
        CloseCode::Idle => CloseReason::Idle,
        CloseCode::Duplicate => CloseReason::Duplicate,
        CloseCode::Superseded => CloseReason::Superseded,
        CloseCode::Shutdown => CloseReason::Remote,
        _ => CloseReason::Error,
    }
}

fn refusal_code(refusal: Refusal) -> CloseCode {
    match refusal {
        Refusal::Own => CloseCode::SelfDial,
        Refusal::Closed => CloseCode::Shutdown,
        Refusal::Stale => CloseCode::Superseded,
        Refusal::Duplicate => CloseCode::Duplicate,
    }
}
