//! The seeded network: what becomes of a message between two nodes.
//!
//! Messages, not packets: a transport that repeats lost packets turns loss into delay, and into a connection
//! that dies. A lost message stands for the latter, the worst that a requester can meet.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use smallvec::SmallVec;

use super::clock::{Micros, SECOND};

/// What a network does to messages. Shares are in parts per million.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions {
    /// The way of one node to the middle of the network: from this to twice this.
    pub(crate) way: Micros,
    /// Added to each message, at most.
    pub(crate) jitter: Micros,
    pub(crate) lost: u32,
    pub(crate) duplicated: u32,
    /// Delayed so long that later ones overtake them.
    pub(crate) reordered: u32,
}

impl Conditions {
    /// A network without faults: ways of 5 to 10 ms, 2 ms of jitter.
    pub(crate) const CALM: Self = Self { way: 5_000, jitter: 2_000, lost: 0, duplicated: 0, reordered: 0 };
}

/// How often each fault struck.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Struck {
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) slowed: u64,
    /// Messages that met a cut in one direction only.
    pub(crate) cut_one_way: u64,
    /// Messages that met a cut in both directions.
    pub(crate) cut_both_ways: u64,
    /// Messages to a node that was down, or had been restarted since.
    pub(crate) to_nobody: u64,
}

/// A cut between the nodes of a group and all others.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    /// By index: whether a node is in the group.
    pub(crate) group: Vec<bool>,
    /// Whether messages from the group to the others are lost.
    pub(crate) out: bool,
    /// Whether messages from the others to the group are lost.
    pub(crate) back: bool,
}

impl Cut {
    fn stops(&self, from: u32, to: u32) -> bool {
        let inside = |node: u32| self.group.get(node as usize).copied().unwrap_or(false);
        match (inside(from), inside(to)) {
            (true, false) => self.out,
            (false, true) => self.back,
            _ => false,
        }
    }
}

/// The network between the nodes.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) conditions: Conditions,
    pub(crate) struck: Struck,
    pub(crate) cut: Option<Cut>,
    rng: ChaCha8Rng,
    /// By node: its way to the middle, and what slowness adds to it.
    ways: Vec<(Micros, Micros)>,
}

impl Network {
    pub(crate) fn new(conditions: Conditions, seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { conditions, struck: Struck::default(), cut: None, rng, ways: Vec::new() }
    }

    /// Connects one more node.
    pub(crate) fn attach(&mut self) {
        let way = self.conditions.way;
        self.ways.push((way + self.rng.random_range(0..=way), 0));
    }

    /// Makes whatever `node` sends take `delay` longer, until it is told otherwise.
    pub(crate) fn slow(&mut self, node: u32, delay: Micros) {
        self.ways[node as usize].1 = delay;
    }

    /// How long the copies of a message that arrive take: none when it is lost.
    pub(crate) fn carry(&mut self, from: u32, to: u32) -> SmallVec<[Micros; 2]> {
        let mut copies = SmallVec::new();
        if let Some(cut) = &self.cut
            && cut.stops(from, to)
        {
            let both = cut.out && cut.back;
            *(if both { &mut self.struck.cut_both_ways } else { &mut self.struck.cut_one_way }) += 1;
            return copies;
        }
        if self.strikes(self.conditions.lost) {
            self.struck.lost += 1;
            return copies;
        }
        copies.push(self.delay(from, to));
        if self.strikes(self.conditions.duplicated) {
            self.struck.duplicated += 1;
            copies.push(self.delay(from, to) + self.rng.random_range(0..SECOND));
        }
        copies
    }

    fn delay(&mut self, from: u32, to: u32) -> Micros {
        let ((out, slow), (back, _)) = (self.ways[from as usize], self.ways[to as usize]);
        let mut delay = out + back + self.rng.random_range(0..=self.conditions.jitter);
        if slow > 0 {
            self.struck.slowed += 1;
            delay += slow;
        }
        if self.strikes(self.conditions.reordered) {
            self.struck.reordered += 1;
            delay += self.rng.random_range(0..2 * SECOND);
        }
        delay
    }

    fn strikes(&mut self, share: u32) -> bool {
        share > 0 && self.rng.random_range(0..1_000_000) < share
    }
}
