//! What a run does, fully resolved: every default filled in and every contradiction refused.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use foveola::baseline::IN_FLIGHT_MAX;
use foveola::dht::store::StoreLimits;
use serde::Serialize;

mod rpc;

pub use rpc::{NUMBER_BYTES, RELAYS, Route, RpcPlan};

/// The greatest share of the nodes that a run replaces in a minute.
const CHURN_MAX: f64 = 10.0;

/// What one operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    Store,
    StoreMany,
    Find,
    FindMany,
    Connect,
    /// Call a service.
    Rpc,
    /// Find out who offers a service.
    Discovery,
    /// Offer a service: what a run of [`Discovery`](Self::Discovery) begins with.
    Advertise,
}

impl Workload {
    /// The name on the command line and in the configuration of a report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::StoreMany => "store-many",
            Self::Find => "find",
            Self::FindMany => "find-many",
            Self::Connect => "connect",
            Self::Rpc => "rpc",
            Self::Discovery => "discovery",
            Self::Advertise => "advertise",
        }
    }

    /// The name as a key of a report.
    pub const fn key(self) -> &'static str {
        match self {
            Self::StoreMany => "store_many",
            Self::FindMany => "find_many",
            other => other.name(),
        }
    }

    /// Whether one operation carries several records.
    pub const fn is_batched(self) -> bool {
        matches!(self, Self::StoreMany | Self::FindMany)
    }

    /// Whether the records must be there before the run.
    pub const fn reads(self) -> bool {
        matches!(self, Self::Find | Self::FindMany)
    }
}

/// How messages reach the peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// Warm connections of the pool.
    Pooled,
    /// A new connection for each message, closed when the reply has come.
    Fresh,
    /// A new connection for each message, closed after 100 ms, one replica after another.
    Legacy,
}

impl Transport {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pooled => "pooled",
            Self::Fresh => "fresh",
            Self::Legacy => "legacy",
        }
    }
}

/// How many replicas a STORE waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Acks {
    Local,
    One,
    Quorum,
    All,
}

impl Acks {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::One => "one",
            Self::Quorum => "quorum",
            Self::All => "all",
        }
    }
}

/// Which key an operation uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyDist {
    /// Every key as likely as any other.
    Uniform,
    /// The key of rank r with a probability proportional to `r^-s`.
    Zipf(f64),
    /// One after another, round and round.
    Seq,
    /// Zipf (0.99) over how long ago a sequential writer would have used the key.
    Latest,
    /// This fraction of the keys gets that fraction of the operations.
    Hotspot { keys: f64, ops: f64 },
}

impl FromStr for KeyDist {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<f64>().map_err(|_| format!("'{text}' is not a number"));
        let fraction = |text: &str| match number(text)? {
            value if value > 0.0 && value < 1.0 => Ok(value),
            value => Err(format!("{value} is not between 0 and 1")),
        };
        match text.split_once(':') {
            None if text == "uniform" => Ok(Self::Uniform),
            None if text == "seq" => Ok(Self::Seq),
            None if text == "latest" => Ok(Self::Latest),
            Some(("zipf", s)) => match number(s)? {
                s if s > 0.0 && s.is_finite() => Ok(Self::Zipf(s)),
                s => Err(format!("the exponent of zipf is positive, not {s}")),
            },
            Some(("hotspot", rest)) => {
                let (keys, ops) =
                    rest.split_once('/').ok_or("write hotspot:KEYS/OPS, as in hotspot:0.2/0.8")?;
                Ok(Self::Hotspot { keys: fraction(keys)?, ops: fraction(ops)? })
            }
            _ => Err("one of uniform, zipf:S, seq, latest, hotspot:KEYS/OPS".to_owned()),
        }
    }
}

impl fmt::Display for KeyDist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(s) => write!(f, "zipf:{s}"),
            Self::Seq => f.write_str("seq"),
            Self::Latest => f.write_str("latest"),
            Self::Hotspot { keys, ops } => write!(f, "hotspot:{keys}/{ops}"),
        }
    }
}

