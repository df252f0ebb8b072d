//! Load generator for foveola meshes: shows, in one run, what pooled connections are worth, and measures
//! single workloads in detail.
//!
//! A run is a [`plan`]; [`drive`] turns it into a phase of load, made of one [`worker`] per operation in
//! flight, a [`pacer`] when the load is open, and worker-local notes ([`record`]). The [`audit`] checks
//! afterwards that what was acknowledged is there, [`report`] and [`text`] tell the result.

#![allow(unreachable_pub, reason = "a binary has no outside")]

mod audit;
mod board;
mod cli;
mod demo;
mod drive;
mod errors;
mod hist;
mod host;
mod ledger;
mod node;
mod output;
mod pacer;
mod plan;
mod progress;
mod record;
mod report;
mod run;
mod schedule;
mod stats;
mod stop;
mod target;
mod text;
mod validity;
mod worker;
mod workload;

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Result;
use clap::Parser as _;

use crate::cli::{Cli, Command, DemoArgs, Format, Output, RunArgs};
use crate::host::Host;
use crate::stop::{Signal, Stop};

/// Could not run, or something acknowledged is not true.
const FAILED: u8 = 1;
/// A command line that makes no sense.
const USAGE: u8 = 2;
/// The measurement is invalid, under `--strict`.
const INVALID: u8 = 5;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into(), FAILED),
    };
    let outcome = runtime.block_on(async {
        let mut stop = Stop::listen()?;
        match cli.command {
            None => demo(&cli.demo, &mut stop).await,
            Some(Command::Demo(args)) => demo(&args, &mut stop).await,
            Some(Command::Run(args)) => run(&args, &mut stop).await,
            Some(Command::Node(args)) => node::run(&args, &mut stop).await.map(|()| 0),
        }
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error, FAILED),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("loadgen: {error:#}");
    ExitCode::from(code)
}

async fn demo(args: &DemoArgs, stop: &mut Stop) -> Result<u8> {
    let (demo, signal) = demo::run(args.seed, args.plant_loss, &Host::read(), stop).await?;
    let path = args.output.out.clone().unwrap_or_else(|| output::default_path(SystemTime::now()));
    output::write_json(&demo, &path)?;
    match args.output.format {
        Format::Text => output::print(&text::demo(&demo))?,
        Format::Json if path == Path::new("-") => {}
        Format::Json => output::print(&(serde_json::to_string_pretty(&demo)? + "\n"))?,
    }
    if path != Path::new("-") {
        eprintln!("  report: {}", path.display());
    }
    let valid = demo.arms.iter().all(|arm| arm.report.validity.ok);
    Ok(code(signal, demo.audit.missing, valid, &args.output))
}

async fn run(args: &RunArgs, stop: &mut Stop) -> Result<u8> {
    let plan = match args.plan() {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("loadgen: {error:#}");
            return Ok(USAGE);
        }
    };
    let done = run::run(&plan, &Host::read(), stop).await?;
    let report = &done.report;
    match (&args.output.out, args.output.format) {
        (Some(path), _) => output::write_json(report, path)?,
        (None, Format::Json) => output::write_json(report, Path::new("-"))?,
        (None, Format::Text) => {}
    }
    if args.output.format == Format::Text && args.output.out.as_deref() != Some(Path::new("-")) {
        output::print(&text::run(report))?;
    }
    if report.totals.ok == 0 && done.signal.is_none() {
        eprintln!("loadgen: no operation succeeded");
        return Ok(FAILED);
    }
    Ok(code(done.signal, report.broken(), report.validity.ok, &args.output))
}

/// The exit code: a broken promise outranks a signal, which outranks a doubtful measurement.
fn code(signal: Option<Signal>, broken: u64, valid: bool, output: &Output) -> u8 {
    match signal {
        _ if broken > 0 => FAILED,
        Some(signal) => signal.exit_code(),
        None if !valid && output.strict => INVALID,
        None => 0,
    }
}
