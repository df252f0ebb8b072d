//! Finding whatever is there under a key: from whom the region of the key names, one after the other, else by
//! a search in which everybody is asked for it as well.

use std::collections::BTreeSet;
use std::time::Instant;

use foveola::dht::lookup::{ALPHA_MAX, LOOKUP_TIMEOUT};
use foveola::dht::read::{Level, Read, Verdict};
use foveola::id::NodeId;

use super::super::core::{Cx, Done};
use super::super::message::{Answer, Ask, Copied};
use super::Node;
use super::find::{Found, Query};
use super::op::{Calls, Flow, Reply};
use super::search::Search;

/// Searches of one find, as in the library.
const SEARCHES_MAX: usize = 3;

/// A find under way that one answer satisfies.
#[derive(Debug)]
pub(crate) struct Hunting {
    query: Query,
    deadline: Instant,
    phase: Phase,
    searches: usize,
    answers: Vec<(NodeId, Vec<Copied>)>,
}

#[derive(Debug)]
enum Phase {
    Begin,
    Around(Around),
    /// Whom the search has heard say that there is nothing, and whether somebody said something else.
    Search {
        search: Box<Search>,
        read: Read,
        without: BTreeSet<NodeId>,
        hit: bool,
    },
    /// What was found has been removed: who else is there.
    Closely(Box<Search>),
}

/// The nodes that are asked, closest first.
#[derive(Debug)]
struct Around {
    read: Read,
    nodes: Vec<NodeId>,
    next: usize,
    waiting: usize,
    /// How many are asked at a time, and when one more is.
    width: usize,
    slow_at: Instant,
}

impl Hunting {
    pub(super) fn new(now: Instant, query: Query) -> Self {
        let deadline = now + LOOKUP_TIMEOUT;
        Self { query, deadline, phase: Phase::Begin, searches: 0, answers: Vec::new() }
    }

    pub(super) fn take(&mut self, node: &mut Node, now: Instant, from: &NodeId, reply: Reply) {
        match &mut self.phase {
            Phase::Begin => {}
            Phase::Closely(search) => drop(search.take(node, now, from, reply)),
            Phase::Search { search, read, without, hit } => {
                let answered = !matches!(reply, Reply::Failed { .. });
                let copies = search.take(node, now, from, reply);
                if answered && copies.is_empty() {
                    without.insert(*from);
                } else if answered {
                    read.answered(*from, copies.iter().map(Copied::to_heard));
                    self.answers.push((*from, copies));
                    search.finish();
                    *hit = true;
                }
            }
            Phase::Around(_) if matches!(reply, Reply::Late(_)) => {}
            Phase::Around(around) => {
                around.waiting -= 1;
                around.width = node.config.alpha;
                around.slow_at = node.slow_at(now);
                match reply {
                    Reply::Answer(Answer::Found(copies)) => {
                        around.read.answered(*from, copies.iter().map(Copied::to_heard));
                        self.answers.push((*from, copies));
                    }
                    _ => around.read.failed(),
                }
            }
        }
    }
}

