//! Copies on their way to replicas that should have them: gathered into one frame per peer and publisher,
//! paced, and bounded in flight.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::BytesMut;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::part::Part;
use super::{DhtService, lock};
use crate::dht::pace::Pace;
use crate::id::NodeId;
use crate::pool::{LANE_FRAME_MAX, Outcome, Sink, Tag};
use crate::runtime;
use crate::wire::{self, Class, Status};

/// Bytes of copies in one frame; a larger copy is alone in its frame.
const FRAME_BYTES: usize = LANE_FRAME_MAX - 1_024;
/// Copies in one frame.
const FRAME_COPIES: u32 = 1_024;
/// Bytes of copies that wait for others to the same peer.
const GATHERED_MAX: usize = 1 << 20;
/// Frames that have no answer yet.
const IN_FLIGHT: u32 = 16;

/// A copy of a record: who published it, and the record as it goes into a STORE.
pub(super) struct Parcel {
    pub(super) publisher: NodeId,
    pub(super) encoded: BytesMut,
}

impl Parcel {
    /// A copy of `record`; nothing if no frame can hold it.
    pub(super) fn new(publisher: NodeId, record: &wire::Record<'_>) -> Option<Self> {
        let mut encoded = BytesMut::with_capacity(record.value.len() + wire::RECORD_OVERHEAD_MAX);
        wire::encode_record(record, &mut encoded).ok()?;
        Some(Self { publisher, encoded })
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
    records: BytesMut,
    count: u32,
}

/// Copies that are gathered and sent.
pub(super) struct Outgoing {
    service: Arc<DhtService>,
    batches: BTreeMap<(NodeId, NodeId), Batch>,
    bytes: usize,
    in_flight: Arc<Semaphore>,
}

impl Outgoing {
    pub(super) fn new(service: &Arc<DhtService>) -> Self {
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT as usize));
        Self { service: Arc::clone(service), batches: BTreeMap::new(), bytes: 0, in_flight }
    }

    /// Takes a copy for `to`, and sends what has come together when that is enough, at the given pace.
    pub(super) async fn push(&mut self, to: NodeId, parcel: &Parcel, pace: Option<&Mutex<Pace>>) {
        // A publisher knows best itself what it has published.
        if to == parcel.publisher {
            return;
        }
        let place = (to, parcel.publisher);
        let batch = self.batches.entry(place).or_default();
        let full = batch.records.len() + parcel.encoded.len() > FRAME_BYTES || batch.count == FRAME_COPIES;
        if full && batch.count > 0 {
            let batch = std::mem::take(batch);
            self.send(place, batch, pace).await;
        }
        let batch = self.batches.entry(place).or_default();
        batch.records.extend_from_slice(&parcel.encoded);
        batch.count += 1;
        self.bytes += parcel.encoded.len();
        if self.bytes > GATHERED_MAX {
            self.flush(pace).await;
        }
    }

    /// Sends everything that is gathered.
    pub(super) async fn flush(&mut self, pace: Option<&Mutex<Pace>>) {
        while let Some((place, batch)) = self.batches.pop_first() {
            if batch.count > 0 {
                self.send(place, batch, pace).await;
            }
        }
    }

    /// Waits until every copy that was sent has an answer.
    pub(super) async fn arrived(&self) {
        let _ = self.in_flight.acquire_many(IN_FLIGHT).await;
    }

    async fn send(&mut self, (to, publisher): (NodeId, NodeId), batch: Batch, pace: Option<&Mutex<Pace>>) {
        let size = batch.records.len();
        self.bytes = self.bytes.saturating_sub(size);
        if let Some(pace) = pace {
            let at = lock(pace).spend(runtime::now(), size);
            tokio::time::sleep_until(at.into()).await;
        }
        let Ok(permit) = Arc::clone(&self.in_flight).acquire_owned().await else { return };
        let deadline = runtime::after(self.service.config.request_timeout);
        self.service.deliver(to, publisher, batch, permit, deadline);
    }
}

impl DhtService {
    /// Sends copies in a task of its own; `permit` is held until they have an answer.
    fn deliver(
        self: &Arc<Self>,
        node: NodeId,
        publisher: NodeId,
        batch: Batch,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) {
        let delivery = Delivery { counts: Arc::clone(&self.deliveries), permit: Mutex::new(Some(permit)) };
        let sink: Arc<dyn Sink> = Arc::new(delivery);
        let tag = Tag { peer: 0, first: 0, count: batch.count };
        let (service, records, class) = (Arc::clone(self), batch.records.freeze(), Class::Bulk);
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
