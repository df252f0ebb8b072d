//! The simulator: the production machines of many nodes under a virtual clock and a seeded network.
//!
//! It holds no logic of Kademlia. A [`node::Node`] moves inputs and outputs of the machines of
//! [`foveola::dht`] as the service of the library does, a [`World`] moves messages between nodes and lets
//! faults strike. Everything happens in one thread in the order of one queue, and all chance comes from one
//! seed, so a seed gives the same run, event by event; [`World::hash`] tells.
//!
//! Time in which nothing happens costs nothing.

pub(crate) mod churn;
pub(crate) mod clock;
mod core;
pub(crate) mod faults;
mod ledger;
mod message;
mod network;
mod node;
mod queue;
pub(crate) mod scale;
pub(crate) mod survived;
mod swarm;
mod trace;

use std::io::Write;
use std::time::Instant;

use foveola::id::NodeId;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::clock::{Micros, Skew};
use self::core::{Core, Cx, Directory, Event, Host};
use self::ledger::Ledger;
use self::message::Message;
use self::network::{Conditions, Network};
use self::node::{Config, Disk, Node};
use self::queue::Queue;
use self::trace::Trace;

/// Many nodes, and the network between them.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) rng: ChaCha8Rng,
    epoch: Instant,
    config: Config,
    /// By number; none while it is down.
    nodes: Vec<Option<Box<Node>>>,
    /// By number: what a process has left on its disk, if nodes have one.
    disks: Vec<Option<Disk>>,
    pub(crate) has_disks: bool,
}

impl World {
    /// A world without nodes. `lines` takes a line for every event, if it is given.
    pub(crate) fn new(
        config: Config,
        conditions: Conditions,
        seed: u64,
        lines: Option<Box<dyn Write>>,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let core = Core {
            now: 0,
            queue: Queue::new(),
            network: Network::new(conditions, rng.next_u64()),
            directory: Directory::default(),
            trace: Trace::new(lines),
            done: Vec::new(),
            ledger: Ledger::default(),
        };
        // Where the virtual clock starts is the same to everybody: instants are only ever subtracted.
        Self {
            core,
            rng,
            epoch: Instant::now(),
            config,
            nodes: Vec::new(),
            disks: Vec::new(),
            has_disks: false,
        }
    }

    /// Makes a node with an id of its own, which does not run yet.
    pub(crate) fn add(&mut self, skew: i64) -> u32 {
        let mut id = [0; 32];
        self.rng.fill_bytes(&mut id);
        let offset = self.rng.random_range(0..clock::MINUTE);
        let skew = Skew::new(self.epoch, offset, skew);
        self.core.network.attach();
        self.nodes.push(None);
        self.disks.push(None);
        self.core.directory.add(Host { id: NodeId::from_bytes(id), boot: 0, oldest: 0, up: false, skew })
    }

    /// Starts a process of a node, which joins through `seeds`, with what is on its disk.
    pub(crate) fn boot(&mut self, node: u32, seeds: &[u32]) {
        let disk = self.disks[node as usize].take();
        let host = &mut self.core.directory.hosts[node as usize];
        (host.boot, host.up) = (host.boot + 1, true);
        if disk.is_none() {
            host.oldest = host.boot;
        }
        let seed = self.rng.next_u64();
        let mut cx = cx(&mut self.core, node);
        let process = Node::new(&mut cx, self.config, seed, seeds, disk);
        self.nodes[node as usize] = Some(Box::new(process));
        self.core.trace.line(self.core.now, || format!("{node} starts"));
    }

    /// Ends the process of a node, and with it its memory.
    pub(crate) fn crash(&mut self, node: u32) {
        self.core.directory.hosts[node as usize].up = false;
        let process = self.nodes[node as usize].take();
        self.disks[node as usize] = process.filter(|_| self.has_disks).map(|process| process.into_disk());
        self.core.trace.line(self.core.now, || format!("{node} crashes"));
    }

    /// The running process of a node.
    pub(crate) fn node(&self, node: u32) -> Option<&Node> {
        self.nodes[node as usize].as_deref()
    }

