//! Which envelopes a destination has opened, so that it opens none twice.
//!
//! An origin numbers its envelopes to one destination upwards, from life to life ([`super::numbers`]). The
//! destination keeps for each origin which of the last [`WINDOW`] numbers it has seen, and takes none
//! from before them: the window against replays of IPsec (RFC 4303, section 3.4.3). So an origin may send
//! any number of envelopes at a few bytes of memory; one that [`WINDOW`] later ones have overtaken is
//! refused.
//!
//! No envelope is ever taken twice. A window that is forgotten, because it can hold nothing fresh any more
//! or because there is no room, leaves a mark: envelopes that are not younger than it are taken from no
//! origin whose window is gone. Only a restart of the destination forgets everything; from then on it
//! relies on the time that an envelope bears ([`is_fresh`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::envelope::is_fresh;
use crate::id::NodeId;

/// Numbers that are told apart below the highest one of an origin, rounded to whole blocks.
pub const WINDOW: u64 = 65_536;
/// Origins that are remembered, each with at most [`WINDOW`] bits.
pub const ORIGINS_MAX: usize = 2_048;

/// Blocks of 64 numbers in a window.
const BLOCKS: u64 = WINDOW / 64;

/// The envelopes that a destination has opened.
#[derive(Debug)]
pub struct Seen {
    origins_max: usize,
    origins: BTreeMap<NodeId, Origin>,
    /// The origins by the time that their youngest envelope bears.
    youngest: BTreeSet<(u64, NodeId)>,
    /// Envelopes up to this time may have been opened by whoever is not remembered.
    forgotten_ms: u64,
}

#[derive(Debug)]
struct Origin {
    numbers: Window,
    youngest_ms: u64,
    /// What had been forgotten when this origin was first remembered, perhaps of itself.
    forgotten_ms: u64,
}

impl Default for Seen {
    fn default() -> Self {
        Self::new(ORIGINS_MAX)
    }
}

impl Seen {
    /// Remembers at most `origins_max` origins, at least one.
    pub fn new(origins_max: usize) -> Self {
        let origins_max = origins_max.max(1);
        Self { origins_max, origins: BTreeMap::new(), youngest: BTreeSet::new(), forgotten_ms: 0 }
    }

    /// Whether the envelope `nonce` of `origin`, made at `issued_ms` and arrived at `now_ms`, may be opened,
    /// both in milliseconds since 1970: it is fresh and was certainly not opened before. It is from then on.
    ///
    /// The caller has verified the signature: what others could write in the name of `origin` must not move
    /// its window.
    pub fn open(&mut self, now_ms: u64, origin: NodeId, nonce: u64, issued_ms: u64) -> bool {
        self.forget_stale(now_ms);
        if !is_fresh(now_ms, issued_ms) {
            return false;
        }
        if let Some(known) = self.origins.get_mut(&origin) {
            if issued_ms <= known.forgotten_ms || !known.numbers.take(nonce) {
                return false;
            }
            if issued_ms > known.youngest_ms {
                self.youngest.remove(&(known.youngest_ms, origin));
                self.youngest.insert((issued_ms, origin));
                known.youngest_ms = issued_ms;
            }
            return true;
        }
        let full = self.origins.len() >= self.origins_max;
        let oldest_ms = self.youngest.first().filter(|_| full).map_or(0, |(oldest_ms, _)| *oldest_ms);
        if issued_ms <= self.forgotten_ms.max(oldest_ms) {
            return false;
        }
        if full {
            self.forget_oldest();
        }
        let numbers = Window::starting_with(nonce);
        let known = Origin { numbers, youngest_ms: issued_ms, forgotten_ms: self.forgotten_ms };
        self.origins.insert(origin, known);
        self.youngest.insert((issued_ms, origin));
        true
    }

    /// How many origins are remembered.
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    fn forget_stale(&mut self, now_ms: u64) {
        while let Some((youngest_ms, _)) = self.youngest.first()
            && *youngest_ms < now_ms
            && !is_fresh(now_ms, *youngest_ms)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((youngest_ms, origin)) = self.youngest.pop_first() {
            self.origins.remove(&origin);
            self.forgotten_ms = self.forgotten_ms.max(youngest_ms);
        }
    }
}

/// Which of the highest numbers of an origin were seen: a bit for each, in blocks that are made as they are
/// needed. Blocks that it lacks below the last were never touched.
#[derive(Debug)]
struct Window {
    /// The number of the last block.
    last: u64,
    blocks: VecDeque<u64>,
}

impl Window {
    fn starting_with(number: u64) -> Self {
        Self { last: number / 64, blocks: VecDeque::from([1 << (number % 64)]) }
    }

    /// Takes a number that was surely not taken before.
    fn take(&mut self, number: u64) -> bool {
        let block = number / 64;
        if block > self.last {
            let ahead = block - self.last;
            if ahead >= BLOCKS {
                self.blocks.clear();
                self.blocks.push_back(0);
            } else {
                self.blocks.extend((0..ahead).map(|_| 0));
            }
            self.last = block;
        }
        let behind = self.last - block;
        if behind >= BLOCKS {
            return false;
        }
        while self.blocks.len() as u64 > BLOCKS {
            self.blocks.pop_front();
        }
        while self.blocks.len() as u64 <= behind {
            self.blocks.push_front(0);
        }
        let place = self.blocks.len() - 1 - behind as usize;
        let bit = 1 << (number % 64);
        let is_new = self.blocks[place] & bit == 0;
        self.blocks[place] |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests;
