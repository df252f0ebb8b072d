//! One iterative search for the k nodes closest to a key.
//!
//! The search keeps every node it has heard of in the order of distance, and asks the closest of them for
//! closer ones, a few at a time, until the k closest that are alive have all answered (Maymounkov and
//! Mazières, *Kademlia*, 2002, section 2.3). Three things keep it from being held up:
//!
//! - A query that takes longer than others do is *slow*: it goes on, but another node is asked in its
//!   place. When a round brings nothing closer, more are asked at a time.
//! - No more than a budget of queries is sent.
//! - Nodes that exist only in what somebody tells never answer. A source whose contacts keep failing is
//!   *doubtful*, and nodes that nobody else has told of are asked only when nobody better is left. So
//!   whoever invents ever closer nodes cannot spend the budget of those that exist.
//!
//! The driver carries queries out: it calls [`Lookup::step`] until that says to wait, and tells what came
//! of each query with [`Lookup::answered`] and [`Lookup::failed`].

mod candidates;
mod looks;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use self::candidates::{Candidates, State, Survey};
pub use self::looks::Looks;
pub use super::rtt::Timing;
use crate::id::{Key, NodeId};

/// Queries at a time.
pub const ALPHA: usize = 3;
/// Queries at a time when nothing closer comes, those that are slow included.
pub const ALPHA_MAX: usize = 10;
/// Queries of one lookup, for each of the k nodes that it looks for.
pub const BUDGET_PER_K: usize = 3;
/// Queries that a lookup has at least, however small k is: the way to the target takes some as well.
pub const BUDGET_MIN: usize = 20;
/// How long a lookup may take: 10 s.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// How a lookup goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupConfig {
    /// Nodes to be found, and contacts taken from one answer.
    pub k: usize,
    /// Queries at a time, those that are slow not counted.
    pub alpha: usize,
    /// Queries at a time in all, and when nothing closer comes.
    pub alpha_max: usize,
    /// Queries in all.
    pub budget: usize,
}

impl LookupConfig {
    /// The defaults for meshes with `k` replicas, with `alpha` queries at a time; 0 counts as 1 in both.
    pub fn new(k: usize, alpha: usize) -> Self {
        let (k, alpha) = (k.max(1), alpha.max(1));
        Self { k, alpha, alpha_max: alpha.max(ALPHA_MAX), budget: (BUDGET_PER_K * k).max(BUDGET_MIN) }
    }
}

/// What a driver does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask `node` for the nodes closest to the target, and step again.
    Ask {
        /// Who is asked.
        node: NodeId,
        /// When the query counts as failed if nothing is said of it. A later answer still counts.
        until: Instant,
    },
    /// Wait for an answer or a failure, or step again at this instant.
    Wait {
        /// When something is due.
        until: Instant,
    },
    /// The search is over.
    Done,
}

/// What a search has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was looked for.
    pub target: Key,
    /// The closest nodes that have answered, at most k, closest first.
    pub nodes: Vec<NodeId>,
    /// Whether these are the k closest of all that are alive, as far as anybody asked knew. It is not said
    /// of a search that its budget, its deadline or its driver ended.
    pub complete: bool,
    /// Queries sent.
    pub queries: u32,
    /// Queries without an answer.
    pub failed: u32,
    /// How far the closest node was: 1 if it was known from the start, 2 if one of those told of it, and so
    /// on; 0 if nobody answered.
    pub hops: u32,
}

/// A query under way.
#[derive(Debug, Clone, Copy)]
struct Query {
    node: NodeId,
    slow_at: Instant,
    until: Instant,
    slow: bool,
}

/// One search under way.
#[derive(Debug, Clone)]
pub struct Lookup {
    own: NodeId,
    config: LookupConfig,
    timing: Timing,
    deadline: Instant,
    candidates: Candidates,
    /// Queries under way that do not count as failed, at most `alpha_max`.
    flying: SmallVec<[Query; ALPHA_MAX]>,
    queries: usize,
    /// Queries that have ended since one brought a node closer than all others.
    barren: usize,
    /// Set once the search is over: whether it came to its own end.
    ended: Option<bool>,
}