    /// Gives an input to a running node.
    pub(crate) fn with<R>(
        &mut self,
        node: u32,
        input: impl FnOnce(&mut Node, &mut Cx<'_>) -> R,
    ) -> Option<R> {
        let process = self.nodes[node as usize].as_mut()?;
        Some(input(process, &mut cx(&mut self.core, node)))
    }

    /// Lets the next event happen and returns to whom; if there is none until `until`, it is `until` then.
    pub(crate) fn step(&mut self, until: Micros) -> Option<u32> {
        let Some((at, event)) = self.core.queue.pop(until) else {
            self.core.now = self.core.now.max(until);
            return None;
        };
        self.core.now = at;
        let node = match event {
            Event::Deliver(envelope) => {
                let (from, to) = (envelope.from, envelope.to);
                let ends = u64::from(from) << 32 | u64::from(to);
                self.core.trace.note(at, [ends, envelope.message.digest(), 1]);
                self.core.trace.line(at, || format!("{from} -> {to} {}", envelope.message.name()));
                let host = *self.core.directory.host(to);
                let meant = envelope.to_boot.is_none_or(|boot| boot == host.boot);
                if host.up && meant {
                    if matches!(envelope.message, Message::Hello | Message::Welcome) {
                        let peer = self.core.directory.host(from).id;
                        self.core.ledger.met((to, host.boot), peer);
                    }
                    self.with(to, |node, cx| node.receive(cx, *envelope));
                } else {
                    self.core.network.struck.to_nobody += 1;
                    if host.up && !matches!(envelope.message, Message::Gone) {
                        let boot = Some(envelope.from_boot);
                        cx(&mut self.core, to).send(from, boot, Message::Gone);
                    }
                }
                to
            }
            Event::Wake { node, boot, what } => {
                let host = self.core.directory.host(node);
                if host.up && host.boot == boot {
                    self.core.trace.note(at, [u64::from(node), u64::from(boot), 2]);
                    self.with(node, |node, cx| node.woken(cx, what));
                }
                node
            }
        };
        Some(node)
    }

    /// Looks at the table of a node, if it has changed since.
    pub(crate) fn check(&mut self, node: u32) {
        let boot = self.core.directory.host(node).boot;
        let Some(process) = self.nodes[node as usize].as_mut() else { return };
        let (k, version) = (self.config.k, process.members.table().version());
        self.core.ledger.size(self.core.now, (node, boot), process.members.answering());
        if process.checked != Some(version) {
            process.checked = Some(version);
            self.core.ledger.table(self.core.now, (node, boot), k, process.members.table());
        }
    }

    /// Lets everything happen until `until`.
    pub(crate) fn run(&mut self, until: Micros) {
        while self.step(until).is_some() {}
    }

    /// A number that two runs share only if the same happened in both.
    pub(crate) fn hash(&self) -> u64 {
        self.core.trace.hash()
    }
}

/// What `node` is given with an input.
fn cx(core: &mut Core, node: u32) -> Cx<'_> {
    let host = *core.directory.host(node);
    let now = host.skew.local(core.now);
    Cx { core, me: node, boot: host.boot, now }
}

impl World {
    /// Adds `count` nodes, one after the other, each of which joins through some that are there, and waits
    /// until the last has joined.
    pub(crate) fn grow(&mut self, count: u32, every: Micros, seeds: usize) {
        for _ in 0..count {
            self.join(seeds, 0);
            let next = self.core.now + every;
            self.run(next);
        }
    }

    /// Starts a new node that joins through some that run.
    pub(crate) fn join(&mut self, seeds: usize, skew: i64) -> u32 {
        let seeds = self.seeds(seeds);
        let node = self.add(skew);
        self.boot(node, &seeds);
        node
    }

    /// Some running nodes, if there are any; one may be there twice.
    pub(crate) fn seeds(&mut self, count: usize) -> Vec<u32> {
        (0..count).filter_map(|_| self.running()).collect()
    }

    /// A random running node.
    pub(crate) fn running(&mut self) -> Option<u32> {
        let first = self.rng.random_range(0..self.nodes.len().max(1));
        let (before, after) = self.nodes.split_at_checked(first)?;
        let runs = after.iter().chain(before).position(Option::is_some)?;
        u32::try_from((first + runs) % self.nodes.len()).ok()
    }
}
