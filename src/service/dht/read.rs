//! Reading several replicas at once, and mending what some of them lack.
//!
//! A quorum or a merge asks as many replicas as its level needs, closest first, and others for those that
//! fail or are slow. What the answers come to is decided in [`crate::dht::read`]. A replica that lacks the
//! best copy is sent it in the background, if it would take it: a copy with a proof from anybody, any other
//! from its publisher or from a node close enough to the key to vouch for it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::cover::half_way;
use super::find::FindError;
use super::find_op::FindOp;
use super::outgoing::{Outgoing, Parcel};
use super::receipt::Record;
use super::{DhtService, lock};
use crate::dht::read::{Heard, Incomplete, Level, Read, Verdict};
use crate::dht::record;
use crate::id::{Key, NodeId};
use crate::pool::RequestError;
use crate::runtime;
use crate::wire::{self, RecordKind};

/// Reads of a node that mend replicas at a time; others leave it to the next read.
pub(super) const MENDS_MAX: usize = 64;
/// Copies that one read sends out to mend replicas.
const MEND_COPIES: usize = 1_024;

/// What is to be found under a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FindOptions {
    pub(crate) kind: RecordKind,
    /// Only the record of this publisher.
    pub(crate) from: Option<NodeId>,
    /// [`Level::First`] for values and [`Level::Merge`] for entries if it is not chosen.
    pub(crate) level: Option<Level>,
    pub(crate) timeout: Duration,
}

impl FindOptions {
    pub(super) fn level(&self) -> Level {
        let usual = if self.kind == RecordKind::VALUE { Level::First } else { Level::Merge };
        self.level.unwrap_or(usual)
    }
}

impl DhtService {
    /// All live records under `key` as several replicas know them together. Cancel safe.
    pub(super) async fn read(
        self: &Arc<Self>,
        key: Key,
        options: FindOptions,
        deadline: Instant,
    ) -> Result<Vec<Record>, FindError> {
        let FindOptions { kind, from, .. } = options;
        let now = runtime::now();
        let found = self.replicas(key, half_way(deadline)).await;
        let (set, _) = found.ok_or(FindError::Overloaded)?;
        if set.nodes.is_empty() {
            return Err(FindError::NoPeers);
        }
        let own = self.own(now, &key, kind);
        let mut read = Read::new(options.level(), set.target, from);
        read.noted(self.held_here(now, &key, kind).into_iter().chain(own.clone()).map(Heard::from));
        let last = self.listen(&mut read, &set.nodes, key, kind, deadline).await;
        read.end().map_err(|Incomplete { answers, failed, .. }| {
            let asked = answers + failed;
            FindError::Incomplete { asked, failed, last: last.unwrap_or(RequestError::Unreachable) }
        })?;
        self.mend(key, kind, &read);
        let mut records: Vec<_> =
            read.into_records().map(|heard| Record::from_heard(key, kind, heard)).collect();
        // Nobody knows better than this node what it has published.
        if let Some(own) = own.filter(|own| from.is_none_or(|from| from == own.publisher)) {
            records.retain(|record| record.publisher != self.local);
            records.extend(Some(own).filter(|own| !own.is_tombstone()));
            records.sort_unstable_by_key(|record| record.publisher);
        }
        Ok(records)
    }

    /// Asks `nodes` until the level of the read is reached or nobody is left; returns why the last one that
    /// did not answer did not.
    async fn listen(
        self: &Arc<Self>,
        read: &mut Read,
        nodes: &[NodeId],
        key: Key,
        kind: RecordKind,
        deadline: Instant,
    ) -> Option<RequestError> {
        let mut nodes = nodes.to_vec();
        self.pool.suspects_last(&mut nodes);
        let mut waiting = nodes.iter().zip(0_u16..);
        let (mut under_way, mut slow, mut last) = (0, 0, None);
        let op = FindOp::new();
        while read.verdict() == Verdict::More {
            while under_way < read.wanting() + slow
                && let Some((node, i)) = waiting.next()
            {
                self.ask(&op, *node, i, kind, vec![(key, None)], deadline);
                under_way += 1;
            }
            if under_way == 0 {
                break;
            }
            let Ok(answered) = tokio::time::timeout_at(runtime::after(self.slow()).into(), op.next()).await
            else {
                slow += 1;
                continue;
            };
            under_way -= 1;
            let peer = nodes[usize::from(answered.peer)];
            let said = match answered.result {
                Ok(answers) => self.pages(peer, key, kind, answers, deadline).await,
                Err(error) => (Vec::new(), Some(error)),
            };
            match said {
                (records, None) => read.answered(peer, records.into_iter().map(Heard::from)),
                (records, Some(error)) => {
                    read.noted(records.into_iter().map(Heard::from));
                    read.failed();
                    last = Some(error);
                }
            }
        }
        last
    }

