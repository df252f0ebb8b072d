//! Every ceiling of bare quinn on this machine, once: rounds are interleaved and medians printed.
//!
//! `cargo bench --bench ceilings -- [rounds] [job...]`, jobs being `ceiling call fanout echo handshake`.
//!
//! Beside each rate stands the CPU time of a unit, both sides together: it barely moves when the
//! machine is busy with something else, and the rate does.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, reads the clock and starts tasks"
)]

mod raw;

use std::collections::BTreeMap;
use std::time::Duration;

use raw::{Settings, call, ceiling, echo, fanout, handshake};

const ROUNDS: usize = 3;

/// How much of each job is done before it is measured, as a share of what is measured.
const WARM_UP: u64 = 5;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let rounds = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(ROUNDS);
    let jobs: Vec<&str> = args.iter().map(String::as_str).filter(|arg| arg.parse::<u32>().is_err()).collect();
    let mut figures = BTreeMap::new();
    for _ in 0..rounds {
        runtime.block_on(round(&mut figures, &jobs));
    }
    for (name, mut got) in figures {
        got.sort_unstable_by(f64::total_cmp);
        let (low, high) = (got[0], got[got.len() - 1]);
        println!("{name:32} {:>12.1}  ({low:.1} - {high:.1})", got[got.len() / 2]);
    }
}

type Figures = BTreeMap<String, Vec<f64>>;

/// Writes down the rate of `count` units that took what `work` says, and their CPU time.
async fn rate(figures: &mut Figures, name: String, count: u64, work: impl Future<Output = Duration>) {
    let before = cpu();
    let took = work.await;
    let cpu = cpu().saturating_sub(before);
    let count = count as f64;
    figures.entry(format!("{name}, cpu ns")).or_default().push(cpu.as_secs_f64() * 1e9 / count);
    figures.entry(format!("{name}, 1/s")).or_default().push(count / took.as_secs_f64());
}

fn micros(figures: &mut Figures, name: &str, took: Duration) {
    figures.entry(format!("{name}, us")).or_default().push(took.as_secs_f64() * 1e6);
}

/// CPU time of this process so far, to the 10 ms that Linux counts in; zero elsewhere.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may contain spaces; user and system time are the 12th and 13th after.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

async fn round(figures: &mut Figures, jobs: &[&str]) {
    let settings = Settings::default();
    let wanted = |job| jobs.is_empty() || jobs.contains(&job);
    if wanted("ceiling") {
        ceilings(figures, &settings).await;
    }
    if wanted("call") {
        calls(figures, &settings).await;
    }
    if wanted("fanout") {
        fanouts(figures, &settings).await;
    }
    if wanted("echo") {
        echoes(figures, &settings).await;
    }
    if wanted("handshake") {
        handshakes(figures, &settings).await;
    }
}

async fn ceilings(figures: &mut Figures, settings: &Settings) {
    let batches = 12_000;
    let mut rig = ceiling::Rig::start(settings).await;
    rig.run(batches / WARM_UP).await;
    let name = format!("raw_ceiling/{}", ceiling::BATCH);
    rate(figures, name, batches * ceiling::BATCH, rig.run(batches)).await;
}

async fn calls(figures: &mut Figures, settings: &Settings) {
    let calls = 400_000;
    let rig = call::Rig::start(settings).await;
    rig.run(64, calls / WARM_UP).await;
    rate(figures, "raw_call/64".to_owned(), calls, rig.run(64, calls)).await;
}

async fn fanouts(figures: &mut Figures, settings: &Settings) {
    let rig = fanout::Rig::start(settings).await;
    for (in_flight, calls) in [(1, 4_000), (16, 32_000), (64, 64_000)] {
        rig.run(in_flight, calls / WARM_UP).await;
        rate(figures, format!("raw_fanout/{in_flight}"), calls, rig.run(in_flight, calls)).await;
    }
}

async fn echoes(figures: &mut Figures, settings: &Settings) {
    let rig = echo::Rig::start(settings).await;
    for (in_flight, calls) in [(1, 30_000), (64, 500_000), (512, 1_000_000)] {
        rig.run(in_flight, calls / WARM_UP).await;
        rate(figures, format!("raw_echo/{in_flight}"), calls, rig.run(in_flight, calls)).await;
    }
    let took = rig.latencies(30_000).await;
    micros(figures, "raw_echo/1 p50", took[took.len() / 2]);
    micros(figures, "raw_echo/1 p99", took[took.len() * 99 / 100]);
}

async fn handshakes(figures: &mut Figures, settings: &Settings) {
    let rig = handshake::Rig::start(settings);
    assert!(rig.refuses_strangers(settings).await, "a stranger was let in");
    for (in_flight, count) in [(1, 1_000), (32, 2_000)] {
        let mut longest = Duration::ZERO;
        let work = async {
            let (took, slowest) = rig.run(in_flight, count).await;
            longest = slowest;
            took
        };
        rate(figures, format!("raw_handshake/{in_flight}"), count, work).await;
        micros(figures, &format!("raw_handshake/{in_flight} longest"), longest);
    }
}
