//! What time and the coming and going of nodes bring about: records end, are published again, and are sent to
//! whom they belong.

use std::sync::Arc;

use foveola::dht::log::{Draft, LogLimits, PublicationLog};
use foveola::dht::replication::Neighbourhood;
use foveola::dht::store::{Origin, Shard, StoreLimits};
use foveola::id::{Key, NodeId};
use foveola::wire::TOMBSTONE;

use super::super::clock::SECOND;
use super::super::core::{Cx, Wake};
use super::super::message::{Ask, Copied};
use super::Node;
use super::op::{Calls, Flow, Task};
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

/// Copies on their way to one node.
#[derive(Debug)]
pub(crate) struct Copying {
    to: NodeId,
    /// By publisher, until they are sent.
    batches: Vec<(NodeId, Vec<Copied>)>,
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
            cx.wake(cx.core.now + SECOND, Wake::Tend);
        }
        records
    }

    pub(super) fn shard(&mut self, cx: &mut Cx<'_>) -> &mut Shard {
        &mut self.records(cx).shard
    }

    /// Enters a record into the publication log and returns the copy that is sent.
    pub(super) fn publish(&mut self, cx: &mut Cx<'_>, want: &Want, seq: u64) -> Copied {
        let flags = if want.value.is_some() { 0 } else { TOMBSTONE };
        let value = want.value.clone().unwrap_or_default();
        let proof = want.proof.first_chunk().map(|proof| Box::new(*proof));
        let draft = Draft { kind: want.kind, flags, seq, ttl: want.ttl, proof, value };
        let (now, publisher) = (cx.now, self.own);
        let log = &mut self.records(cx).log;
        log.publish(now, want.key, draft).expect("the log of a simulated node is never full");
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
        records.log.due(now, BUDGET, |key, publication| published.push(copied(own, *key, publication)));
        records.shard.due(now, BUDGET, |held| copies.push(Copied::of(held.publisher, &held.record)));
        records.tended = !(records.shard.is_empty() && records.log.is_empty());
        if records.tended {
            cx.wake(cx.core.now + SECOND, Wake::Tend);
        }
        for copy in published {
            for node in self.members.closest(now, &copy.key, self.config.k) {
                self.copy_to(cx, node, vec![copy.clone()]);
            }
        }
        for copy in copies {
            let others = self.members.closest(now, &copy.key, self.config.k + 1);
            for node in self.around(copy.key, &others).round() {
                self.copy_to(cx, *node, vec![copy.clone()]);
            }
        }
    }

    /// Nodes have come that hold nothing, or have gone: whoever takes a place is sent what belongs there.
    pub(super) fn changed(&mut self, cx: &mut Cx<'_>, came: &[NodeId], lost: &[NodeId]) {
        let Some(records) = &self.records else { return };
        let mut jobs: Vec<(NodeId, Copied)> = Vec::new();
        records.shard.select(
            cx.now,
            |_| true,
            |held| {
                let key = held.record.key;
                let others = self.members.closest(cx.now, &key, self.config.k + 1 + came.len());
                for to in self.around(key, &others).receivers(came, lost) {
                    jobs.push((to, Copied::of(held.publisher, &held.record)));
                }
            },
        );
        jobs.sort_by_key(|(to, _)| *to);
        for batch in jobs.chunk_by(|(a, _), (b, _)| a == b) {
            self.copy_to(cx, batch[0].0, batch.iter().map(|(_, copy)| copy.clone()).collect());
        }
    }

    fn around<'a>(&self, key: Key, others: &'a [NodeId]) -> Neighbourhood<'a> {
        Neighbourhood { own: self.own, key, k: self.config.k, others }
    }

    /// Sends copies to a node, those of one publisher together.
    pub(super) fn copy_to(&mut self, cx: &mut Cx<'_>, to: NodeId, copies: Vec<Copied>) {
        let mut batches: Vec<(NodeId, Vec<Copied>)> = Vec::new();
        for copy in copies {
            match batches.iter_mut().find(|(publisher, _)| *publisher == copy.publisher) {
                Some((_, batch)) => batch.push(copy),
                None => batches.push((copy.publisher, vec![copy])),
            }
        }
        self.start(cx, Task::Copy(Copying { to, batches }));
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
