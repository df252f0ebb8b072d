//! The connections of a node: dialled when somebody is to be asked, kept while they are used.
//!
//! A handshake is two exchanges, and whoever is dialled knows the dialler only after the second one. Dials
//! that meet no answer are repeated as a transport would, and given up after [`DIAL_TIMEOUT`].

use super::super::clock::{Micros, SECOND};
use super::super::message::Ask;

/// How long a dial may take.
pub(crate) const DIAL_TIMEOUT: Micros = 5 * SECOND;

/// How long a flight of a handshake waits for its answer before it is repeated.
pub(crate) const DIAL_AGAIN: Micros = SECOND;

/// Connections that a node keeps.
const LINKS_MAX: usize = 100;

/// How long an idle connection is kept.
const LINK_TTL: Micros = 60 * SECOND;

/// A request that waits for a connection: operation, number, request.
pub(crate) type Waiting = (u32, u32, Ask);

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: u32,
    /// The process at the other end, as far as it is known.
    pub(crate) boot: Option<u32>,
    pub(crate) used: Micros,
    pub(crate) state: State,
}

/// How far a connection is.
#[derive(Debug)]
pub(crate) enum State {
    /// It is dialled, and these wait for it.
    Dialing(Vec<Waiting>),
    Ready,
}

/// The connections of a node, in no order that anything depends on.
#[derive(Debug, Default)]
pub(crate) struct Links(Vec<Link>);

impl Links {
    pub(crate) fn get(&mut self, peer: u32) -> Option<&mut Link> {
        self.0.iter_mut().find(|link| link.peer == peer)
    }

    /// Who is connected.
    pub(crate) fn residents(&self) -> impl Iterator<Item = u32> {
        self.0.iter().filter(|link| matches!(link.state, State::Ready)).map(|link| link.peer)
    }

    /// The connection to `peer` if it may still be used.
    pub(crate) fn live(&mut self, now: Micros, peer: u32) -> Option<&mut Link> {
        let at = self.0.iter().position(|link| link.peer == peer)?;
        let idle = now.saturating_sub(self.0[at].used) > LINK_TTL;
        if idle && matches!(self.0[at].state, State::Ready) {
            self.0.swap_remove(at);
            return None;
        }
        Some(&mut self.0[at])
    }

    /// Begins to dial `peer` for a request.
    pub(crate) fn dial(&mut self, now: Micros, peer: u32, waiting: Waiting) {
        self.make_room();
        self.0.push(Link { peer, boot: None, used: now, state: State::Dialing(vec![waiting]) });
    }

    /// The handshake with a process of `peer` is complete. Returns what has waited for it, and whether the
    /// connection takes the place of one to an earlier process.
    pub(crate) fn ready(&mut self, now: Micros, peer: u32, boot: u32) -> (Vec<Waiting>, bool) {
        if self.get(peer).is_none() {
            self.make_room();
            self.0.push(Link { peer, boot: Some(boot), used: now, state: State::Ready });
            return (Vec::new(), false);
        }
        let Some(link) = self.get(peer) else { return (Vec::new(), false) };
        let before = link.boot.replace(boot);
        link.used = now;
        match std::mem::replace(&mut link.state, State::Ready) {
            State::Dialing(waiting) => (waiting, false),
            State::Ready => (Vec::new(), before != Some(boot)),
        }
    }

    /// Drops the connection to `peer` and returns what has waited for it.
    pub(crate) fn drop(&mut self, peer: u32) -> Vec<Waiting> {
        let at = self.0.iter().position(|link| link.peer == peer);
        match at.map(|at| self.0.swap_remove(at).state) {
            Some(State::Dialing(waiting)) => waiting,
            _ => Vec::new(),
        }
    }

    /// Drops the connection to `peer` if it is more than an attempt.
    pub(crate) fn lose(&mut self, peer: u32) {
        self.0.retain(|link| link.peer != peer || matches!(link.state, State::Dialing(_)));
    }

    /// Drops the connection that was used least recently, if there are too many.
    fn make_room(&mut self) {
        if self.0.len() < LINKS_MAX {
            return;
        }
        let idle = self.0.iter().enumerate().filter(|(_, link)| matches!(link.state, State::Ready));
        if let Some((at, _)) = idle.min_by_key(|(_, link)| (link.used, link.peer)) {
            self.0.swap_remove(at);
        }
    }
}
