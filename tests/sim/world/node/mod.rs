//! One node: the machines of the library, and the way of messages to them and from them.
//!
//! This is what the service of the library does with tasks and connections, done with events: the same
//! machines are asked in the same order. Nothing about Kademlia is decided here.

mod answer;
mod changes;
mod config;
mod find;
mod first;
mod links;
mod op;
mod search;
mod store;
mod tend;
mod upkeep;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use foveola::dht::members::Members;
use foveola::dht::rtt::Patience;
use foveola::dht::table::Insert;
use foveola::dht::upkeep::{Upkeep, UpkeepConfig};

use foveola::id::NodeId;

use self::changes::Changes;
pub(crate) use self::config::Config;
pub(crate) use self::find::{Found, Query};
use self::links::{DIAL_AGAIN, DIAL_TIMEOUT, Links, State};
use self::op::{Op, Pinging, Task, Way};
pub(crate) use self::search::Why;
pub(crate) use self::store::{Stored, Want};
use self::tend::Records;
use super::clock::Micros;
use super::core::{Cx, Envelope, Wake};
use super::message::{Ask, Message};

/// Messages of a handshake.
const HANDSHAKE: u32 = 4;

/// Sequences that are reserved at a time, as in the library.
const SEQUENCES: u64 = 65_536;

/// What outlives a process.
#[derive(Debug)]
pub(crate) struct Disk {
    records: Option<Box<Records>>,
    next_seq: u64,
}

impl Default for Disk {
    fn default() -> Self {
        Self { records: None, next_seq: 1 }
    }
}

/// How a request was sent.
struct Sent {
    nonce: u32,
    /// Messages that it takes to get it there.
    messages: u32,
    way: Way,
}

/// The memory of one process of a node.
#[derive(Debug)]
pub(crate) struct Node {
    own: NodeId,
    config: Config,
    seed: u64,
    booted: Instant,
    seeds: Vec<u32>,
    /// Beside each member, the process that it was last known to be.
    pub(crate) members: Members<u32>,
    upkeep: Upkeep,
    patience: Patience,
    changes: Changes,
    links: Links,
    ops: BTreeMap<u32, Op>,
    surveys: usize,
    /// It has joined: its script may go on.
    pub(crate) joined: bool,
    /// Nothing until there is a record: most nodes of a large run never hold one.
    records: Option<Box<Records>>,
    next_seq: u64,
    next_op: u32,
    next_nonce: u32,
    woken_at: Option<Micros>,
    /// The version of the table that was looked at last.
    pub(crate) checked: Option<u64>,
}

impl Node {
    /// A process that joins through `seeds` with what an earlier one has left on disk, if there is one.
    pub(crate) fn new(cx: &mut Cx<'_>, config: Config, seed: u64, seeds: &[u32], disk: Option<Disk>) -> Self {
        let own = cx.id(cx.me);
        cx.wake(cx.core.now, Wake::Upkeep);
        let Disk { records, next_seq } = disk.unwrap_or_default();
        let mut node = Self {
            own,
            config,
            seed,
            booted: cx.now,
            seeds: seeds.to_vec(),
            members: Members::new(own, config.k),
            upkeep: Upkeep::new(seed, cx.now, UpkeepConfig::default()),
            patience: Patience::new(),
            changes: Changes::default(),
            links: Links::default(),
            ops: BTreeMap::new(),
            surveys: 0,
            joined: false,
            records: records.map(Records::reopened),
            next_seq,
            next_op: 0,
            next_nonce: 0,
            woken_at: Some(cx.core.now),
            checked: None,
        };
        if node.records.is_some() {
            node.records(cx);
        }
        node
    }

    /// What a process that ends leaves on its disk: no replica acknowledges what is not there yet, and
    /// sequences are reserved ahead of their use.
    pub(crate) fn into_disk(self) -> Disk {
        Disk { records: self.records, next_seq: self.next_seq + SEQUENCES }
    }

    /// Takes in a message.
    pub(crate) fn receive(&mut self, cx: &mut Cx<'_>, envelope: Envelope) {
        let Envelope { from, from_boot, message, .. } = envelope;
        match message {
            Message::Dial => cx.send(from, Some(from_boot), Message::Accepted),
            Message::Accepted => {
                if let Some(link) = self.links.get(from)
                    && matches!(link.state, State::Dialing(_))
                {
                    link.boot = Some(from_boot);
                    cx.send(from, Some(from_boot), Message::Hello);
                }
            }
            Message::Hello => {
                cx.send(from, Some(from_boot), Message::Welcome);
                self.handshaken(cx, from, from_boot);
            }
            Message::Welcome => self.handshaken(cx, from, from_boot),
            Message::Gone => self.gone(cx, from, from_boot),
            Message::Ask { op, nonce, ask } => {
                let answer = self.answer(cx, from, ask);
                cx.send(from, Some(from_boot), Message::Answer { op, nonce, answer });
            }
            Message::Answer { op, nonce, answer } => self.answered(cx, from, (op, nonce), answer),
        }
    }

