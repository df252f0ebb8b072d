//! Reading several replicas: the nodes closest to the key, from a region or a search, asked until the read is
//! satisfied.

use std::time::{Duration, Instant};

use foveola::dht::read::{Heard, Level, Read, Verdict};
use foveola::id::{Key, NodeId};
use foveola::wire::RecordKind;

use super::super::core::{Cx, Done};
use super::super::message::{Answer, Ask, Copied};
use super::Node;
use super::first::Hunting;
use super::op::{Calls, Flow, Reply, Task};
use super::search::Search;

/// What is to be found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query {
    /// By which the script knows the operation again.
    pub(crate) token: u32,
    pub(crate) key: Key,
    pub(crate) kind: RecordKind,
    pub(crate) level: Level,
}

/// A find under way.
#[derive(Debug)]
pub(crate) struct Finding {
    query: Query,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Begin,
    Search(Box<Search>),
    Ask(Asking),
}

/// The replicas that are asked, closest first.
#[derive(Debug)]
struct Asking {
    read: Read,
    nodes: Vec<NodeId>,
    next: usize,
    /// Asked and not heard of.
    waiting: usize,
    /// For how many of those a substitute is asked, and when for another.
    slow: usize,
    slow_at: Instant,
    /// Who has answered, with what.
    answers: Vec<(NodeId, Vec<Copied>)>,
}

/// What a find has come to.
#[derive(Debug)]
pub(crate) struct Found {
    /// The live records, if enough replicas answered.
    pub(crate) records: Option<Vec<Heard>>,
    /// Who knew what: the node itself, and who was asked for it and answered.
    pub(crate) answers: Vec<(NodeId, Vec<Copied>)>,
}

impl Node {
    /// Looks for the records under a key.
    pub(crate) fn find(&mut self, cx: &mut Cx<'_>, query: Query) {
        let task = match query.level {
            Level::First => Task::First(Box::new(Hunting::new(cx.now, query))),
            Level::Quorum | Level::Merge => Task::Find(Box::new(Finding { query, phase: Phase::Begin })),
        };
        self.start(cx, task);
    }

    pub(super) fn step_finding(&mut self, cx: &mut Cx<'_>, calls: &mut Calls, finding: &mut Finding) -> Flow {
        loop {
            match &mut finding.phase {
                Phase::Begin => {
                    finding.phase = match self.replicas(cx, finding.query.key) {
                        Ok(set) => self.read(cx, &finding.query, set.target, &set.nodes),
                        Err(search) => Phase::Search(search),
                    };
                }
                Phase::Search(search) => match self.step_search(cx, calls, search) {
                    Flow::Ended => {
                        let set = self.found(cx, &search.outcome());
                        finding.phase = self.read(cx, &finding.query, set.target, &set.nodes);
                    }
                    flow => return flow,
                },
                Phase::Ask(asking) => return self.step_asking(cx, calls, finding.query, asking),
            }
        }
    }

    fn read(&mut self, cx: &mut Cx<'_>, query: &Query, target: usize, nodes: &[NodeId]) -> Phase {
        let mut read = Read::new(query.level, target, None);
        let held = self.held(cx, query.key, query.kind);
        read.noted(held.iter().map(Copied::to_heard));
        let (nodes, answers) = (nodes.to_vec(), vec![(self.own, held)]);
        Phase::Ask(Asking {
            read,
            nodes,
            next: 0,
            waiting: 0,
            slow: 0,
            slow_at: self.slow_at(cx.now),
            answers,
        })
    }

    /// When somebody else is asked beside a peer that is asked at `now`.
    pub(super) fn slow_at(&self, now: Instant) -> Instant {
        now + self.patience.warm().slow
    }

    fn step_asking(&mut self, cx: &mut Cx<'_>, calls: &mut Calls, query: Query, asking: &mut Asking) -> Flow {
        let Asking { read, nodes, next, waiting, slow, slow_at, .. } = asking;
        if read.verdict() == Verdict::More {
            if *waiting > 0 && *slow_at <= cx.now {
                *slow += 1;
                *slow_at = self.slow_at(cx.now);
            }
            while *waiting < read.wanting() + *slow && *next < nodes.len() {
                let ask = Ask::FindValue { key: query.key, kind: query.kind };
                self.ask(cx, calls, &nodes[*next], ask);
                *next += 1;
                *waiting += 1;
            }
            if *waiting > 0 {
                return if *next < nodes.len() { Flow::Until(*slow_at) } else { Flow::Wait };
            }
        }
        let records = read.end().ok().map(|()| read.records().cloned().collect());
        let complete = records.is_some();
        let found = Found { records, answers: std::mem::take(&mut asking.answers) };
        cx.core.done.push(Done::Found { node: cx.me, token: query.token, found });
        if complete {
            self.mend(cx, query, asking);
        }
        Flow::Ended
    }

    /// Sends replicas what a read has seen that they lack, if they would take it from here.
    fn mend(&mut self, cx: &mut Cx<'_>, query: Query, asking: &Asking) {
        let (now, own) = (cx.now, self.own);
        let vouches = self.members.may_vouch(now, &query.key, &own);
        for (node, held) in asking.read.repairs() {
            if vouches || held.authentic || held.publisher == own {
                let copy = Copied::held(query.key, query.kind, held);
                self.copy_to(cx, node, vec![copy]);
            }
        }
    }
}

impl Finding {
    pub(super) fn take(&mut self, node: &mut Node, now: Instant, from: &NodeId, reply: Reply) {
        match &mut self.phase {
            Phase::Search(search) => drop(search.take(node, now, from, reply)),
            Phase::Ask(_) if matches!(reply, Reply::Late(_)) => {}
            Phase::Ask(asking) => {
                asking.waiting -= 1;
                asking.slow_at = node.slow_at(now);
                match reply {
                    Reply::Answer(Answer::Found(copies)) => {
                        asking.read.answered(*from, copies.iter().map(Copied::to_heard));
                        asking.answers.push((*from, copies));
                    }
                    _ => asking.read.failed(),
                }
            }
            Phase::Begin => {}
        }
    }
}

impl Copied {
    pub(super) fn to_heard(&self) -> Heard {
        let Self { publisher, seq, ttl_ms, flags, ref proof, ref value, .. } = *self;
        let ttl = Duration::from_millis(ttl_ms.into());
        let (authentic, proof, value) = (!proof.is_empty(), proof.clone(), value.clone());
        Heard { publisher, seq, ttl, flags, authentic, proof, value }
    }

    fn held(key: Key, kind: RecordKind, held: &Heard) -> Self {
        let Heard { publisher, seq, ttl, flags, ref proof, ref value, .. } = *held;
        let ttl_ms = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX);
        Self { key, publisher, seq, ttl_ms, kind, flags, proof: proof.clone(), value: value.clone() }
    }
}
