//! Calls: an echo between two nodes beside the bare echo, the old path, a call of a node to itself, finding
//! providers, and what a dead one costs.
//!
//! `cargo bench --bench rpc`; what each arm is stands in `benches/README.md`.

#![allow(clippy::disallowed_methods, reason = "benches read the clock and start tasks")]
#![allow(clippy::print_stdout, reason = "the summary is the result")]

mod engine;
mod raw;

use std::cell::LazyCell;
use std::sync::Arc;

use engine::arms::{Arms, criterion};
use engine::calls::{Callers, Discoverers, Survivors};
use foveola::baseline::{Arm, IN_FLIGHT_MAX};
use raw::echo;

/// What each arm of the engine is a share of.
const CEILINGS: [(&str, &str); 6] = [
    ("call/1", "raw/1"),
    ("call/64", "raw/64"),
    ("call/512", "raw/512"),
    ("legacy", "call/64"),
    ("fresh", "call/64"),
    ("failover", "warm"),
];

fn main() {
    let runtime = engine::runtime();
    let _context = runtime.enter();
    let mut criterion = criterion();
    let mut arms = Arms::new(&mut criterion, "rpc");
    let raw = LazyCell::new(|| runtime.block_on(echo::Rig::start(&engine::settings())));
    let callers = LazyCell::new(|| runtime.block_on(Callers::start()));
    for (bare, call, in_flight) in
        [("raw/1", "call/1", 1), ("raw/64", "call/64", 64), ("raw/512", "call/512", 512)]
    {
        arms.arm(bare, 1, |iters| runtime.block_on(raw.run(in_flight, iters)));
        arms.arm(call, 1, |iters| runtime.block_on(callers.call(in_flight, iters)));
    }
    let client = |arm| Arc::new(callers.client(arm));
    let legacy = LazyCell::new(|| client(Arm::Legacy));
    let fresh = LazyCell::new(|| client(Arm::Fresh));
    arms.arm("legacy", 1, |iters| runtime.block_on(callers.baseline(&legacy, 1, iters)));
    let turns = IN_FLIGHT_MAX as u64;
    arms.arm("fresh", 1, |iters| runtime.block_on(callers.baseline(&fresh, turns, iters)));
    arms.arm("local", 1, |iters| runtime.block_on(callers.local(iters)));

    let discoverers = LazyCell::new(|| runtime.block_on(Discoverers::start()));
    arms.arm("discovery/hit", 1, |iters| runtime.block_on(discoverers.hit(iters)));
    arms.arm("discovery/miss", 1, |iters| runtime.block_on(discoverers.miss(iters)));

    let survivors = LazyCell::new(|| runtime.block_on(Survivors::start()));
    arms.arm("warm", 1, |iters| runtime.block_on(survivors.call(iters)));
    arms.arm("failover", 1, |iters| runtime.block_on(survivors.call_past_one_gone(iters)));
    arms.finish(&CEILINGS);
    criterion.final_summary();
}
