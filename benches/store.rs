//! Storing records: the predecessor's ways, the engine's, and the ceilings of bare quinn beside them.
//!
//! `cargo bench --bench store`; what each arm is stands in `benches/README.md`.

#![allow(clippy::disallowed_methods, reason = "benches read the clock and start tasks")]
#![allow(clippy::print_stdout, reason = "the summary is the result")]

mod engine;
mod raw;

use std::cell::{LazyCell, RefCell};
use std::sync::Arc;

use engine::Rig;
use engine::arms::{Arms, criterion};
use foveola::baseline::{Arm, Client};
use raw::{call, ceiling, fanout};
use tokio::runtime::Runtime;

/// Calls of `store_many` in flight, and batches of its ceiling.
const BATCHES_IN_FLIGHT: u64 = ceiling::WINDOW;

/// Stores of `fresh` in flight: as many as of `pooled`.
const FRESH_IN_FLIGHT: u64 = 64;

/// The nodes of `fanout`: a writer and its peers.
const FANOUT_NODES: usize = fanout::PEERS + 1;

const CEILINGS: [(&str, &str); 8] = [
    ("pooled/64", "raw_call/64"),
    ("store_many/256", "raw_ceiling/256"),
    ("fanout/1", "raw_fanout/1"),
    ("fanout/16", "raw_fanout/16"),
    ("fanout/64", "raw_fanout/64"),
    ("legacy", "pooled/64"),
    ("fresh", "pooled/64"),
    ("pooled/1", "pooled/64"),
];

fn main() {
    let runtime = engine::runtime();
    let _context = runtime.enter();
    let mut criterion = criterion();
    let mut arms = Arms::new(&mut criterion, "store");
    two_nodes(&runtime, &mut arms);
    many_nodes(&runtime, &mut arms);
    arms.finish(&CEILINGS);
    criterion.final_summary();
}

fn two_nodes(runtime: &Runtime, arms: &mut Arms<'_>) {
    // A rig is started by the first arm that is run with it: not at all if none is asked for.
    let rig = LazyCell::new(|| runtime.block_on(Rig::start(2)));
    let client =
        |arm| Arc::new(runtime.block_on(async { Client::new(&rig.caller(), arm).expect("a client") }));
    let legacy = LazyCell::new(|| client(Arm::Legacy));
    let fresh = LazyCell::new(|| client(Arm::Fresh));
    arms.arm("legacy", 1, |iters| runtime.block_on(rig.baseline(&legacy, 1, iters)));
    arms.arm("fresh", 1, |iters| runtime.block_on(rig.baseline(&fresh, FRESH_IN_FLIGHT, iters)));

    arms.arm("pooled/1", 1, |iters| runtime.block_on(rig.store(1, iters)));
    let call = LazyCell::new(|| runtime.block_on(call::Rig::start(&engine::settings())));
    arms.arm("raw_call/64", 1, |iters| runtime.block_on(call.run(64, iters)));
    arms.arm("pooled/64", 1, |iters| runtime.block_on(rig.store(64, iters)));

    let many = |batch, iters| runtime.block_on(rig.store_many(batch, BATCHES_IN_FLIGHT, iters));
    arms.arm("store_many/1", 1, |iters| many(1, iters));
    arms.arm("store_many/16", 16, |iters| many(16, iters));
    let ceiling = LazyCell::new(|| RefCell::new(runtime.block_on(ceiling::Rig::start(&engine::settings()))));
    arms.arm("raw_ceiling/256", ceiling::BATCH, |iters| {
        let mut rig = ceiling.borrow_mut();
        runtime.block_on(rig.run(iters))
    });
    arms.arm("store_many/256", ceiling::BATCH, |iters| many(ceiling::BATCH, iters));
}

fn many_nodes(runtime: &Runtime, arms: &mut Arms<'_>) {
    let raw = LazyCell::new(|| runtime.block_on(fanout::Rig::start(&engine::settings())));
    let rig = LazyCell::new(|| runtime.block_on(Rig::start(FANOUT_NODES)));
    for (in_flight, raw_id, id) in [
        (1, "raw_fanout/1", "fanout/1"),
        (16, "raw_fanout/16", "fanout/16"),
        (64, "raw_fanout/64", "fanout/64"),
    ] {
        arms.arm(raw_id, 1, |iters| runtime.block_on(raw.run(in_flight, iters)));
        arms.arm(id, 1, |iters| runtime.block_on(rig.store(in_flight, iters)));
    }
}
