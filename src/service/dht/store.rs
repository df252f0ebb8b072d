//! Storing one record: on the k closest nodes at once, with a receipt.
//!
//! The way of a store that finds warm connections and room does not wait until all its copies are
//! queued. Replicas without either are served by a task of their own, so that a slow one slows
//! neither the others nor the caller.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::part::Part;
use super::publish::{StoreOptions, check, full};
use super::store_op::StoreOp;
use super::{DEFERRED_SHARE, DhtService, LookupStats, RECORD_KINDS, Receipt, ReplicaSet};
use crate::dht::ack::{Ack, NotEnoughReplicas, required};
use crate::dht::log::LogFull;
use crate::dht::lookup::Outcome as Found;
use crate::dht::record::{TTL_MAX, VALUE_BYTES_MAX};
use crate::id::{Key, NodeId};
use crate::pool::{Outcome, Peer, RequestError, Room, Sink, Tag};
use crate::runtime;
use crate::wire::{self, Class, RecordKind};

/// Sequence numbers that a replica may claim to hold; beyond it the claim is not believed, so that no
/// replica can use up the counter.
const SEQ_CLAIM_MAX: u64 = 1 << 62;
/// How far one claim may be ahead of this process: half a year at a million records a second, so that it
/// takes hundreds of thousands of false claims to come near [`SEQ_CLAIM_MAX`].
const SEQ_JUMP_MAX: u64 = 1 << 44;

/// Why a record was not stored as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Fewer nodes are known than the acknowledgement level needs: nothing was sent.
    #[error(transparent)]
    NotEnoughReplicas(#[from] NotEnoughReplicas),
    /// Too few replicas acknowledged. The receipt tells which did, and which may hold the record.
    #[error("{} of {} replicas acknowledged", .0.acks(), .0.required())]
    NotAcknowledged(Box<Receipt>),
    /// Too few replicas acknowledged, and at least one had no room.
    #[error("a replica is full; {} of {} acknowledged", .0.acks(), .0.required())]
    StorageFull(Box<Receipt>),
    /// A replica holds a newer record of this node: another store of the same key overtook this one, or
    /// another node runs with the same key.
    #[error("a replica holds a newer record of this node, sequence {seq}")]
    Superseded {
        /// The sequence of the newer record.
        seq: u64,
    },
    /// The value is larger than [`VALUE_BYTES_MAX`].
    #[error("a value of {bytes} bytes is larger than {VALUE_BYTES_MAX}")]
    TooLarge {
        /// The size of the value.
        bytes: usize,
    },
    /// The time to live is less than a millisecond or more than [`TTL_MAX`].
    #[error("a time to live of {0:?} is not between 1 ms and {TTL_MAX:?}")]
    Ttl(Duration),
    /// There is no record of this kind.
    #[error("{0:?} is not a kind of record")]
    Kind(RecordKind),
    /// The publication log of this node, or the file that it is kept in, is full: nothing was sent.
    #[error(transparent)]
    LogFull(#[from] LogFull),
    /// This node has more searches under way than it can do, and no turn was left in time: nothing was sent.
    #[error("no search for the replicas could begin in time")]
    Overloaded,
    /// This node is shutting down: nothing was sent.
    #[error("this node is shutting down")]
    Shutdown,
}

impl StoreError {
    /// Whether some replica may hold the record all the same.
    pub fn maybe_stored(&self) -> bool {
        match self {
            Self::NotAcknowledged(receipt) | Self::StorageFull(receipt) => receipt.is_indeterminate(),
            Self::Superseded { .. } => true,
            _ => false,
        }
    }

    /// Whether the same store may succeed later.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::TooLarge { .. } | Self::Ttl(_) | Self::Kind(_) | Self::Shutdown)
    }

    /// Whether too few replicas answered in time, or were not found in time.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::NotAcknowledged(receipt) => receipt.tally.has_unknown(),
            Self::Overloaded => true,
            _ => false,
        }
    }
}

/// How many of `set` must acknowledge, if there are as many.
pub(super) fn enough(set: &ReplicaSet, ack: Ack) -> Result<usize, NotEnoughReplicas> {
    let required = required(ack, set.target)?;
    if set.nodes.len() < required {
        return Err(NotEnoughReplicas { required, available: set.nodes.len() });
    }
    Ok(required)
}