impl Lookup {
    /// A search of the node `own` for the nodes closest to `target`, starting from `seeds`, those it knows.
    /// `own` is never asked and never found.
    pub fn new(
        now: Instant,
        own: NodeId,
        target: Key,
        config: LookupConfig,
        timing: Timing,
        deadline: Instant,
        seeds: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        let mut candidates = Candidates::new(target, config.k);
        for seed in seeds.into_iter().filter(|seed| *seed != own) {
            candidates.seed(seed);
        }
        let deadline = deadline.max(now);
        let flying = SmallVec::new();
        Self { own, config, timing, deadline, candidates, flying, queries: 0, barren: 0, ended: None }
    }

    /// What is looked for.
    pub fn target(&self) -> Key {
        self.candidates.target()
    }

    /// What to do now: called until it says to wait or that the search is over.
    pub fn step(&mut self, now: Instant) -> Step {
        if self.ended.is_some() {
            return Step::Done;
        }
        if now >= self.deadline {
            return self.end(false);
        }
        self.expire(now);
        let Survey { next, left, waiting } = self.candidates.survey(self.config.k);
        let left = left && self.queries < self.config.budget;
        if left
            && self.has_room()
            && let Some(next) = next
        {
            return self.ask(now, next);
        }
        if waiting || (left && !self.flying.is_empty()) {
            let due = self.flying.iter().map(|query| if query.slow { query.until } else { query.slow_at });
            let until = due.min().map_or(self.deadline, |due| due.min(self.deadline));
            return Step::Wait { until };
        }
        self.end(next.is_none())
    }

    /// Takes the answer of a node that was asked, late or not. Of its contacts no more than k are taken.
    pub fn answered(&mut self, from: &NodeId, contacts: impl IntoIterator<Item = NodeId>) {
        let Some(answer) = self.candidates.answered(from) else { return };
        self.land(from);
        let before = self.candidates.closest();
        for contact in contacts.into_iter().take(self.config.k) {
            if contact != self.own {
                self.candidates.told(&answer, contact);
            }
        }
        self.barren = if self.candidates.closest() == before { self.barren + 1 } else { 0 };
    }

    /// No answer of a node that was asked will come.
    pub fn failed(&mut self, from: &NodeId) {
        if self.land(from) {
            self.candidates.failed(from);
            self.barren += 1;
        }
    }

    /// Gives a query under way as long as `timing` says from `now` on: a node that has to be connected to
    /// first takes longer to answer.
    pub fn allow(&mut self, now: Instant, node: &NodeId, timing: Timing) {
        if let Some(query) = self.flying.iter_mut().find(|query| query.node == *node && !query.slow) {
            query.slow_at = (now + timing.slow).min(self.deadline);
            query.until = (now + timing.timeout).min(self.deadline);
        }
    }

    /// Ends the search: the driver has what it wanted.
    pub fn finish(&mut self) {
        self.ended.get_or_insert(false);
    }

    /// What the search has come to so far.
    pub fn outcome(&self) -> Outcome {
        let (nodes, hops) = self.candidates.found(self.config.k);
        Outcome {
            target: self.target(),
            nodes,
            complete: self.ended == Some(true),
            queries: u32::try_from(self.queries).unwrap_or(u32::MAX),
            failed: self.candidates.count(State::Failed),
            hops,
        }
    }

    fn end(&mut self, complete: bool) -> Step {
        self.ended = Some(complete);
        Step::Done
    }

    fn ask(&mut self, now: Instant, next: usize) -> Step {
        let node = self.candidates.ask(next);
        let until = (now + self.timing.timeout).min(self.deadline);
        let slow_at = (now + self.timing.slow).min(self.deadline);
        self.flying.push(Query { node, slow_at, until, slow: false });
        self.queries += 1;
        Step::Ask { node, until }
    }

    /// Whether another query may be under way.
    fn has_room(&self) -> bool {
        let width = if self.barren < self.config.alpha { self.config.alpha } else { self.config.alpha_max };
        let active = self.flying.iter().filter(|query| !query.slow).count();
        active < width && self.flying.len() < self.config.alpha_max
    }

    /// Notes which queries are slow or have failed by now.
    fn expire(&mut self, now: Instant) {
        for query in &mut self.flying {
            if !query.slow && now >= query.slow_at {
                query.slow = true;
                self.candidates.slow(&query.node);
            }
        }
        while let Some(late) = self.flying.iter().find(|query| now >= query.until) {
            let node = late.node;
            self.failed(&node);
        }
    }

    /// Takes a query out of those under way, if it is one of them.
    fn land(&mut self, node: &NodeId) -> bool {
        let at = self.flying.iter().position(|query| query.node == *node);
        at.map(|at| self.flying.swap_remove(at)).is_some()
    }
}