/// What each node may hold and publish, when a run needs more than the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    pub records: usize,
    /// Of values.
    pub bytes: usize,
}

/// A resolved run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Names the arm; part of every key, so that arms on one mesh do not share records.
    pub label: String,
    pub workload: Workload,
    pub transport: Transport,
    pub nodes: usize,
    pub k: usize,
    /// Nodes that make the calls: a record is always stored by the same one, and found by another.
    pub callers: usize,
    /// The share of the nodes that is replaced in a minute, while the load runs.
    pub churn: f64,
    /// The share of the nodes that is killed after the run, before a second audit.
    pub kill: f64,
    /// No new operation after this; `None`: `ops` alone ends the run.
    pub duration: Option<Duration>,
    pub ops: Option<u64>,
    /// Operations in flight: exactly (closed loop) or at most (open loop).
    pub concurrency: usize,
    /// Operations a second (open loop); `None`: the next starts when one ends (closed loop).
    pub rate: Option<f64>,
    pub warmup: Duration,
    pub size: usize,
    pub keys: usize,
    pub key_dist: KeyDist,
    pub seed: u64,
    /// Records in one operation.
    pub batch: usize,
    pub ack: Acks,
    /// How long open operations are waited for after the end.
    pub drain: Duration,
    /// How long one operation may take.
    pub timeout: Duration,
    /// Acknowledged records that the audit checks, when there are as many.
    pub audit: usize,
    /// Acknowledged records or calls that the audit is told of although nobody made them.
    pub plant_loss: usize,
    /// The services of a run that calls some.
    pub rpc: Option<RpcPlan>,
}

impl Plan {
    /// Whether the pool of a node does the work.
    pub fn is_pooled(&self) -> bool {
        self.transport == Transport::Pooled && self.workload != Workload::Connect
    }

    pub const fn is_open(&self) -> bool {
        self.rate.is_some()
    }