impl DhtService {
    /// Stores one record and returns once the acknowledgement level is met or cannot be met.
    ///
    /// Not cancel safe in the sense that a dropped future may have stored the record.
    pub(crate) async fn store(
        self: &Arc<Self>,
        key: Key,
        value: Bytes,
        options: StoreOptions,
    ) -> Result<Receipt, StoreError> {
        let late = Arc::downgrade(self);
        let (mut receipt, mut full) = self.store_once(key, value, options, None, late).await?;
        // An earlier process of this node got further than this one: go on from there, once. Enough
        // acknowledgements do not help, because readers who meet both records believe the older one.
        // What that one has signed is unknown, so this one signs.
        if let Some(claim) = receipt.superseded
            && let Some(own) = self.own_value(&key, options.kind, receipt.seq())
            && self.jump(claim)
        {
            let late = Arc::downgrade(self);
            let options = StoreOptions { signed: true, ..options };
            // What the first attempt has done stands, also when there is no second one.
            let again = Box::pin(self.store_once(key, own, options, Some(receipt.seq()), late));
            if let Ok(again) = again.await {
                (receipt, full) = again;
            }
        }
        match receipt.superseded {
            _ if receipt.is_met() => Ok(receipt),
            Some(seq) => Err(StoreError::Superseded { seq }),
            None if full => Err(StoreError::StorageFull(Box::new(receipt))),
            None => Err(StoreError::NotAcknowledged(Box::new(receipt))),
        }
    }

    /// Stores again, in the background and once, what replicas refused after the caller had gone on
    /// because they hold a record of an earlier process: key, own sequence, and the one they hold.
    pub(super) async fn resend(self: Arc<Self>, refused: Vec<(Key, u64, u64)>) {
        for (key, seq, claim) in refused {
            let now = runtime::now();
            // No two publications of a node have the same sequence.
            let own = |kind: &RecordKind| self.own(now, &key, *kind).filter(|own| own.seq == seq);
            let Some(own) = RECORD_KINDS.iter().find_map(own).filter(|_| self.jump(claim)) else { continue };
            let options = StoreOptions {
                ttl: own.ttl.min(TTL_MAX),
                ack: Ack::Local,
                timeout: self.config.request_timeout,
                fresh: false,
                kind: own.kind,
                signed: true,
                removes: own.is_tombstone(),
            };
            let _ = self.store_once(key, own.value, options, Some(seq), Weak::new()).await;
        }
    }

    /// One attempt. If it is a further one of the record that had the sequence `again`, it fails when
    /// another store has replaced that; `late` is told what replicas refuse after the attempt.
    async fn store_once(
        self: &Arc<Self>,
        key: Key,
        value: Bytes,
        options: StoreOptions,
        again: Option<u64>,
        late: Weak<Self>,
    ) -> Result<(Receipt, bool), StoreError> {
        let ttl_ms = check(&value, &options)?;
        let (set, lookup) = self.aim(key, options.fresh).await?;
        let required = enough(&set, options.ack)?;
        self.sequences(1, options.timeout).await;
        let op = self.send_one((set, required), (key, value), options, ttl_ms, again, late)?;
        op.decided().await;
        let mut result = None;
        op.receipts(|receipt, full| result = Some((Receipt { lookup, ..receipt }, full)));
        Ok(result.expect("a store of one record has one receipt"))
    }

    /// Numbers, logs, encodes and queues one record.
    fn send_one(
        self: &Arc<Self>,
        (set, required): (ReplicaSet, usize),
        (key, value): (Key, Bytes),
        options: StoreOptions,
        ttl_ms: u32,
        again: Option<u64>,
        late: Weak<Self>,
    ) -> Result<Arc<StoreOp>, StoreError> {
        let now = runtime::now();
        let deadline = runtime::later(now, options.timeout);
        let leases = self.pool.try_acquire_all(&set.nodes);
        let keys = std::iter::once(key);
        let op = Arc::new(StoreOp::new(Arc::clone(&set.nodes), set.target, required, keys, leases, late));
        let mut encoded = BytesMut::with_capacity(value.len() + wire::RECORD_OVERHEAD_MAX);
        let mut sending = Sending::new(self, &set.nodes, &op, deadline, Class::Request);
        {
            let mut log = self.log(&key);
            if let Some(before) = again
                && log.find(now, &key, options.kind).is_none_or(|own| own.seq != before)
            {
                return Err(StoreError::Superseded { seq: before });
            }
            let seq = self.number(1).ok_or_else(|| full(&log))?;
            self.enter(&mut log, now, (key, value), options, ttl_ms, seq, &mut encoded)?;
            self.save_own(std::iter::once((key, options.kind)));
            op.numbered(0, std::iter::once(seq));
            sending.queue(&encoded, 0, 1, &mut []);
        }
        sending.defer(encoded.freeze());
        Ok(op)
    }

    /// The own value under `key`, unless another store has replaced it since it was given `seq`.
    ///
    /// While it is there, no higher sequence under `key` was given out by this process.
    pub(super) fn own_value(&self, key: &Key, kind: RecordKind, seq: u64) -> Option<Bytes> {
        let log = self.log(key);
        let own = log.find(runtime::now(), key, kind).filter(|own| own.seq == seq);
        own.map(|own| own.value.clone())
    }

