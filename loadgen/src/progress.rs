//! Looking at a running phase: a thread that samples it four times a second, and says so in one line on
//! stderr when that is a terminal.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::hist;
use crate::host;
use crate::text::nanos;
use crate::worker::Shared;

/// Time between two looks. More often would be part of the measurement on a small machine.
const PERIOD: Duration = Duration::from_millis(250);

/// One look.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Since the start of the phase.
    pub at: Duration,
    pub cpu: Duration,
    pub in_flight: u64,
}

/// A running observer.
pub struct Monitor {
    done: SyncSender<()>,
    thread: JoinHandle<(Vec<Moment>, u64)>,
}

impl Monitor {
    pub fn start(
        title: &'static str,
        start: Instant,
        duration: Option<Duration>,
        shared: &Arc<Shared>,
    ) -> std::io::Result<Self> {
        let (done, ended) = mpsc::sync_channel(1);
        let shared = shared.clone();
        let watch = move || {
            let tty = std::io::stderr().is_terminal();
            let mut moments = vec![moment(start, 0)];
            let mut rss = host::rss_bytes();
            let mut done = 0;
            while ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                let sums = shared.board.sums();
                let last = *moments.last().expect("one to begin with");
                let now = moment(start, sums.in_flight);
                moments.push(now);
                rss = rss.max(host::rss_bytes());
                if tty {
                    let rate = (sums.done - done) as f64 / (now.at - last.at).as_secs_f64();
                    show(title, duration, last, now, rate, sums.failed, &shared);
                }
                done = sums.done;
            }
            if tty {
                say("\r\x1b[2K");
            }
            moments.push(moment(start, 0));
            (moments, rss.max(host::rss_bytes()))
        };
        Ok(Self { done, thread: thread::Builder::new().name("monitor".to_owned()).spawn(watch)? })
    }

    /// Ends the observation: what was seen, and the greatest memory use.
    pub fn finish(self) -> (Vec<Moment>, u64) {
        drop(self.done);
        self.thread.join().unwrap_or_default()
    }
}

fn moment(start: Instant, in_flight: u64) -> Moment {
    Moment { at: start.elapsed(), cpu: host::cpu_time(), in_flight }
}

fn show(
    title: &str,
    duration: Option<Duration>,
    last: Moment,
    now: Moment,
    rate: f64,
    failed: u64,
    shared: &Shared,
) {
    let of = duration.map(|duration| format!("/{:.1}", duration.as_secs_f64())).unwrap_or_default();
    let cpu = 100.0 * now.cpu.saturating_sub(last.cpu).as_secs_f64() / (now.at - last.at).as_secs_f64();
    let quantiles = |hist: &hist::Hist| {
        let shown = |q| hist::quantile(hist, q).map_or_else(|| "-".to_owned(), nanos);
        format!("p50 {}  p99 {}  ", shown(0.5), shown(0.99))
    };
    let quantiles = shared.timeline.peek(|interval| interval.lead.as_ref().map(quantiles)).flatten();
    say(&format!(
        "\r\x1b[2K{title} {:.1}{of} s  {rate:.0} op/s  {}err {failed}  in flight {}  cpu {cpu:.0} %",
        now.at.as_secs_f64(),
        quantiles.unwrap_or_default(),
        now.in_flight,
    ));
}

fn say(line: &str) {
    // A progress line that cannot be shown is no reason to fail.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}
