//! A mesh under faults: what was promised is checked while they strike, and after everything has healed.
//!
//! A run joins its nodes, then lets crashes, cuts, slow nodes and everything that the network does to messages
//! strike while nodes store, remove and read. Then all faults end, whoever did not die for good comes back,
//! and after [`SETTLE`] every promise is called in by quorum reads.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use foveola::dht::planted::{Bug, plant};
use foveola::dht::read::{Heard, Level};
use foveola::id::Key;
use foveola::wire::RecordKind;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::World;
use super::clock::{MINUTE, Micros, SECOND};
use super::core::Done;
use super::ledger::{Broken, Read, Register};
use super::network::{Conditions, Cut};
use super::node::{Config, Found, Query, Stored, Want};
use super::survived::{Counts, Survived};
use super::swarm::{Swarm, pick};

/// Between two nodes that join.
const JOIN_EVERY: Micros = SECOND / 5;

/// From the end of all faults to the reckoning: one round of replication and the time to find out who is there.
const SETTLE: Micros = 15 * MINUTE;

/// Nodes that a newcomer is told of.
const SEEDS: usize = 3;

/// No more than one in so many nodes dies for good.
const DEAD_SHARE: usize = 3;

/// Between two operations of the reckoning.
const RECKON_EVERY: Micros = SECOND / 20;

/// The bugs that are planted to be found.
pub(crate) const BUGS: [Bug; 3] = [Bug::AckBeforeApply, Bug::QuorumOfFound, Bug::TombstoneDroppedEarly];

/// A run under faults.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) seed: u64,
    pub(crate) nodes: u32,
    /// How long faults strike.
    pub(crate) chaos: Micros,
    /// A bug for it to find.
    pub(crate) bug: Option<Bug>,
}

/// What the script does, each at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strike {
    Operation,
    Crash,
    Restart(u32),
    Cut,
    Mend,
    Slow,
    Quick(u32),
}

/// An operation that the script began.
#[derive(Debug, Clone)]
struct Asked {
    began: Micros,
    key: Key,
    kind: RecordKind,
    /// What is stored; nothing for a read.
    value: Option<Bytes>,
}

/// A run under way.
struct Run {
    world: World,
    faults: Faults,
    swarm: Swarm,
    counts: Counts,
    plan: BTreeMap<(Micros, u64), Strike>,
    planned: u64,
    dead: BTreeSet<u32>,
    slow: BTreeSet<u32>,
    asked: BTreeMap<u32, Asked>,
    token: u32,
    /// Faults are over, and everything must succeed.
    reckoning: bool,
}

impl Faults {
    /// Runs it; `lines` takes a line for every event.
    pub(crate) fn run(self, lines: Option<Box<dyn Write>>) -> Survived {
        plant(self.bug);
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let swarm = Swarm::draw(&mut rng);
        let mut world = World::new(Config::new(swarm.k), Conditions::CALM, self.seed, lines);
        world.has_disks = swarm.disks;
        world.core.ledger.watches = true;
        world.core.ledger.skew = swarm.skew.unsigned_abs();
        let mut run = Run::new(self, swarm, world);
        run.join();
        run.strike();
        run.heal();
        run.reckon();
        plant(None);
        run.survived()
    }
}

impl Run {
    fn new(faults: Faults, swarm: Swarm, world: World) -> Self {
        let (plan, asked) = (BTreeMap::new(), BTreeMap::new());
        let (dead, slow) = (BTreeSet::new(), BTreeSet::new());
        let counts = Counts { runs: 1, ..Counts::default() };
        Self { world, faults, swarm, counts, plan, planned: 0, dead, slow, asked, token: 0, reckoning: false }
    }

    fn join(&mut self) {
        for _ in 0..self.faults.nodes {
            let skew = if self.swarm.skew == 0 { 0 } else { self.roll(-self.swarm.skew..=self.swarm.skew) };
            self.counts.skewed += u64::from(skew != 0);
            self.world.join(SEEDS, skew);
            self.pass(self.world.core.now + JOIN_EVERY);
        }
        self.pass(self.world.core.now + 30 * SECOND);
    }

    /// Lets faults strike while nodes work.
    fn strike(&mut self) {
        self.world.core.network.conditions = self.swarm.conditions;
        let ends = self.world.core.now + self.faults.chaos;
        self.after(Some(self.swarm.op_every), Strike::Operation);
        self.after(self.swarm.crash_every, Strike::Crash);
        self.after(self.swarm.cut_every, Strike::Cut);
        self.after(self.swarm.slow_every, Strike::Slow);
        while let Some(((at, _), strike)) = self.plan.pop_first().filter(|((at, _), _)| *at < ends) {
            self.pass(at);
            self.perform(strike);
        }
        self.pass(ends);
    }