    /// The series by which a run is judged: time from the intended start in an open loop, time from the
    /// actual start in a closed one, which has no other.
    pub const fn lead(&self) -> &'static str {
        if self.is_open() { "response" } else { "service" }
    }

    /// Whether nodes go silent in the run or after it.
    pub fn has_faults(&self) -> bool {
        self.churn > 0.0 || self.kill > 0.0
    }

    /// The limits that a node needs for all records of the run, unless the default ones are enough.
    ///
    /// Every identity of the fresh arm has a record of its own under a key, and so may every caller that
    /// stores batches; all arms leave a quarter free, because a node shares its limits out among shards that
    /// are not equally full.
    pub fn limits(&self) -> Option<Limits> {
        let publishers = match self.transport {
            Transport::Fresh => self.concurrency.min(IN_FLIGHT_MAX),
            Transport::Pooled if self.workload == Workload::StoreMany => self.callers,
            Transport::Pooled | Transport::Legacy => 1,
        };
        let need = self.keys.saturating_mul(publishers).saturating_mul(5) / 4;
        let default = StoreLimits::default();
        let bytes = need.saturating_mul(self.size);
        let enough = need <= default.publisher_records && bytes <= default.publisher_bytes;
        (!enough).then(|| Limits { records: need.max(default.records), bytes: bytes.max(default.bytes) })
    }

    /// Refuses what cannot be run.
    pub fn check(&self) -> Result<()> {
        ensure!(self.nodes >= 2, "--nodes must be at least 2: a lone node has no peer");
        ensure!(self.k >= 1, "--k must be at least 1");
        ensure!(self.concurrency >= 1, "--concurrency must be at least 1");
        ensure!(self.keys >= 1, "--keys must be at least 1");
        ensure!(self.batch >= 1, "--batch must be at least 1");
        ensure!(self.size <= 65_536, "--size is at most 65536 bytes");
        ensure!((1..=self.nodes).contains(&self.callers), "--callers is at least 1 and at most --nodes");
        ensure!((0.0..=CHURN_MAX).contains(&self.churn), "--churn is a share of the nodes a minute, 0 to 10");
        ensure!((0.0..1.0).contains(&self.kill), "--kill is a share of the nodes, below 1");
        if self.churn > 0.0 {
            ensure!(self.callers < self.nodes, "--churn replaces all but the callers: use fewer --callers");
        }
        ensure!(self.duration.is_some() || self.ops.is_some(), "give --duration or --ops");
        if let Some(rate) = self.rate {
            ensure!(rate > 0.0 && rate.is_finite(), "--rate must be positive");
        }
        if let Some(rpc) = &self.rpc {
            rpc.check(self)?;
        }
        if self.transport != Transport::Pooled && self.workload != Workload::Store {
            bail!("--transport {} knows only the workload store", self.transport.name());
        }
        if !self.is_pooled() && (self.callers > 1 || self.has_faults()) {
            bail!("--callers, --churn and --kill need the pooled transport");
        }
        if self.transport == Transport::Legacy && self.concurrency != 1 {
            bail!("--transport legacy stores one record at a time: use --concurrency 1");
        }
        Ok(())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::audit::SAMPLE;

    /// A small closed-loop plan.
    pub fn plan() -> Plan {
        Plan {
            label: "test".to_owned(),
            workload: Workload::Store,
            transport: Transport::Pooled,
            nodes: 5,
            k: 4,
            callers: 1,
            churn: 0.0,
            kill: 0.0,
            duration: None,
            ops: Some(2000),
            concurrency: 8,
            rate: None,
            warmup: Duration::ZERO,
            size: 64,
            keys: 100,
            key_dist: KeyDist::Uniform,
            seed: 42,
            batch: 1,
            ack: Acks::Quorum,
            drain: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
            audit: SAMPLE,
            plant_loss: 0,
            rpc: None,
        }
    }

    #[test]
    fn key_distributions_round_trip_and_refuse_nonsense() {
        for text in ["uniform", "zipf:0.99", "seq", "latest", "hotspot:0.2/0.8"] {
            assert_eq!(text.parse::<KeyDist>().map(|dist| dist.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "zipf", "zipf:x", "zipf:-1", "hotspot:0.2", "hotspot:2/0.5", "normal"] {
            assert!(text.parse::<KeyDist>().is_err(), "{text}");
        }
    }

    #[test]
    fn limits_follow_the_records_that_a_run_may_write() {
        assert_eq!(plan().limits(), None);
        let many = Plan { keys: 100_000, ..plan() };
        let bytes = 125_000 * 64;
        assert_eq!(
            many.limits().map(|limits| (limits.records, limits.bytes.max(bytes))),
            Some((125_000, 64 << 20))
        );
        let fresh = Plan { keys: 10_000, transport: Transport::Fresh, ..plan() };
        assert_eq!(fresh.limits().map(|limits| limits.records), Some(8 * 12_500));
        let large = Plan { keys: 1_000, size: 65_536, ..plan() };
        assert_eq!(large.limits().map(|limits| limits.bytes), Some(1_250 * 65_536));
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(plan().check().is_ok());
        let bad: [fn(&mut Plan); 10] = [
            |plan| plan.nodes = 1,
            |plan| plan.ops = None,
            |plan| plan.rate = Some(0.0),
            |plan| plan.transport = Transport::Legacy,
            |plan| (plan.transport, plan.workload) = (Transport::Fresh, Workload::Find),
            |plan| plan.callers = 6,
            |plan| plan.churn = -0.1,
            |plan| (plan.churn, plan.callers) = (0.1, 5),
            |plan| plan.kill = 1.0,
            |plan| (plan.transport, plan.kill) = (Transport::Fresh, 0.1),
        ];
        for (case, spoil) in bad.into_iter().enumerate() {
            let mut plan = plan();
            spoil(&mut plan);
            assert!(plan.check().is_err(), "case {case}");
        }
    }
}