    /// Sends replicas that have answered what they lack, in the background.
    fn mend(self: &Arc<Self>, key: Key, kind: RecordKind, read: &Read) {
        let now = runtime::now();
        let vouches = lock(&self.members).may_vouch(now, &key, &self.local);
        let takes = |copy: &Heard| vouches || copy.authentic || copy.publisher == self.local;
        let parcels: Vec<_> = read
            .repairs()
            .filter(|(_, copy)| takes(copy))
            .map(|(to, copy)| (to, Parcel::new(now, copy.publisher, &copy.as_record(key, kind))))
            .take(MEND_COPIES)
            .collect();
        if parcels.is_empty() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.mends).try_acquire_owned() else { return };
        let mut out = Outgoing::new(self);
        self.tasks.spawn(async move {
            for (to, parcel) in parcels {
                out.push(to, &parcel, None).await;
            }
            out.flush(None).await;
            out.arrived().await;
            drop(permit);
        });
    }

    /// This node's own publication under `key`; a tombstone is one as well.
    pub(super) fn own(&self, now: Instant, key: &Key, kind: RecordKind) -> Option<Record> {
        // The first sequence is not given out yet: there is nothing to look for.
        if self.next_seq.load(Ordering::Relaxed) == 1 {
            return None;
        }
        let log = self.log(key);
        let own = log.find(now, key, kind)?;
        Some(Record {
            key: *key,
            publisher: self.local,
            seq: own.seq,
            ttl: own.ttl,
            kind,
            value: own.value.clone(),
            signed: !own.proof.is_empty(),
            flags: own.flags,
            proof: Bytes::copy_from_slice(own.proof),
        })
    }

    /// What this node holds for others under `key`, tombstones included.
    pub(super) fn held_here(&self, now: Instant, key: &Key, kind: RecordKind) -> Vec<Record> {
        let mut records = Vec::new();
        self.shard(key).find(now, key, kind, None, |found| {
            records.push(Record {
                key: *key,
                publisher: found.publisher,
                seq: found.seq,
                ttl: Duration::from_millis(u64::from(found.ttl_ms)),
                kind,
                value: Bytes::copy_from_slice(found.value),
                // Nothing enters the store unverified.
                signed: !found.proof.is_empty(),
                flags: found.flags,
                proof: Bytes::copy_from_slice(found.proof),
            });
            ControlFlow::Continue(())
        });
        records
    }

    /// Fills in the key that records were asked for under, and leaves out those of another kind and those
    /// whose proof does not hold.
    pub(super) fn keep_proven(&self, key: Key, kind: RecordKind, records: &mut Vec<Record>) {
        records.retain_mut(|record| {
            record.key = key;
            record.signed = !record.proof.is_empty();
            let holds = |record: &Record| {
                record::verify(&self.config.realm, &record.publisher, &record.as_wire()).is_ok()
            };
            record.kind == kind && (!record.signed || holds(record))
        });
    }
}

impl Record {
    /// Whether it says that its publisher has removed the record.
    pub(super) fn is_tombstone(&self) -> bool {
        record::is_tombstone(self.flags)
    }

    pub(super) fn as_wire(&self) -> wire::Record<'_> {
        let ttl_ms = u32::try_from(self.ttl.as_millis()).unwrap_or(u32::MAX);
        let Self { key, seq, kind, flags, ref proof, ref value, .. } = *self;
        wire::Record { key, seq, ttl_ms, kind, flags, proof, value }
    }

    pub(super) fn as_found(&self) -> wire::Found<'_> {
        let wire::Record { seq, ttl_ms, kind, flags, proof, value, .. } = self.as_wire();
        wire::Found { publisher: self.publisher, seq, ttl_ms, kind, flags, proof, value }
    }

    fn from_heard(key: Key, kind: RecordKind, heard: Heard) -> Self {
        let Heard { publisher, seq, ttl, flags, authentic, proof, value } = heard;
        Self { key, publisher, seq, ttl, kind, value, signed: authentic, flags, proof }
    }
}

impl From<Record> for Heard {
    fn from(record: Record) -> Self {
        let Record { publisher, seq, ttl, flags, signed, proof, value, .. } = record;
        Self { publisher, seq, ttl, flags, authentic: signed, proof, value }
    }
}
