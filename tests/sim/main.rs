//! The simulator of the library, and what it shows in the time of a test. `examples/simulate.rs` runs it at
//! any size.

#![allow(clippy::disallowed_methods, reason = "a virtual clock starts from some instant")]

mod world;

use world::churn::Churn;
use world::clock::MINUTE;
use world::faults::{BUGS, Faults};
use world::scale::Scale;
use world::survived::Counts;

/// A small mesh under faults: what a seed of the real runs is, in a fraction of its time.
fn small(seed: u64) -> Faults {
    Faults { seed, nodes: 16, chaos: MINUTE, bug: None }
}

#[test]
fn a_seed_gives_the_same_run_event_by_event() {
    let [first, again, other] = [3, 3, 4].map(|seed| small(seed).run(None));
    assert_eq!(first.hash, again.hash, "seed 3");
    assert_eq!(first.counts.events, again.counts.events);
    assert_ne!(first.hash, other.hash, "seeds 3 and 4");
}

#[test]
fn promises_hold_in_fifty_runs_in_which_every_fault_strikes() {
    let mut counts = Counts::default();
    for seed in 0..50 {
        let survived = Faults { nodes: 12, ..small(seed) }.run(None);
        let broken: Vec<String> = survived.violations.iter().map(ToString::to_string).collect();
        assert!(broken.is_empty(), "seed {seed}\n{}", broken.join("\n"));
        counts += survived.counts;
    }
    let struck = counts.struck;
    let messages = [struck.lost, struck.duplicated, struck.reordered, struck.slowed, struck.to_nobody];
    let cut = [struck.cut_one_way, struck.cut_both_ways];
    let nodes = [counts.crashes, counts.restarts, counts.for_good, counts.cuts, counts.slowed, counts.skewed];
    assert!(messages.iter().chain(&cut).chain(&nodes).all(|times| *times > 0), "{counts}");
    assert!(counts.reckoned > 100, "{counts}");
}

/// Seeds that have shown what shorter runs and smaller meshes do not.
#[test]
fn promises_hold_in_runs_that_are_hard() {
    for seed in [85, 392] {
        let survived = Faults { nodes: 64, chaos: 5 * MINUTE, ..small(seed) }.run(None);
        let broken: Vec<String> = survived.violations.iter().map(ToString::to_string).collect();
        assert!(broken.is_empty(), "seed {seed}\n{}", broken.join("\n"));
    }
}

#[test]
fn each_planted_bug_is_found() {
    for bug in BUGS {
        let run = |seed| Faults { bug: Some(bug), chaos: 2 * MINUTE, ..small(seed) }.run(None);
        let found = (0..200).map(run).any(|survived| !survived.violations.is_empty());
        assert!(found, "{bug:?} was not found");
    }
}

#[test]
fn lookups_in_a_mesh_much_larger_than_k_find_the_closest_nodes() {
    let scaled = Scale { nodes: 300, k: 20, lookups: 100, seed: 1 }.run();
    assert!(scaled.exact() >= 0.995 && scaled.overlap() >= 19.98, "{scaled}");
    assert!(scaled.hops() <= 300_f64.log2() / 2.0 && scaled.bytes() <= 40_960.0, "{scaled}");
}

#[test]
fn records_stay_readable_while_nodes_are_replaced() {
    let churned = Churn { nodes: 60, k: 8, replaced: 0.1, minutes: 5, probes: 500, seed: 1 }.run();
    assert!(churned.readable() >= 0.99, "{churned}");
}