impl Node {
    pub(super) fn step_hunting(&mut self, cx: &mut Cx<'_>, calls: &mut Calls, hunting: &mut Hunting) -> Flow {
        loop {
            let next = match &mut hunting.phase {
                Phase::Begin => {
                    let here = self.shown(cx, hunting.query.key, hunting.query.kind);
                    let is_there =
                        |copy: &Copied| copy.publisher != self.own && !copy.to_heard().is_tombstone();
                    if here.iter().any(is_there) {
                        let mut read = Read::new(Level::First, 1, None);
                        read.answered(self.own, here.iter().map(Copied::to_heard));
                        hunting.answers.push((self.own, here));
                        return end(cx, hunting, Some(read));
                    }
                    match self.known(cx, hunting.query.key) {
                        Some(set) => Phase::Around(self.ask_around(cx, set.nodes.to_vec())),
                        None => self.hunt(cx, hunting),
                    }
                }
                Phase::Around(around) => {
                    if let Some(flow) = self.step_around(cx, calls, hunting.query, around) {
                        return flow;
                    }
                    if around.read.end().is_ok() {
                        let read = std::mem::replace(&mut around.read, Read::new(Level::First, 1, None));
                        return end(cx, hunting, Some(read));
                    }
                    calls.forget();
                    match self.another(cx, hunting) {
                        Some(phase) => phase,
                        None => return end(cx, hunting, None),
                    }
                }
                Phase::Closely(search) => match self.step_search(cx, calls, search) {
                    Flow::Ended => {
                        let nodes = self.members.found(cx.now, &search.outcome()).nodes.to_vec();
                        Phase::Around(self.ask_around(cx, nodes))
                    }
                    flow => return flow,
                },
                Phase::Search { search, read, without, hit } => {
                    let flow = self.step_search(cx, calls, search);
                    if flow != Flow::Ended {
                        return flow;
                    }
                    let outcome = search.outcome();
                    let nodes = &outcome.nodes;
                    let everybody = !nodes.is_empty() && nodes.iter().all(|node| without.contains(node));
                    let certain = outcome.complete && (outcome.failed == 0 || nodes.len() >= self.config.k);
                    self.survey(cx, hunting.query.key, Some(&outcome));
                    if read.verdict() == Verdict::Done || certain && everybody && !*hit {
                        let read = std::mem::replace(read, Read::new(Level::First, 1, None));
                        return end(cx, hunting, Some(read));
                    }
                    if *hit {
                        Phase::Closely(Box::new(self.search_closely(cx, hunting.query.key)))
                    } else {
                        match self.another(cx, hunting) {
                            Some(phase) => phase,
                            None => return end(cx, hunting, None),
                        }
                    }
                }
            };
            hunting.phase = next;
        }
    }

    /// The search that follows one that has missed somebody, while there is time.
    fn another(&self, cx: &Cx<'_>, hunting: &mut Hunting) -> Option<Phase> {
        (hunting.searches < SEARCHES_MAX && cx.now < hunting.deadline).then(|| self.hunt(cx, hunting))
    }

    fn hunt(&self, cx: &Cx<'_>, hunting: &mut Hunting) -> Phase {
        hunting.searches += 1;
        let Query { key, kind, .. } = hunting.query;
        let search = Box::new(self.search_for(cx, key, kind, hunting.deadline));
        let read = Read::new(Level::First, 1, None);
        Phase::Search { search, read, without: BTreeSet::new(), hit: false }
    }

    fn ask_around(&self, cx: &Cx<'_>, nodes: Vec<NodeId>) -> Around {
        let read = Read::new(Level::First, nodes.len(), None);
        Around { read, nodes, next: 0, waiting: 0, width: 1, slow_at: self.slow_at(cx.now) }
    }

    /// Asks who is to be asked next; nothing when somebody has something, or nobody is left.
    fn step_around(
        &mut self,
        cx: &mut Cx<'_>,
        calls: &mut Calls,
        query: Query,
        around: &mut Around,
    ) -> Option<Flow> {
        let Around { read, nodes, next, waiting, width, slow_at } = around;
        if read.verdict() == Verdict::Done {
            return None;
        }
        if *waiting > 0 && *slow_at <= cx.now && *waiting < ALPHA_MAX {
            *width = *waiting + 1;
            *slow_at = self.slow_at(cx.now);
        }
        while *waiting < *width && *next < nodes.len() {
            let ask = Ask::FindValue { key: query.key, kind: query.kind };
            self.ask(cx, calls, &nodes[*next], ask);
            *next += 1;
            *waiting += 1;
        }
        let more = *next < nodes.len() && *waiting < ALPHA_MAX;
        (*waiting > 0).then_some(if more { Flow::Until(*slow_at) } else { Flow::Wait })
    }
}

/// Tells the script what a find has come to: nothing if nobody could say for certain.
fn end(cx: &mut Cx<'_>, hunting: &mut Hunting, read: Option<Read>) -> Flow {
    let records = read.map(|read| read.into_records().collect());
    let found = Found { records, answers: std::mem::take(&mut hunting.answers) };
    cx.core.done.push(Done::Found { node: cx.me, token: hunting.query.token, found });
    Flow::Ended
}
