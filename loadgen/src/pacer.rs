//! The clock of an open loop: one OS thread that hands out operations when they are due.
//!
//! A thread of its own because a timer of the runtime has a granularity of a millisecond and waits for
//! its turn behind the load. The thread oversleeps too (by some 50 us), but an operation carries the
//! instant at which it was due, so that lateness is measured and not hidden. What is due at a wake-up
//! goes out at once, each to the worker with the least to do.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::board::Board;
use crate::host;
use crate::schedule::Schedule;

/// Operations that wait at one worker, beside the one it runs. More would bind them to a worker that may
/// be slow; the pacer keeps the rest.
const QUEUE: usize = 2;
/// An operation that is this late is dropped, and counted.
const MAX_LAG: Duration = Duration::from_secs(10);
/// How often a thread that has nothing to do looks up.
const LOOK_UP: Duration = Duration::from_millis(20);
/// How long to wait when every queue is full.
const FULL: Duration = Duration::from_micros(50);

/// An operation that is due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    pub i: u64,
    pub at: Instant,
}

/// What a pacer has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paced {
    pub intended: u64,
    /// Intended operations that no worker was given.
    pub dropped: u64,
    pub cpu: Duration,
}

/// A pacer's orders: operations `first` and following, `count` of them, from `start`.
#[derive(Clone, Copy, Debug)]
pub struct Orders {
    pub start: Instant,
    pub schedule: Schedule,
    pub first: u64,
    pub count: u64,
}

/// Starts the pacer; returns one queue for each worker of `board`.
pub fn start(orders: Orders, board: Arc<Board>) -> std::io::Result<(JoinHandle<Paced>, Vec<Receiver<Due>>)> {
    let (senders, receivers) = board.slots.iter().map(|_| mpsc::channel(QUEUE + 1)).unzip();
    let mut pacer = Pacer { given: vec![0; board.slots.len()], next: 0, senders, board };
    let run = move || {
        let mut paced = pacer.run(orders);
        paced.cpu = host::thread_cpu_time();
        paced
    };
    Ok((thread::Builder::new().name("pacer".to_owned()).spawn(run)?, receivers))
}

struct Pacer {
    board: Arc<Board>,
    senders: Vec<Sender<Due>>,
    /// Operations given to each worker.
    given: Vec<u64>,
    /// Where the search for an idle worker begins, so that all are used.
    next: usize,
}

impl Pacer {
    fn run(&mut self, orders: Orders) -> Paced {
        let mut paced = Paced::default();
        let mut now = Instant::now();
        for n in 0..orders.count {
            let at = orders.start + orders.schedule.due(n);
            while now < at && !self.board.is_stopped() {
                // The last reading is as old as the operations handed out since.
                now = Instant::now();
                if now < at {
                    thread::sleep((at - now).min(LOOK_UP));
                }
            }
            if self.board.is_stopped() {
                return paced;
            }
            paced.intended += 1;
            let late = now - at > MAX_LAG || self.board.is_cut();
            if late || !self.give(Due { i: orders.first + n, at }, &mut now) {
                paced.dropped += 1;
            }
        }
        paced
    }

    /// Gives the operation to the least busy worker. False: there was none until the phase was cut.
    fn give(&mut self, due: Due, now: &mut Instant) -> bool {
        loop {
            let (place, load) = self.least_busy();
            if load <= QUEUE as u64 && self.senders[place].try_send(due).is_ok() {
                self.given[place] += 1;
                self.next = (place + 1) % self.given.len();
                return true;
            }
            if self.board.is_cut() || self.senders.iter().all(Sender::is_closed) {
                return false;
            }
            thread::sleep(FULL);
            *now = Instant::now();
        }
    }

    fn least_busy(&self) -> (usize, u64) {
        let workers = self.given.len();
        let mut best = (self.next, u64::MAX);
        for place in (self.next..workers).chain(0..self.next) {
            let load = self.given[place].saturating_sub(self.board.slots[place].done());
            if load < best.1 {
                best = (place, load);
            }
            if load == 0 {
                break;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(rate: f64, count: u64) -> Orders {
        Orders { start: Instant::now(), schedule: Schedule::constant(rate), first: 100, count }
    }

    #[test]
    fn operations_carry_the_computed_instant() {
        let board = Arc::new(Board::new(2));
        let orders = orders(10_000.0, 50);
        let (pacer, mut queues) = start(orders, board.clone()).expect("a thread");
        let mut got = Vec::new();
        while got.len() < 50 {
            for (queue, slot) in queues.iter_mut().zip(&board.slots) {
                if let Ok(due) = queue.try_recv() {
                    slot.start();
                    slot.end(true);
                    assert!(Instant::now() >= due.at, "never early");
                    got.push((due.i, due.at));
                }
            }
            thread::yield_now();
        }
        got.sort();
        for (n, (i, at)) in got.into_iter().enumerate() {
            assert_eq!((i, at), (100 + n as u64, orders.start + orders.schedule.due(n as u64)));
        }
        let paced = pacer.join().expect("no panic");
        assert_eq!((paced.intended, paced.dropped), (50, 0));
    }

    #[test]
    fn what_no_worker_takes_is_counted() {
        let board = Arc::new(Board::new(1));
        let (pacer, queues) = start(orders(1e6, 100), board.clone()).expect("a thread");
        while queues[0].len() <= QUEUE {
            thread::yield_now();
        }
        board.cut();
        let paced = pacer.join().expect("no panic");
        assert_eq!((paced.intended, paced.dropped), (100, 100 - QUEUE as u64 - 1));
    }
}
