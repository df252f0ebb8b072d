//! The thread that writes, and the queue before it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use std::{io, mem};

use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::file::Data;
use super::{Disk, MARKS_MAX, Mark, Source, Waiting};
use crate::runtime;

/// How often the thread looks for rows that have ended.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Sweeps between two that note all contacts again as seen.
const SWEEPS_PER_ROLL: u32 = 10;
/// How long a file that failed is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The queue.
pub(super) struct Shared {
    pending: Mutex<Pending>,
    /// Wakes the thread.
    wake: Condvar,
    /// Something was written, or the thread has ended.
    changed: Notify,
}

#[derive(Default)]
struct Pending {
    marks: Vec<Mark>,
    waiting: Vec<Waiting>,
    /// Sequence numbers below this are to be reserved.
    seq: u64,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Running,
    /// What waits is written, then the thread ends.
    Ending,
    /// The thread ends after the commit that it is at.
    Stopping,
    Ended,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self, marks: impl IntoIterator<Item = Mark>, done: Option<Waiting>) {
        let mut pending = self.lock();
        if matches!(pending.phase, Phase::Stopping | Phase::Ended) {
            drop(pending);
            return done.into_iter().for_each(|done| done(false));
        }
        pending.marks.extend(marks);
        pending.waiting.extend(done);
        drop(pending);
        self.wake.notify_one();
    }

    pub(super) fn has_room(&self) -> bool {
        self.lock().marks.len() < MARKS_MAX
    }

    pub(super) fn reserve(&self, seq: u64) {
        let mut pending = self.lock();
        if pending.seq < seq {
            pending.seq = seq;
            drop(pending);
            self.wake.notify_one();
        }
    }

    /// Waits until `met`, at most until `deadline`; says whether it is.
    pub(super) async fn until(&self, deadline: Instant, mut met: impl FnMut() -> bool) -> bool {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if met() {
                return true;
            }
            if timeout_at(deadline.into(), changed).await.is_err() {
                return met();
            }
        }
    }

    /// Ends the thread, after it has written what waits if `whole`.
    pub(super) fn end(&self, whole: bool) {
        let mut pending = self.lock();
        match pending.phase {
            Phase::Running if whole => pending.phase = Phase::Ending,
            Phase::Running | Phase::Ending if !whole => pending.phase = Phase::Stopping,
            _ => return,
        }
        drop(pending);
        self.wake.notify_one();
    }

    pub(super) async fn ended(&self) {
        let forever = runtime::after(Duration::MAX);
        self.until(forever, || self.lock().phase == Phase::Ended).await;
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = self.lock();
        f.debug_struct("Shared")
            .field("marks", &pending.marks.len())
            .field("waiting", &pending.waiting.len())
            .field("phase", &pending.phase)
            .finish_non_exhaustive()
    }
}

/// What the thread does next.
enum Work {
    /// Writes these.
    Write {
        marks: Vec<Mark>,
        waiting: Vec<Waiting>,
        seq: u64,
    },
    /// Tells these that the file cannot be written.
    Refuse(Vec<Waiting>),
    Sweep,
    End,
}

/// The thread's own.
pub(super) struct Writer {
    shared: Arc<Shared>,
    source: Weak<dyn Source>,
    data: Data,
    ceiling: Arc<AtomicU64>,
    /// The file has failed and is not tried again before.
    retry: Option<Instant>,
    swept: Instant,
    sweeps: u32,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(data: Data, source: Weak<dyn Source>) -> io::Result<Disk> {
        let pending = Mutex::new(Pending { seq: data.ceiling(), ..Pending::default() });
        let shared = Arc::new(Shared { pending, wake: Condvar::new(), changed: Notify::new() });
        let ceiling = Arc::new(AtomicU64::new(data.ceiling()));
        let disk = Disk { shared: Arc::clone(&shared), ceiling: Arc::clone(&ceiling) };
        let swept = runtime::now();
        let writer = Self { shared, source, data, ceiling, retry: None, swept, sweeps: 0 };
        runtime::thread("foveola-persist", move || writer.run())?;
        Ok(disk)
    }

