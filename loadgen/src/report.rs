//! The report of a run as JSON, `schema_version` 1; `loadgen/schema.json` describes it.
//!
//! Times are integer nanoseconds in keys that end in `_ns`, or sit under `latency_ns`; memory is
//! `_bytes`, wall-clock spans `_s`. `null` means unknown or without meaning for this run.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use crate::audit::{Audited, Findings};
use crate::drive::Phase;
use crate::hist::{self, Hist};
use crate::host::Host;
use crate::plan::Plan;
use crate::record::Series;
use crate::stats::Throughput;
use crate::validity::Validity;

mod config;
mod dht;
mod intervals;
mod rpc;
#[cfg(test)]
pub mod tests;

pub use config::{Config, RpcConfigRow, Run};
pub use dht::{AfterKill, DhtRow};
pub use rpc::{DiscoveryRow, RpcRow, Step};

/// The version of the format; readers refuse one that they do not know.
pub const SCHEMA_VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub schema_version: u32,
    pub kind: &'static str,
    /// False: a signal ended the run early.
    pub complete: bool,
    pub tool: Tool,
    pub run: Run,
    pub host: Host,
    pub config: Config,
    pub totals: Totals,
    pub throughput: Throughput,
    /// By workload, then outcome (`ok`, `error`).
    pub latency_ns: BTreeMap<&'static str, Outcomes>,
    pub error_samples: Vec<ErrorSample>,
    pub intervals: Vec<IntervalRow>,
    pub transport: TransportRow,
    /// `null` where the baseline did the work.
    pub dht: Option<DhtRow>,
    /// `null`: no service was called.
    pub rpc: Option<RpcRow>,
    pub resources: Resources,
    /// Declared objectives and whether they held; there are none yet.
    pub slo: Vec<serde_json::Value>,
    pub audit: Option<Findings>,
    /// The same after nodes were killed; `null`: none were.
    pub after_kill: Option<AfterKill>,
    pub validity: Validity,
}

#[derive(Clone, Debug, Serialize)]
pub struct Tool {
    pub version: &'static str,
    pub git: Option<&'static str>,
    pub rustc: Option<&'static str>,
    pub profile: &'static str,
}

