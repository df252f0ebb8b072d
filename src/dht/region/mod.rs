//! Parts of the id space of which every node is known, so that stores there need no lookup.
//!
//! A *region* is a subtree that holds at least k nodes, or the whole space: for any key in it, the k closest
//! nodes lie in it as well, because every point outside is farther away than every point inside. Which
//! subtree of how many nodes that is follows from lookups ([`Survey`]).
//!
//! What is known ages. A region is stale after half of [`REGION_TTL`], when the driver should survey it
//! again in the background, and gone after all of it; nodes that come and go in between are added and
//! removed ([`Regions`]).

mod subtree;
mod survey;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use subtree::Subtree;
pub use survey::{SURVEY_LOOKUPS_MAX, Survey};

use super::nearest;
use crate::id::{Key, NodeId};

/// How long a region is believed: 60 s.
pub const REGION_TTL: Duration = Duration::from_secs(60);

/// Regions that one node remembers: 1,024.
pub const REGIONS_MAX: usize = 1_024;

/// Nodes of one region, at most: 4,096. One that grows further is forgotten.
pub const REGION_NODES_MAX: usize = 4_096;

/// A subtree and every node that serves in it.
#[derive(Debug, Clone)]
pub struct Region {
    tree: Subtree,
    /// Ascending.
    nodes: Vec<NodeId>,
    learnt: Instant,
    /// All nodes as they are handed out while they are no more than k.
    all: Option<Arc<[NodeId]>>,
}

impl Region {
    /// The region `tree`, which holds `nodes`, as it was at `learnt`.
    pub fn new(tree: Subtree, mut nodes: Vec<NodeId>, learnt: Instant) -> Self {
        nodes.sort_unstable();
        nodes.dedup();
        Self { tree, nodes, learnt, all: None }
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&NodeId) -> bool) {
        self.nodes.retain(keep);
        self.all = None;
    }

    /// The part of the id space.
    pub fn tree(&self) -> &Subtree {
        &self.tree
    }

    /// The nodes in it, ascending.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    pub(super) fn is_whole(&self) -> bool {
        self.tree == Subtree::WHOLE
    }

    /// Whether it is time to survey it again.
    pub fn is_stale(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.learnt) >= REGION_TTL / 2
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.learnt) >= REGION_TTL
    }

    /// Replaces what is in `out` by the `n` nodes closest to `key`, which lies in the region, closest first.
    pub fn closest(&self, key: &Key, n: usize, out: &mut Vec<NodeId>) {
        let mut near = &self.nodes[..];
        let mut bits = self.tree.bits();
        // While the half around the key has enough, the other half has none of the closest.
        while near.len() > n && bits < subtree::BITS {
            bits += 1;
            let half = Subtree::around(key, bits).of(near);
            if half.len() < n {
                break;
            }
            near = half;
        }
        out.clear();
        out.extend_from_slice(near);
        nearest::keep(key, 0, n, out);
    }

    /// All nodes, as one list that is shared until one comes or goes.
    pub(super) fn all(&mut self) -> Arc<[NodeId]> {
        Arc::clone(self.all.get_or_insert_with(|| Arc::from(&self.nodes[..])))
    }

    /// Whether `nodes` is the list that [`all`](Self::all) gave last.
    pub(super) fn gave(&self, nodes: &Arc<[NodeId]>) -> bool {
        self.all.as_ref().is_some_and(|all| Arc::ptr_eq(all, nodes))
    }
}

/// The regions that a node knows.
#[derive(Debug, Clone)]
pub struct Regions {
    k: usize,
    regions: BTreeMap<Subtree, Region>,
}

impl Regions {
    /// None yet; each must hold `k` nodes or be the whole space.
    pub fn new(k: usize) -> Self {
        Self { k, regions: BTreeMap::new() }
    }

    /// How many are known, those included that are over and were not asked for since.
    pub fn len(&self) -> usize {
        self.regions.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// Bytes of memory that they take, about.
    pub(super) fn memory(&self) -> usize {
        let nodes =
            |region: &Region| region.nodes.capacity() + region.all.as_ref().map_or(0, |all| all.len());
        let nodes: usize = self.regions.values().map(nodes).sum();
        nodes * size_of::<NodeId>() + self.regions.len() * size_of::<(Subtree, Region)>()
    }

    /// Remembers a region; those inside it are older and go.
    pub fn learn(&mut self, now: Instant, region: Region) {
        self.regions.retain(|tree, known| !region.tree.covers(tree) && !known.is_over(now));
        if !self.is_enough(&region) || region.is_over(now) {
            return;
        }
        if self.regions.len() >= REGIONS_MAX
            && let Some(oldest) =
                self.regions.values().min_by_key(|known| known.learnt).map(|known| known.tree)
        {
            self.regions.remove(&oldest);
        }
        self.regions.insert(region.tree, region);
    }

    /// The smallest region around `key`.
    pub fn get(&mut self, now: Instant, key: &Key) -> Option<&mut Region> {
        let mut tree = self.around(key, subtree::BITS)?;
        while self.regions.get(&tree)?.is_over(now) {
            self.regions.remove(&tree);
            tree = self.around(key, tree.bits().checked_sub(1)?)?;
        }
        self.regions.get_mut(&tree)
    }

    /// The whole space, if it is known.
    pub(super) fn whole(&self) -> Option<&Region> {
        self.regions.get(&Subtree::WHOLE)
    }

    /// A node has shown that it is there and serves.
    pub fn add(&mut self, node: NodeId) {
        self.visit(&node, |nodes| {
            if let Err(at) = nodes.binary_search(&node) {
                nodes.insert(at, node);
                return true;
            }
            false
        });
    }

    /// A node is gone; a region without it may not be one.
    pub fn remove(&mut self, node: &NodeId) {
        self.visit(node, |nodes| nodes.binary_search(node).map(|at| nodes.remove(at)).is_ok());
    }

    /// Changes every region that `node` lies in.
    fn visit(&mut self, node: &NodeId, mut change: impl FnMut(&mut Vec<NodeId>) -> bool) {
        let key = node.to_key();
        let mut next = self.around(&key, subtree::BITS);
        while let Some(tree) = next {
            if let Some(region) = self.regions.get_mut(&tree)
                && change(&mut region.nodes)
            {
                region.all = None;
            }
            if self.regions.get(&tree).is_some_and(|region| !self.is_enough(region)) {
                self.regions.remove(&tree);
            }
            next = tree.bits().checked_sub(1).and_then(|bits| self.around(&key, bits));
        }
    }

    fn is_enough(&self, region: &Region) -> bool {
        let least = if region.is_whole() { 1 } else { self.k };
        (least..=REGION_NODES_MAX).contains(&region.nodes.len())
    }

    /// The smallest subtree around `key` that is a region and shares at most `bits` bits.
    fn around(&self, key: &Key, mut bits: u16) -> Option<Subtree> {
        loop {
            // Subtrees around the key are ordered by their size. So the last one up to here is what is
            // looked for, or else has left the way to the key where all that is larger still contains both.
            let (tree, _) = self.regions.range(..=Subtree::around(key, bits)).next_back()?;
            if tree.contains(key) {
                return Some(*tree);
            }
            bits = tree.shared(key);
        }
    }
}