    fn run(mut self) {
        let ended = Ended(Arc::clone(&self.shared));
        loop {
            match self.next() {
                Work::Write { marks, waiting, seq } => self.write(marks, waiting, seq),
                Work::Refuse(waiting) => waiting.into_iter().for_each(|done| done(false)),
                Work::Sweep => self.sweep(),
                Work::End => break,
            }
        }
        // The file is closed, and the lock given back, before anyone is told.
        drop(self);
        drop(ended);
    }

    fn next(&self) -> Work {
        let mut pending = self.shared.lock();
        loop {
            let now = runtime::now();
            let work = !pending.marks.is_empty() || pending.seq > self.data.ceiling();
            let may = self.retry.is_none_or(|retry| retry <= now);
            match pending.phase {
                Phase::Stopping | Phase::Ended => return Work::End,
                Phase::Ending if !work || !may => return Work::End,
                Phase::Running | Phase::Ending => {}
            }
            if may && (work || !pending.waiting.is_empty()) {
                let (marks, waiting) = (mem::take(&mut pending.marks), mem::take(&mut pending.waiting));
                return Work::Write { marks, waiting, seq: pending.seq };
            }
            if !pending.waiting.is_empty() {
                return Work::Refuse(mem::take(&mut pending.waiting));
            }
            let due = self.retry.unwrap_or(self.swept + SWEEP_EVERY);
            let wait = due.saturating_duration_since(now);
            if wait.is_zero() {
                return Work::Sweep;
            }
            let woken = self.shared.wake.wait_timeout(pending, wait);
            pending = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Commits, and tells those who wait.
    fn write(&mut self, mut marks: Vec<Mark>, waiting: Vec<Waiting>, seq: u64) {
        marks.sort_unstable();
        marks.dedup();
        let durable = self.commit(&marks, &[], seq);
        if durable {
            self.ceiling.store(self.data.ceiling(), Ordering::Release);
        } else {
            // They are written when the file can be, so that it catches up with the memory.
            let mut pending = self.shared.lock();
            pending.marks.append(&mut marks);
            if pending.marks.len() > MARKS_MAX {
                pending.marks.sort_unstable();
                pending.marks.dedup();
            }
        }
        for done in waiting {
            done(durable);
        }
        self.shared.changed.notify_waiters();
    }

    /// Whether a commit is on disk.
    fn commit(&mut self, marks: &[Mark], forget: &[crate::id::NodeId], seq: u64) -> bool {
        if self.retry.is_some() {
            if let Err(error) = self.data.reopen() {
                return self.failed(&error);
            }
            tracing::info!(path = %self.data.path().display(), "the file can be read again");
        }
        let now = runtime::now();
        // A source that is gone has nothing to show, which must not be taken for nothing left.
        let Some(source) = self.source.upgrade() else {
            self.shared.end(false);
            return false;
        };
        match self.data.commit(now, marks, forget, seq, Some(&*source)) {
            Ok(()) => {
                self.retry = None;
                true
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &dyn fmt::Display) -> bool {
        if self.retry.is_none() {
            let path = self.data.path();
            tracing::error!(path = %path.display(), %error, "nothing is durable until this file can be written");
        }
        self.retry = Some(runtime::now() + RETRY_AFTER);
        false
    }

    /// Removes some of what has ended, and notes contacts as seen.
    fn sweep(&mut self) {
        if self.retry.is_some() {
            // Sees whether the file can be written again, so that what waits for room goes on.
            let marks = mem::take(&mut self.shared.lock().marks);
            return self.write(marks, Vec::new(), 0);
        }
        let now = runtime::now();
        self.swept = now;
        self.sweeps = self.sweeps.wrapping_add(1);
        let (mut marks, forget) = match self.data.sweep(now) {
            Ok(found) => found,
            Err(error) => {
                self.failed(&error);
                return;
            }
        };
        if self.sweeps.is_multiple_of(SWEEPS_PER_ROLL)
            && let Some(source) = self.source.upgrade()
        {
            marks.extend(source.contacts().into_iter().map(Mark::Contact));
        }
        if !marks.is_empty() || !forget.is_empty() {
            self.commit(&marks, &forget, 0);
        }
    }
}

/// Says that the thread has ended, also when it panicked: nobody waits for it from then on.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut pending = self.0.lock();
        pending.phase = Phase::Ended;
        let left = mem::take(&mut *pending);
        pending.phase = Phase::Ended;
        drop(pending);
        left.waiting.into_iter().for_each(|done| done(false));
        self.0.changed.notify_waiters();
    }
}