    /// Goes on with what it asked to be woken for.
    pub(crate) fn woken(&mut self, cx: &mut Cx<'_>, what: Wake) {
        match what {
            Wake::Op(op) => self.wake_op(cx, op),
            Wake::Dial { peer, tries } => self.dial_again(cx, peer, tries),
            Wake::Upkeep if self.woken_at.is_some_and(|at| at <= cx.core.now) => {
                self.woken_at = None;
                self.keep_up(cx);
            }
            // It was woken before.
            Wake::Upkeep => {}
            Wake::Tend => self.tend(cx),
        }
    }

    /// Asks `peer` for an operation, over a connection that is dialled if there is none.
    fn send(&mut self, cx: &mut Cx<'_>, op: u32, peer: u32, ask: Ask) -> Sent {
        let nonce = self.next_nonce;
        self.next_nonce = nonce.wrapping_add(1);
        let now = cx.core.now;
        let Some(link) = self.links.live(now, peer) else {
            self.links.dial(now, peer, (op, nonce, ask));
            cx.send(peer, None, Message::Dial);
            cx.wake(now + DIAL_AGAIN, Wake::Dial { peer, tries: 1 });
            return Sent { nonce, messages: 1 + HANDSHAKE, way: Way::Cold };
        };
        match &mut link.state {
            State::Dialing(waiting) => {
                waiting.push((op, nonce, ask));
                Sent { nonce, messages: 1, way: Way::Cold }
            }
            State::Ready => {
                link.used = now;
                let boot = link.boot;
                cx.send(peer, boot, Message::Ask { op, nonce, ask });
                Sent { nonce, messages: 1, way: Way::Warm }
            }
        }
    }

    /// A handshake is complete: the peer is known, and what has waited for it is sent.
    fn handshaken(&mut self, cx: &mut Cx<'_>, peer: u32, boot: u32) {
        let (waiting, superseded) = self.links.ready(cx.core.now, peer, boot);
        if superseded {
            self.cut_off(cx, peer);
        }
        let id = cx.id(peer);
        // A private address, one for all: the limits on networks are not what is simulated.
        let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let inserted = self.members.connected(cx.now, id, ip, boot);
        self.changes.connected((peer, id), boot);
        if let Insert::Full { ping: Some(ping) } = inserted {
            self.ping(cx, ping);
        }
        for (op, nonce, ask) in waiting {
            if self.ops.contains_key(&op) {
                cx.send(peer, Some(boot), Message::Ask { op, nonce, ask });
            }
        }
    }

    /// The process that a connection led to is no more.
    fn gone(&mut self, cx: &mut Cx<'_>, peer: u32, boot: u32) {
        let Some(link) = self.links.get(peer).filter(|link| link.boot != Some(boot)) else { return };
        if matches!(link.state, State::Dialing(_)) {
            link.boot = None;
            cx.send(peer, None, Message::Dial);
        } else {
            self.links.drop(peer);
            self.cut_off(cx, peer);
        }
    }

    fn dial_again(&mut self, cx: &mut Cx<'_>, peer: u32, tries: u8) {
        let Some(link) = self.links.get(peer) else { return };
        if !matches!(link.state, State::Dialing(_)) {
            return;
        }
        if u64::from(tries) * DIAL_AGAIN < DIAL_TIMEOUT {
            let flight = if link.boot.is_some() { Message::Hello } else { Message::Dial };
            let boot = link.boot;
            cx.send(peer, boot, flight);
            return cx.wake(cx.core.now + DIAL_AGAIN, Wake::Dial { peer, tries: tries + 1 });
        }
        let waiting = self.links.drop(peer);
        self.lost(cx, peer);
        for (op, nonce, _) in waiting {
            self.failed(cx, op, nonce, false);
        }
    }

    /// A connection has ended: what is under way on it may have happened or not.
    fn cut_off(&mut self, cx: &mut Cx<'_>, peer: u32) {
        let requests = self.ops.iter().flat_map(|(id, op)| op.calls.to(peer).map(|nonce| (*id, nonce)));
        let lost: Vec<(u32, u32)> = requests.collect();
        for (op, nonce) in lost {
            self.failed(cx, op, nonce, true);
        }
    }

    /// A peer did not answer at any address.
    fn lost(&mut self, cx: &Cx<'_>, peer: u32) {
        let id = cx.id(peer);
        self.members.unreachable(cx.now, &id);
        self.changes.gone((peer, id));
    }

    fn ping(&mut self, cx: &mut Cx<'_>, peer: NodeId) {
        self.start(cx, Task::Ping(Pinging::new(peer)));
    }
}
