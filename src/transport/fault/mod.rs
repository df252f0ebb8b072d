//! The fault seam: a network that loses, delays and cuts, between an endpoint and its socket.
//!
//! [`Faults`] is the handle that a test holds; [`Faults::wrap`] puts it around a socket. Faults act
//! on what the wrapped socket sends (a cut or a link is one-way), except silence, which stops both
//! directions. While no fault is in force a burst passes through as one burst, so that a wrapped
//! socket costs one atomic load; a socket that is not wrapped costs nothing.

mod plan;
mod queue;
mod socket;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::{AsyncUdpSocket, Runtime};
use rand_chacha::ChaCha8Rng;

pub use plan::{Link, Tally};

use plan::Plan;

/// Most datagrams that one socket holds back; the next one is dropped, as a full router does.
pub(crate) const MAX_HELD: usize = 16 * 1024;

/// The faults of one socket. Clones are handles to the same faults.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Whether any fault is in force, so that the path without one takes no lock.
    armed: AtomicBool,
    plan: Mutex<Plan>,
}

impl Faults {
    /// No fault yet; chance is drawn from `rng`.
    pub(crate) fn new(rng: ChaCha8Rng) -> Self {
        Self { shared: Arc::new(Shared { armed: AtomicBool::new(false), plan: Mutex::new(Plan::new(rng)) }) }
    }

    /// Nothing leaves and nothing arrives: the process is dead to its peers, and not even a close
    /// escapes.
    pub(crate) fn silence(&self) {
        self.change(|plan| plan.set_silent(true));
    }

    /// Ends the silence.
    pub(crate) fn unsilence(&self) {
        self.change(|plan| plan.set_silent(false));
    }

    /// Whether the socket is silent.
    pub(crate) fn is_silent(&self) -> bool {
        self.plan().is_silent()
    }

    /// Nothing leaves for `to`; what comes from there still arrives.
    pub(crate) fn cut(&self, to: SocketAddr) {
        self.change(|plan| plan.cut(to));
    }

    /// Ends the cut towards `to`.
    pub(crate) fn heal(&self, to: SocketAddr) {
        self.change(|plan| plan.heal(to));
    }

    /// Everything that leaves for `to` takes `link`.
    pub(crate) fn set_link(&self, to: SocketAddr, link: Link) {
        self.change(|plan| plan.set_link(to, link));
    }

    /// Everything that leaves for a destination without a link of its own takes `link`.
    pub(crate) fn set_default_link(&self, link: Link) {
        self.change(|plan| plan.set_default_link(link));
    }

    /// Ends every fault. Datagrams held back still leave in their time.
    pub(crate) fn clear(&self) {
        self.change(Plan::clear);
    }

    /// What has happened so far; datagrams sent while no fault was in force are not counted.
    pub(crate) fn tally(&self) -> Tally {
        self.plan().tally
    }

    /// A socket that sends and receives through `inner` under these faults. Time comes from
    /// `runtime`.
    pub(crate) fn wrap(
        &self,
        inner: Arc<dyn AsyncUdpSocket>,
        runtime: Arc<dyn Runtime>,
    ) -> Arc<dyn AsyncUdpSocket> {
        Arc::new(socket::FaultSocket::new(inner, runtime, self.clone()))
    }

    fn is_armed(&self) -> bool {
        self.shared.armed.load(Ordering::Acquire)
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Plan)) {
        let mut plan = self.plan();
        change(&mut plan);
        self.shared.armed.store(!plan.is_idle(), Ordering::Release);
    }
}
