//! What a data directory changes: replies wait for the disk, sequence numbers for their reservation, and
//! a start finds what the last run held.
//!
//! The order of a STORE stays apply, keep, acknowledge. What could not be kept is answered
//! [`Status::StorageFull`]: it is in memory, and nobody is told that it would survive.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::DhtService;
use crate::id::{Key, NodeId};
use crate::pool::Later;
use crate::wire::{RecordKind, Status, StoreFrame};

#[cfg(feature = "persist")]
mod file;

#[cfg_attr(not(feature = "persist"), expect(clippy::unused_self, reason = "they have nothing to do"))]
impl DhtService {
    /// Gives out `count` sequence numbers and returns the first; `None` when the file could not reserve
    /// them, or has no room for what they are for.
    pub(super) fn number(&self, count: u64) -> Option<u64> {
        let first = self.next_seq.fetch_add(count, Ordering::Relaxed);
        #[cfg(feature = "persist")]
        if let Some(disk) = self.disk.get() {
            return (disk.covers(first.saturating_add(count)) && disk.has_room()).then_some(first);
        }
        Some(first)
    }

    /// Waits, at most for `timeout`, while the file has no room or too few sequence numbers for `count`
    /// publications.
    #[cfg_attr(not(feature = "persist"), expect(clippy::unused_async, reason = "there is no file"))]
    pub(super) async fn sequences(&self, count: u64, timeout: Duration) {
        #[cfg(feature = "persist")]
        if let Some(disk) = self.disk.get() {
            let next = self.next_seq.load(Ordering::Relaxed);
            disk.ready(next.saturating_add(count), crate::runtime::after(timeout)).await;
        }
        #[cfg(not(feature = "persist"))]
        let _ = (count, timeout);
    }

    /// Has these publications kept, some time soon.
    pub(super) fn save_own(&self, publications: impl Iterator<Item = (Key, RecordKind)>) {
        #[cfg(feature = "persist")]
        self.mark_own(publications);
        #[cfg(not(feature = "persist"))]
        let _ = publications;
    }

    /// Has the addresses of a peer kept, some time soon.
    pub(super) fn save_contact(&self, peer: &NodeId) {
        #[cfg(feature = "persist")]
        self.mark_contact(peer);
        #[cfg(not(feature = "persist"))]
        let _ = peer;
    }

    /// Whether a batch of records can be kept now.
    pub(super) fn has_room_on_disk(&self) -> bool {
        #[cfg(feature = "persist")]
        return self.disk.get().is_none_or(crate::persist::Disk::has_room);
        #[cfg(not(feature = "persist"))]
        true
    }

    /// Answers a batch once it is on disk, or gives the statuses back to be answered now.
    pub(super) fn reply_when_durable(
        &self,
        batch: &StoreFrame<'_>,
        statuses: Vec<Status>,
        later: &mut Later,
    ) -> Option<Vec<Status>> {
        #[cfg(feature = "persist")]
        return self.reply_from_disk(batch, statuses, later);
        #[cfg(not(feature = "persist"))]
        let _ = (batch, later);
        #[cfg(not(feature = "persist"))]
        Some(statuses)
    }
}
