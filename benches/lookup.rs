//! Stores and finds that must find out who is closest, beside bare quinn and beside direct questions.
//!
//! `cargo bench --bench lookup -- [rounds]`; rounds are interleaved, figures are medians. What each arm is
//! stands in `benches/README.md`.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, reads the clock and starts tasks"
)]

mod engine;
mod raw;

use std::time::Duration;

use engine::far::{Deep, Wide};
use raw::fanout;

const ROUNDS: u64 = 5;
const IN_FLIGHT: u64 = 64;
/// Calls of one round.
const STORES: u64 = 20_000;
const FRESH: u64 = 4_000;
const FINDS: u64 = 40_000;
/// Records in the mesh of 64 nodes.
const RECORDS: u64 = 4_000;
/// Nodes that join to find their first keys.
const NEWCOMERS: u64 = 20;
/// Finds and direct questions of one round.
const QUESTIONS: u64 = 2_000;
/// How much is done before it is measured, as a share of what is measured.
const WARM_UP: u64 = 10;

fn main() {
    let runtime = engine::runtime();
    let rounds = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(ROUNDS);
    runtime.block_on(async {
        wide(rounds).await;
        deep(rounds).await;
    });
}

/// Many in flight, where every node holds everything.
async fn wide(rounds: u64) {
    let raw = fanout::Rig::start(&engine::settings()).await;
    let rig = Wide::start(FINDS * rounds + FINDS / WARM_UP).await;
    let mut figures = ["raw_fanout/64", "store/64", "fresh/64", "find/64"].map(Figures::new);
    raw.run(IN_FLIGHT, STORES / WARM_UP).await;
    rig.store(false, IN_FLIGHT, STORES / WARM_UP).await;
    rig.store(true, IN_FLIGHT, FRESH / WARM_UP).await;
    rig.find(IN_FLIGHT, FINDS / WARM_UP).await;
    for _ in 0..rounds {
        figures[0].add(STORES, raw.run(IN_FLIGHT, STORES).await);
        figures[1].add(STORES, rig.store(false, IN_FLIGHT, STORES).await);
        figures[2].add(FRESH, rig.store(true, IN_FLIGHT, FRESH).await);
        figures[3].add(FINDS, rig.find(IN_FLIGHT, FINDS).await);
    }
    let [raw, store, fresh, _] = figures.map(Figures::print);
    println!("store / raw_fanout {:.1} %, fresh / store {:.1} %", store / raw * 100.0, fresh / store * 100.0);
}

/// One at a time, where a node holds an eighth.
async fn deep(rounds: u64) {
    let rig = Deep::start(RECORDS).await;
    let (mut cold, mut hops) = (Vec::new(), 0.0);
    for newcomer in 0..NEWCOMERS {
        let (took, mean) = rig.cold(newcomer).await;
        cold.extend(took);
        hops += mean / NEWCOMERS as f64;
    }
    let (mut warm, mut direct) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let node = rig.warm().await;
        let (finds, questions) = rig.latencies(&node, QUESTIONS).await;
        warm.extend(finds);
        direct.extend(questions);
        node.shutdown().await;
    }
    let [cold, warm, direct] =
        [("find cold", cold), ("find warm", warm), ("query_peer", direct)].map(|(name, took)| {
            let (p50, p99) = quantiles(took);
            println!("{name:16} p50 {p50:>10.1?}  p99 {p99:>10.1?}");
            p50.as_secs_f64()
        });
    println!("cold: {hops:.2} hops; cold / warm {:.1}, warm / query_peer {:.2}", cold / warm, warm / direct);
}

/// The rounds of an arm.
#[derive(Debug)]
struct Figures {
    name: &'static str,
    rates: Vec<f64>,
}

impl Figures {
    fn new(name: &'static str) -> Self {
        Self { name, rates: Vec::new() }
    }

    fn add(&mut self, calls: u64, took: Duration) {
        self.rates.push(calls as f64 / took.as_secs_f64());
    }

    /// Returns the rate in the middle.
    fn print(mut self) -> f64 {
        self.rates.sort_unstable_by(f64::total_cmp);
        let rate = self.rates[self.rates.len() / 2];
        let (low, high) = (self.rates[0], self.rates[self.rates.len() - 1]);
        println!("{:16} {rate:>10.0} /s ({low:.0} - {high:.0})", self.name);
        rate
    }
}

fn quantiles(mut took: Vec<Duration>) -> (Duration, Duration) {
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() * 99 / 100])
}