    /// The replica set of `key`, and what it took to find it if it was searched for.
    async fn aim(
        self: &Arc<Self>,
        key: Key,
        fresh: bool,
    ) -> Result<(ReplicaSet, Option<LookupStats>), StoreError> {
        if self.is_closing() {
            return Err(StoreError::Shutdown);
        }
        let (set, outcome) = if fresh {
            let (set, outcome) = Box::pin(self.looked_up(key, self.lookup_deadline())).await;
            (set, Some(outcome))
        } else if let Some(set) = self.known(runtime::now(), &key) {
            (set, None)
        } else {
            self.replicas(key, self.lookup_deadline()).await.ok_or(StoreError::Overloaded)?
        };
        // It may have begun in the meantime.
        if self.is_closing() {
            return Err(StoreError::Shutdown);
        }
        let stats = |Found { hops, queries, complete, .. }| LookupStats { hops, queries, complete };
        Ok((set, outcome.map(stats)))
    }

    /// Goes on above a sequence that an earlier process of this node is said to have given out; `false`
    /// when that is not believed.
    pub(super) fn jump(&self, seq: u64) -> bool {
        let next = self.next_seq.load(Ordering::Relaxed);
        if seq >= SEQ_CLAIM_MAX || seq.saturating_sub(next) > SEQ_JUMP_MAX {
            return false;
        }
        self.next_seq.fetch_max(seq + 1, Ordering::Relaxed);
        true
    }
}

/// The way of encoded records to the replicas of one operation.
pub(super) struct Sending<'a> {
    service: &'a Arc<DhtService>,
    nodes: &'a [NodeId],
    peers: &'a [Option<Arc<Peer>>],
    sink: Arc<dyn Sink>,
    deadline: Instant,
    class: Class,
    /// Parts that found no connection or no room: replica, records, and where their bytes are.
    deferred: SmallVec<[(Tag, std::ops::Range<usize>); 4]>,
    queued: usize,
}

impl<'a> Sending<'a> {
    pub(super) fn new(
        service: &'a Arc<DhtService>,
        nodes: &'a [NodeId],
        op: &'a Arc<StoreOp>,
        deadline: Instant,
        class: Class,
    ) -> Self {
        let sink: Arc<dyn Sink> = Arc::<StoreOp>::clone(op);
        let peers = op.peers();
        Self { service, nodes, peers, sink, deadline, class, deferred: SmallVec::new(), queued: 0 }
    }

    /// Queues the records that were encoded since the last call to every replica that has room.
    ///
    /// `encoded` is the whole buffer; the new records are `count` from number `first` on.
    /// What was kept for them in `rooms`, replica by replica, is spent first.
    pub(super) fn queue(&mut self, encoded: &[u8], first: u32, count: u32, rooms: &mut [Option<Room>]) {
        let range = self.queued..encoded.len();
        let records = &encoded[range.clone()];
        let local = &self.service.local;
        for (peer, i) in self.peers.iter().zip(0_u16..) {
            let tag = Tag { peer: i, first, count };
            let room = rooms.get_mut(usize::from(i)).and_then(Option::as_mut);
            let sent = peer.as_ref().is_some_and(|peer| {
                let waiting = (&self.sink, tag);
                peer.try_store(self.class, local, records, self.deadline, waiting, room).is_ok()
            });
            if !sent {
                self.deferred.push((tag, range.clone()));
            }
        }
        self.queued = encoded.len();
    }

    /// Gives the parts that found no room to tasks, as many as [`DEFERRED_MAX`](super::DEFERRED_MAX)
    /// allows. A peer that has stopped answering is not waited for: it would keep room from the others.
    pub(super) fn defer(self, encoded: Bytes) {
        for (tag, range) in self.deferred {
            let suspect = self.peers[usize::from(tag.peer)].is_some()
                && self.service.pool.is_suspect(&self.nodes[usize::from(tag.peer)]);
            let share = u32::try_from(1 + range.len() / DEFERRED_SHARE).unwrap_or(u32::MAX);
            let permit = Arc::clone(&self.service.deferred).try_acquire_many_owned(share);
            let Some(permit) = permit.ok().filter(|_| !suspect) else {
                self.sink.settle(tag, Outcome::Failed(RequestError::Backpressure));
                continue;
            };
            let part = Part {
                service: Arc::clone(self.service),
                node: self.nodes[usize::from(tag.peer)],
                publisher: self.service.local,
                records: encoded.slice(range),
                sink: Arc::clone(&self.sink),
                tag,
                deadline: self.deadline,
                class: self.class,
            };
            let carried = part.carried();
            self.service.tasks.spawn(async move {
                carried.await;
                drop(permit);
            });
        }
    }
}
