//! One question and its answer: finding a record that the peer holds, beside the bare echo.
//!
//! `cargo bench --bench echo`; what each arm is stands in `benches/README.md`.

#![allow(clippy::disallowed_methods, reason = "benches read the clock and start tasks")]
#![allow(clippy::print_stdout, reason = "the summary is the result")]

mod engine;
mod raw;

use std::cell::{Cell, LazyCell};
use std::time::Duration;

use engine::Finder;
use engine::arms::{Arms, criterion};
use raw::echo;

/// Rounds of the two arms, in turn, and calls of each in a round, for the medians.
const ROUNDS: usize = 5;
const CALLS: u64 = 4_000;

fn main() {
    let runtime = engine::runtime();
    let _context = runtime.enter();
    let mut criterion = criterion();
    let mut arms = Arms::new(&mut criterion, "echo");
    let both = Cell::new(0);
    let raw = LazyCell::new(|| {
        both.set(both.get() + 1);
        runtime.block_on(echo::Rig::start(&engine::settings()))
    });
    let finder = LazyCell::new(|| {
        both.set(both.get() + 1);
        runtime.block_on(Finder::start())
    });
    arms.arm("raw/1", 1, |iters| runtime.block_on(raw.run(1, iters)));
    arms.arm("find/1", 1, |iters| runtime.block_on(finder.find(1, iters)));
    arms.arm("raw/64", 1, |iters| runtime.block_on(raw.run(64, iters)));
    arms.arm("find/64", 1, |iters| runtime.block_on(finder.find(64, iters)));
    arms.finish(&[("find/1", "raw/1"), ("find/64", "raw/64")]);

    // Criterion has the mean of a call; what one caller sees is the median.
    if both.get() == 2 && !std::env::args().any(|arg| arg == "--test") {
        let (mut raw_took, mut find_took) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw_took.extend(runtime.block_on(raw.latencies(CALLS)));
            find_took.extend(runtime.block_on(finder.latencies(CALLS)));
        }
        let (raw, find) = (median(raw_took), median(find_took));
        println!("p50 of raw/1 {raw:?}, of find/1 {find:?}: {:.2} x", find.as_secs_f64() / raw.as_secs_f64());
    }
    criterion.final_summary();
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() / 2]
}
