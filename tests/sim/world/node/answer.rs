//! Answering others, in the order of the service: first what is asked is done, then it is said.

use std::ops::ControlFlow;

use foveola::dht::planted::{Bug, is_planted};
use foveola::dht::store::Origin;
use foveola::id::{Key, NodeId};
use foveola::wire::{Record, RecordKind, Reject, Status};

use super::super::core::Cx;
use super::super::message::{Answer, Ask, Copied};
use super::Node;
use super::tend::copied;

impl Node {
    /// Does what a peer asks for, and answers it.
    pub(super) fn answer(&mut self, cx: &mut Cx<'_>, from: u32, ask: Ask) -> Answer {
        match ask {
            Ask::Ping => Answer::Pong,
            Ask::FindNode { target, count } => Answer::Nodes(self.nodes(cx, from, &target, count)),
            Ask::FindValue { key, kind } => Answer::Found(self.shown(cx, key, kind)),
            Ask::Both { key, count, kind } => {
                Answer::Both(self.nodes(cx, from, &key, count), self.shown(cx, key, kind))
            }
            Ask::Store { publisher, records } => {
                let statuses = records.iter().map(|copy| self.replicate(cx, from, publisher, copy));
                Answer::Stored(statuses.collect())
            }
        }
    }

    /// Whether this node holds a plain value of `publisher` under `key`.
    pub(crate) fn holds(&mut self, cx: &mut Cx<'_>, key: &Key, publisher: &NodeId) -> bool {
        self.held(cx, *key, RecordKind::VALUE).iter().any(|held| held.publisher == *publisher)
    }

    /// The members closest to a key that this node tells `from` of.
    fn nodes(&self, cx: &Cx<'_>, from: u32, target: &Key, count: usize) -> Vec<NodeId> {
        let asker = cx.id(from);
        let mut nodes = Vec::new();
        self.members.closest_answering(target, count + 1, &mut nodes);
        nodes.retain(|node| *node != asker);
        nodes.truncate(count);
        nodes
    }

    /// What a reader is shown: a writer that is close to the key itself counts as a replica.
    pub(super) fn shown(&mut self, cx: &mut Cx<'_>, key: Key, kind: RecordKind) -> Vec<Copied> {
        let (mut shown, now, own) = (self.held(cx, key, kind), cx.now, self.own);
        let at = shown.partition_point(|held| held.publisher < own);
        let published =
            self.records(cx).log.find(now, &key, kind).map(|published| copied(own, key, published));
        shown.splice(at..at, published);
        shown
    }

    /// What this node holds for others under `key`.
    pub(super) fn held(&mut self, cx: &mut Cx<'_>, key: Key, kind: RecordKind) -> Vec<Copied> {
        let (mut held, now) = (Vec::new(), cx.now);
        self.shard(cx).find(now, &key, kind, None, |found| {
            held.push(Copied::found(key, &found));
            ControlFlow::Continue(())
        });
        held
    }

    /// Takes a copy of a record if who brings it may bring it.
    fn replicate(&mut self, cx: &mut Cx<'_>, from: u32, publisher: NodeId, copy: &Copied) -> Status {
        let bringer = cx.id(from);
        let origin = if bringer == publisher { Origin::FirstHand } else { Origin::Vouched(Some(bringer)) };
        // A copy with a proof is taken from everybody; that proofs are sound is tested elsewhere.
        let vouched = origin != Origin::FirstHand && copy.proof.is_empty();
        let known = self.changes.is_here(from) || self.members.table().contains(&bringer);
        let may_vouch = !vouched || known && self.members.may_vouch(cx.now, &copy.key, &bringer);
        let mine = origin == Origin::FirstHand || self.members.may_vouch(cx.now, &copy.key, &self.own);
        if publisher == self.own || !may_vouch || !mine {
            return Status::Rejected(Reject::Publisher);
        }
        let status = self.apply(cx, publisher, origin, copy);
        let held = self.held(cx, copy.key, copy.kind).into_iter().find(|held| held.publisher == publisher);
        let first_hand = origin == Origin::FirstHand;
        cx.core.ledger.answered(cx.core.now, (cx.me, cx.boot), copy, first_hand, (status, held.as_ref()));
        status
    }
}

impl Node {
    fn apply(&mut self, cx: &mut Cx<'_>, publisher: NodeId, origin: Origin, copy: &Copied) -> Status {
        if is_planted(Bug::AckBeforeApply) {
            self.records(cx).late.push((origin, copy.clone()));
            return Status::Applied;
        }
        let (mut status, now) = (Status::StorageFull, cx.now);
        self.shard(cx).apply(now, &publisher, origin, [copy.record()], |applied| status = applied);
        status
    }
}

impl Copied {
    /// The copy as a batch carries it.
    pub(super) fn record(&self) -> Record<'_> {
        let Self { key, seq, ttl_ms, kind, flags, ref proof, ref value, .. } = *self;
        Record { key, seq, ttl_ms, kind, flags, proof, value }
    }

    /// What `publisher`'s record is as a copy.
    pub(super) fn of(publisher: NodeId, record: &Record<'_>) -> Self {
        let Record { key, seq, ttl_ms, kind, flags, proof, value } = *record;
        let (proof, value) = (proof.to_vec().into(), value.to_vec().into());
        Self { key, publisher, seq, ttl_ms, kind, flags, proof, value }
    }

    fn found(key: Key, found: &foveola::wire::Found<'_>) -> Self {
        let foveola::wire::Found { publisher, seq, ttl_ms, kind, flags, proof, value } = *found;
        Self::of(publisher, &Record { key, seq, ttl_ms, kind, flags, proof, value })
    }
}
