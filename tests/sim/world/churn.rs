//! Records under churn: nodes die for good and new ones join, while others store and read.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use foveola::dht::read::Level;
use foveola::id::{Key, NodeId};
use foveola::wire::RecordKind;
use rand::RngExt;

use super::World;
use super::clock::{MINUTE, Micros, SECOND, span};
use super::core::Done;
use super::network::Conditions;
use super::node::{Config, Found, Query, Stored, Want};

/// Between two nodes that join at the start.
const JOIN_EVERY: Micros = SECOND / 20;

/// Nodes that a newcomer is told of.
const SEEDS: usize = 3;

/// Between two stores.
const STORE_EVERY: Micros = SECOND;

/// How long a record lives: through the whole run.
const TTL: Duration = Duration::from_secs(2 * 3_600);

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Churn {
    pub(crate) nodes: u32,
    pub(crate) k: usize,
    /// The share of the nodes that is replaced in a minute.
    pub(crate) replaced: f64,
    pub(crate) minutes: u64,
    pub(crate) probes: u64,
    pub(crate) seed: u64,
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Churned {
    churn: Churn,
    replaced: u64,
    stores: u64,
    acknowledged: u64,
    probes: u64,
    readable: u64,
    /// Reads that too few replicas answered.
    incomplete: u64,
    /// Reads that were answered without the record, while some node that ran had it.
    missed: u64,
    /// Reads that were answered without the record, which no running node had.
    gone: u64,
    /// Stores and reads whose node died meanwhile.
    abandoned: u64,
    orphaned: u64,
    events: u64,
    hash: u64,
}

/// A record that was acknowledged.
#[derive(Debug, Clone, Copy)]
struct Kept {
    key: Key,
    publisher: NodeId,
    seq: u64,
}

struct Run {
    world: World,
    churned: Churned,
    storing: BTreeMap<u32, Key>,
    probing: BTreeMap<u32, Kept>,
    kept: Vec<Kept>,
    order: VecDeque<u32>,
    token: u32,
}

impl Churn {
    /// Joins the nodes, then replaces some again and again while records are stored and read.
    pub(crate) fn run(self) -> Churned {
        let mut world = World::new(Config::new(self.k), Conditions::CALM, self.seed, None);
        world.grow(self.nodes, JOIN_EVERY, SEEDS);
        let settled = world.core.now + MINUTE;
        world.run(settled);
        let mut run = Run::new(self, world);
        let ends = settled + self.minutes * MINUTE;
        let replace_every = (MINUTE as f64 / (f64::from(self.nodes) * self.replaced)) as Micros;
        let first_probe = settled + 10 * SECOND;
        let probe_every = (ends - first_probe) / self.probes;
        let (mut replace, mut probe, mut store) = (settled + replace_every, first_probe, settled);
        while replace.min(probe).min(store) < ends {
            run.pass(replace.min(probe).min(store));
            let now = run.world.core.now;
            if now >= store {
                run.store();
                store += STORE_EVERY;
            }
            if now >= replace {
                run.replace();
                replace += replace_every;
            }
            if now >= probe {
                run.probe();
                probe += probe_every;
            }
        }
        run.pass(ends + MINUTE / 2);
        run.finish()
    }
}

impl Run {
    fn new(churn: Churn, world: World) -> Self {
        let churned = Churned {
            churn,
            replaced: 0,
            stores: 0,
            acknowledged: 0,
            probes: 0,
            readable: 0,
            incomplete: 0,
            missed: 0,
            gone: 0,
            abandoned: 0,
            orphaned: 0,
            events: 0,
            hash: 0,
        };
        let (storing, probing) = (BTreeMap::new(), BTreeMap::new());
        let order = (0..churn.nodes).collect();
        Self { world, churned, storing, probing, kept: Vec::new(), order, token: 0 }
    }

    /// Ends a random node for good and starts a new one.
    fn replace(&mut self) {
        let at = self.world.rng.random_range(0..self.order.len());
        let Some(node) = self.order.swap_remove_back(at) else { return };
        self.world.crash(node);
        let newcomer = self.world.join(SEEDS, 0);
        self.order.push_back(newcomer);
        self.churned.replaced += 1;
    }

    /// A random node that has joined.
    fn any(&mut self) -> u32 {
        loop {
            let node = self.order[self.world.rng.random_range(0..self.order.len())];
            if self.world.node(node).is_some_and(|node| node.joined) {
                return node;
            }
        }
    }

    fn store(&mut self) {
        self.token += 1;
        let (token, node) = (self.token, self.any());
        let key = Key::of_name(token.to_be_bytes());
        self.storing.insert(token, key);
        self.churned.stores += 1;
        let value = Some(Bytes::copy_from_slice(&token.to_be_bytes()));
        let want = Want { token, key, kind: RecordKind::VALUE, value, signed: false, ttl: TTL };
        self.world.with(node, |node, cx| node.store(cx, want));
    }

    /// Reads a random acknowledged record from a random node.
    fn probe(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        self.token += 1;
        let kept = self.kept[self.world.rng.random_range(0..self.kept.len())];
        let (token, node) = (self.token, self.any());
        self.probing.insert(token, kept);
        self.churned.probes += 1;
        let query = Query { token, key: kept.key, kind: RecordKind::VALUE, level: Level::First };
        self.world.with(node, |node, cx| node.find(cx, query));
    }

    fn pass(&mut self, until: Micros) {
        while self.world.step(until).is_some() {
            while let Some(done) = self.world.core.done.pop() {
                self.take(done);
            }
        }
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Lookup { .. } => {}
            Done::Stored { node, token, stored } => {
                let Some(key) = self.storing.remove(&token) else { return };
                if let Stored::Acknowledged { seq } = stored {
                    self.churned.acknowledged += 1;
                    let publisher = self.world.core.directory.host(node).id;
                    self.kept.push(Kept { key, publisher, seq });
                }
            }
            Done::Found { token, found, .. } => {
                let Some(kept) = self.probing.remove(&token) else { return };
                self.count(kept, &found);
            }
        }
    }

    fn count(&mut self, kept: Kept, found: &Found) {
        let is_it = |records: &[_]| {
            records.iter().any(|record: &foveola::dht::read::Heard| {
                record.publisher == kept.publisher && record.seq >= kept.seq
            })
        };
        match &found.records {
            Some(records) if is_it(records) => self.churned.readable += 1,
            None => {
                self.churned.incomplete += 1;
            }
            Some(_) if self.is_held(kept) => self.churned.missed += 1,
            Some(_) => self.churned.gone += 1,
        }
    }

    /// Whether some running node holds the record.
    fn is_held(&mut self, kept: Kept) -> bool {
        let order = std::mem::take(&mut self.order);
        let held = order.iter().any(|node| {
            self.world.with(*node, |node, cx| node.holds(cx, &kept.key, &kept.publisher)).unwrap_or(false)
        });
        self.order = order;
        held
    }

    fn finish(mut self) -> Churned {
        self.churned.abandoned = self.storing.len() as u64;
        self.churned.orphaned = self.probing.len() as u64;
        self.churned.events = self.world.core.trace.events();
        self.churned.hash = self.world.hash();
        self.churned
    }
}

impl Churned {
    /// The share of the reads, of those whose node lived to the end of it, that returned the record.
    pub(crate) fn readable(&self) -> f64 {
        self.readable as f64 / (self.probes - self.orphaned).max(1) as f64
    }
}

impl fmt::Display for Churned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Churn { nodes, k, minutes, seed, .. } = self.churn;
        let length = span(minutes * MINUTE).as_secs();
        writeln!(f, "{nodes} nodes, k = {k}, {length} s of churn, seed {seed}")?;
        writeln!(f, "nodes replaced        {}", self.replaced)?;
        writeln!(f, "stores acknowledged   {} of {}", self.acknowledged, self.stores)?;
        writeln!(f, "writers that died     {}", self.abandoned)?;
        writeln!(f, "readable              {:.4} % of {} reads", 100.0 * self.readable(), self.probes)?;
        writeln!(f, "too few answers       {}", self.incomplete)?;
        writeln!(f, "missed, held          {}", self.missed)?;
        writeln!(f, "held by nobody        {}", self.gone)?;
        writeln!(f, "readers that died     {}", self.orphaned)?;
        write!(f, "trace                 {:016x}, {} events", self.hash, self.events)
    }
}
