//! A mesh in this process, and the faults that a run puts it through.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use foveola::baseline::{Arm, Client};
use foveola::dht::store::StoreLimits;
use foveola::mesh::LocalMesh;
use foveola::{Config, Node, NodeId};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{MeshTarget, Services, Target};
use crate::plan::{Limits, Plan, RELAYS, Route, Transport, Workload};
use crate::workload::mix;

/// Who joins while nodes die is told of dead ones, and waits no longer for them.
const JOIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A replacement is due in the middle of its share of the time, so that a short run has the right number.
const HALF: f64 = 0.5;

/// A mesh in this process. Dropping it stops all nodes at once; in good order, one after another and each
/// waiting for its peers, many would take a minute.
pub struct Mesh {
    mesh: LocalMesh,
    /// Asks replicas for what they hold: no part of the mesh, and told where everybody is.
    auditor: Node,
    roster: Arc<Roster>,
}

/// The nodes that are alive.
#[derive(Default)]
pub struct Roster(RwLock<Arc<[Node]>>);

impl Roster {
    fn of(mesh: &LocalMesh) -> Self {
        let roster = Self::default();
        roster.update(mesh);
        roster
    }

    fn update(&self, mesh: &LocalMesh) {
        let alive = (0..mesh.len()).filter(|i| !mesh.is_killed(*i)).map(|i| mesh.node(i).clone());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = alive.collect();
    }

    fn alive(&self) -> Arc<[Node]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn is_alive(&self, id: &NodeId) -> bool {
        self.alive().iter().any(|node| node.id() == *id)
    }

    /// Requests that they have passed on for others, each counting it.
    pub fn relayed(&self) -> u64 {
        self.alive().iter().map(|node| node.stats().relayed).sum()
    }

    /// Tells `node` where those are that it has not heard of.
    pub async fn introduce(&self, node: &Node) {
        let mut joins = JoinSet::new();
        for other in self.alive().iter().filter(|other| node.pool().explain(other.id()).open.is_none()) {
            let (node, address) = (node.clone(), other.peer_addr());
            joins.spawn(async move { node.join(&address).await.is_ok() });
        }
        // Who cannot be reached will be missed when it is asked.
        joins.join_all().await;
    }

    /// A node that is alive and not `other`, unless that is the only one: which, `pick` says.
    pub fn another(&self, pick: u64, other: &NodeId) -> Node {
        let alive = self.alive();
        let first = (pick % alive.len() as u64) as usize;
        let node = &alive[first];
        if node.id() == *other { alive[(first + 1) % alive.len()].clone() } else { node.clone() }
    }
}

/// What churn did to the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Churned {
    /// Replacements that were due.
    pub due: u64,
    /// Nodes that were replaced.
    pub replaced: u64,
}

impl Mesh {
    /// Starts the nodes of `plan`.
    pub async fn start(plan: &Plan) -> Result<Self> {
        let mut config = Config::default();
        config.k = plan.k;
        if let Some(Limits { records, bytes }) = plan.limits() {
            let StoreLimits { key_records, .. } = config.store;
            let (publisher_records, publisher_bytes) = (records, bytes);
            config.store = StoreLimits { records, bytes, publisher_records, publisher_bytes, key_records };
            config.log.records = config.log.records.max(records);
            config.log.bytes = config.log.bytes.max(bytes);
        }
        if plan.churn > 0.0 {
            config.join_timeout = JOIN_TIMEOUT;
        }
        let mut asking = Config::default();
        asking.k = plan.k;
        asking.join_timeout = JOIN_TIMEOUT;
        asking.pool.soft_limit = asking.pool.soft_limit.max(2 * plan.nodes);
        asking.pool.hard_limit = asking.pool.hard_limit.max(asking.pool.soft_limit);
        let auditor = Node::builder().config(asking).serves(false).seed(plan.seed).spawn();
        let auditor = auditor.await.context("the auditor did not start")?;
        let mut builder = LocalMesh::builder().nodes(plan.nodes).seed(plan.seed).config(config);
        if plan.has_faults() {
            builder = builder.faults();
        }
        if plan.rpc.is_some_and(|rpc| rpc.route == Route::MultiHop) {
            builder = builder.reach(in_line);
        }
        let mesh = builder.spawn().await.context("the mesh did not form")?;
        Ok(Self { roster: Arc::new(Roster::of(&mesh)), mesh, auditor })
    }

