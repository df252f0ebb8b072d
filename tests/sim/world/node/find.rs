//! Reading: the nodes closest to the key, from a region or a lookup, asked until the read is satisfied.

use std::time::Duration;

use foveola::dht::lookup::ALPHA;
use foveola::dht::read::{Heard, Level, Read, Verdict};
use foveola::id::{Key, NodeId};
use foveola::wire::RecordKind;

use super::super::core::{Cx, Done};
use super::super::message::{Answer, Ask, Copied};
use super::Node;
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
    /// Who has answered, with what.
    answers: Vec<(NodeId, Vec<Copied>)>,
}

/// What a find has come to.
#[derive(Debug)]
pub(crate) struct Found {
    /// The live records, if enough replicas answered.
    pub(crate) records: Option<Vec<Heard>>,
    /// Who was asked for it and answered, with what.
    pub(crate) answers: Vec<(NodeId, Vec<Copied>)>,
}

impl Node {
    /// Looks for the records under a key.
    pub(crate) fn find(&mut self, cx: &mut Cx<'_>, query: Query) {
        self.start(cx, Task::Find(Box::new(Finding { query, phase: Phase::Begin })));
    }

    pub(super) fn step_finding(&mut self, cx: &mut Cx<'_>, calls: &mut Calls, finding: &mut Finding) -> Flow {
        loop {
            match &mut finding.phase {
                Phase::Begin => {
                    finding.phase = match self.replicas(cx, finding.query.key) {
                        Ok(set) => self.read(&finding.query, set.target, &set.nodes),
                        Err(search) => Phase::Search(search),
                    };
                }
                Phase::Search(search) => match self.step_search(cx, calls, search) {
                    Flow::Ended => {
                        let set = self.found(cx, &search.outcome());
                        finding.phase = self.read(&finding.query, set.target, &set.nodes);
                    }
                    flow => return flow,
                },
                Phase::Ask(asking) => return self.step_asking(cx, calls, finding.query, asking),
            }
        }
    }

    fn read(&self, query: &Query, target: usize, nodes: &[NodeId]) -> Phase {
        let read = Read::new(query.level, target, None);
        Phase::Ask(Asking { read, nodes: nodes.to_vec(), next: 0, waiting: 0, answers: Vec::new() })
    }

    fn step_asking(&mut self, cx: &mut Cx<'_>, calls: &mut Calls, query: Query, asking: &mut Asking) -> Flow {
        let Asking { read, nodes, next, waiting, .. } = asking;
        if read.verdict() == Verdict::More {
            let width = if query.level == Level::First { ALPHA } else { read.wanting() };
            while *waiting < width && *next < nodes.len() {
                let ask = Ask::FindValue { key: query.key, kind: query.kind };
                self.ask(cx, calls, &nodes[*next], ask);
                *next += 1;
                *waiting += 1;
            }
            if *waiting > 0 {
                return Flow::Wait;
            }
        }
        let records = read.end().ok().map(|()| read.records().cloned().collect());
        let found = Found { records, answers: std::mem::take(&mut asking.answers) };
        cx.core.done.push(Done::Found { node: cx.me, token: query.token, found });
        self.repair(cx, query, asking);
        Flow::Ended
    }

    /// Sends replicas what a read has seen that they lack.
    fn repair(&mut self, cx: &mut Cx<'_>, query: Query, asking: &Asking) {
        for (node, held) in asking.read.repairs() {
            let copy = Copied::held(query.key, query.kind, held);
            self.copy_to(cx, node, vec![copy]);
        }
    }
}

impl Finding {
    pub(super) fn take(&mut self, from: &NodeId, reply: Reply) {
        match &mut self.phase {
            Phase::Search(search) => search.take(from, reply),
            Phase::Ask(_) if matches!(reply, Reply::Late(_)) => {}
            Phase::Ask(asking) => {
                asking.waiting -= 1;
                match reply {
                    Reply::Answer(Answer::Found(copies)) => {
                        asking.read.answered(*from, copies.iter().map(Copied::to_held));
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
    fn to_held(&self) -> Heard {
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
