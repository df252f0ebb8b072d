//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::audit::SAMPLE;
use crate::node::NodeArgs;
use crate::plan::{Acks, KeyDist, Plan, Transport, Workload};

mod rpc;

use rpc::RpcArgs;

/// Measures foveola meshes. Without a command: the demo.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of the demo, for when no command is given.
    #[command(flatten)]
    pub demo: DemoArgs,
}

const EXAMPLES: &str = "Examples:
  loadgen
  loadgen demo --format json --out demo.json
  loadgen run store --concurrency 64 --duration 10s
  loadgen run store --rate 20k --duration 10s --warmup 2s
  loadgen run find --nodes 64 --k 8 --churn 0.1 --duration 60s
  loadgen run store --nodes 64 --k 8 --ops 10k --key-dist seq --ack all --audit 10k --kill 0.1
  loadgen run rpc --size 32 --providers 3 --rate 5k --duration 30s
  loadgen run rpc --route multi-hop --duration 10s
  loadgen run discovery --nodes 40 --services 1000
  loadgen run find-many --batch 64 --keys 10000 --key-dist zipf:0.99 --nodes 8

Exit codes: 0 finished; 1 could not run, or what was acknowledged is not true; 2 usage;
5 the measurement is invalid and --strict was given; 130 or 143 stopped by a signal.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The pooled engine beside the fire-and-forget baseline, in under 15 seconds.
    Demo(DemoArgs),
    /// One workload on a mesh in this process.
    Run(Box<RunArgs>),
    /// One node of its own process, for tests.
    #[command(hide = true)]
    Node(NodeArgs),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Debug, Args)]
pub struct Output {
    /// What to print.
    #[arg(long, value_enum, default_value_t, env = "LOADGEN_FORMAT", help_heading = "Output")]
    pub format: Format,
    /// Where the JSON report goes; `-` is stdout. Without it, `run --format json` prints on stdout and
    /// the demo writes `loadgen-<time>.json`.
    #[arg(short, long, value_name = "FILE", env = "LOADGEN_OUT", help_heading = "Output")]
    pub out: Option<PathBuf>,
    /// Exit with 5 when the measurement is invalid.
    #[arg(long, env = "LOADGEN_STRICT", help_heading = "Output")]
    pub strict: bool,
}

#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Seed of keys, values and the mesh.
    #[arg(long, default_value_t = DEFAULT_SEED, env = "LOADGEN_SEED")]
    pub seed: u64,
    #[command(flatten)]
    pub output: Output,
    /// Tell the audit of this many acknowledged records that nobody stored.
    #[arg(long, default_value_t = 0, hide = true)]
    pub plant_loss: usize,
}

/// The seed when none is given.
pub const DEFAULT_SEED: u64 = 42;
/// The length of a run when neither `--duration` nor `--ops` is given.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WorkloadArg {
    /// STORE one record.
    Store,
    /// STORE `--batch` records in one call.
    StoreMany,
    /// FIND_VALUE of one key.
    Find,
    /// FIND_VALUE of `--batch` keys in one call.
    FindMany,
    /// Open a verified connection and close it.
    Connect,
    /// Call an echo.
    Rpc,
    /// Offer services on some nodes, find and call them from others, take them back. No warm-up.
    Discovery,
}

#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[arg(value_enum)]
    workload: WorkloadArg,
    /// How long operations are started. [default: 10s, or until --ops]
    #[arg(short, long, value_parser = humantime::parse_duration, env = "LOADGEN_DURATION", help_heading = "Load")]
    duration: Option<Duration>,
    /// How many operations are started; k, M and G multiply.
    #[arg(short = 'n', long, value_parser = count, env = "LOADGEN_OPS", help_heading = "Load")]
    ops: Option<u64>,
    /// Operations in flight: exactly, or at most with --rate. [default: 64, 256 with --rate, 1 for legacy]
    #[arg(short, long, env = "LOADGEN_CONCURRENCY", help_heading = "Load")]
    concurrency: Option<usize>,
    /// Operations a second, on a fixed schedule (open loop); k and M multiply. Without it the next starts
    /// when one ends (closed loop).
    #[arg(short, long, value_parser = rate, visible_alias = "rps", env = "LOADGEN_RATE", help_heading = "Load")]
    rate: Option<f64>,
    /// Load before the measurement that is not counted.
    #[arg(short, long, value_parser = humantime::parse_duration, default_value = "1s", env = "LOADGEN_WARMUP", help_heading = "Load")]
    warmup: Duration,
    /// How long one operation may take.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "5s", env = "LOADGEN_TIMEOUT", help_heading = "Load")]
    timeout: Duration,
    /// How long open operations are waited for at the end; then they count as timeouts.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "5s", env = "LOADGEN_DRAIN", help_heading = "Load")]
    drain: Duration,
    /// Nodes of the mesh. [default: 5; 8 for find and find-many, whose reader must not hold the records; 16
    /// for discovery; for rpc as many as --providers and --route need]
    #[arg(long, env = "LOADGEN_NODES", help_heading = "Mesh")]
    nodes: Option<usize>,
    /// Replicas of a record.
    #[arg(short, long, default_value_t = 4, env = "LOADGEN_K", help_heading = "Mesh")]
    k: usize,
    /// Nodes that make the calls, each its share of them. [default: 1; all when --nodes is above --k + 1,
    /// where a node holds a part of the records only; a quarter, at most --k, with --churn; 1 for rpc, half
    /// of the nodes for discovery]
    #[arg(long, env = "LOADGEN_CALLERS", help_heading = "Mesh")]
    callers: Option<usize>,
    /// The share of the nodes that is replaced in a minute while the load runs, evenly: one goes silent and a
    /// new one joins. The callers stay.
    #[arg(long, value_name = "RATE", default_value_t = 0.0, env = "LOADGEN_CHURN", help_heading = "Mesh")]
    churn: f64,
    /// The share of the nodes that goes silent after the run; then everything is audited again.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, env = "LOADGEN_KILL", help_heading = "Mesh")]
    kill: f64,
    /// Acknowledged records that the audit asks for, from each replica and through another node than their
    /// writer.
    #[arg(long, value_name = "RECORDS", value_parser = count, default_value_t = SAMPLE as u64, env = "LOADGEN_AUDIT", help_heading = "Data")]
    audit: u64,
    /// How messages reach the peers.
    #[arg(long, value_enum, default_value = "pooled", env = "LOADGEN_TRANSPORT", help_heading = "Mesh")]
    transport: Transport,
    /// How many replicas a STORE waits for.
    #[arg(long, value_enum, default_value = "quorum", env = "LOADGEN_ACK", help_heading = "Mesh")]
    ack: Acks,
    /// Bytes in a value, or in the arguments of a call.
    #[arg(short, long, default_value_t = 256, env = "LOADGEN_SIZE", help_heading = "Data")]
    size: usize,
    /// Distinct keys; k and M multiply.
    #[arg(long, value_parser = count, default_value = "10000", env = "LOADGEN_KEYS", help_heading = "Data")]
    keys: u64,
    /// uniform, zipf:S, seq, latest or hotspot:KEYS/OPS. [default: uniform for store, zipf:0.99 for find,
    /// seq for the batched ones]
    #[arg(long, env = "LOADGEN_KEY_DIST", help_heading = "Data")]
    key_dist: Option<KeyDist>,
    /// Records in one operation of store-many and find-many.
    #[arg(short, long, default_value_t = 256, env = "LOADGEN_BATCH", help_heading = "Data")]
    batch: usize,
    /// Seed of keys, values and the mesh.
    #[arg(long, default_value_t = DEFAULT_SEED, env = "LOADGEN_SEED", help_heading = "Data")]
    seed: u64,
    #[command(flatten)]
    rpc: RpcArgs,
    #[command(flatten)]
    pub output: Output,
    /// Tell the audit of this many acknowledged records or calls that nobody made.
    #[arg(long, default_value_t = 0, hide = true)]
    plant_loss: usize,
}

