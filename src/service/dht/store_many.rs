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
use super::{DhtService, Receipt, ReplicaSet, by_shard, lock};
use crate::id::{Key, NodeId};
use crate::pool::{LANE_FRAME_MAX, Peer, Room};
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

/// A chunk under way: its operation, and which item of the call each of its records is.
type Flight = (Arc<StoreOp>, Vec<u32>);

impl DhtService {
    /// Stores many records; the receipts are in the order of `items`.
    ///
    /// An error means that nothing was sent. That a record was not acknowledged is said by its receipt.
    pub(crate) async fn store_many(
        self: &Arc<Self>,
        mut items: Vec<Item>,
        options: StoreOptions,
    ) -> Result<Vec<Receipt>, StoreError> {
        let mut ttl_ms = 0;
        for (_, value) in &items {
            ttl_ms = check(value, options.ttl)?;
        }
        let mut receipts: Vec<Option<Receipt>> = Vec::new();
        receipts.resize_with(items.len(), || None);
        let everything: Vec<u32> = (0..).take(items.len()).collect();
        let overtaken = self.pass(&mut items, everything, options, ttl_ms, &mut receipts).await?;
        let mut again = Vec::new();
        for (i, seq) in overtaken {
            // What another store has replaced meanwhile stays as its receipt says.
            if let Ok(value) = self.own_value(&items[i as usize].0, seq) {
                items[i as usize].1 = value;
                again.push(i);
            }
        }
        if !again.is_empty() {
            self.pass(&mut items, again, options, ttl_ms, &mut receipts).await?;
        }
        Ok(receipts.into_iter().flatten().collect())
    }

    /// Stores the items numbered `which`, whose values it takes; returns those whose sequence an earlier
    /// process of this node had passed already, and that sequence.
    async fn pass(
        self: &Arc<Self>,
        items: &mut [Item],
        which: Vec<u32>,
        options: StoreOptions,
        ttl_ms: u32,
        receipts: &mut [Option<Receipt>],
    ) -> Result<Vec<(u32, u64)>, StoreError> {
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
        let Some(first) = which.first() else { return Ok(Vec::new()) };
        let (set, required) = self.aim(now, &items[*first as usize].0, options.ack)?;
        if self.is_everyone(&set) {
            return Ok(cut(items, Chunk { set, required, items: which }));
        }
        let mut groups: BTreeMap<Arc<[NodeId]>, Chunk> = BTreeMap::new();
        for i in which {
            let (set, required) = self.aim(now, &items[i as usize].0, options.ack)?;
            let nodes = Arc::clone(&set.nodes);
            let chunk = Chunk { set, required, items: Vec::new() };
            groups.entry(nodes).or_insert(chunk).items.push(i);
        }
        Ok(groups.into_values().flat_map(|chunk| cut(items, chunk)).collect())
    }

    /// Whether the set is the one of all keys, because the table holds no more than k nodes.
    fn is_everyone(&self, set: &ReplicaSet) -> bool {
        lock(&self.table).all.as_ref().is_some_and(|(_, all)| Arc::ptr_eq(&all.nodes, &set.nodes))
    }

    /// Numbers, encodes and queues one chunk.
    async fn launch(
        self: &Arc<Self>,
        items: &mut [Item],
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
        let mut rooms = self.rooms(&chunk.set.nodes, &peers, size, deadline).await;
        let (places, shards) = by_shard(chunk.items.iter().map(|i| &items[*i as usize].0));
        let order: Vec<u32> = places.iter().map(|place| chunk.items[*place as usize]).collect();
        let keys = order.iter().map(|i| items[*i as usize].0);
        // A copy of its own, so that the receipts of concurrent calls do not share a counter.
        let nodes = Arc::from(&chunk.set.nodes[..]);
        let op = Arc::new(StoreOp::new(nodes, chunk.set.target, chunk.required, keys, leases));
        let nodes = &chunk.set.nodes;
        let mut sending = Sending::new(self, nodes, &peers, &op, deadline, Class::Bulk);
        let mut encoded = BytesMut::with_capacity(size);
        for (shard, range) in shards {
            let run = &order[range.clone()];
            self.send_shard(shard, items, run, options, ttl_ms, now, &mut encoded, |seqs, encoded| {
                op.numbered(range.start, seqs);
                let count = u32::try_from(range.len()).unwrap_or(u32::MAX);
                sending.queue(encoded, u32::try_from(range.start).unwrap_or(u32::MAX), count, &mut rooms);
            })?;
        }
        sending.defer(encoded.freeze());
        Ok((op, order))
    }

    /// Keeps room for a chunk at every replica that is connected and answers; those without any by the
    /// deadline are told so when the chunk is queued.
    ///
    /// Room is taken in the order of the node ids: two calls never each keep what the other waits for.
    async fn rooms(
        &self,
        nodes: &[NodeId],
        peers: &[Option<Arc<Peer>>],
        bytes: usize,
        deadline: Instant,
    ) -> SmallVec<[Option<Room>; 4]> {
        let mut order: SmallVec<[usize; 4]> = (0..peers.len()).collect();
        order.sort_unstable_by_key(|i| nodes[*i]);
        let mut rooms: SmallVec<[Option<Room>; 4]> = peers.iter().map(|_| None).collect();
        for i in order {
            if let Some(peer) = &peers[i]
                && !self.pool.is_suspect(&nodes[i])
            {
                rooms[i] = peer.keep_room(Class::Bulk, bytes, deadline).await;
            }
        }
        rooms
    }

    #[expect(clippy::too_many_arguments, reason = "one step of `launch`, kept apart for its lock")]
    fn send_shard(
        &self,
        shard: usize,
        items: &mut [Item],
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
            let (key, value) = &mut items[*i as usize];
            encode(*key, seq, ttl_ms, value, encoded);
            log.publish(now, *key, std::mem::take(value), options.ttl, seq)?;
        }
        queue(first..first + count, encoded);
        Ok(())
    }

    /// Waits for a chunk and puts its receipts where they belong.
    async fn land(
        &self,
        (op, order): Flight,
        receipts: &mut [Option<Receipt>],
        overtaken: &mut Vec<(u32, u64)>,
    ) {
        op.decided().await;
        let mut order = order.into_iter();
        op.receipts(|receipt, _| {
            let Some(i) = order.next() else { return };
            let first_time = receipts[i as usize].is_none();
            if first_time
                && !receipt.is_met()
                && let Some(seq) = receipt.superseded
                && self.jump(seq)
            {
                overtaken.push((i, receipt.seq()));
            }
            receipts[i as usize] = Some(receipt);
        });
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