    fn perform(&mut self, strike: Strike) {
        match strike {
            Strike::Operation => {
                self.operate();
                self.after(Some(self.swarm.op_every), Strike::Operation);
            }
            Strike::Crash => {
                self.crash();
                self.after(self.swarm.crash_every, Strike::Crash);
            }
            Strike::Restart(node) => self.restart(node),
            Strike::Cut => self.cut(),
            Strike::Mend => {
                self.world.core.network.cut = None;
                self.after(self.swarm.cut_every, Strike::Cut);
            }
            Strike::Slow => {
                let node = self.roll(0..self.faults.nodes);
                let delay = self.roll(SECOND / 10..3 * SECOND);
                self.world.core.network.slow(node, delay);
                self.slow.insert(node);
                self.counts.slowed += 1;
                self.after(Some(30 * SECOND), Strike::Quick(node));
                self.after(self.swarm.slow_every, Strike::Slow);
            }
            Strike::Quick(node) => {
                self.world.core.network.slow(node, 0);
                self.slow.remove(&node);
            }
        }
    }

    fn crash(&mut self) {
        let Some(node) = self.world.running() else { return };
        let most = self.faults.nodes as usize / DEAD_SHARE;
        let for_good = self.roll(0..100) < self.swarm.for_good && self.dead.len() < most;
        self.world.crash(node);
        self.counts.crashes += 1;
        if for_good {
            self.counts.for_good += 1;
            self.dead.insert(node);
        } else {
            self.after(Some(20 * SECOND), Strike::Restart(node));
        }
    }

    fn restart(&mut self, node: u32) {
        self.counts.restarts += 1;
        let seeds = self.world.seeds(SEEDS);
        self.world.boot(node, &seeds);
    }

    /// Cuts some nodes off from the others, in one direction or both.
    fn cut(&mut self) {
        let share = self.roll(1..=50);
        let group = (0..self.faults.nodes).map(|_| self.roll(0..100) < share).collect();
        let (out, back) = pick(&mut self.world.rng, &[(true, true), (true, false), (false, true)]);
        self.world.core.network.cut = Some(Cut { group, out, back });
        self.counts.cuts += 1;
        self.after(Some(30 * SECOND), Strike::Mend);
    }

    /// Begins a random operation at a random node.
    fn operate(&mut self) {
        let Some(node) = self.world.running() else { return };
        let key = Key::of_name(self.roll(0..self.swarm.keys).to_be_bytes());
        let kind = pick(&mut self.world.rng, &[RecordKind::VALUE, RecordKind::VALUE, RecordKind::PROVIDER]);
        match self.roll(0..10) {
            0..4 => self.read(node, key, kind),
            4..8 => self.store(node, key, kind, true),
            _ => self.store(node, key, kind, false),
        }
    }

    fn read(&mut self, node: u32, key: Key, kind: RecordKind) {
        let token = self.ask(key, kind, None);
        self.counts.reads += 1;
        let query = Query { token, key, kind, level: Level::Quorum };
        self.world.with(node, |node, cx| node.find(cx, query));
    }

    /// Stores something under a key, or removes what is there.
    fn store(&mut self, node: u32, key: Key, kind: RecordKind, live: bool) {
        let value = live.then(|| Bytes::copy_from_slice(&self.token.to_be_bytes()));
        let token = self.ask(key, kind, Some(value.clone().unwrap_or_default()));
        let signed = key.as_bytes()[0].is_multiple_of(3);
        // A publisher that has restarted does not know what it removes: it must name a life that is long enough.
        let lives: &[u64] = if live { &[60, 600, 3_600, 7_200] } else { &[7_200] };
        let ttl = Duration::from_secs(pick(&mut self.world.rng, lives));
        self.counts.stores += 1;
        self.counts.removed += u64::from(!live);
        let want = Want { token, key, kind, value, signed, ttl };
        self.world.with(node, |node, cx| node.store(cx, want));
    }

    fn ask(&mut self, key: Key, kind: RecordKind, value: Option<Bytes>) -> u32 {
        self.token += 1;
        self.asked.insert(self.token, Asked { began: self.world.core.now, key, kind, value });
        self.token
    }

    /// Ends all faults and brings back everybody who has not died for good.
    fn heal(&mut self) {
        self.world.core.network.conditions = Conditions { lost: 0, ..Conditions::CALM };
        self.world.core.network.cut = None;
        for node in std::mem::take(&mut self.slow) {
            self.world.core.network.slow(node, 0);
        }
        for node in 0..self.faults.nodes {
            if !self.dead.contains(&node) && !self.world.core.directory.host(node).up {
                self.restart(node);
            }
        }
        self.pass(self.world.core.now + SETTLE);
    }

