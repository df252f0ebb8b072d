//! What time and the coming and going of nodes bring about: records end, are published again, and are sent to
//! whom they belong.

use std::sync::Arc;
use std::time::Instant;

use foveola::dht::log::{Draft, LogLimits, PublicationLog};
use foveola::dht::replication::Neighbourhood;
use foveola::dht::store::{Origin, Shard, StoreLimits};
use foveola::id::{Key, NodeId};
use foveola::wire::{PROOF_LEN, RecordKind, TOMBSTONE};

use super::super::clock::SECOND;
use super::super::core::{Cx, Wake};
use super::super::message::{Ask, Copied};
use super::Node;
use super::op::{Calls, Flow, Reply, Task};
use super::search::Search;
use super::store::Want;

/// Records looked at in one second.
const BUDGET: usize = 4_096;

/// What a node holds for others, and what it has published.
#[derive(Debug)]
pub(crate) struct Records {
    shard: Shard,
    pub(super) log: PublicationLog,
    /// Copies that were acknowledged and are yet to be applied, which is the bug that was planted.
    pub(super) late: Vec<(Origin, Copied)>,
    /// Whether it will be looked at within a second.
    tended: bool,
}

impl Records {
    /// The records as the next process finds them: what was only in memory is gone.
    pub(super) fn reopened(mut records: Box<Self>) -> Box<Self> {
        records.late.clear();
        records.tended = false;
        records
    }
}

/// Copies on their way to one node.
#[derive(Debug)]
pub(crate) struct Copying {
    to: NodeId,
    /// By publisher, until they are sent.
    batches: Vec<(NodeId, Vec<Copied>)>,
}

/// An own publication on its way to its replicas again.
#[derive(Debug)]
pub(crate) struct Publishing {
    copy: Copied,
    /// It is a copy for others instead, held too far from where it belongs.
    strays: bool,
    search: Option<Box<Search>>,
}

impl Publishing {
    pub(super) fn take(&mut self, node: &mut Node, now: Instant, from: &NodeId, reply: Reply) {
        if let Some(search) = &mut self.search {
            search.take(node, now, from, reply);
        }
    }
}

impl Node {
    pub(super) fn records(&mut self, cx: &mut Cx<'_>) -> &mut Records {
        let (epoch, seed) = (self.booted, self.seed);
        let records = self.records.get_or_insert_with(|| {
            Box::new(Records {
                shard: Shard::new(epoch, StoreLimits::default().per_shard(1), (seed, 1)),
                log: PublicationLog::new(epoch, LogLimits::default().per_shard(1), (seed, 2)),
                late: Vec::new(),
                tended: false,
            })
        });
        if !std::mem::replace(&mut records.tended, true) {
            // There was nothing that they could have been sent.
            self.changes.take();
            cx.wake(cx.core.now + SECOND, Wake::Tend);
        }
        records
    }

    pub(super) fn shard(&mut self, cx: &mut Cx<'_>) -> &mut Shard {
        &mut self.records(cx).shard
    }

    /// Enters a record into the publication log and returns the copy that is sent. It is signed if it is to be,
    /// or removes something, or follows what was signed.
    pub(super) fn publish(&mut self, cx: &mut Cx<'_>, want: &Want, seq: u64, signed: bool) -> Copied {
        let flags = if want.value.is_some() { 0 } else { TOMBSTONE };
        let signed = signed || want.value.is_none() || want.kind != RecordKind::VALUE;
        let proof = signed.then(|| Box::new([1; PROOF_LEN]));
        let value = want.value.clone().unwrap_or_default();
        let draft = Draft { kind: want.kind, flags, seq, ttl: want.ttl, proof, value };
        let (now, publisher) = (cx.now, self.own);
        let log = &mut self.records(cx).log;
        let follows = log.publish(now, want.key, draft).expect("the log of a simulated node is never full");
        if follows && !signed {
            return self.publish(cx, want, seq, true);
        }
        let own = log.find(now, &want.key, want.kind).expect("it was published right now");
        copied(publisher, want.key, own)
    }

    /// Looks after the records: those that have ended go, those whose time has come are sent again.
    pub(super) fn tend(&mut self, cx: &mut Cx<'_>) {
        let (now, own) = (cx.now, self.own);
        let Some(records) = &mut self.records else { return };
        for (origin, copy) in std::mem::take(&mut records.late) {
            records.shard.apply(now, &copy.publisher, origin, [copy.record()], drop);
        }
        let (mut published, mut copies) = (Vec::new(), Vec::new());
        records
            .log
            .due(now, BUDGET, |key, publication| published.push((copied(own, *key, publication), false)));
        records.shard.due(now, BUDGET, |held| copies.push(Copied::of(held.publisher, &held.record)));
        records.tended = !(records.shard.is_empty() && records.log.is_empty());
        if records.tended {
            cx.wake(cx.core.now + SECOND, Wake::Tend);
        }
        self.rearrange(cx);
        let mut jobs = Vec::new();
        for copy in copies {
            let others = self.others(now, &copy.key, 0);
            let around = self.around(copy.key, &others);
            if around.is_close() {
                jobs.extend(around.round().iter().map(|to| (*to, copy.clone())));
            } else {
                published.push((copy, true));
            }
        }
        self.send_copies(cx, jobs);
        for (copy, strays) in published {
            self.start(cx, Task::Publish(Box::new(Publishing { copy, strays, search: None })));
        }
    }

