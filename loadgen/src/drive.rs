//! One phase of load: start the workers, let them run, wait for what is open, add up the notes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::board::Board;
use crate::errors::Kind;
use crate::host;
use crate::pacer::{self, Orders, Paced};
use crate::plan::Plan;
use crate::progress::{Moment, Monitor};
use crate::record::{Interval, Tally, Timeline};
use crate::schedule::Schedule;
use crate::stop::{Signal, Stop};
use crate::target::{Churned, Counters, Target};
use crate::worker::{self, Feed, Shared};
use crate::workload::Data;

/// How long open operations are waited for after a signal.
const STOP_DRAIN: Duration = Duration::from_secs(2);

/// What a phase is to do with a plan's operations.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The first operation.
    pub first: u64,
    pub duration: Option<Duration>,
    pub ops: Option<u64>,
    /// What the progress line says before the numbers.
    pub title: &'static str,
}

/// What a phase did.
#[derive(Debug)]
pub struct Phase {
    pub tally: Tally,
    pub intervals: Vec<Interval>,
    pub interval: Duration,
    pub moments: Vec<Moment>,
    pub intended: u64,
    /// Intended operations that were never begun.
    pub dropped: u64,
    /// From the start to the last success, at least the time for which load was offered.
    pub elapsed: Duration,
    pub cpu: Duration,
    pub rss_peak: u64,
    pub handshakes: u64,
    /// What the nodes under load have counted; `None` where the baseline's own socket did the work.
    pub traffic: Option<Counters>,
    /// What churn did meanwhile.
    pub churned: Churned,
    pub udp_rcvbuf_errors: u64,
    pub signal: Option<Signal>,
}

/// Counters of the process and the machine, before and after.
struct Meter {
    cpu: Duration,
    counters: Counters,
    udp_rcvbuf_errors: u64,
}

impl Meter {
    fn read(target: &Target) -> Self {
        Self {
            cpu: host::cpu_time(),
            counters: target.counters(),
            udp_rcvbuf_errors: host::udp_rcvbuf_errors(),
        }
    }
}

/// Runs one phase.
pub async fn drive(
    target: &Target,
    data: &Arc<Data>,
    plan: &Plan,
    part: Part,
    stop: &mut Stop,
) -> Result<Phase> {
    let before = Meter::read(target);
    let start = Instant::now();
    let board = Arc::new(Board::new(plan.concurrency));
    let shared = Arc::new(Shared {
        target: target.clone(),
        data: data.clone(),
        workload: plan.workload,
        batch: plan.batch as u64,
        seed: plan.seed,
        audit: plan.audit,
        timeline: Timeline::new(start, part.duration),
        board: board.clone(),
    });
    let (feeds, pacer) = feeds(plan, part, start, &board)?;
    let mut cuts = Vec::new();
    let mut workers = JoinSet::new();
    for (place, feed) in feeds.into_iter().enumerate() {
        let (cut, cut_receiver) = oneshot::channel();
        cuts.push(cut);
        workers.spawn(worker::run(shared.clone(), place, feed, cut_receiver));
    }
    let monitor = Monitor::start(part.title, start, part.duration, &shared)?;

    let mut ended = Ended::default();
    let over = part.duration.map(|duration| start + duration + plan.drain);
    let signal = ended.wait(&mut workers, over, &board, stop).await?;
    board.cut();
    let kind = if signal.is_some() { Kind::Cancelled } else { Kind::Timeout };
    for cut in cuts {
        // A worker that has ended no longer listens.
        let _ = cut.send(kind);
    }
    ended.rest(&mut workers).await?;

    // The CPU time of a thread that has ended is in no listing: the pacer brings its own.
    let paced = match pacer {
        Some(pacer) => pacer.join().map_err(|_| anyhow::anyhow!("the pacer panicked"))?,
        None => Paced { intended: ended.tally.started, ..Paced::default() },
    };
    let after = Meter::read(target);
    let traffic = after.counters.since(&before.counters);
    let (moments, rss_peak) = monitor.finish();
    let intervals = shared.timeline.take();
    ended.tally.add_lead(&intervals, plan.is_open());
    Ok(Phase {
        elapsed: elapsed(&ended.tally, start, part.duration, plan.is_open()),
        cpu: after.cpu.saturating_sub(before.cpu) + paced.cpu,
        handshakes: ended.tally.handshakes + traffic.handshakes,
        traffic: plan.is_pooled().then_some(traffic),
        churned: Churned::default(),
        udp_rcvbuf_errors: after.udp_rcvbuf_errors.saturating_sub(before.udp_rcvbuf_errors),
        intended: paced.intended,
        dropped: paced.dropped + ended.left,
        tally: ended.tally,
        interval: shared.timeline.length(),
        intervals,
        moments,
        rss_peak,
        signal,
    })
}

