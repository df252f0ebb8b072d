//! What all nodes share: the true time, the network, who is who, and what has come of operations.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

use foveola::dht::lookup::Outcome;
use foveola::id::{Key, NodeId};

use super::clock::{Micros, Skew};
use super::ledger::Ledger;
use super::message::Message;
use super::network::Network;
use super::node::{Found, Stored};
use super::queue::Queue;
use super::trace::Trace;

/// What happens at some time.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message arrives.
    Deliver(Box<Envelope>),
    /// A node asked to be woken.
    Wake { node: u32, boot: u32, what: Wake },
}

/// A message under way.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) from: u32,
    pub(crate) from_boot: u32,
    pub(crate) to: u32,
    /// The process that it is meant for, once there was a handshake with it.
    pub(crate) to_boot: Option<u32>,
    pub(crate) message: Message,
}

/// Why a node is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// An operation wants to go on.
    Op(u32),
    /// A dial to a node has had no answer for a while.
    Dial { peer: u32, tries: u8 },
    /// Upkeep has something due.
    Upkeep,
    /// The store and the log: expiry, republishing, replication.
    Tend,
}

/// What has come of an operation that the script of a run began.
#[derive(Debug)]
pub(crate) enum Done {
    Lookup { node: u32, outcome: Outcome, messages: u32 },
    Stored { node: u32, token: u32, stored: Stored },
    Found { node: u32, token: u32, found: Found },
}

/// What the network knows of a node, apart from its memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host {
    pub(crate) id: NodeId,
    /// Rises with every start.
    pub(crate) boot: u32,
    /// The first process whose records the present one has.
    pub(crate) oldest: u32,
    pub(crate) up: bool,
    pub(crate) skew: Skew,
}

/// Who is who. Nodes go by dense numbers where nobody decides anything.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) hosts: Vec<Host>,
    /// Only ever asked for one id, so its order reaches nobody.
    index: HashMap<NodeId, u32, BuildHasherDefault<Head>>,
}

impl Directory {
    pub(crate) fn add(&mut self, host: Host) -> u32 {
        let index = u32::try_from(self.hosts.len()).expect("fewer than 2^32 nodes");
        self.index.insert(host.id, index);
        self.hosts.push(host);
        index
    }

    pub(crate) fn index(&self, id: &NodeId) -> Option<u32> {
        self.index.get(id).copied()
    }

    /// Whether some of `nodes` are among the `n` running nodes closest to `key`.
    pub(crate) fn any_close(&self, key: &Key, n: usize, nodes: &BTreeSet<u32>) -> bool {
        let nearest = nodes.iter().map(|node| self.host(*node).id.distance(key)).min();
        let closer = |host: &&Host| host.up && nearest.is_some_and(|nearest| host.id.distance(key) < nearest);
        !nodes.is_empty() && self.hosts.iter().filter(closer).count() < n
    }

    pub(crate) fn host(&self, index: u32) -> &Host {
        &self.hosts[index as usize]
    }
}

/// Node ids are hashes already: their last bytes will do.
#[derive(Debug, Default)]
pub(crate) struct Head(u64);

impl Hasher for Head {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(tail) = bytes.last_chunk::<8>() {
            self.0 = u64::from_le_bytes(*tail);
        }
    }

    fn write_usize(&mut self, _len: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Everything but the memory of the nodes.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) now: Micros,
    pub(crate) queue: Queue<Event>,
    pub(crate) network: Network,
    pub(crate) directory: Directory,
    pub(crate) trace: Trace,
    pub(crate) done: Vec<Done>,
    pub(crate) ledger: Ledger,
}

impl Core {
    /// Sends a message into the network.
    pub(crate) fn send(&mut self, envelope: Envelope) {
        let Envelope { from, to, .. } = envelope;
        let mut copies = self.network.carry(from, to);
        let last = copies.pop();
        for delay in copies {
            self.queue.push(self.now + delay, Event::Deliver(Box::new(envelope.clone())));
        }
        match last {
            Some(delay) => self.queue.push(self.now + delay, Event::Deliver(Box::new(envelope))),
            None => {
                let now = self.now;
                self.trace.line(now, || format!("{from} -> {to} {} is lost", envelope.message.name()));
            }
        }
    }
}

/// What a node is given with every input: the shared world, and its own time.
#[derive(Debug)]
pub(crate) struct Cx<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) me: u32,
    pub(crate) boot: u32,
    /// The present, as the node's clock shows it.
    pub(crate) now: Instant,
}

impl Cx<'_> {
    pub(crate) fn send(&mut self, to: u32, to_boot: Option<u32>, message: Message) {
        let (from, from_boot) = (self.me, self.boot);
        self.core.send(Envelope { from, from_boot, to, to_boot, message });
    }

    /// Wakes this node at `at`, if it still runs then.
    pub(crate) fn wake(&mut self, at: Micros, what: Wake) {
        let (node, boot) = (self.me, self.boot);
        self.core.queue.push(at.max(self.core.now), Event::Wake { node, boot, what });
    }

    /// The true time of an instant of this node's clock.
    pub(crate) fn global(&self, instant: Instant) -> Micros {
        self.core.directory.host(self.me).skew.global(instant)
    }

    pub(crate) fn id(&self, node: u32) -> NodeId {
        self.core.directory.host(node).id
    }
}
