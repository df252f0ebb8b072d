//! Lookups, alone and in the series that a survey needs.

use std::time::Instant;

use foveola::dht::lookup::{LOOKUP_TIMEOUT, Lookup, LookupConfig, Outcome, Step};
use foveola::dht::region::Survey;
use foveola::dht::rtt::{HOP_TIMEOUT_FIRST, Timing};
use foveola::id::{Key, NodeId};

use super::super::core::{Cx, Done};
use super::super::message::{Answer, Ask};
use super::Node;
use super::op::{Calls, Flow, Reply, Task, Way};

/// Surveys that a node has under way at a time, as in the library.
const SURVEYS_MAX: usize = 2;

/// One lookup under way.
#[derive(Debug)]
pub(crate) struct Search {
    lookup: Lookup,
    k: usize,
    budget: usize,
    began: Instant,
}

/// A lookup for its own sake.
#[derive(Debug)]
pub(crate) struct Searching {
    pub(crate) search: Search,
    why: Why,
}

/// What a lookup is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// To fill the table.
    Upkeep,
    /// To be measured.
    Probe,
}

/// The lookups that tell a region.
#[derive(Debug)]
pub(crate) struct Surveying {
    survey: Survey,
    pub(crate) search: Search,
}

impl Search {
    pub(crate) fn outcome(&self) -> Outcome {
        self.lookup.outcome()
    }

    /// Takes what came of a query.
    pub(crate) fn take(&mut self, from: &NodeId, reply: Reply) {
        match reply {
            Reply::Answer(Answer::Nodes(nodes)) | Reply::Late(Answer::Nodes(nodes)) => {
                self.lookup.answered(from, nodes)
            }
            _ => self.lookup.failed(from),
        }
    }
}

impl Node {
    /// A lookup from the closest members on.
    pub(crate) fn search(&self, cx: &Cx<'_>, target: Key) -> Search {
        let k = self.config.k;
        let seeds = self.members.closest(cx.now, &target, k);
        let config = LookupConfig::new(k, self.config.alpha);
        let deadline = cx.now + LOOKUP_TIMEOUT;
        let lookup = Lookup::new(cx.now, self.own, target, config, self.warm.timing(), deadline, seeds);
        Search { lookup, k, budget: config.budget, began: cx.now }
    }

    /// How long a query may take that needs a handshake first.
    fn cold(&self) -> Timing {
        let Timing { slow, timeout } = self.cold.timing();
        Timing { slow, timeout: timeout.max(HOP_TIMEOUT_FIRST) }
    }

    /// Sends the queries that a lookup wants.
    pub(crate) fn step_search(&mut self, cx: &mut Cx<'_>, calls: &mut Calls, search: &mut Search) -> Flow {
        loop {
            match search.lookup.step(cx.now) {
                Step::Ask { node, .. } => {
                    let ask = Ask::FindNode { target: search.lookup.target(), count: search.k };
                    if self.ask(cx, calls, &node, ask) == Way::Cold {
                        search.lookup.allow(cx.now, &node, self.cold());
                    }
                }
                Step::Wait { until } => return Flow::Until(until),
                Step::Done => {
                    let took = cx.now.saturating_duration_since(search.began);
                    let (outcome, budget) = (search.outcome(), search.budget);
                    cx.core.ledger.looked_up(cx.core.now, cx.me, &outcome, budget, took);
                    calls.forget();
                    return Flow::Ended;
                }
            }
        }
    }

    /// Looks a key up for its own sake.
    pub(crate) fn look_up(&mut self, cx: &mut Cx<'_>, target: Key, why: Why) {
        let search = self.search(cx, target);
        self.start(cx, Task::Search(Box::new(Searching { search, why })));
    }

    pub(crate) fn step_searching(
        &mut self,
        cx: &mut Cx<'_>,
        calls: &mut Calls,
        searching: &mut Searching,
    ) -> Flow {
        let flow = self.step_search(cx, calls, &mut searching.search);
        if flow == Flow::Ended {
            let outcome = searching.search.outcome();
            match searching.why {
                Why::Upkeep => self.looked_up(cx, &outcome),
                Why::Probe => {
                    cx.core.done.push(Done::Lookup { node: cx.me, outcome, messages: calls.messages })
                }
            }
        }
        flow
    }

    /// Looks at what is around `key`, in the background, unless enough of that is going on.
    pub(crate) fn survey(&mut self, cx: &mut Cx<'_>, key: Key, first: Option<&Outcome>) {
        if self.surveys >= SURVEYS_MAX {
            return;
        }
        let mut survey = Survey::new(key, self.own, self.config.k);
        if let Some(outcome) = first {
            survey.learn(outcome);
        }
        match survey.next() {
            Some(target) => {
                self.surveys += 1;
                let search = self.search(cx, target);
                self.start(cx, Task::Survey(Box::new(Surveying { survey, search })));
            }
            None => self.surveyed(cx, survey),
        }
    }

    pub(crate) fn step_surveying(
        &mut self,
        cx: &mut Cx<'_>,
        calls: &mut Calls,
        surveying: &mut Surveying,
    ) -> Flow {
        loop {
            let flow = self.step_search(cx, calls, &mut surveying.search);
            if flow != Flow::Ended {
                return flow;
            }
            surveying.survey.learn(&surveying.search.outcome());
            let Some(target) = surveying.survey.next() else { break };
            surveying.search = self.search(cx, target);
        }
        self.surveys -= 1;
        self.surveyed(cx, surveying.survey.clone());
        Flow::Ended
    }

    fn surveyed(&mut self, cx: &Cx<'_>, survey: Survey) {
        if let Some(region) = survey.finish(cx.now) {
            self.members.learn(cx.now, region);
        }
    }
}
