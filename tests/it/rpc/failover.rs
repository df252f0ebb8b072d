//! Calls that go on while one provider after another falls silent and comes back.

use std::time::{Duration, Instant};

use foveola::mesh::LocalMesh;
use foveola::{Advertisement, CallError, Caller};
use tokio::task::JoinSet;

use super::{Ran, SECOND, offer};

pub(super) const PROVIDERS: usize = 5;
/// How long a provider is gone.
pub(super) const GONE: Duration = Duration::from_secs(3);
pub(super) const NAME: &str = "shaky";

/// How many calls, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) rate: u32,
    pub(super) time: Duration,
}

pub(super) const QUICK: Load = Load { rate: 200, time: Duration::from_secs(6) };
pub(super) const FULL: Load = Load { rate: 2_000, time: Duration::from_secs(20) };

/// What came of the calls, by their ids.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) done: Vec<u64>,
    pub(super) failed: Vec<(u64, CallError)>,
    /// Of all, shortest first.
    latencies: Vec<Duration>,
}

impl Outcome {
    pub(super) fn quantile(&self, part: f64) -> Duration {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
        let at = (self.latencies.len() as f64 * part) as usize;
        self.latencies[at.min(self.latencies.len() - 1)]
    }

    pub(super) fn print(&self, what: &str) {
        let mut kinds = std::collections::BTreeMap::<_, u32>::new();
        for (_, error) in &self.failed {
            let kind = format!("{error:?}");
            *kinds.entry(kind.split([' ', '(']).next().unwrap_or_default().to_owned()).or_default() += 1;
        }
        println!("{kinds:?}");
        let maybe = self.failed.iter().filter(|(_, error)| error.maybe_executed()).count();
        println!(
            "{what}: {} done, {} failed, of which {maybe} may have run; latency {:.1?} p50, {:.1?} p99, \
             {:.1?} p99.9, {:.1?} at most",
            self.done.len(),
            self.failed.len(),
            self.quantile(0.5),
            self.quantile(0.99),
            self.quantile(0.999),
            self.quantile(1.0),
        );
    }
}

/// Makes calls at the rate of `load`, however long they take, each with an id of its own.
pub(super) async fn pace(caller: Caller, load: Load) -> Outcome {
    let start = Instant::now();
    let mut calls = JoinSet::new();
    let mut outcome = Outcome::default();
    let all = u64::from(load.rate) * load.time.as_secs();
    for id in 0..all {
        let due = start + Duration::from_secs_f64(id as f64 / f64::from(load.rate));
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        let caller = caller.clone();
        calls.spawn(async move {
            let start = Instant::now();
            let result = caller.call::<_, u64>(&id).await;
            (id, result, start.elapsed())
        });
    }
    while let Some(call) = calls.join_next().await {
        let (id, result, took) = call.unwrap();
        outcome.latencies.push(took);
        match result {
            Ok(same) if same == id => outcome.done.push(id),
            Ok(other) => panic!("{id} was answered with {other}"),
            Err(error) => outcome.failed.push((id, error)),
        }
    }
    outcome.latencies.sort_unstable();
    outcome
}

/// Each second another one falls silent, until `pacing` ends; each comes back three seconds later.
async fn shake(mesh: &mut LocalMesh, pacing: tokio::task::JoinHandle<Outcome>) -> Outcome {
    let mut every = tokio::time::interval(SECOND);
    let mut silent: Vec<(Instant, usize)> = Vec::new();
    let mut pacing = pacing;
    let mut turn = 0;
    loop {
        tokio::select! {
            outcome = &mut pacing => return outcome.unwrap(),
            _ = every.tick() => {}
        }
        let (back, still): (Vec<_>, Vec<_>) = silent.into_iter().partition(|(at, _)| at.elapsed() >= GONE);
        back.into_iter().for_each(|(_, i)| mesh.resume(i));
        silent = still;
        let i = turn % PROVIDERS;
        turn += 1;
        mesh.kill(i);
        silent.push((Instant::now() - Duration::from_millis(5), i));
    }
}

struct Shaky {
    mesh: LocalMesh,
    ran: Ran,
    _services: Vec<Advertisement>,
}

impl Shaky {
    async fn start() -> Self {
        let mesh = LocalMesh::builder().nodes(PROVIDERS + 1).faults().spawn().await.unwrap();
        let ran = Ran::default();
        let mut services = Vec::new();
        for i in 0..PROVIDERS {
            services.push(offer(mesh.node(i), NAME, &ran, Duration::ZERO).await);
        }
        let found = mesh.node(PROVIDERS).rpc().find_providers(NAME).fresh().await.unwrap();
        assert_eq!(found.len(), PROVIDERS);
        Self { mesh, ran, _services: services }
    }

    fn caller(&self) -> Caller {
        self.mesh.node(PROVIDERS).rpc().caller(NAME).unwrap()
    }

    async fn run(&mut self, caller: Caller, load: Load) -> Outcome {
        let pacing = tokio::spawn(pace(caller, load));
        shake(&mut self.mesh, pacing).await
    }
}

async fn idempotent(load: Load) -> Outcome {
    let mut shaky = Shaky::start().await;
    let caller = shaky.caller().idempotent();
    let outcome = shaky.run(caller, load).await;
    outcome.print("idempotent");
    let stats = shaky.mesh.node(PROVIDERS).stats();
    println!("{} failovers, {} of them overlaps", stats.failovers, stats.overlaps);
    assert_eq!(outcome.failed, []);
    assert!(stats.failovers > 0, "nobody was missed");
    // What a tenth permits, and what was saved up.
    assert!(stats.overlaps <= 10 + u64::from(load.rate) * load.time.as_secs() / 10, "{stats:?}");
    outcome
}

/// Each failure tells the truth about whether its call has run, and none has run twice.
pub(super) fn check_truth(outcome: &Outcome, times: impl Fn(u64) -> u32) {
    for id in &outcome.done {
        assert_eq!(times(*id), 1, "{id} was answered");
    }
    for (id, error) in &outcome.failed {
        let most = u32::from(error.maybe_executed());
        assert!(times(*id) <= most, "{id} was run {} times: {error:?}", times(*id));
    }
}

async fn once_only(load: Load) {
    let mut shaky = Shaky::start().await;
    let caller = shaky.caller();
    let outcome = shaky.run(caller, load).await;
    outcome.print("not idempotent");
    assert_eq!(shaky.ran.most(), 1);
    // What was delayed by the silence arrives when it is over.
    tokio::time::sleep(GONE).await;
    check_truth(&outcome, |id| shaky.ran.times(id));
    assert!(outcome.done.len() > 3 * outcome.failed.len(), "most go well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_idempotent_call_fails_while_providers_fall_silent() {
    idempotent(QUICK).await;
}

/// `cargo test --release --test it rpc::failover -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "for a release build on an idle machine"]
async fn no_idempotent_call_of_forty_thousand_fails_while_providers_fall_silent() {
    let outcome = idempotent(FULL).await;
    assert!(outcome.quantile(0.999) < Duration::from_millis(2_500));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_runs_twice_while_providers_fall_silent() {
    once_only(QUICK).await;
}

/// `cargo test --release --test it rpc::failover -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "for a release build on an idle machine"]
async fn no_call_of_forty_thousand_runs_twice_while_providers_fall_silent() {
    once_only(FULL).await;
}
