//! Storing: the replica set, from a region or a lookup, then all its nodes at once.

use std::time::{Duration, Instant};

use bytes::Bytes;
use foveola::dht::ack::{Ack, required};
use foveola::dht::members::{Cover, ReplicaSet};
use foveola::dht::tally::Tally;
use foveola::id::{Key, NodeId};
use foveola::wire::{RecordKind, Status};

use super::super::core::{Cx, Done};
use super::super::message::{Answer, Ask};
use super::Node;
use super::op::{Calls, Flow, Reply, Task};
use super::search::Search;

/// A record to be stored, or removed.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    /// By which the script knows the operation again.
    pub(crate) token: u32,
    pub(crate) key: Key,
    pub(crate) kind: RecordKind,
    /// Nothing to remove what is there.
    pub(crate) value: Option<Bytes>,
    /// Whether it carries a proof although nothing asks for one.
    pub(crate) signed: bool,
    pub(crate) ttl: Duration,
}

/// A store under way.
#[derive(Debug)]
pub(crate) struct Storing {
    want: Want,
    phase: Phase,
    /// Of a second attempt, whether the script has been told of the first.
    again: Option<bool>,
}

#[derive(Debug)]
enum Phase {
    Begin,
    Search(Box<Search>),
    Send(Sending),
    Over,
}

/// A record on its way to its replicas.
#[derive(Debug)]
struct Sending {
    set: ReplicaSet,
    required: usize,
    seq: u64,
    tally: Tally,
    /// The highest sequence that a replica holds instead.
    superseded: Option<u64>,
    /// The sequence had to be raised already.
    again: bool,
    told: bool,
}

/// What a store has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// As many replicas as were required have acknowledged this sequence.
    Acknowledged { seq: u64 },
    /// Too few replicas are known, or they did not acknowledge.
    Not,
}

impl Node {
    /// Stores a record with [`Ack::Quorum`].
    pub(crate) fn store(&mut self, cx: &mut Cx<'_>, want: Want) {
        self.start(cx, Task::Store(Box::new(Storing { want, phase: Phase::Begin, again: None })));
    }

    pub(super) fn step_storing(&mut self, cx: &mut Cx<'_>, calls: &mut Calls, storing: &mut Storing) -> Flow {
        loop {
            match &mut storing.phase {
                Phase::Begin => {
                    let next = self.replicas(cx, storing.want.key);
                    storing.phase = match next {
                        Ok(set) => self.send_record(cx, calls, &storing.want, set, storing.again),
                        Err(search) => Phase::Search(search),
                    };
                }
                Phase::Search(search) => match self.step_search(cx, calls, search) {
                    Flow::Ended => {
                        let set = self.found(cx, &search.outcome());
                        storing.phase = self.send_record(cx, calls, &storing.want, set, storing.again);
                    }
                    flow => return flow,
                },
                Phase::Send(sending) => {
                    if let Some(told) = self.settle(cx, &storing.want, sending) {
                        calls.forget();
                        storing.again = Some(told);
                        storing.phase = Phase::Begin;
                        continue;
                    }
                    return if calls.are_over() && sending.told { Flow::Ended } else { Flow::Wait };
                }
                Phase::Over => return Flow::Ended,
            }
        }
    }

    /// The replica set of `key` if the region around it is known; otherwise the search that tells.
    pub(super) fn replicas(&mut self, cx: &mut Cx<'_>, key: Key) -> Result<ReplicaSet, Box<Search>> {
        self.known(cx, key).ok_or_else(|| Box::new(self.search_closely(cx, key)))
    }

    /// The replica set of `key` if the region around it is known; one that ages is surveyed again.
    pub(super) fn known(&mut self, cx: &mut Cx<'_>, key: Key) -> Option<ReplicaSet> {
        let Cover::Known { set, stale } = self.members.replicas(cx.now, &key) else { return None };
        if stale {
            self.survey(cx, key, None);
        }
        Some(set)
    }

    /// Sends a record to its replicas with a new sequence, if there are enough of them; `again` tells of a
    /// second attempt whether the script has been told of the first.
    fn send_record(
        &mut self,
        cx: &mut Cx<'_>,
        calls: &mut Calls,
        want: &Want,
        set: ReplicaSet,
        again: Option<bool>,
    ) -> Phase {
        let needed = required(Ack::Quorum, set.target).ok().filter(|needed| set.nodes.len() >= *needed);
        let Some(required) = needed else {
            cx.core.done.push(Done::Stored { node: cx.me, token: want.token, stored: Stored::Not });
            return Phase::Over;
        };
        let seq = self.next_seq;
        self.next_seq += 1;
        let copy = self.publish(cx, want, seq, want.signed || again.is_some());
        cx.core.ledger.written(cx.core.now, (cx.me, cx.boot), self.config.k, &copy);
        for node in set.nodes.iter() {
            let ask = Ask::Store { publisher: self.own, records: [copy.clone()].into() };
            self.ask(cx, calls, node, ask);
        }
        let tally = Tally::default();
        let (again, told) = (again.is_some(), again.unwrap_or(false));
        Phase::Send(Sending { set, required, seq, tally, superseded: None, again, told })
    }

    /// Tells the script once it is known whether enough replicas have acknowledged. If the
    /// record has to be sent again, above what an earlier process of this node had reached, returns whether
    /// the script had been told before.
    fn settle(&mut self, cx: &mut Cx<'_>, want: &Want, sending: &mut Sending) -> Option<bool> {
        let Sending { set, required, seq, tally, superseded, again, told } = sending;
        if !*told && !tally.is_decided(*required, set.nodes.len()) {
            return None;
        }
        if let Some(claim) = superseded.filter(|_| !*again)
            && self.is_latest(cx, want, *seq)
        {
            self.next_seq = self.next_seq.max(claim + 1);
            return Some(*told);
        }
        if !std::mem::replace(told, true) {
            let met = tally.is_met(*required);
            let stored = if met { Stored::Acknowledged { seq: *seq } } else { Stored::Not };
            cx.core.done.push(Done::Stored { node: cx.me, token: want.token, stored });
        }
        None
    }

    /// Whether no later store has replaced what was given `seq`.
    fn is_latest(&mut self, cx: &mut Cx<'_>, want: &Want, seq: u64) -> bool {
        let now = cx.now;
        self.records(cx).log.find(now, &want.key, want.kind).is_some_and(|own| own.seq == seq)
    }
}

impl Storing {
    pub(super) fn take(&mut self, node: &mut Node, now: Instant, from: &NodeId, reply: Reply) {
        match &mut self.phase {
            Phase::Search(search) => drop(search.take(node, now, from, reply)),
            Phase::Send(sending) => sending.take(from, reply),
            Phase::Begin | Phase::Over => {}
        }
    }
}

impl Sending {
    fn take(&mut self, from: &NodeId, reply: Reply) {
        let Some(replica) = self.set.nodes.iter().position(|node| node == from) else { return };
        match reply {
            Reply::Failed { maybe_executed } => self.tally.lost(replica, maybe_executed),
            Reply::Answer(Answer::Stored(statuses)) | Reply::Late(Answer::Stored(statuses)) => {
                match statuses.first() {
                    Some(Status::Applied | Status::AlreadyHave) => self.tally.acked(replica),
                    Some(Status::Superseded { seq }) => {
                        self.superseded = self.superseded.max(Some(*seq));
                        self.tally.refused(replica);
                    }
                    _ => self.tally.refused(replica),
                }
            }
            Reply::Answer(_) | Reply::Late(_) => self.tally.refused(replica),
        }
    }
}
