//! Storing many records: one frame per peer, one receipt per key.
//!
//! Items are grouped by replica set and cut into chunks that fit a frame; a bounded number of chunks
//! is in flight, so a call with a million keys holds no more than that. Within a chunk the items are
//! taken shard by shard, because the lock of a shard is what orders the stores to its keys.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::cover::LOOKUPS_AT_ONCE;
use super::publish::{StoreOptions, check, full};
use super::store::{Sending, StoreError, enough};
use super::store_op::StoreOp;
use super::{DhtService, Receipt, ReplicaSet, by_shard, lock};
use crate::dht::log::LogFull;
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
/// How long a chunk waits for room at its replicas: the time of the others must not go to a slow one.
const ROOM_WAIT: Duration = Duration::from_millis(250);

type Item = (Key, Bytes);

/// Items of one replica set, as indices into the call's list.
struct Chunk {
    set: ReplicaSet,
    required: usize,
    items: Vec<u32>,
}

/// A chunk under way: its operation, and which item of the call each of its records is.
type Flight = (Arc<StoreOp>, Vec<u32>);

/// What became of the items of a call on this side.
#[derive(Default)]
struct Progress {
    /// An item was sent.
    sent: bool,
    /// Why others were not.
    full: Option<LogFull>,
    /// Items that a replica refused: which, their sequence, and the one that the replica holds.
    overtaken: Vec<(u32, u64, u64)>,
    /// Replicas that had no room in time: the call does not wait for theirs again.
    slow: Vec<NodeId>,
}

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
            ttl_ms = check(value, &options)?;
        }
        let mut receipts: Vec<Option<Receipt>> = Vec::new();
        receipts.resize_with(items.len(), || None);
        let everything: Vec<u32> = (0..).take(items.len()).collect();
        let progress = self.pass(&mut items, everything, options, ttl_ms, &mut receipts).await?;
        if let Some(full) = progress.full.filter(|_| !progress.sent) {
            return Err(full.into());
        }
        let mut again = Vec::new();
        for (i, seq, claim) in progress.overtaken {
            // What another store has replaced meanwhile stays as its receipt says.
            if let Some(value) = self.own_value(&items[i as usize].0, options.kind, seq)
                && self.jump(claim)
            {
                items[i as usize].1 = value;
                again.push(i);
            }
        }
        if !again.is_empty() {
            // What an earlier process has signed is unknown.
            let options = StoreOptions { signed: true, ..options };
            // What the first pass has done stands, also when there is no second one.
            let _ = self.pass(&mut items, again, options, ttl_ms, &mut receipts).await;
        }
        Ok(receipts.into_iter().flatten().collect())
    }

    /// Stores the items numbered `which`, whose values it takes. An error means that nothing was sent.
    async fn pass(
        self: &Arc<Self>,
        items: &mut [Item],
        which: Vec<u32>,
        options: StoreOptions,
        ttl_ms: u32,
        receipts: &mut [Option<Receipt>],
    ) -> Result<Progress, StoreError> {
        let mut progress = Progress::default();
        let mut flying: VecDeque<Flight> = VecDeque::new();
        for chunk in self.chunks(items, which, options).await? {
            if flying.len() == CHUNKS_IN_FLIGHT
                && let Some(flight) = flying.pop_front()
            {
                land(flight, receipts, &mut progress).await;
            }
            flying.push_back(self.launch(items, chunk, options, ttl_ms, &mut progress).await);
        }
        for flight in flying {
            land(flight, receipts, &mut progress).await;
        }
        Ok(progress)
    }

    /// Groups items by replica set and cuts the groups into chunks.
    async fn chunks(
        self: &Arc<Self>,
        items: &[Item],
        which: Vec<u32>,
        options: StoreOptions,
    ) -> Result<Vec<Chunk>, StoreError> {
        if self.is_closing() {
            return Err(StoreError::Shutdown);
        }
        let now = runtime::now();
        let Some(first) = which.first() else { return Ok(Vec::new()) };
        if let Some(set) = self.known(now, &items[*first as usize].0)
            && lock(&self.members).is_everyone(&set)
        {
            let required = enough(&set, options.ack)?;
            return Ok(cut(items, Chunk { set, required, items: which }));
        }
        let mut groups: BTreeMap<Arc<[NodeId]>, Chunk> = BTreeMap::new();
        let mut group = |mut set: ReplicaSet, i: u32| -> Result<(), StoreError> {
            let required = enough(&set, options.ack)?;
            // Keys order the same nodes differently.
            Arc::make_mut(&mut set.nodes).sort_unstable();
            let nodes = Arc::clone(&set.nodes);
            let chunk = Chunk { set, required, items: Vec::new() };
            groups.entry(nodes).or_insert(chunk).items.push(i);
            Ok(())
        };
        let mut unknown = Vec::new();
        for i in which {
            match self.known(now, &items[i as usize].0) {
                Some(set) => group(set, i)?,
                None => unknown.push(i),
            }
        }
        // As long as all those lookups may take.
        let rounds = u32::try_from(unknown.len().div_ceil(LOOKUPS_AT_ONCE)).unwrap_or(u32::MAX);
        let deadline = runtime::after(self.config.query_timeout.saturating_mul(rounds));
        let mut found = self.replicas_of(unknown.iter().map(|i| items[*i as usize].0).collect(), deadline);
        for _ in 0..unknown.len() {
            let (place, replicas) = found.recv().await.ok_or(StoreError::Shutdown)?;
            let (set, _) = replicas.ok_or(StoreError::Overloaded)?;
            group(set, unknown[place])?;
        }
        let in_order = |mut chunk: Chunk| {
            // Lookups end in any order; of two records under one key the later one is to stay.
            chunk.items.sort_unstable();
            cut(items, chunk)
        };
        Ok(groups.into_values().flat_map(in_order).collect())
    }

    /// Numbers, encodes and queues one chunk.
    async fn launch(
        self: &Arc<Self>,
        items: &mut [Item],
        chunk: Chunk,
        options: StoreOptions,
        ttl_ms: u32,
        progress: &mut Progress,
    ) -> Flight {
        let count = u64::try_from(chunk.items.len()).unwrap_or(u64::MAX);
        self.sequences(count, options.timeout).await;
        let leases = self.pool.try_acquire_all(&chunk.set.nodes);
        let size = chunk.items.iter().map(|i| encoded_max(&items[*i as usize])).sum();
        let mut rooms =
            self.rooms(&chunk.set.nodes, leases.peers(), size, options.timeout, &mut progress.slow).await;
        let now = runtime::now();
        let deadline = runtime::after(options.timeout);
        let (places, shards) = by_shard(chunk.items.iter().map(|i| &items[*i as usize].0));
        let order: Vec<u32> = places.iter().map(|place| chunk.items[*place as usize]).collect();
        let keys = order.iter().map(|i| items[*i as usize].0);
        // A copy of its own, so that the receipts of concurrent calls do not share a counter.
        let nodes = Arc::from(&chunk.set.nodes[..]);
        let op = Arc::new(StoreOp::new(
            nodes,
            chunk.set.target,
            chunk.required,
            keys,
            leases,
            Arc::downgrade(self),
        ));
        let nodes = &chunk.set.nodes;
        let mut sending = Sending::new(self, nodes, &op, deadline, Class::Bulk);
        let mut encoded = BytesMut::with_capacity(size);
        for (shard, range) in shards {
            let run = &order[range.clone()];
            let mut sent = 0;
            let fits = self.send_shard(
                shard,
                items,
                run,
                options,
                ttl_ms,
                now,
                &mut encoded,
                |seqs, count, encoded| {
                    op.numbered(range.start, seqs);
                    sent = count;
                    let count = u32::try_from(count).unwrap_or(u32::MAX);
                    let first = u32::try_from(range.start).unwrap_or(u32::MAX);
                    sending.queue(encoded, first, count, &mut rooms);
                },
            );
            progress.sent |= sent > 0;
            if let Err(full) = fits {
                progress.full = Some(full);
                op.unsent(range.start + sent..range.end);
            }
        }
        sending.defer(encoded.freeze());
        (op, order)
    }

    /// Keeps room for a chunk at every replica that is connected and answers; those without any
    /// soon are told so when the chunk is queued.
    ///
    /// Room is taken in the order of the node ids: two calls never each keep what the other waits for.
    async fn rooms(
        &self,
        nodes: &[NodeId],
        peers: &[Option<Arc<Peer>>],
        bytes: usize,
        timeout: Duration,
        slow: &mut Vec<NodeId>,
    ) -> SmallVec<[Option<Room>; 4]> {
        let until = runtime::after(timeout.min(ROOM_WAIT));
        let mut order: SmallVec<[usize; 4]> = (0..peers.len()).collect();
        order.sort_unstable_by_key(|i| nodes[*i]);
        let mut rooms: SmallVec<[Option<Room>; 4]> = peers.iter().map(|_| None).collect();
        for i in order {
            if let Some(peer) = &peers[i]
                && !slow.contains(&nodes[i])
                && !self.pool.is_suspect(&nodes[i])
            {
                rooms[i] = peer.keep_room(Class::Bulk, bytes, until).await;
                if rooms[i].is_none() {
                    slow.push(nodes[i]);
                }
            }
        }
        rooms
    }

    /// Numbers, logs and encodes a run of items, up to the first that the log has no room for.
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
        queue: impl FnOnce(Range<u64>, usize, &[u8]),
    ) -> Result<(), LogFull> {
        let mut log = lock(&self.log[shard]);
        log.warm(run.iter().map(|i| &items[*i as usize].0));
        let count = u64::try_from(run.len()).unwrap_or(u64::MAX);
        let first = self.number(count).ok_or_else(|| full(&log))?;
        let (mut sent, mut fits) = (0, Ok(()));
        for (seq, i) in (first..).zip(run) {
            let (key, value) = &mut items[*i as usize];
            let item = (*key, std::mem::take(value));
            if let Err(error) = self.enter(&mut log, now, item, options, ttl_ms, seq, encoded) {
                fits = Err(error);
                break;
            }
            sent += 1;
        }
        self.save_own(run[..sent].iter().map(|i| (items[*i as usize].0, options.kind)));
        if sent > 0 {
            queue(first..first + count, sent, encoded);
        }
        fits
    }
}

/// Waits for a chunk and puts its receipts where they belong.
async fn land((op, order): Flight, receipts: &mut [Option<Receipt>], progress: &mut Progress) {
    op.decided().await;
    let mut order = order.into_iter();
    op.receipts(|receipt, _| {
        let Some(i) = order.next() else { return };
        let place = &mut receipts[i as usize];
        match receipt.superseded {
            // What was sent before says more than that nothing was sent again.
            _ if receipt.log_full && place.is_some() => return,
            Some(claim) => progress.overtaken.push((i, receipt.seq(), claim)),
            None => {}
        }
        *place = Some(receipt);
    });
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
