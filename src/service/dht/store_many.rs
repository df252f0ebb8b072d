//! Storing many records: one frame per peer, one receipt per key.
//!
//! Items are grouped by replica set and cut into chunks that fit a frame; a bounded number of chunks
//! is in flight, so a call with a million keys holds no more than that. Within a chunk the items are
//! taken shard by shard, because the lock of a shard is what orders the stores to its keys.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::store::{Sending, StoreError, StoreOptions, check, encode};
use super::store_op::StoreOp;
use super::{DhtService, Receipt, ReplicaSet, SHARDS, lock, shard_of};
use crate::id::{Key, NodeId};
use crate::pool::{LANE_FRAME_MAX, Peer};
use crate::runtime;
use crate::wire::{self, Class};

/// Records in one chunk at most.
const CHUNK_RECORDS: usize = 1_024;
/// Encoded bytes in one chunk at most, so that it fits one frame.
const CHUNK_BYTES: usize = LANE_FRAME_MAX - 1_024;
/// Chunks of one call in flight.
const CHUNKS_IN_FLIGHT: usize = 8;

type Item = (Key, Bytes);

/// Items of one replica set, as indices into the call's list.
struct Chunk {
    set: ReplicaSet,
    required: usize,
    items: Vec<u32>,
}

/// Which part of a chunk belongs to which shard.
type Runs = SmallVec<[(usize, Range<usize>); SHARDS]>;

/// A chunk under way: its operation, and which item of the call each of its records is.
type Flight = (Arc<StoreOp>, Vec<u32>);

impl DhtService {
    /// Stores many records; the receipts are in the order of `items`.
    ///
    /// An error means that nothing was sent. That a record was not acknowledged is said by its receipt.
    pub(crate) async fn store_many(
        self: &Arc<Self>,
        items: Vec<Item>,
        options: StoreOptions,
    ) -> Result<Vec<Receipt>, StoreError> {
        let mut ttl_ms = 0;
        for (_, value) in &items {
            ttl_ms = check(value, options.ttl)?;
        }
        let mut receipts: Vec<Option<Receipt>> = Vec::new();
        receipts.resize_with(items.len(), || None);
        let everything: Vec<u32> = (0..).take(items.len()).collect();
        let overtaken = self.pass(&items, everything, options, ttl_ms, &mut receipts).await?;
        if !overtaken.is_empty() {
            self.pass(&items, overtaken, options, ttl_ms, &mut receipts).await?;
        }
        Ok(receipts.into_iter().flatten().collect())
    }

    /// Stores the items numbered `which`; returns those whose sequence an earlier process of this node
    /// had passed already.
    async fn pass(
        self: &Arc<Self>,
        items: &[Item],
        which: Vec<u32>,
        options: StoreOptions,
        ttl_ms: u32,
        receipts: &mut [Option<Receipt>],
    ) -> Result<Vec<u32>, StoreError> {
        let mut overtaken = Vec::new();
        let mut flying: VecDeque<Flight> = VecDeque::new();
        for chunk in self.chunks(items, which, options)? {
            if flying.len() == CHUNKS_IN_FLIGHT
                && let Some(flight) = flying.pop_front()
            {
                self.land(flight, receipts, &mut overtaken).await;
            }
            flying.push_back(self.launch(items, chunk, options, ttl_ms).await?);
        }
        for flight in flying {
            self.land(flight, receipts, &mut overtaken).await;
        }
        Ok(overtaken)
    }

    /// Groups items by replica set and cuts the groups into chunks.
    fn chunks(
        &self,
        items: &[Item],
        which: Vec<u32>,
        options: StoreOptions,
    ) -> Result<Vec<Chunk>, StoreError> {
        let now = runtime::now();
        let mut groups: BTreeMap<Arc<[NodeId]>, Chunk> = BTreeMap::new();
        let mut last: Option<(ReplicaSet, usize)> = None;
        let mut whole: Vec<Chunk> = Vec::new();
        for i in which {
            let key = &items[i as usize].0;
            let (set, required) = self.aim(now, key, options.ack)?;
            match (&last, whole.last_mut()) {
                (Some((same, _)), Some(chunk)) if Arc::ptr_eq(&same.nodes, &set.nodes) => chunk.items.push(i),
                _ if self.is_everyone(&set) => {
                    last = Some((set.clone(), required));
                    whole.push(Chunk { set, required, items: vec![i] });
                }
                _ => {
                    let nodes = Arc::clone(&set.nodes);
                    let chunk = Chunk { set, required, items: Vec::new() };
                    groups.entry(nodes).or_insert(chunk).items.push(i);
                }
            }
        }
        whole.extend(groups.into_values());
        Ok(whole.into_iter().flat_map(|chunk| cut(items, chunk)).collect())
    }

    /// Whether the set is the one shared by all keys, because the table holds no more than k nodes.
    fn is_everyone(&self, set: &ReplicaSet) -> bool {
        lock(&self.table).all.as_ref().is_some_and(|(_, all)| Arc::ptr_eq(&all.nodes, &set.nodes))
    }

