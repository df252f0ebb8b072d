//! Copies on their way to replicas that should have them: gathered into one frame per peer and publisher,
//! paced, and bounded in flight.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::part::Part;
use super::{DhtService, lock};
use crate::dht::pace::Pace;
use crate::id::{Key, NodeId};
use crate::pool::{LANE_FRAME_MAX, Outcome, Sink, Tag};
use crate::runtime;
use crate::wire::{self, Class, RecordKind, Status};

/// Bytes of copies in one frame; a larger copy is alone in its frame.
const FRAME_BYTES: usize = LANE_FRAME_MAX - 1_024;
/// Copies in one frame.
const FRAME_COPIES: usize = 1_024;
/// Bytes of copies that wait for others to the same peer.
const GATHERED_MAX: usize = 1 << 20;
/// Frames that have no answer yet.
const IN_FLIGHT: u32 = 16;

/// A copy of a record. It may wait long until it is sent, so it says when it ends.
pub(super) struct Parcel {
    pub(super) publisher: NodeId,
    key: Key,
    seq: u64,
    ends: Instant,
    kind: RecordKind,
    flags: u8,
    proof: Bytes,
    value: Bytes,
}

impl Parcel {
    /// A copy of `record`, as it is at `now`.
    pub(super) fn new(now: Instant, publisher: NodeId, record: &wire::Record<'_>) -> Arc<Self> {
        let wire::Record { key, seq, ttl_ms, kind, flags, proof, value } = *record;
        let ends = now + Duration::from_millis(ttl_ms.into());
        let (proof, value) = (Bytes::copy_from_slice(proof), Bytes::copy_from_slice(value));
        Arc::new(Self { publisher, key, seq, ends, kind, flags, proof, value })
    }

    /// The most bytes that it takes in a frame.
    fn size(&self) -> usize {
        self.value.len() + wire::RECORD_OVERHEAD_MAX
    }

    /// Appends the record with what is left of its life at `now`, if anything is.
    fn encode(&self, now: Instant, out: &mut BytesMut) -> bool {
        let left = self.ends.saturating_duration_since(now).as_millis();
        let Self { key, seq, kind, flags, ref proof, ref value, .. } = *self;
        let ttl_ms = u32::try_from(left).unwrap_or(u32::MAX);
        let record = wire::Record { key, seq, ttl_ms, kind, flags, proof, value };
        ttl_ms > 0 && wire::encode_record(&record, out).is_ok()
    }
}

/// What became of the copies that a node has sent.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    /// Copies that a replica did not have before.
    pub(super) applied: AtomicU64,
    /// Copies that a replica refused, or that did not arrive.
    pub(super) failed: AtomicU64,
}

/// The copies of one peer and one publisher.
#[derive(Default)]
struct Batch {
    parcels: Vec<Arc<Parcel>>,
    /// The most that they take.
    bytes: usize,
}

impl Batch {
    /// The records that live at `now` as they go into a STORE, and how many they are.
    fn encode(&self, now: Instant) -> (BytesMut, u32) {
        let mut records = BytesMut::with_capacity(self.bytes);
        let count = self.parcels.iter().map(|parcel| u32::from(parcel.encode(now, &mut records))).sum();
        (records, count)
    }
}

/// Copies that are gathered and sent.
pub(super) struct Outgoing {
    service: Arc<DhtService>,
    batches: BTreeMap<(NodeId, NodeId), Batch>,
    bytes: usize,
    /// Copies that were taken and are neither sent nor over.
    unsent: u64,
    in_flight: Arc<Semaphore>,
}