    /// Nodes have come that hold nothing, or have gone: whoever takes a place is sent what belongs there.
    fn rearrange(&mut self, cx: &mut Cx<'_>) {
        let (now, (came, lost)) = (cx.now, self.changes.take());
        let Some(records) = &self.records else { return };
        if came.is_empty() && lost.is_empty() {
            return;
        }
        let mut held: Vec<Copied> = Vec::new();
        records.shard.select(now, |_| true, |one| held.push(Copied::of(one.publisher, &one.record)));
        let mut jobs = Vec::new();
        for copy in held {
            let others = self.others(now, &copy.key, came.len());
            for to in self.around(copy.key, &others).receivers(&came, &lost) {
                jobs.push((to, copy.clone()));
            }
        }
        self.send_copies(cx, jobs);
    }

    /// The nodes around a key after `came` have come.
    fn others(&mut self, now: Instant, key: &Key, came: usize) -> Vec<NodeId> {
        let mut others = Vec::new();
        self.members.around(now, key, self.config.k + 1 + came, &mut others);
        others
    }

    fn around<'a>(&self, key: Key, others: &'a [NodeId]) -> Neighbourhood<'a> {
        Neighbourhood { own: self.own, key, k: self.config.k, others }
    }

    /// Sends each node its copies.
    fn send_copies(&mut self, cx: &mut Cx<'_>, mut jobs: Vec<(NodeId, Copied)>) {
        jobs.sort_by_key(|(to, _)| *to);
        for batch in jobs.chunk_by(|(a, _), (b, _)| a == b) {
            self.copy_to(cx, batch[0].0, batch.iter().map(|(_, copy)| copy.clone()).collect());
        }
    }

    /// Sends copies to a node, those of one publisher together.
    pub(super) fn copy_to(&mut self, cx: &mut Cx<'_>, to: NodeId, copies: Vec<Copied>) {
        let mut batches: Vec<(NodeId, Vec<Copied>)> = Vec::new();
        // A publisher knows best itself what it has published.
        for copy in copies.into_iter().filter(|copy| copy.publisher != to) {
            match batches.iter_mut().find(|(publisher, _)| *publisher == copy.publisher) {
                Some((_, batch)) => batch.push(copy),
                None => batches.push((copy.publisher, vec![copy])),
            }
        }
        self.start(cx, Task::Copy(Copying { to, batches }));
    }

    pub(super) fn step_publishing(
        &mut self,
        cx: &mut Cx<'_>,
        calls: &mut Calls,
        publishing: &mut Publishing,
    ) -> Flow {
        let set = match &mut publishing.search {
            None => match self.replicas(cx, publishing.copy.key) {
                Ok(set) => set,
                Err(search) => {
                    publishing.search = Some(search);
                    return self.step_publishing(cx, calls, publishing);
                }
            },
            Some(search) => match self.step_search(cx, calls, search) {
                Flow::Ended => self.found(cx, &search.outcome()),
                flow => return flow,
            },
        };
        let key = publishing.copy.key;
        let mut nodes = set.nodes.to_vec();
        if publishing.strays {
            nodes.sort_unstable_by_key(|node| node.distance(&key));
            nodes = self.around(key, &nodes).round().to_vec();
        }
        for node in nodes {
            self.copy_to(cx, node, vec![publishing.copy.clone()]);
        }
        Flow::Ended
    }

    pub(super) fn step_copying(&mut self, cx: &mut Cx<'_>, calls: &mut Calls, copying: &mut Copying) -> Flow {
        for (publisher, copies) in std::mem::take(&mut copying.batches) {
            let records: Arc<[Copied]> = copies.into();
            self.ask(cx, calls, &copying.to, Ask::Store { publisher, records });
        }
        if calls.are_over() { Flow::Ended } else { Flow::Wait }
    }
}

/// What `publisher` has published under `key` as a copy.
pub(super) fn copied(publisher: NodeId, key: Key, own: foveola::dht::log::Publication<'_>) -> Copied {
    Copied {
        key,
        publisher,
        seq: own.seq,
        ttl_ms: u32::try_from(own.ttl.as_millis()).unwrap_or(u32::MAX),
        kind: own.kind,
        flags: own.flags,
        proof: own.proof.to_vec().into(),
        value: own.value.clone(),
    }
}
