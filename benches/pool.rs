//! Taking a lease of a warm connection and giving it back: what the pool adds to each use of a peer.
//!
//! `cargo bench --bench pool`; what each arm is stands in `benches/README.md`.

#![allow(clippy::disallowed_methods, reason = "benches read the clock and start tasks")]
#![allow(clippy::print_stdout, reason = "the summary is the result")]

mod engine;
mod raw;

use std::cell::LazyCell;

use engine::Rig;
use engine::arms::{Arms, criterion};

fn main() {
    let runtime = engine::runtime();
    let _context = runtime.enter();
    let mut criterion = criterion();
    let mut arms = Arms::new(&mut criterion, "pool");
    let rig = LazyCell::new(|| runtime.block_on(Rig::start(2)));
    arms.arm("hit/1", 1, |iters| runtime.block_on(rig.lease(1, iters)));
    arms.arm("hit/64", 1, |iters| runtime.block_on(rig.lease(64, iters)));
    arms.finish(&[("hit/64", "hit/1")]);
    criterion.final_summary();
}