impl Tool {
    pub const fn this() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            git: option_env!("LOADGEN_GIT"),
            rustc: option_env!("LOADGEN_RUSTC"),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Totals {
    pub intended: u64,
    pub started: u64,
    pub ok: u64,
    /// Intended and never started.
    pub dropped: u64,
    pub errors: BTreeMap<&'static str, u64>,
    /// Records in the successful operations.
    pub records: u64,
    /// Bytes of values, without framing and replication.
    pub bytes_out: u64,
    pub bytes_in: u64,
}

/// The three series by outcome; a missing series has no samples.
#[derive(Clone, Debug, Serialize)]
pub struct Outcomes {
    pub ok: Latencies,
    pub error: Latencies,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Latencies {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<Latency>,
}

/// A histogram; a percentile is `null` where there are too few samples for it.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    pub count: u64,
    pub min: u64,
    pub mean: u64,
    pub stdev: u64,
    pub max: u64,
    pub p50: Option<u64>,
    pub p75: Option<u64>,
    pub p90: Option<u64>,
    pub p95: Option<u64>,
    pub p99: Option<u64>,
    pub p99_9: Option<u64>,
    pub p99_99: Option<u64>,
    pub std_err: LatencyError,
    pub hdr_v2_deflate_b64: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct LatencyError {
    pub p50: Option<u64>,
    pub p99: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ErrorSample {
    pub kind: &'static str,
    pub message: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct IntervalRow {
    pub t_s: f64,
    pub dur_s: f64,
    /// Operations due in the interval; `null` in a closed loop.
    pub intended: Option<u64>,
    pub ok: u64,
    pub errors: u64,
    pub in_flight: Option<u64>,
    pub cpu_self_pct: Option<f64>,
    /// The target shares the process.
    pub cpu_target_pct: Option<f64>,
    /// The leading series, as `<workload>.<series>`.
    pub hdr: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct TransportRow {
    pub handshakes: u64,
    pub handshakes_per_op: f64,
    pub udp_datagrams_tx: Option<u64>,
    pub udp_ios_tx: Option<u64>,
    pub lost_packets: Option<u64>,
    pub rtt_ns_p50: Option<u64>,
    pub mtu: Option<u64>,
    pub udp_rcvbuf_errors: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Resources {
    #[serde(rename = "self")]
    pub own: Usage,
    pub target: TargetUsage,
    pub cpu_us_per_op: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Usage {
    pub cpu_s: f64,
    pub rss_peak_bytes: u64,
}

/// With `shared_with_self` the numbers are those of the one process.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TargetUsage {
    pub shared_with_self: bool,
    #[serde(flatten)]
    pub usage: Usage,
}

impl Report {
    /// The report of `phase`, which began at `started_at`.
    pub fn new(
        plan: &Plan,
        phase: &Phase,
        audited: Option<Audited>,
        host: &Host,
        started_at: SystemTime,
    ) -> Self {
        let tally = &phase.tally;
        let (audit, after) = audited.map(|audited| (audited.findings, audited.after)).unzip();
        let throughput = Throughput::of(plan, phase);
        let usage = Usage { cpu_s: phase.cpu.as_secs_f64(), rss_peak_bytes: phase.rss_peak };
        let per_op = |value: f64| value / tally.succeeded.max(1) as f64;
        let outcomes = Outcomes { ok: latencies(&tally.ok), error: latencies(&tally.error) };
        let sample = |(kind, message): &(crate::errors::Kind, String)| ErrorSample {
            kind: kind.name(),
            message: message.clone(),
        };
        Self {
            schema_version: SCHEMA_VERSION,
            kind: "loadgen.report",
            complete: phase.signal.is_none(),
            tool: Tool::this(),
            run: Run::new(plan, phase, started_at),
            host: host.clone(),
            config: Config::of(plan),
            totals: Totals {
                intended: phase.intended,
                started: tally.started,
                ok: tally.succeeded,
                dropped: phase.dropped,
                errors: tally.failures.by_kind().map(|(kind, count)| (kind.name(), count)).collect(),
                records: tally.records,
                bytes_out: tally.bytes_out,
                bytes_in: tally.bytes_in,
            },
            latency_ns: BTreeMap::from([(plan.workload.key(), outcomes)]),
            error_samples: tally.failures.samples().iter().map(sample).collect(),
            intervals: intervals::rows(plan, phase),
            transport: TransportRow {
                handshakes: phase.handshakes,
                handshakes_per_op: per_op(phase.handshakes as f64),
                udp_datagrams_tx: phase.traffic.map(|traffic| traffic.datagrams),
                udp_ios_tx: phase.traffic.map(|traffic| traffic.send_calls),
                lost_packets: phase.traffic.map(|traffic| traffic.lost_packets),
                rtt_ns_p50: None,
                mtu: None,
                udp_rcvbuf_errors: phase.udp_rcvbuf_errors,
            },
            dht: phase.traffic.map(|counted| DhtRow::new(plan, phase, &counted)),
            rpc: None,
            resources: Resources {
                own: usage,
                target: TargetUsage { shared_with_self: true, usage },
                cpu_us_per_op: per_op(phase.cpu.as_secs_f64() * 1e6),
            },
            slo: Vec::new(),
            audit,
            after_kill: after.flatten().map(|(killed, audit)| AfterKill { killed, audit }),
            validity: Validity::of(plan, phase, &throughput, host),
            throughput,
        }
    }

    /// The series by which the run is judged.
    pub fn lead(&self) -> Option<&Latency> {
        let ok = &self.latency_ns.values().next()?.ok;
        ok.response.as_ref().or(ok.service.as_ref())
    }

    /// A series of the successes.
    pub fn ok(&self) -> Option<&Latencies> {
        self.latency_ns.values().next().map(|outcomes| &outcomes.ok)
    }

    pub fn errors(&self) -> u64 {
        self.totals.errors.values().sum()
    }

    /// What was acknowledged and is not true, by all audits.
    pub fn broken(&self) -> u64 {
        let after = self.after_kill.as_ref().map(|after| &after.audit);
        let missing: u64 = self.audit.iter().chain(after).map(|audit| audit.missing).sum();
        missing + self.rpc.as_ref().map_or(0, RpcRow::broken)
    }

    /// Adds what is known of calls, and judges it.
    pub fn add_rpc(&mut self, row: RpcRow) {
        self.validity.require_none("rpc_broken", row.broken());
        self.rpc = Some(row);
    }
}

fn latencies(series: &Series) -> Latencies {
    let latency = |hist: &Option<Hist>| hist.as_ref().map(Latency::of);
    Latencies {
        response: latency(&series.response),
        service: latency(&series.service),
        wait: latency(&series.wait),
    }
}

impl Latency {
    pub fn of(hist: &Hist) -> Self {
        let p = |q| hist::quantile(hist, q);
        Self {
            count: hist.len(),
            min: hist.min(),
            mean: hist.mean() as u64,
            stdev: hist.stdev() as u64,
            max: hist.max(),
            p50: p(0.5),
            p75: p(0.75),
            p90: p(0.9),
            p95: p(0.95),
            p99: p(0.99),
            p99_9: p(0.999),
            p99_99: p(0.9999),
            std_err: LatencyError {
                p50: hist::quantile_error(hist, 0.5),
                p99: hist::quantile_error(hist, 0.99),
            },
            hdr_v2_deflate_b64: hist::encode(hist),
        }
    }
}
