//! How well lookups do in a large mesh: who is found, over how many hops, at which cost.

use std::fmt;

use foveola::dht::lookup::Outcome;
use foveola::id::{Key, NodeId};
use rand::{Rng, RngExt};

use super::World;
use super::clock::{MINUTE, Micros, SECOND};
use super::core::Done;
use super::network::Conditions;
use super::node::{Config, Why};

/// Between two nodes that join.
const JOIN_EVERY: Micros = SECOND / 50;

/// Between two lookups that are measured.
const PROBE_EVERY: Micros = SECOND / 100;

/// From the last join to the first lookup that is measured: all joining is over, and every bucket was looked
/// into once.
const REFRESHED: Micros = 2 * MINUTE;

/// Nodes that a newcomer is told of.
const SEEDS: usize = 3;

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) nodes: u32,
    pub(crate) k: usize,
    pub(crate) lookups: u32,
    pub(crate) seed: u64,
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Scaled {
    scale: Scale,
    /// Lookups that returned exactly the k closest nodes.
    exact: u32,
    /// Of the k closest nodes, how many a lookup returned, added up.
    overlap: u64,
    /// By lookup, rising.
    hops: Vec<u32>,
    queries: u64,
    messages: u64,
    /// By node, rising: bytes of state without records.
    bytes: Vec<usize>,
    members: u64,
    virtual_time: Micros,
    events: u64,
    hash: u64,
}

impl Scaled {
    /// The share of lookups that returned exactly the k closest nodes.
    pub(crate) fn exact(&self) -> f64 {
        f64::from(self.exact) / f64::from(self.scale.lookups)
    }

    /// How many of the k closest nodes a lookup returned, on average.
    pub(crate) fn overlap(&self) -> f64 {
        self.overlap as f64 / f64::from(self.scale.lookups)
    }

    /// Hops of a lookup, on average.
    pub(crate) fn hops(&self) -> f64 {
        self.hops.iter().map(|hops| f64::from(*hops)).sum::<f64>() / self.hops.len() as f64
    }

    /// Bytes of state of a node without records, on average.
    pub(crate) fn bytes(&self) -> f64 {
        self.bytes.iter().sum::<usize>() as f64 / self.bytes.len() as f64
    }
}

impl Scale {
    /// Joins all nodes, waits for a round of refreshes, and looks random keys up from random nodes.
    pub(crate) fn run(self) -> Scaled {
        let mut world = World::new(Config::new(self.k), Conditions::CALM, self.seed, None);
        world.grow(self.nodes, JOIN_EVERY, SEEDS);
        let refreshed = world.core.now + REFRESHED;
        world.run(refreshed);
        world.core.done.clear();
        for _ in 0..self.lookups {
            let mut key = [0; 32];
            world.rng.fill_bytes(&mut key);
            let node = world.rng.random_range(0..self.nodes);
            world.with(node, |node, cx| node.look_up(cx, Key::from_bytes(key), Why::Probe));
            let next = world.core.now + PROBE_EVERY;
            world.run(next);
        }
        let last = world.core.now + 20 * SECOND;
        world.run(last);
        self.measure(&world)
    }

    fn measure(self, world: &World) -> Scaled {
        let ids: Vec<NodeId> = world.core.directory.hosts.iter().map(|host| host.id).collect();
        let mut bytes: Vec<usize> =
            (0..self.nodes).filter_map(|node| world.node(node)).map(|node| node.members.memory()).collect();
        bytes.sort_unstable();
        let members = (0..self.nodes).filter_map(|node| world.node(node));
        let mut scaled = Scaled {
            scale: self,
            exact: 0,
            overlap: 0,
            hops: Vec::new(),
            queries: 0,
            messages: 0,
            bytes,
            members: members.map(|node| node.members.table().len() as u64).sum(),
            virtual_time: world.core.now,
            events: world.core.trace.events(),
            hash: world.hash(),
        };
        for done in &world.core.done {
            if let Done::Lookup { node, outcome, messages } = done {
                scaled.count(&ids, ids[*node as usize], outcome, *messages);
            }
        }
        scaled.hops.sort_unstable();
        scaled
    }
}

impl Scaled {
    fn count(&mut self, ids: &[NodeId], own: NodeId, outcome: &Outcome, messages: u32) {
        let truth = closest(ids, &own, &outcome.target, self.scale.k);
        let overlap = truth.iter().filter(|node| outcome.nodes.contains(node)).count();
        self.exact += u32::from(truth == outcome.nodes);
        self.overlap += overlap as u64;
        self.hops.push(outcome.hops);
        self.queries += u64::from(outcome.queries);
        self.messages += u64::from(messages);
    }
}

/// The `k` of `ids` that are closest to `key`, `own` left out, closest first.
pub(crate) fn closest(ids: &[NodeId], own: &NodeId, key: &Key, k: usize) -> Vec<NodeId> {
    let mut others: Vec<NodeId> = ids.iter().filter(|id| *id != own).copied().collect();
    if k < others.len() {
        others.select_nth_unstable_by_key(k, |id| id.distance(key));
        others.truncate(k);
    }
    others.sort_unstable_by_key(|id| id.distance(key));
    others
}

/// The value that a share of a rising list does not exceed.
fn quantile<T: Copy + Default>(rising: &[T], share: f64) -> T {
    let at = (rising.len() as f64 * share) as usize;
    rising.get(at.min(rising.len().saturating_sub(1))).copied().unwrap_or_default()
}

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scale { nodes, k, lookups, seed } = self.scale;
        let each = |sum: u64| sum as f64 / f64::from(lookups);
        writeln!(f, "{nodes} nodes, k = {k}, {lookups} lookups, seed {seed}")?;
        writeln!(f, "exactly the true {k} closest    {:.3} %", 100.0 * self.exact())?;
        writeln!(f, "mean overlap                  {:.4} of {k}", self.overlap())?;
        let hops = (self.hops(), quantile(&self.hops, 0.99), self.hops.last().copied().unwrap_or(0));
        let bound = f64::from(nodes).log2() / 2.0;
        writeln!(
            f,
            "hops mean, p99, max           {:.2}, {}, {} (log2(N)/2 = {bound:.2})",
            hops.0, hops.1, hops.2
        )?;
        writeln!(f, "queries per lookup            {:.1}", each(self.queries))?;
        writeln!(f, "messages per lookup           {:.1}, handshakes included", each(self.messages))?;
        let (p99, max) = (quantile(&self.bytes, 0.99), self.bytes.last().copied().unwrap_or(0));
        writeln!(f, "bytes of state per node       {:.0} mean, {p99} p99, {max} max", self.bytes())?;
        writeln!(f, "members per table             {:.1}", self.members as f64 / f64::from(nodes))?;
        writeln!(
            f,
            "virtual time                  {} s, {} events",
            self.virtual_time / SECOND,
            self.events
        )?;
        write!(f, "trace                         {:016x}", self.hash)
    }
}