    /// Numbers, encodes and queues one chunk.
    async fn launch(
        self: &Arc<Self>,
        items: &[Item],
        chunk: Chunk,
        options: StoreOptions,
        ttl_ms: u32,
    ) -> Result<Flight, StoreError> {
        let now = runtime::now();
        let deadline = now + options.timeout;
        let leases = self.leases(&chunk.set);
        let peers: SmallVec<[Option<Arc<Peer>>; 4]> =
            leases.iter().map(|lease| lease.as_ref().map(|lease| Arc::clone(lease.peer()))).collect();
        let size = chunk.items.iter().map(|i| encoded_max(&items[*i as usize])).sum();
        for peer in peers.iter().flatten() {
            // Whoever has no room by the deadline is told so when the chunk is queued.
            let _ = peer.room_for(Class::Bulk, size, deadline).await;
        }
        let (order, shards) = by_shard(items, &chunk.items);
        let keys = order.iter().map(|i| items[*i as usize].0);
        let nodes = Arc::clone(&chunk.set.nodes);
        let op = Arc::new(StoreOp::new(nodes, chunk.set.target, chunk.required, keys, leases));
        let nodes = &chunk.set.nodes;
        let mut sending = Sending::new(self, nodes, &peers, &op, deadline, Class::Bulk);
        let mut encoded = BytesMut::with_capacity(size);
        for (shard, range) in shards {
            let run = &order[range.clone()];
            self.send_shard(shard, items, run, options, ttl_ms, now, &mut encoded, |seqs, encoded| {
                op.numbered(range.start, seqs);
                let count = u32::try_from(range.len()).unwrap_or(u32::MAX);
                sending.queue(encoded, u32::try_from(range.start).unwrap_or(u32::MAX), count);
            })?;
        }
        sending.defer(encoded.freeze());
        Ok((op, order))
    }

    #[expect(clippy::too_many_arguments, reason = "one step of `launch`, kept apart for its lock")]
    fn send_shard(
        &self,
        shard: usize,
        items: &[Item],
        run: &[u32],
        options: StoreOptions,
        ttl_ms: u32,
        now: Instant,
        encoded: &mut BytesMut,
        queue: impl FnOnce(Range<u64>, &[u8]),
    ) -> Result<(), StoreError> {
        let mut log = lock(&self.log[shard]);
        let count = u64::try_from(run.len()).unwrap_or(u64::MAX);
        let first = self.next_seq.fetch_add(count, Ordering::Relaxed);
        for (seq, i) in (first..).zip(run) {
            let (key, value) = &items[*i as usize];
            log.publish(now, *key, value.clone(), options.ttl, seq)?;
            encode(*key, seq, ttl_ms, value, encoded);
        }
        queue(first..first + count, encoded);
        Ok(())
    }

    /// Waits for a chunk and puts its receipts where they belong.
    async fn land(&self, (op, order): Flight, receipts: &mut [Option<Receipt>], overtaken: &mut Vec<u32>) {
        op.decided().await;
        for (i, (receipt, _)) in order.into_iter().zip(op.receipts()) {
            let first_time = receipts[i as usize].is_none();
            if first_time
                && !receipt.is_met()
                && let Some(seq) = receipt.superseded
                && self.jump(seq)
            {
                overtaken.push(i);
            }
            receipts[i as usize] = Some(receipt);
        }
    }
}

/// An upper bound of the encoded size of an item.
fn encoded_max(item: &Item) -> usize {
    item.1.len() + wire::RECORD_OVERHEAD_MAX
}

/// Cuts a group into chunks that fit one frame each; an item that does not fit one is alone in its chunk.
fn cut(items: &[Item], group: Chunk) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut current = Vec::new();
    let mut bytes = 0;
    for i in group.items {
        let size = encoded_max(&items[i as usize]);
        if !current.is_empty() && (bytes + size > CHUNK_BYTES || current.len() == CHUNK_RECORDS) {
            let items = std::mem::take(&mut current);
            chunks.push(Chunk { set: group.set.clone(), required: group.required, items });
            bytes = 0;
        }
        current.push(i);
        bytes += size;
    }
    chunks.push(Chunk { items: current, ..group });
    chunks
}

/// Orders the items of a chunk by the shard of their key; returns the order and where each shard is.
fn by_shard(items: &[Item], which: &[u32]) -> (Vec<u32>, Runs) {
    let mut counts = [0_usize; SHARDS];
    for i in which {
        counts[shard_of(&items[*i as usize].0)] += 1;
    }
    let mut next = [0_usize; SHARDS];
    let mut shards = SmallVec::new();
    let mut start = 0;
    for (shard, count) in counts.into_iter().enumerate() {
        next[shard] = start;
        if count > 0 {
            shards.push((shard, start..start + count));
        }
        start += count;
    }
    let mut order = vec![0; which.len()];
    for i in which {
        let place = &mut next[shard_of(&items[*i as usize].0)];
        order[*place] = *i;
        *place += 1;
    }
    (order, shards)
}