type Pacer = std::thread::JoinHandle<Paced>;

/// The source of each worker's operations, and the pacer if there is one.
fn feeds(plan: &Plan, part: Part, start: Instant, board: &Arc<Board>) -> Result<(Vec<Feed>, Option<Pacer>)> {
    let Some(rate) = plan.rate else {
        let end = part.ops.map_or(u64::MAX, |ops| part.first + ops);
        let step = plan.concurrency as u64;
        let deadline = part.duration.map(|duration| start + duration);
        let feed = |place| Feed::Closed { next: part.first + place, step, end, deadline };
        return Ok(((0..step).map(feed).collect(), None));
    };
    let schedule = Schedule::constant(rate);
    let due = part.duration.map_or(u64::MAX, |duration| schedule.count(duration));
    let count = part.ops.map_or(due, |ops| ops.min(due));
    let (pacer, queues) = pacer::start(Orders { start, schedule, first: part.first, count }, board.clone())?;
    Ok((queues.into_iter().map(Feed::Paced).collect(), Some(pacer)))
}

/// The notes of the workers that have ended.
#[derive(Default)]
struct Ended {
    tally: Tally,
    left: u64,
}

type Workers = JoinSet<(Tally, u64)>;

impl Ended {
    /// Waits until all workers have ended or it is `over`; after a signal, only a little.
    async fn wait(
        &mut self,
        workers: &mut Workers,
        mut over: Option<Instant>,
        board: &Board,
        stop: &mut Stop,
    ) -> Result<Option<Signal>> {
        let mut signal = None;
        loop {
            let late = over.map(tokio::time::Instant::from_std);
            tokio::select! {
                notes = workers.join_next() => match notes {
                    Some(notes) => self.add(notes?),
                    None => return Ok(signal),
                },
                came = stop.wait(), if signal.is_none() => {
                    signal = Some(came);
                    board.stop();
                    over = Some(Instant::now() + STOP_DRAIN);
                }
                () = sleep_until(late) => return Ok(signal),
            }
        }
    }

    async fn rest(&mut self, workers: &mut Workers) -> Result<()> {
        while let Some(notes) = workers.join_next().await {
            self.add(notes?);
        }
        Ok(())
    }

    fn add(&mut self, (tally, left): (Tally, u64)) {
        self.tally.merge(tally);
        self.left += left;
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A closed loop ends with its last success: one slow operation counts with the time it took, and the
/// tail of the others is a single latency. An open loop lasts at least as long as its schedule.
fn elapsed(tally: &Tally, start: Instant, duration: Option<Duration>, open: bool) -> Duration {
    let since = |at: Option<Instant>| at.map_or(Duration::ZERO, |at| at.saturating_duration_since(start));
    let offered = duration.unwrap_or(Duration::ZERO);
    let floor = if open { offered } else { offered.min(since(tally.last_end)) };
    since(tally.last_ok).max(floor)
}

#[cfg(test)]
mod tests;