    /// Calls in every promise: all that was acknowledged is read, and all operations must succeed.
    fn reckon(&mut self) {
        self.reckoning = true;
        self.asked.clear();
        let registers = self.world.core.ledger.registers.keys();
        let keys: BTreeSet<(Key, u8)> = registers.map(|(key, _, kind)| (*key, *kind)).collect();
        for (key, kind) in keys {
            let Some(node) = self.world.running() else { break };
            self.read(node, key, RecordKind(kind));
            self.pass(self.world.core.now + RECKON_EVERY);
        }
        self.pass(self.world.core.now + 30 * SECOND);
        for node in 0..self.faults.nodes {
            if self.world.node(node).is_some() {
                let key = Key::of_name(format!("after {node}"));
                self.store(node, key, RecordKind::VALUE, true);
                self.pass(self.world.core.now + RECKON_EVERY);
            }
        }
        self.pass(self.world.core.now + 30 * SECOND);
        let now = self.world.core.now;
        for _ in 0..self.asked.len() {
            self.world.core.ledger.breaks(now, Broken::NotLive { node: 0, what: "an operation never ended" });
        }
    }

    /// Lets everything happen until `until` and checks what comes of it.
    fn pass(&mut self, until: Micros) {
        while let Some(node) = self.world.step(until) {
            self.world.check(node);
            while let Some(done) = self.world.core.done.pop() {
                self.take(done);
            }
        }
    }

    fn take(&mut self, done: Done) {
        let now = self.world.core.now;
        match done {
            Done::Lookup { .. } => {}
            Done::Stored { node, token, stored } => {
                let Some(Asked { key, kind, value, .. }) = self.asked.remove(&token) else { return };
                match stored {
                    Stored::Acknowledged { seq } => {
                        self.counts.acknowledged += 1;
                        let register = (key, self.world.core.directory.host(node).id, kind.0);
                        let value = value.unwrap_or_default();
                        self.world.core.ledger.acknowledged(now, node, &register, seq, &value);
                    }
                    Stored::Not if self.reckoning => {
                        let what = Broken::NotLive { node, what: "a store was not acknowledged" };
                        self.world.core.ledger.breaks(now, what);
                    }
                    Stored::Not => {}
                }
            }
            Done::Found { node, token, found } => {
                let Some(asked) = self.asked.remove(&token) else { return };
                match &found.records {
                    Some(records) => self.judge(&asked, records, &found),
                    None if self.reckoning => {
                        let what = Broken::NotLive { node, what: "a read lacks answers" };
                        self.world.core.ledger.breaks(now, what);
                    }
                    None => {}
                }
            }
        }
    }

    /// Compares what a quorum read has shown with what was promised.
    fn judge(&mut self, asked: &Asked, records: &[Heard], found: &Found) {
        self.counts.read += 1;
        let core = &mut self.world.core;
        let heard = found.answers.iter().filter_map(|(node, _)| core.directory.index(node)).collect();
        let prefix = |register: &&Register| register.0 == asked.key && register.2 == asked.kind.0;
        let registers: Vec<Register> = core.ledger.registers.keys().filter(prefix).copied().collect();
        for register in registers {
            let publisher = register.1;
            let copies = found.answers.iter().flat_map(|(_, copies)| copies);
            let read = Read {
                began: asked.began,
                heard: (!self.reckoning).then_some(&heard),
                reach: 2 * self.swarm.k,
                shown: records.iter().find(|record| record.publisher == publisher).map(|record| record.seq),
                newest: copies.filter(|copy| copy.publisher == publisher).map(|copy| copy.seq).max(),
            };
            let verdict = core.ledger.read(&core.directory, core.now, &register, &read);
            if self.reckoning {
                self.counts.reckoned += verdict.checked;
                self.counts.died += verdict.died;
                self.counts.forgotten += verdict.forgotten;
                self.counts.outlived += verdict.outlived;
                self.counts.misplaced += verdict.misplaced;
            }
        }
    }

    fn survived(mut self) -> Survived {
        self.counts.events = self.world.core.trace.events();
        self.counts.struck = self.world.core.network.struck;
        let violations = std::mem::take(&mut self.world.core.ledger.broken);
        Survived { violations, hash: self.world.hash(), counts: self.counts }
    }

    /// Plans a strike for about `mean` from now.
    fn after(&mut self, mean: Option<Micros>, strike: Strike) {
        let Some(mean) = mean else { return };
        let at = self.world.core.now + self.roll(1..=2 * mean);
        self.planned += 1;
        self.plan.insert((at, self.planned), strike);
    }

    fn roll<T, R>(&mut self, range: R) -> T
    where
        T: rand::distr::uniform::SampleUniform,
        R: rand::distr::uniform::SampleRange<T>,
    {
        self.world.rng.random_range(range)
    }
}
