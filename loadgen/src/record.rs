//! What a worker writes down, and how the notes of all workers become one.
//!
//! A worker owns its [`Recorder`] and shares nothing while it runs, except that at the end of each
//! interval it adds its histogram to the [`Timeline`].

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::audit::Sample;
use crate::errors::{Failure, Failures};
use crate::hist::{self, Hist};

/// Response (intended start to end), service (actual start to end) and wait (intended to actual start).
/// A closed loop has no intended start, hence no response and no wait.
#[derive(Clone, Debug, Default)]
pub struct Series {
    pub response: Option<Hist>,
    pub service: Option<Hist>,
    pub wait: Option<Hist>,
}

impl Series {
    fn record(&mut self, edges: &Edges) {
        let put = |hist: &mut Option<Hist>, time| hist::record(hist.get_or_insert_with(hist::empty), time);
        put(&mut self.service, edges.service());
        if edges.intended.is_some() {
            put(&mut self.response, edges.lead());
            put(&mut self.wait, edges.wait());
        }
    }

    fn merge(&mut self, other: Self) {
        merge(&mut self.response, other.response);
        merge(&mut self.service, other.service);
        merge(&mut self.wait, other.wait);
    }
}

fn merge(into: &mut Option<Hist>, other: Option<Hist>) {
    match (into, other) {
        (Some(into), Some(other)) => hist::add(into, &other),
        (into @ None, other) => *into = other,
        (Some(_), None) => {}
    }
}

/// The three instants of one operation.
#[derive(Clone, Copy, Debug)]
pub struct Edges {
    pub intended: Option<Instant>,
    pub started: Instant,
    pub ended: Instant,
}

impl Edges {
    /// The time by which the run is judged: see [`crate::plan::Plan::lead`].
    fn lead(&self) -> Duration {
        self.ended.saturating_duration_since(self.intended.unwrap_or(self.started))
    }

    fn service(&self) -> Duration {
        self.ended.saturating_duration_since(self.started)
    }

    fn wait(&self) -> Duration {
        self.started.saturating_duration_since(self.intended.unwrap_or(self.started))
    }
}

/// One interval of the run.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    /// Successful operations, by the leading series.
    pub lead: Option<Hist>,
    pub ok: u64,
    pub errors: u64,
}

/// The run as a row of intervals of equal length; what comes after the last one counts in it.
#[derive(Debug)]
pub struct Timeline {
    start: Instant,
    length: Duration,
    slots: Mutex<Vec<Interval>>,
}

impl Timeline {
    /// Intervals kept at most: 120 histograms are about 20 MB.
    const SLOTS: usize = 120;

    /// A timeline from `start`, for a run that is expected to take `span`.
    pub fn new(start: Instant, span: Option<Duration>) -> Self {
        let length = span.map_or(Duration::from_secs(1), |span| {
            (span / 10).clamp(Duration::from_millis(250), Duration::from_secs(1)).max(span / 60)
        });
        Self { start, length, slots: Mutex::new(Vec::new()) }
    }

    pub const fn length(&self) -> Duration {
        self.length
    }

    /// The intervals so far.
    pub fn take(&self) -> Vec<Interval> {
        std::mem::take(&mut self.lock())
    }

    /// Reads the last interval that anyone has finished, for the progress line.
    pub fn peek<T>(&self, read: impl FnOnce(&Interval) -> T) -> Option<T> {
        self.lock().last().map(read)
    }

    fn slot_at(&self, at: Instant) -> usize {
        let past = at.saturating_duration_since(self.start).as_nanos() / self.length.as_nanos();
        usize::try_from(past).unwrap_or(usize::MAX).min(Self::SLOTS - 1)
    }

    fn end_of(&self, slot: usize) -> Instant {
        match slot {
            last if last + 1 >= Self::SLOTS => self.start + Duration::from_secs(365 * 86_400),
            slot => self.start + self.length * (slot as u32 + 1),
        }
    }