impl RunArgs {
    /// Fills in what was not said.
    pub fn plan(&self) -> anyhow::Result<Plan> {
        let workload = match self.workload {
            WorkloadArg::Store => Workload::Store,
            WorkloadArg::StoreMany => Workload::StoreMany,
            WorkloadArg::Find => Workload::Find,
            WorkloadArg::FindMany => Workload::FindMany,
            WorkloadArg::Connect => Workload::Connect,
            WorkloadArg::Rpc => Workload::Rpc,
            WorkloadArg::Discovery => Workload::Discovery,
        };
        let concurrency = match (self.transport, self.rate) {
            (Transport::Legacy, _) => 1,
            (_, None) => self.rpc.concurrency().unwrap_or(64),
            (_, Some(_)) => 256,
        };
        let key_dist = match workload {
            Workload::Find => KeyDist::Zipf(0.99),
            Workload::StoreMany | Workload::FindMany => KeyDist::Seq,
            _ => KeyDist::Uniform,
        };
        let usual = || self.rpc.nodes(workload).unwrap_or_else(|| if workload.reads() { 8 } else { 5 });
        let nodes = self.nodes.unwrap_or_else(usual);
        let pooled = self.transport == Transport::Pooled && workload != Workload::Connect;
        let callers = match self.callers.or_else(|| RpcArgs::callers(workload, nodes)) {
            Some(callers) => callers,
            None if self.churn > 0.0 => (nodes / 4).clamp(1, self.k.max(1)),
            None if pooled && nodes > self.k + 1 => nodes,
            None => 1,
        };
        let ops = self.ops.or_else(|| self.rpc.ops(workload));
        let plan = Plan {
            label: "run".to_owned(),
            workload,
            transport: self.transport,
            nodes,
            k: self.k,
            callers,
            churn: self.churn,
            kill: self.kill,
            duration: self.duration.or_else(|| ops.is_none().then_some(DEFAULT_DURATION)),
            ops,
            concurrency: self.concurrency.unwrap_or(concurrency),
            rate: self.rate,
            warmup: if workload == Workload::Discovery { Duration::ZERO } else { self.warmup },
            size: self.size,
            keys: usize::try_from(self.keys)?,
            key_dist: self.key_dist.unwrap_or(key_dist),
            seed: self.seed,
            batch: if workload.is_batched() { self.batch } else { 1 },
            ack: self.ack,
            drain: self.drain,
            timeout: self.timeout,
            audit: usize::try_from(self.audit)?,
            plant_loss: self.plant_loss,
            rpc: self.rpc.plan(workload, nodes, callers)?,
        };
        plan.check()?;
        Ok(plan)
    }
}

/// A number with an optional factor of 1,000, as in `100k`.
fn rate(text: &str) -> Result<f64, String> {
    let (digits, factor) = match text.chars().last() {
        Some('k' | 'K') => (&text[..text.len() - 1], 1e3),
        Some('m' | 'M') => (&text[..text.len() - 1], 1e6),
        Some('g' | 'G') => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    match digits.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value * factor),
        Ok(_) => Err("must be positive".to_owned()),
        Err(_) => Err("a number, or a number and k, M or G".to_owned()),
    }
}

/// A whole number of things.
fn count(text: &str) -> Result<u64, String> {
    match rate(text)?.round() {
        value if (1.0..=1e15).contains(&value) => Ok(value as u64),
        _ => Err("between 1 and 10^15".to_owned()),
    }
}

#[cfg(test)]
mod tests;