    /// The mesh as `plan` uses it: the first nodes make the calls. A single caller that reads is the last
    /// node, and what it reads is of the first.
    ///
    /// # Errors
    ///
    /// When the baseline has no socket, or the services of the plan no name.
    pub fn target(&self, plan: &Plan) -> Result<Target> {
        let nodes = self.mesh.nodes();
        let writers = nodes[..plan.callers].to_vec();
        let readers = match plan.callers {
            1 => nodes[nodes.len() - 1..].to_vec(),
            callers => nodes[..callers].to_vec(),
        };
        let arm = match (plan.workload, plan.transport) {
            (Workload::Connect, _) | (_, Transport::Fresh) => Some(Arm::Fresh),
            (_, Transport::Legacy) => Some(Arm::Legacy),
            (_, Transport::Pooled) => None,
        };
        let client = arm.map(|arm| Client::new(&writers[0], arm)).transpose().context("the baseline")?;
        let services = plan.rpc.as_ref().map(|rpc| Services::new(plan, rpc, nodes)).transpose()?;
        let (auditor, roster) = (self.auditor.clone(), Arc::clone(&self.roster));
        let target = MeshTarget::new(plan, nodes, (writers, readers), client, services, auditor, roster);
        Ok(Target::Mesh(Arc::new(target)))
    }

    /// Does `work`, and meanwhile replaces nodes at the pace of `plan`, the callers apart. A replacement that
    /// is under way when the work ends leaves its place silent.
    pub async fn churn_while<T>(&mut self, plan: &Plan, work: impl Future<Output = T>) -> (T, Churned) {
        if plan.churn == 0.0 {
            return (work.await, Churned::default());
        }
        let pause = Duration::from_secs_f64(60.0 / (plan.churn * plan.nodes as f64));
        let (start, mut replaced) = (Instant::now(), 0);
        let out = {
            let work = pin!(work);
            let churn = pin!(churn(&mut self.mesh, &self.roster, plan, pause, &mut replaced));
            tokio::select! {
                out = work => out,
                never = churn => match never {},
            }
        };
        self.roster.update(&self.mesh);
        let due = (start.elapsed().as_secs_f64() / pause.as_secs_f64() + HALF) as u64;
        (out, Churned { due, replaced })
    }

    /// Silences a share of the nodes, drawn by the seed. Returns how many.
    pub fn kill(&mut self, plan: &Plan) -> usize {
        let count = (plan.nodes as f64 * plan.kill).round() as usize;
        let mut places: Vec<usize> = (0..self.mesh.len()).filter(|i| !self.mesh.is_killed(*i)).collect();
        places.shuffle(&mut SmallRng::seed_from_u64(mix(plan.seed, 0x6b69_6c6c)));
        for place in places.iter().take(count) {
            self.mesh.kill(*place);
        }
        self.roster.update(&self.mesh);
        count
    }
}

/// The reach of [`Route::MultiHop`]: the first node, the relays one after another, and all others at the end.
const fn in_line(a: usize, b: usize) -> bool {
    a == RELAYS || (b == a + 1 && b <= RELAYS)
}

/// Replaces one node after another, evenly in time.
async fn churn(
    mesh: &mut LocalMesh,
    roster: &Roster,
    plan: &Plan,
    pause: Duration,
    replaced: &mut u64,
) -> Infallible {
    let mut rng = SmallRng::seed_from_u64(mix(plan.seed, 0x63_6875_726e));
    let mut due = Instant::now() + pause.mul_f64(1.0 - HALF);
    loop {
        tokio::time::sleep_until(due).await;
        due += pause;
        let place = rng.random_range(plan.callers..plan.nodes);
        *replaced += u64::from(mesh.replace(place).await.is_ok());
        roster.update(mesh);
    }
}