    fn add(&self, slot: usize, lead: &Hist, errors: u64) {
        let mut slots = self.lock();
        if slots.len() <= slot {
            slots.resize_with(slot + 1, Interval::default);
        }
        let into = &mut slots[slot];
        into.ok += lead.len();
        into.errors += errors;
        if !lead.is_empty() {
            hist::add(into.lead.get_or_insert_with(hist::empty), lead);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Interval>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The notes of one worker.
pub struct Recorder<'a> {
    timeline: &'a Timeline,
    /// Successful operations of the current interval, by the leading series.
    lead: Hist,
    lead_errors: u64,
    slot: usize,
    slot_end: Instant,
    tally: Tally,
}

/// What all workers together have done.
#[derive(Debug, Default)]
pub struct Tally {
    pub ok: Series,
    pub error: Series,
    pub failures: Failures,
    pub started: u64,
    pub succeeded: u64,
    /// Records carried by successful operations.
    pub records: u64,
    /// Replicas that had acknowledged when a store returned.
    pub acks: Acks,
    pub handshakes: u64,
    pub bytes_out: u64,
    pub bytes_in: u64,
    pub sample: Sample,
    pub last_ok: Option<Instant>,
    pub last_end: Option<Instant>,
}

/// What a successful operation moved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moved {
    pub records: u64,
    pub acks: Acks,
    pub handshakes: u64,
    pub bytes_out: u64,
    pub bytes_in: u64,
}

/// Acknowledgements of the records of some stores.
#[derive(Clone, Copy, Debug, Default)]
pub struct Acks {
    pub sum: u64,
    /// Of the record that had the fewest.
    pub least: Option<u64>,
}

impl Acks {
    /// Of records with so many each.
    pub fn of(acks: impl IntoIterator<Item = u64>) -> Self {
        let mut all = Self::default();
        acks.into_iter().for_each(|acks| all.merge(Self { sum: acks, least: Some(acks) }));
        all
    }

    fn merge(&mut self, other: Self) {
        self.sum += other.sum;
        self.least = self.least.into_iter().chain(other.least).min();
    }
}

impl<'a> Recorder<'a> {
    pub fn new(timeline: &'a Timeline, sample: Sample) -> Self {
        let tally = Tally { sample, ..Tally::default() };
        let slot_end = timeline.end_of(0);
        Self { timeline, lead: hist::empty(), lead_errors: 0, slot: 0, slot_end, tally }
    }

    pub const fn sample(&mut self) -> &mut Sample {
        &mut self.tally.sample
    }

    pub fn succeeded(&mut self, edges: &Edges, moved: Moved) {
        self.turn(edges.ended);
        hist::record(&mut self.lead, edges.lead());
        if edges.intended.is_some() {
            let ok = &mut self.tally.ok;
            hist::record(ok.service.get_or_insert_with(hist::empty), edges.service());
            hist::record(ok.wait.get_or_insert_with(hist::empty), edges.wait());
        }
        let tally = &mut self.tally;
        tally.started += 1;
        tally.succeeded += 1;
        tally.records += moved.records;
        tally.acks.merge(moved.acks);
        tally.handshakes += moved.handshakes;
        tally.bytes_out += moved.bytes_out;
        tally.bytes_in += moved.bytes_in;
        tally.last_ok = Some(edges.ended);
        tally.last_end = Some(edges.ended);
    }

    pub fn failed(&mut self, edges: &Edges, failure: Failure) {
        self.turn(edges.ended);
        self.lead_errors += 1;
        self.tally.error.record(edges);
        self.tally.failures.add(failure);
        self.tally.started += 1;
        self.tally.last_end = Some(edges.ended);
    }

    /// Ends the notes. The leading series of the successes is in the timeline.
    pub fn finish(mut self) -> Tally {
        self.flush();
        self.tally
    }

    /// Moves to the interval of `now`.
    fn turn(&mut self, now: Instant) {
        if now < self.slot_end {
            return;
        }
        self.flush();
        self.slot = self.timeline.slot_at(now);
        self.slot_end = self.timeline.end_of(self.slot);
    }