impl Outgoing {
    pub(super) fn new(service: &Arc<DhtService>) -> Self {
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT as usize));
        Self { service: Arc::clone(service), batches: BTreeMap::new(), bytes: 0, unsent: 0, in_flight }
    }

    /// Takes a copy for `to`, and sends what has come together when that is enough, at the given pace.
    pub(super) async fn push(&mut self, to: NodeId, parcel: &Arc<Parcel>, pace: Option<&Mutex<Pace>>) {
        // A publisher knows best itself what it has published.
        if to == parcel.publisher {
            return;
        }
        let place = (to, parcel.publisher);
        let batch = self.batches.entry(place).or_default();
        let full = batch.bytes + parcel.size() > FRAME_BYTES || batch.parcels.len() == FRAME_COPIES;
        if full && !batch.parcels.is_empty() {
            let batch = std::mem::take(batch);
            self.send(place, batch, pace).await;
        }
        let batch = self.batches.entry(place).or_default();
        batch.parcels.push(Arc::clone(parcel));
        batch.bytes += parcel.size();
        self.bytes += parcel.size();
        self.unsent += 1;
        if self.bytes > GATHERED_MAX {
            self.flush(pace).await;
        }
    }

    /// Sends everything that is gathered.
    pub(super) async fn flush(&mut self, pace: Option<&Mutex<Pace>>) {
        while let Some((place, batch)) = self.batches.pop_first() {
            if !batch.parcels.is_empty() {
                self.send(place, batch, pace).await;
            }
        }
    }

    /// Waits until every copy that was sent has an answer.
    pub(super) async fn arrived(&self) {
        let _ = self.in_flight.acquire_many(IN_FLIGHT).await;
    }

    /// How many copies were taken and not sent, which are those that a dropped future had in hand as well.
    pub(super) fn unsent(&self) -> u64 {
        self.unsent
    }

    async fn send(&mut self, (to, publisher): (NodeId, NodeId), batch: Batch, pace: Option<&Mutex<Pace>>) {
        self.bytes = self.bytes.saturating_sub(batch.bytes);
        if let Some(pace) = pace {
            let at = lock(pace).spend(runtime::now(), batch.bytes);
            tokio::time::sleep_until(at.into()).await;
        }
        let Ok(permit) = Arc::clone(&self.in_flight).acquire_owned().await else { return };
        self.unsent = self.unsent.saturating_sub(u64::try_from(batch.parcels.len()).unwrap_or(u64::MAX));
        let (records, count) = batch.encode(runtime::now());
        if count > 0 {
            self.service.deliver(to, publisher, records.freeze(), count, permit);
        }
    }
}

impl DhtService {
    /// Sends copies in a task of its own; `permit` is held until they have an answer.
    fn deliver(
        self: &Arc<Self>,
        node: NodeId,
        publisher: NodeId,
        records: Bytes,
        count: u32,
        permit: OwnedSemaphorePermit,
    ) {
        let deadline = runtime::after(self.config.request_timeout);
        let delivery = Delivery { counts: Arc::clone(&self.deliveries), permit: Mutex::new(Some(permit)) };
        let sink: Arc<dyn Sink> = Arc::new(delivery);
        let tag = Tag { peer: 0, first: 0, count };
        let (service, class) = (Arc::clone(self), Class::Bulk);
        let part = Part { service, node, publisher, records, sink, tag, deadline, class };
        self.tasks.spawn(part.carried());
    }
}

/// Waits for the answer to one frame of copies.
struct Delivery {
    counts: Arc<Deliveries>,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Sink for Delivery {
    fn settle(&self, tag: Tag, outcome: Outcome<'_>) {
        let (mut applied, mut failed) = (0, 0);
        match outcome {
            Outcome::Statuses { statuses, .. } => statuses.iter().for_each(|status| match status {
                Status::Applied => applied += 1,
                Status::AlreadyHave | Status::Superseded { .. } => {}
                _ => failed += 1,
            }),
            Outcome::Frame { .. } | Outcome::Failed(_) => failed = u64::from(tag.count),
        }
        self.counts.applied.fetch_add(applied, Ordering::Relaxed);
        self.counts.failed.fetch_add(failed, Ordering::Relaxed);
        drop(lock(&self.permit).take());
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests read the clock")]

    use super::*;
    use crate::wire::{HEADER_LEN, StoreBatch, decode_store};

    #[test]
    fn a_copy_that_has_waited_lives_no_longer_than_the_record() {
        let start = Instant::now();
        let publisher = NodeId::from_bytes([1; 32]);
        let parcel = |n: u8, ttl_ms| {
            let (key, value) = (Key::of_name([n]), &[n][..]);
            let kind = RecordKind::VALUE;
            Parcel::new(
                start,
                publisher,
                &wire::Record { key, seq: 1, ttl_ms, kind, flags: 0, proof: &[], value },
            )
        };
        let parcels = vec![parcel(0, 60_000), parcel(1, 20_000), parcel(2, 90_000)];
        let batch = Batch { bytes: parcels.iter().map(|parcel| parcel.size()).sum(), parcels };
        let (records, count) = batch.encode(start + Duration::from_secs(20));
        assert!(count == 2 && records.len() <= batch.bytes);
        let mut frame = BytesMut::new();
        StoreBatch::open(1, &publisher, &mut frame).push_many(&records, 2, &mut frame).unwrap();
        let sent = decode_store(&frame[HEADER_LEN..]).unwrap();
        let lives: Vec<_> = sent.records.iter().map(|record| (record.value[0], record.ttl_ms)).collect();
        assert_eq!(lives, [(0, 40_000), (2, 70_000)]);
    }
}
