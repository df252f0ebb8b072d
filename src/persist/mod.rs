//! What survives a restart: records held for others, own publications, contacts, and the sequence counter.
//!
//! One file in the data directory, one thread that writes it. Whoever changes something leaves a [`Mark`];
//! the thread takes all marks that wait, asks the [`Source`] what there is of each *then*, and commits
//! them in one transaction. So the file never holds something older than what was acknowledged, whatever
//! the order in which two changes of a register reached the queue, and all that wait share one commit.
//!
//! A commit is on disk when it returns: the pages, then the header that makes them valid, each followed by
//! an `fsync`. The second one is what lets a damaged commit be told from one that never happened; with
//! one, the file would silently fall back to the commit before.
//!
//! The file is read whole when the node starts, every page against its checksum. A file that does not
//! verify is not changed, and the node does not start. A disk that fails while the node runs makes it
//! refuse to acknowledge, not stop: the file is opened again until that succeeds.

mod backend;
mod clock;
mod directory;
mod error;
mod file;
mod open;
mod row;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use self::error::{Damage, PersistError};
pub(crate) use self::open::{Opened, open};
use self::writer::Shared;
use crate::addr::Endpoint;
use crate::id::{Key, NodeId};
use crate::wire::{Record, RecordKind};

/// The default of [`Builder::data_bytes_max`](crate::Builder::data_bytes_max): 8 GiB.
pub const DATA_BYTES_MAX: u64 = 8 << 30;
/// Changes that wait to be written; beyond it stores wait, and those of peers are refused.
pub(crate) const MARKS_MAX: usize = 65_536;
/// Sequence numbers that are reserved at a time.
const SEQ_BLOCK: u64 = 65_536;
/// Sequence numbers that are kept reserved ahead, so that no store waits for the file.
const SEQ_AHEAD: u64 = 4 * SEQ_BLOCK;

/// Where the file is and whose it is.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) dir: PathBuf,
    /// The node whose records these are.
    pub(crate) owner: NodeId,
    /// Bytes that the file may take.
    pub(crate) bytes_max: u64,
    /// The instant that `unix` belongs to.
    pub(crate) now: Instant,
    /// The wall clock: since the Unix epoch.
    pub(crate) unix: Duration,
}

/// Something that has changed and is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    /// A record that is held for another node.
    Held { key: Key, kind: RecordKind, publisher: NodeId },
    /// An own publication.
    Own { key: Key, kind: RecordKind },
    /// A peer with which a handshake was completed.
    Contact(NodeId),
}

/// What there is of a [`Mark`].
#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// A record, and whether the publisher itself brought it or signed it. Its time to live is what is
    /// left at the moment.
    Record { record: Record<'a>, authentic: bool },
    /// Where a contact listens.
    Contact(&'a [Endpoint]),
}

/// Those who hold what is written.
pub(crate) trait Source: Send + Sync {
    /// Shows `write` what there is of `mark` at `now`, once; not at all when nothing is left of it.
    fn show(&self, now: Instant, mark: &Mark, write: &mut dyn FnMut(Content<'_>));

    /// The peers that are worth remembering.
    fn contacts(&self) -> Vec<NodeId>;
}

/// What a file held when the node stopped, row by row. Times to live are what is left of them.
#[derive(Debug)]
pub(crate) enum Saved<'a> {
    /// A record that is held for `publisher`.
    Held { publisher: NodeId, record: Record<'a>, authentic: bool },
    /// An own publication.
    Own(Record<'a>),
}

/// A contact of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contact {
    pub(crate) id: NodeId,
    pub(crate) endpoints: Vec<Endpoint>,
    /// Milliseconds since the Unix epoch.
    pub(crate) seen: u64,
}

/// Who waits for a commit: called on the writing thread, once, with whether it is on disk.
type Waiting = Box<dyn FnOnce(bool) + Send>;

/// The way to the writing thread. Dropping it ends the thread after the commit that it is at.
#[derive(Debug)]
pub(crate) struct Disk {
    shared: Arc<Shared>,
    /// No sequence number from here on may be given out yet.
    ceiling: Arc<AtomicU64>,
}

impl Disk {
    /// Has `marks` written, and tells `done` whether that is on disk; also when the thread has ended.
    pub(crate) fn write(&self, marks: impl IntoIterator<Item = Mark>, done: Waiting) {
        self.shared.write(marks, Some(done));
    }

    /// Has `marks` written some time soon.
    pub(crate) fn write_soon(&self, marks: impl IntoIterator<Item = Mark>) {
        self.shared.write(marks, None);
    }

    /// Whether there is room for further marks.
    pub(crate) fn has_room(&self) -> bool {
        self.shared.has_room()
    }

    /// Waits until there is room for further marks and sequence numbers up to `seq` may be used; `false`
    /// when `deadline` comes first. Cancel safe.
    pub(crate) async fn ready(&self, seq: u64, deadline: Instant) -> bool {
        self.shared.until(deadline, || self.covers(seq) && self.has_room()).await
    }

    /// Whether all sequence numbers below `end` may be used, whatever happens. Has more of them reserved
    /// before they run out.
    pub(crate) fn covers(&self, end: u64) -> bool {
        let ceiling = self.ceiling.load(Ordering::Acquire);
        if end.saturating_add(SEQ_AHEAD / 2) > ceiling {
            self.shared.reserve(reserved(end));
        }
        end <= ceiling
    }

    /// Writes what waits and ends the thread; returns when the file is closed. Cancel safe.
    pub(crate) async fn close(&self) {
        self.shared.end(true);
        self.shared.ended().await;
    }

    /// Ends the thread after the commit that it is at; returns when the file is closed. Cancel safe.
    #[cfg(feature = "test-util")]
    pub(crate) async fn abort(&self) {
        self.shared.end(false);
        self.shared.ended().await;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.shared.end(false);
    }
}

/// Up to where sequence numbers are reserved when `next` is the first that may be needed.
fn reserved(next: u64) -> u64 {
    (next / SEQ_BLOCK).saturating_add(1).saturating_mul(SEQ_BLOCK).saturating_add(SEQ_AHEAD)
}