    fn flush(&mut self) {
        if self.lead.is_empty() && self.lead_errors == 0 {
            return;
        }
        self.timeline.add(self.slot, &self.lead, self.lead_errors);
        self.lead.reset();
        self.lead_errors = 0;
    }
}

impl Tally {
    pub fn merge(&mut self, other: Self) {
        self.ok.merge(other.ok);
        self.error.merge(other.error);
        self.failures.merge(other.failures);
        self.started += other.started;
        self.succeeded += other.succeeded;
        self.records += other.records;
        self.acks.merge(other.acks);
        self.handshakes += other.handshakes;
        self.bytes_out += other.bytes_out;
        self.bytes_in += other.bytes_in;
        self.sample.merge(other.sample);
        self.last_ok = self.last_ok.max(other.last_ok);
        self.last_end = self.last_end.max(other.last_end);
    }

    /// Completes the successes with their leading series, which the workers left in the timeline.
    pub fn add_lead(&mut self, intervals: &[Interval], open: bool) {
        let mut lead = hist::empty();
        for interval in intervals.iter().filter_map(|interval| interval.lead.as_ref()) {
            hist::add(&mut lead, interval);
        }
        if !lead.is_empty() {
            *(if open { &mut self.ok.response } else { &mut self.ok.service }) = Some(lead);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Kind;

    const MS: Duration = Duration::from_millis(1);

    fn edges(start: Instant, intended: u32, started: u32, ended: u32) -> Edges {
        let at = |ms| start + MS * ms;
        Edges { intended: Some(at(intended)), started: at(started), ended: at(ended) }
    }

    #[test]
    fn workers_merge_into_three_series_and_a_timeline() {
        let start = Instant::now();
        let timeline = Timeline::new(start, Some(Duration::from_secs(10)));
        let mut tally = Tally::default();
        for worker in 0..4 {
            let mut recorder = Recorder::new(&timeline, Sample::default());
            for i in 0..10 {
                let base = i * 300 + worker;
                recorder.succeeded(&edges(start, base, base + 5, base + 25), Moved::default());
            }
            recorder.failed(&edges(start, 100, 100, 2500), Failure::new(Kind::Timeout, "late"));
            tally.merge(recorder.finish());
        }
        let intervals = timeline.take();
        tally.add_lead(&intervals, true);

        assert_eq!((tally.started, tally.succeeded, tally.failures.total()), (44, 40, 4));
        let near = |hist: &Option<Hist>, ms: f64| {
            let hist = hist.as_ref().expect("recorded");
            assert!((hist.mean() / 1e6 / ms - 1.0).abs() < 0.002, "{} {ms}", hist.mean());
            hist.len()
        };
        assert_eq!(near(&tally.ok.response, 25.0), 40);
        assert_eq!(near(&tally.ok.service, 20.0), 40);
        assert_eq!(near(&tally.ok.wait, 5.0), 40);
        assert_eq!(near(&tally.error.response, 2400.0), 4, "errors have their own histogram");
        assert_eq!(intervals.iter().map(|i| i.ok).collect::<Vec<_>>(), [16, 12, 12]);
        assert_eq!(intervals.iter().map(|i| i.errors).sum::<u64>(), 4);
    }

    #[test]
    fn a_closed_loop_has_service_times_only() {
        let start = Instant::now();
        let timeline = Timeline::new(start, None);
        let mut recorder = Recorder::new(&timeline, Sample::default());
        let edges = Edges { intended: None, started: start, ended: start + MS };
        recorder.succeeded(&edges, Moved::default());
        recorder.failed(&edges, Failure::new(Kind::Reset, "gone"));
        let mut tally = recorder.finish();
        tally.add_lead(&timeline.take(), false);
        assert!(tally.ok.response.is_none() && tally.ok.wait.is_none() && tally.ok.service.is_some());
        assert!(tally.error.response.is_none() && tally.error.service.is_some());
    }

    #[test]
    fn a_timeline_is_bounded() {
        let start = Instant::now();
        let timeline = Timeline::new(start, None);
        let mut recorder = Recorder::new(&timeline, Sample::default());
        for hour in 0..5 {
            let ended = start + Duration::from_secs(3600 * hour);
            recorder.succeeded(&Edges { intended: None, started: ended, ended }, Moved::default());
        }
        assert_eq!(recorder.finish().succeeded, 5);
        assert_eq!(timeline.take().len(), Timeline::SLOTS);
    }
}
