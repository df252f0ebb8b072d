//! Lookups, alone and in the series that a survey needs.

use std::time::Instant;

use foveola::dht::lookup::{LOOKUP_TIMEOUT, Looks, Lookup, LookupConfig, Outcome, Step};
use foveola::dht::region::Survey;
use foveola::id::{Key, NodeId};
use foveola::wire::RecordKind;
use smallvec::SmallVec;

use super::super::core::{Cx, Done};
use super::super::message::{Answer, Ask, Copied};
use super::Node;
use super::op::{Calls, Flow, Reply, Task, Way};

/// Surveys that a node has under way at a time, as in the library.
const SURVEYS_MAX: usize = 2;

/// One search under way, and those that repeat it where nobody should be missing.
#[derive(Debug)]
pub(crate) struct Search {
    lookup: Lookup,
    k: usize,
    budget: usize,
    began: Instant,
    deadline: Instant,
    care: Care,
    /// What kind of records everybody on the way is asked for as well.
    value: Option<RecordKind>,
    asked: SmallVec<[(NodeId, Instant, Way); 8]>,
    answered: usize,
    /// What all have come to.
    found: Option<Outcome>,
}

/// How much is done so that nobody is missing.
#[derive(Debug)]
enum Care {
    Once,
    First,
    Again(Looks),
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
        self.found.clone().unwrap_or_else(|| self.lookup.outcome())
    }

    /// Takes what came of a query, and returns the records that were in the answer.
    pub(crate) fn take(&mut self, node: &mut Node, now: Instant, from: &NodeId, reply: Reply) -> Vec<Copied> {
        let (nodes, records) = match reply {
            Reply::Answer(Answer::Nodes(nodes)) | Reply::Late(Answer::Nodes(nodes)) => (nodes, Vec::new()),
            Reply::Answer(Answer::Both(nodes, records)) | Reply::Late(Answer::Both(nodes, records)) => {
                (nodes, records)
            }
            _ => {
                self.lookup.failed(from);
                return Vec::new();
            }
        };
        if let Some((_, at, way)) = self.asked.iter().find(|(asked, ..)| asked == from) {
            self.answered += 1;
            node.patience.observe(now.saturating_duration_since(*at), *way == Way::Warm);
        }
        self.lookup.answered(from, nodes);
        records
    }

    /// It is over: what it looked for has been found.
    pub(crate) fn finish(&mut self) {
        self.lookup.finish();
    }
}

impl Node {
    /// A search for the nodes closest to a key.
    pub(crate) fn search(&self, cx: &Cx<'_>, target: Key) -> Search {
        self.search_through(cx, target, Care::Once, None, cx.now + LOOKUP_TIMEOUT, &[])
    }

    /// A search where nobody should be missing.
    pub(crate) fn search_closely(&self, cx: &Cx<'_>, target: Key) -> Search {
        self.search_through(cx, target, Care::First, None, cx.now + LOOKUP_TIMEOUT, &[])
    }

    /// A search in which everybody is asked for records of `kind` under the key.
    pub(crate) fn search_for(&self, cx: &Cx<'_>, key: Key, kind: RecordKind, deadline: Instant) -> Search {
        self.search_through(cx, key, Care::Once, Some(kind), deadline, &[])
    }

    fn search_through(
        &self,
        cx: &Cx<'_>,
        target: Key,
        care: Care,
        value: Option<RecordKind>,
        deadline: Instant,
        nodes: &[NodeId],
    ) -> Search {
        let k = self.config.k;
        let mut seeds = self.members.search_from(cx.now, &target);
        seeds.extend_from_slice(nodes);
        if seeds.is_empty() {
            seeds.extend(self.links.residents().take(k).map(|peer| cx.id(peer)));
        }
        let config = LookupConfig::new(k, self.config.alpha);
        let lookup = Lookup::new(cx.now, self.own, target, config, self.patience.warm(), deadline, seeds);
        let (budget, began) = (config.budget, cx.now);
        Search {
            lookup,
            k,
            budget,
            began,
            deadline,
            care,
            value,
            asked: SmallVec::new(),
            answered: 0,
            found: None,
        }
    }

    /// Sends the queries that a search wants.
    pub(crate) fn step_search(&mut self, cx: &mut Cx<'_>, calls: &mut Calls, search: &mut Search) -> Flow {
        loop {
            match search.lookup.step(cx.now) {
                Step::Ask { node, .. } => {
                    let (target, count) = (search.lookup.target(), search.k);
                    let ask = match search.value {
                        Some(kind) => Ask::Both { key: target, count, kind },
                        None => Ask::FindNode { target, count },
                    };
                    let way = self.ask(cx, calls, &node, ask);
                    search.asked.push((node, cx.now, way));
                    if way == Way::Cold {
                        search.lookup.allow(cx.now, &node, self.patience.cold());
                    }
                }
                Step::Wait { until } => return Flow::Until(until),
                Step::Done => {
                    calls.forget();
                    match self.search_ended(cx, search) {
                        Some(again) => *search = again,
                        None => return Flow::Ended,
                    }
                }
            }
        }
    }

    /// One search has ended: the one that repeats it, if anybody may be missing.
    fn search_ended(&mut self, cx: &mut Cx<'_>, search: &mut Search) -> Option<Search> {
        let outcome = search.lookup.outcome();
        let took = cx.now.saturating_duration_since(search.began);
        cx.core.ledger.looked_up(cx.core.now, cx.me, &outcome, search.budget, took);
        if search.answered == 0 && outcome.failed > 0 {
            self.patience.back_off();
        }
        let (target, deadline) = (outcome.target, search.deadline);
        self.joined |= target == self.own.to_key() && !outcome.nodes.is_empty();
        if self.upkeep.looked_up(cx.now, &target, &self.members) {
            self.keep_up(cx);
        }
        let looks = match std::mem::replace(&mut search.care, Care::Once) {
            Care::Once => return None,
            Care::First => Looks::new(outcome, self.members.k()),
            Care::Again(mut looks) => {
                looks.take(outcome);
                looks
            }
        };
        if !looks.may_lack() || cx.now >= deadline {
            search.found = Some(self.members.filled(looks.outcome()));
            return None;
        }
        let nodes = looks.nodes().to_vec();
        Some(self.search_through(cx, target, Care::Again(looks), None, deadline, &nodes))
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
        if flow == Flow::Ended && searching.why == Why::Probe {
            let outcome = searching.search.outcome();
            cx.core.done.push(Done::Lookup { node: cx.me, outcome, messages: calls.messages });
        }
        flow
    }

    /// Looks at what is around `key`, in the background, unless enough of that is going on; `first` is what
    /// a lookup of it has just come to.
    pub(crate) fn survey(&mut self, cx: &mut Cx<'_>, key: Key, first: Option<&Outcome>) {
        if self.surveys >= SURVEYS_MAX {
            return;
        }
        let mut survey = Survey::new(key, self.own, self.config.k);
        if let Some(outcome) = first.filter(|outcome| outcome.complete && outcome.failed == 0) {
            survey.learn(outcome);
        }
        match survey.next() {
            Some(target) => {
                self.surveys += 1;
                let search = self.search_closely(cx, target);
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
            let mut outcome = surveying.search.outcome();
            let target = outcome.target;
            outcome.nodes.sort_by_cached_key(|node| node.distance(&target));
            surveying.survey.learn(&outcome);
            let Some(target) = surveying.survey.next() else { break };
            surveying.search = self.search_closely(cx, target);
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
