//! With a data directory.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::addr::PeerAddr;
use crate::dht::log::{Draft, Publication};
use crate::dht::store::Origin;
use crate::id::{Key, NodeId};
use crate::persist::{Contact, Content, Mark, Opened, PersistError, Saved, Source};
use crate::pool::Later;
use crate::runtime;
use crate::service::dht::DhtService;
use crate::wire::{Record, RecordKind, Status, StoreFrame, StoreReply};

/// Peers whose addresses are noted again from time to time: those closest to this node.
const NOTED_MAX: usize = 1_024;
/// Contacts of the last run that are dialed at once.
const REJOIN_MAX: usize = 16;

impl DhtService {
    /// Takes over what the file holds, and keeps everything in it from then on. Nothing is answered
    /// before.
    pub(crate) fn keep_in(self: &Arc<Self>, opened: Opened) -> Result<(), PersistError> {
        let now = runtime::now();
        let contacts = opened.load(now, |saved| self.restore(now, saved))?;
        self.next_seq.fetch_max(opened.first_seq(), Ordering::Relaxed);
        for Contact { id, endpoints, .. } in &contacts {
            self.pool.hear(*id, endpoints.iter().cloned());
        }
        let source: Weak<Self> = Arc::downgrade(self);
        let disk = opened.start(source)?;
        let _ = self.disk.set(disk);
        let _ = self.known.set(contacts);
        Ok(())
    }

    /// Puts a row into memory; `false` when it does not fit.
    fn restore(&self, now: Instant, saved: Saved<'_>) -> bool {
        match saved {
            Saved::Held { publisher, record, authentic } => {
                let mut fits = true;
                let key = record.key;
                // Its proof was verified when it came.
                let origin = if authentic { Origin::FirstHand } else { Origin::Vouched(None) };
                self.shard(&key).apply(now, &publisher, origin, [record], |status| {
                    fits = status != Status::StorageFull;
                });
                fits
            }
            Saved::Own(Record { key, seq, ttl_ms, kind, flags, proof, value }) => {
                let ttl = Duration::from_millis(ttl_ms.into());
                let proof = proof.try_into().ok().map(Box::new);
                let draft = Draft { kind, flags, seq, ttl, proof, value: Bytes::copy_from_slice(value) };
                self.log(&key).publish(now, key, draft).is_ok()
            }
        }
    }

    /// Joins through peers of the last run, if this node knows nobody; whether one of them has answered.
    pub(in crate::service::dht) async fn join_known(self: &Arc<Self>) -> bool {
        let Some(contacts) = self.known.get().filter(|_| self.table_len() == 0) else { return false };
        let timeout = self.config.join_timeout;
        let contacts = &contacts[..contacts.len().min(REJOIN_MAX)];
        let deadline = runtime::after(timeout);
        let nodes: Vec<NodeId> = contacts.iter().map(|contact| contact.id).collect();
        // Dials to all of them begin at once; waiting for each in turn costs no more than the slowest.
        drop(self.pool.try_acquire_all(&nodes));
        for Contact { id, endpoints, .. } in contacts {
            if self.pool.acquire(id, deadline).await.is_err() {
                continue;
            }
            for endpoint in endpoints {
                let address = PeerAddr::node(*id, endpoint.clone());
                if self.join(&address, timeout).await.is_ok() {
                    return true;
                }
            }
        }
        false
    }

    /// Writes what waits and closes the file.
    pub(crate) async fn close_file(&self) {
        if let Some(disk) = self.disk.get() {
            disk.close().await;
        }
    }

    /// Closes the file as it is.
    #[cfg(feature = "test-util")]
    pub(crate) async fn abort_file(&self) {
        if let Some(disk) = self.disk.get() {
            disk.abort().await;
        }
    }

    pub(super) fn mark_own(&self, publications: impl Iterator<Item = (Key, RecordKind)>) {
        if let Some(disk) = self.disk.get() {
            disk.write_soon(publications.map(|(key, kind)| Mark::Own { key, kind }));
        }
    }

    pub(super) fn mark_contact(&self, peer: &NodeId) {
        if let Some(disk) = self.disk.get() {
            disk.write_soon([Mark::Contact(*peer)]);
        }
    }

    /// Promises a reply to a batch of which something is to be kept, and keeps it; gives the statuses
    /// back if there is nothing to keep.
    pub(super) fn reply_from_disk(
        &self,
        batch: &StoreFrame<'_>,
        statuses: Vec<Status>,
        later: &mut Later,
    ) -> Option<Vec<Status>> {
        let Some(disk) = self.disk.get() else { return Some(statuses) };
        if !statuses.iter().copied().any(is_held) {
            return Some(statuses);
        }
        let publisher = batch.publisher;
        let taken = batch.records.iter().zip(&statuses).filter(|(_, status)| is_held(**status));
        let marks: Vec<Mark> =
            taken.map(|(record, _)| Mark::Held { key: record.key, kind: record.kind, publisher }).collect();
        let replier = later.promise();
        let reply = move |durable: bool| {
            replier.reply(|id, out| {
                let mut reply = StoreReply::open(id, durable, out);
                for status in statuses {
                    let lost = !durable && matches!(status, Status::Applied | Status::AlreadyHave);
                    let status = if lost { Status::StorageFull } else { status };
                    // A reply has as many statuses as the batch has records, for which there is room.
                    let _ = reply.push(status, out);
                }
            });
        };
        disk.write(marks, Box::new(reply));
        None
    }
}

/// Whether the register may have changed: what is refused as superseded can lengthen the life of what it
/// meets.
fn is_held(status: Status) -> bool {
    matches!(status, Status::Applied | Status::AlreadyHave | Status::Superseded { .. })
}

impl Source for DhtService {
    fn show(&self, now: Instant, mark: &Mark, write: &mut dyn FnMut(Content<'_>)) {
        match mark {
            Mark::Held { key, kind, publisher } => {
                if let Some(held) = self.shard(key).get(now, key, *kind, publisher) {
                    write(Content::Record { record: held.record, authentic: held.authentic });
                }
            }
            Mark::Own { key, kind } => {
                let log = self.log(key);
                let Some(own) = log.find(now, key, *kind) else { return };
                let ttl_ms = u32::try_from(own.ttl.as_millis()).unwrap_or(u32::MAX);
                let Publication { seq, flags, proof, value, .. } = own;
                let record = Record { key: *key, seq, ttl_ms, kind: *kind, flags, proof, value };
                write(Content::Record { record, authentic: true });
            }
            Mark::Contact(id) => {
                let endpoints = self.pool.addresses(id);
                if !endpoints.is_empty() {
                    write(Content::Contact(&endpoints));
                }
            }
        }
    }

    fn contacts(&self) -> Vec<NodeId> {
        self.closest(&self.local.to_key(), NOTED_MAX)
    }
}
