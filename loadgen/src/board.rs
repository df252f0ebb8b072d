//! What workers, pacer and progress line know of each other while a phase runs: a few atomics, one
//! cache line for each worker, written by it alone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters of one worker, on a cache line (two, with the neighbour that the CPU prefetches) of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Slot {
    started: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
}

impl Slot {
    pub fn start(&self) {
        bump(&self.started);
    }

    pub fn end(&self, ok: bool) {
        bump(&self.done);
        if !ok {
            bump(&self.failed);
        }
    }

    /// Operations that have ended.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

/// Adds one to a counter that nobody else writes.
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// The shared state of a phase.
#[derive(Debug)]
pub struct Board {
    pub slots: Vec<Slot>,
    stop: AtomicBool,
    cut: AtomicBool,
}

/// Sums over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub in_flight: u64,
    pub done: u64,
    pub failed: u64,
}

impl Board {
    pub fn new(workers: usize) -> Self {
        let slots = (0..workers).map(|_| Slot::default()).collect();
        Self { slots, stop: AtomicBool::new(false), cut: AtomicBool::new(false) }
    }

    /// No new operations from now on.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// No more waiting for what has been issued.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for slot in &self.slots {
            let done = slot.done();
            sums.in_flight += slot.started.load(Ordering::Relaxed).saturating_sub(done);
            sums.done += done;
            sums.failed += slot.failed.load(Ordering::Relaxed);
        }
        sums
    }
}
