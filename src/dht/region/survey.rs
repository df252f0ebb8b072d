//! From lookups to a region: which points to look up so that everybody around a key is known.
//!
//! A complete lookup that found k nodes, the last of them at distance `d`, knows every node that is closer
//! than `d`. If `d` has `L` leading zeros, those are all nodes that share more than `L` bits with the
//! target: a subtree without a gap, though with fewer than k nodes. So the survey goes up from the subtree
//! around its key: it looks up points in the other half of the next larger subtree until that has no gap
//! either, and ends with the first subtree that holds k nodes, or with the whole space. A lookup that found
//! fewer than k nodes has seen the whole space, unless it is short of those that did not answer: who answered
//! has told of k at most, and others may be behind them.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Region;
use super::subtree::Subtree;
use crate::dht::lookup::Outcome;
use crate::id::{Key, NodeId};

/// Lookups of one survey, at most: 16. Two or three do where ids are spread evenly.
pub const SURVEY_LOOKUPS_MAX: usize = 16;

/// The way to the region of one key.
#[derive(Debug, Clone)]
pub struct Survey {
    key: Key,
    own: NodeId,
    k: usize,
    /// Where every node is known; disjoint.
    covered: Vec<Subtree>,
    nodes: BTreeSet<NodeId>,
    lookups: usize,
    failed: bool,
}

impl Survey {
    /// Begins to look for the region of `key` in which there are `k` nodes besides `own`; 0 counts as 1.
    pub fn new(key: Key, own: NodeId, k: usize) -> Self {
        let nodes = BTreeSet::new();
        Self { key, own, k: k.max(1), covered: Vec::new(), nodes, lookups: 0, failed: false }
    }

    /// What to look up next, if anything: at first the key itself. A lookup that was made anyhow serves as
    /// well, whatever its target.
    pub fn next(&self) -> Option<Key> {
        if self.failed || self.lookups >= SURVEY_LOOKUPS_MAX {
            return None;
        }
        self.area().err()
    }

    /// Takes what a lookup has come to. One that is not complete ends the survey: nothing is known then.
    pub fn learn(&mut self, outcome: &Outcome) {
        self.lookups += 1;
        let others = || outcome.nodes.iter().filter(|node| **node != self.own);
        if !outcome.complete || others().next().is_none() {
            self.failed = true;
            return;
        }
        // Only where there are fewer than k to be told of, dead or alive, does everybody tell of everybody.
        let told = others().count().saturating_add(outcome.failed as usize);
        let last = others().take(self.k).last().filter(|_| told >= self.k);
        let bits = last.map_or(0, |last| {
            let shared = last.distance(&outcome.target).leading_zeros();
            u16::try_from(shared + 1).unwrap_or(u16::MAX)
        });
        let tree = Subtree::around(&outcome.target, bits);
        // Who was there before and has not answered now is gone.
        self.nodes.retain(|node| !tree.contains(&node.to_key()));
        self.nodes.extend(outcome.nodes.iter().filter(|node| **node != self.own));
        self.covered.retain(|piece| !tree.covers(piece));
        if !self.covered.iter().any(|piece| piece.covers(&tree)) {
            self.covered.push(tree);
        }
    }

    /// The region, if the survey has come to its end at `now`.
    pub fn finish(self, now: Instant) -> Option<Region> {
        if self.failed {
            return None;
        }
        let tree = self.area().ok()?;
        let nodes = self.nodes.iter().filter(|node| tree.contains(&node.to_key())).copied().collect();
        Some(Region::new(tree, nodes, now))
    }

    /// The smallest subtree around the key that is covered and holds k nodes, or else a point in the first
    /// gap on the way there.
    fn area(&self) -> Result<Subtree, Key> {
        let around = |piece: &&Subtree| piece.contains(&self.key);
        let mut tree = *self.covered.iter().find(around).ok_or(self.key)?;
        while self.count(&tree) < self.k {
            let Some((parent, sibling)) = tree.parent() else { break };
            if let Some(gap) = self.gap(&sibling) {
                return Err(gap.nearest_to(&self.key));
            }
            tree = parent;
        }
        Ok(tree)
    }

    fn count(&self, tree: &Subtree) -> usize {
        self.nodes.iter().filter(|node| tree.contains(&node.to_key())).count()
    }

    /// A part of `tree` of which nothing is known; none if `tree` is covered.
    fn gap(&self, tree: &Subtree) -> Option<Subtree> {
        if self.covered.iter().any(|piece| piece.covers(tree)) {
            return None;
        }
        if !self.covered.iter().any(|piece| tree.covers(piece)) {
            return Some(*tree);
        }
        let (low, high) = tree.halves()?;
        self.gap(&low).or_else(|| self.gap(&high))
    }
}
