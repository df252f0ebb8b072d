//! Searches for one target that are repeated, where nobody should be missing.

use super::Outcome;
use crate::id::NodeId;

/// How often a search that missed somebody is repeated.
const SECOND_LOOKS: usize = 2;

/// The searches for one target. Who was only slow to be connected to answers when asked again; a search that
/// its budget ended goes on from what it has found.
#[derive(Debug, Clone)]
pub struct Looks {
    k: usize,
    found: Outcome,
    repeated: usize,
    settled: bool,
}

impl Looks {
    /// The first search for `k` nodes has come to this.
    pub fn new(found: Outcome, k: usize) -> Self {
        Self { k, found, repeated: 0, settled: false }
    }

    /// Whether somebody may be missing, so that another search is worth it.
    pub fn may_lack(&self) -> bool {
        let sure = self.found.complete && self.found.failed == 0;
        !sure && !self.settled && self.repeated < SECOND_LOOKS
    }

    /// Whom another search asks beside those that are known anyhow.
    pub fn nodes(&self) -> &[NodeId] {
        &self.found.nodes
    }

    /// Takes what another search has come to. One that was ended takes nothing away from what was known.
    pub fn take(&mut self, mut outcome: Outcome) {
        let before = &self.found;
        self.settled = outcome.complete && before.complete && outcome.nodes == before.nodes;
        if !outcome.complete {
            let target = outcome.target;
            outcome.nodes.extend_from_slice(&before.nodes);
            outcome.nodes.sort_by_cached_key(|node| node.distance(&target));
            outcome.nodes.dedup();
            outcome.nodes.truncate(self.k);
        }
        let (queries, hops) = (outcome.queries + before.queries, outcome.hops.max(before.hops));
        self.found = Outcome { queries, hops, ..outcome };
        self.repeated += 1;
    }

    /// What all of them have come to; complete if it is certain, or as certain as repeating can make it.
    pub fn outcome(self) -> Outcome {
        let Self { k, mut found, settled, .. } = self;
        found.complete &= settled || found.failed == 0 || found.nodes.len() >= k;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ID_LEN, Key};

    fn outcome(nodes: &[u8], complete: bool, failed: u32) -> Outcome {
        let nodes = nodes.iter().map(|byte| NodeId::from_bytes([*byte; ID_LEN])).collect();
        Outcome { target: Key::from_bytes([0; ID_LEN]), nodes, complete, queries: 5, failed, hops: 2 }
    }

    #[test]
    fn a_search_is_repeated_while_somebody_may_be_missing() {
        assert!(!Looks::new(outcome(&[1, 2], true, 0), 8).may_lack());
        assert!(Looks::new(outcome(&[1, 2], false, 0), 8).may_lack());
        let mut looks = Looks::new(outcome(&[1, 2], true, 1), 8);
        assert!(looks.may_lack());
        looks.take(outcome(&[1, 2, 3], true, 1));
        assert!(looks.may_lack(), "it found another");
        looks.take(outcome(&[1, 2, 3, 4], true, 1));
        assert!(!looks.may_lack(), "twice is enough");
        let found = looks.outcome();
        assert_eq!((found.nodes.len(), found.queries, found.hops), (4, 15, 2));
        let mut looks = Looks::new(outcome(&[1, 2], true, 1), 8);
        looks.take(outcome(&[1, 2], true, 1));
        assert!(!looks.may_lack(), "whoever failed is dead: the others are the same");
        assert!(looks.outcome().complete);
    }

    #[test]
    fn a_search_that_was_ended_takes_nothing_away() {
        let mut looks = Looks::new(outcome(&[1, 4, 5], true, 1), 3);
        looks.take(outcome(&[2], false, 2));
        let found = looks.outcome();
        let firsts: Vec<u8> = found.nodes.iter().map(|node| node.as_bytes()[0]).collect();
        assert_eq!((firsts, found.complete), (vec![1, 2, 4], false));
        let mut looks = Looks::new(outcome(&[1, 4], true, 1), 3);
        looks.take(outcome(&[1, 5], true, 1));
        assert!(!looks.outcome().complete, "others answered each time, and fewer than there should be");
    }
}
