//! Runs the simulator of the tests at any size: `cargo run --release --example simulate -- --help`.
//!
//! A hundred thousand seeds under faults: `simulate faults --seeds 100000`, or in parts with `--first`, one
//! process for each processor. A seed that broke something is run again with `--seed`, event by event.

#![allow(clippy::print_stdout, reason = "a command prints what it finds")]
#![allow(clippy::disallowed_methods, reason = "a virtual clock starts from some instant")]

#[path = "../tests/sim/world/mod.rs"]
mod world;

use std::io::{self, BufWriter};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use world::churn::Churn;
use world::clock::MINUTE;
use world::faults::{BUGS, Faults};
use world::scale::Scale;
use world::survived::{Counts, Survived};

/// Many nodes of the library under a virtual clock and a seeded network.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Run {
    /// How exact lookups are in a large mesh, and what they cost.
    Nodes {
        #[arg(long, default_value_t = 10_000)]
        nodes: u32,
        #[arg(long, default_value_t = 20)]
        k: usize,
        #[arg(long, default_value_t = 2_000)]
        lookups: u32,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Which records can be read while nodes die and others join.
    Churn {
        #[arg(long, default_value_t = 1_000)]
        nodes: u32,
        #[arg(long, default_value_t = 20)]
        k: usize,
        /// The share of the nodes that is replaced in a minute.
        #[arg(long, default_value_t = 0.1)]
        replace_per_minute: f64,
        #[arg(long, default_value_t = 30)]
        minutes: u64,
        #[arg(long, default_value_t = 100_000)]
        probes: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Whether promises hold while faults strike, a run for each seed.
    Faults {
        #[arg(long, default_value_t = 2_000)]
        seeds: u64,
        #[arg(long, default_value_t = 0)]
        first: u64,
        #[arg(long, default_value_t = 64)]
        nodes: u32,
        /// How long faults strike.
        #[arg(long, default_value_t = 5)]
        minutes: u64,
        /// Run this seed alone, and print every event.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// After how many seeds each of the planted bugs is found.
    Planted {
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        #[arg(long, default_value_t = 64)]
        nodes: u32,
        /// How long faults strike.
        #[arg(long, default_value_t = 5)]
        minutes: u64,
    },
}

fn main() -> ExitCode {
    let began = Instant::now();
    let well = match Args::parse().run {
        Run::Nodes { nodes, k, lookups, seed } => {
            println!("{}", Scale { nodes, k, lookups, seed }.run());
            true
        }
        Run::Churn { nodes, k, replace_per_minute: replaced, minutes, probes, seed } => {
            println!("{}", Churn { nodes, k, replaced, minutes, probes, seed }.run());
            true
        }
        Run::Faults { nodes, minutes, seed: Some(seed), .. } => {
            let faults = Faults { seed, nodes, chaos: minutes * MINUTE, bug: None };
            tell(seed, &faults.run(Some(Box::new(BufWriter::new(io::stdout())))))
        }
        Run::Faults { seeds, first, nodes, minutes, seed: None } => strike(first, seeds, nodes, minutes),
        Run::Planted { seeds, nodes, minutes } => plant(seeds, nodes, minutes),
    };
    println!("took {:.1} s", began.elapsed().as_secs_f64());
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn strike(first: u64, seeds: u64, nodes: u32, minutes: u64) -> bool {
    let mut counts = Counts::default();
    let mut broken = 0;
    for seed in first..first + seeds {
        let survived = Faults { seed, nodes, chaos: minutes * MINUTE, bug: None }.run(None);
        counts += survived.counts;
        if !survived.violations.is_empty() {
            broken += 1;
            tell(seed, &survived);
        }
    }
    println!("{counts}");
    println!("seeds with a violation: {broken}");
    broken == 0
}

/// Prints what a run has broken, and whether it is nothing.
fn tell(seed: u64, survived: &Survived) -> bool {
    println!("seed {seed}, trace {:016x}: {} violations", survived.hash, survived.violations.len());
    for violation in survived.violations.iter().take(8) {
        println!("  {violation}");
    }
    survived.violations.is_empty()
}

fn plant(seeds: u64, nodes: u32, minutes: u64) -> bool {
    let mut all = true;
    for bug in BUGS {
        let run = |seed| Faults { seed, nodes, chaos: minutes * MINUTE, bug: Some(bug) }.run(None);
        let found = (0..seeds).map(|seed| (seed, run(seed))).find(|(_, run)| !run.violations.is_empty());
        match &found {
            Some((seed, survived)) => println!("{bug:?}: seed {seed}, {}", survived.violations[0]),
            None => println!("{bug:?}: not found in {seeds} seeds"),
        }
        all &= found.is_some();
    }
    all
}
