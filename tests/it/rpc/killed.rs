//! The same with providers in processes of their own, which are killed.
//!
//! A provider writes the id of each call that it runs into a file before it answers: what was written is
//! there whoever dies.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use foveola::addr::PeerAddr;
use foveola::{Config, HandlerError, Node};
use tokio::process::{Child, Command};

use super::SECOND;
use super::failover::{FULL, GONE, Load, NAME, Outcome, PROVIDERS, QUICK, check_truth, pace};
use crate::nodes::{identity, node};

/// Set for the child: which provider it is, whom it joins, and where it writes.
const CHILD: &str = "FOVEOLA_RPC_PROVIDER";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the program of the child process, not a test"]
async fn provider() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let [n, join, file] = told.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{told}") };
    let (n, join): (u64, PeerAddr) = (n.parse().unwrap(), join.parse().unwrap());
    let file = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
    let file = Arc::new(Mutex::new(file));
    let node = Node::builder().identity(identity(60_000 + n)).spawn().await.unwrap();
    let handler = move |id: u64| {
        file.lock().unwrap().write_all(&id.to_be_bytes()).unwrap();
        async move { Ok::<_, HandlerError>(id) }
    };
    // It can be called as soon as it is there; its entry follows.
    let _service = node.rpc().advertise(NAME, handler).ttl(30 * SECOND).await.unwrap();
    node.join(&join).await.unwrap();
    // It ends with its input, so it never outlives the test.
    tokio::task::spawn_blocking(|| std::io::stdin().lines().for_each(drop)).await.unwrap();
    std::process::exit(0);
}

fn start(n: usize, join: &PeerAddr, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "rpc::killed::provider", "--ignored"])
        .env(CHILD, format!("{n} {join} {}", dir.join(n.to_string()).display()))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// How often each call was run.
fn ran(dir: &Path) -> HashMap<u64, u32> {
    let mut times = HashMap::new();
    for n in 0..PROVIDERS {
        let bytes = std::fs::read(dir.join(n.to_string())).unwrap();
        for id in bytes.chunks_exact(8) {
            *times.entry(u64::from_be_bytes(id.try_into().unwrap())).or_default() += 1;
        }
    }
    times
}

fn fresh_dir(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("foveola-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Calls while again and again another provider is killed, which is started again three seconds later.
async fn run(name: &str, load: Load, every: Duration, idempotent: bool) -> (Outcome, HashMap<u64, u32>) {
    let dir = fresh_dir(name);
    let caller_node = node(60_100, Config::default()).await;
    let join = caller_node.peer_addr();
    let mut children: Vec<Option<Child>> = (0..PROVIDERS).map(|n| Some(start(n, &join, &dir))).collect();
    let deadline = Instant::now() + 20 * SECOND;
    loop {
        let found = caller_node.rpc().find_providers(NAME).fresh().await;
        if found.as_ref().is_ok_and(|found| found.len() == PROVIDERS) {
            break;
        }
        let states: Vec<_> = children.iter_mut().flatten().map(Child::try_wait).collect();
        assert!(Instant::now() < deadline, "{found:?}, {states:?}, {:?}", caller_node.stats());
        tokio::time::sleep(SECOND / 20).await;
    }
    let mut caller = caller_node.rpc().caller(NAME).unwrap();
    if idempotent {
        caller = caller.idempotent();
    }
    let mut pacing = tokio::spawn(pace(caller, load));
    let mut every = tokio::time::interval(every);
    let mut gone: Vec<(Instant, usize)> = Vec::new();
    let mut turn = 0;
    let outcome = loop {
        tokio::select! {
            outcome = &mut pacing => break outcome.unwrap(),
            _ = every.tick() => {}
        }
        let (back, still): (Vec<_>, Vec<_>) =
            gone.into_iter().partition(|(at, _)| at.elapsed() + Duration::from_millis(5) >= GONE);
        back.into_iter().for_each(|(_, n)| children[n] = Some(start(n, &join, &dir)));
        gone = still;
        let n = turn % PROVIDERS;
        turn += 1;
        if let Some(mut child) = children[n].take() {
            child.kill().await.unwrap();
            gone.push((Instant::now(), n));
        }
    };
    outcome.print(name);
    let stats = caller_node.stats();
    println!("{} failovers, {} discoveries", stats.failovers, stats.discoveries);
    let times = ran(&dir);
    drop(children);
    std::fs::remove_dir_all(dir).unwrap();
    (outcome, times)
}

async fn idempotent(load: Load, every: Duration) -> Outcome {
    let (outcome, _) = run("killed-idempotent", load, every, true).await;
    assert_eq!(outcome.failed, []);
    outcome
}

async fn once_only(load: Load, every: Duration) {
    let (outcome, times) = run("killed-once", load, every, false).await;
    assert_eq!(times.values().max(), Some(&1));
    check_truth(&outcome, |id| times.get(&id).copied().unwrap_or(0));
    assert!(outcome.done.len() > 3 * outcome.failed.len(), "most go well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_idempotent_call_fails_while_providers_are_killed() {
    idempotent(QUICK, 2 * SECOND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_runs_twice_while_providers_are_killed() {
    once_only(QUICK, 2 * SECOND).await;
}

/// `cargo test --release --test it rpc::killed::no -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "for a release build on an idle machine"]
async fn no_idempotent_call_of_forty_thousand_fails_while_providers_are_killed() {
    let outcome = idempotent(FULL, SECOND).await;
    assert!(outcome.quantile(0.999) < Duration::from_millis(2_500));
}

/// `cargo test --release --test it rpc::killed::no -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "for a release build on an idle machine"]
async fn no_call_of_forty_thousand_runs_twice_while_providers_are_killed() {
    once_only(FULL, SECOND).await;
}
