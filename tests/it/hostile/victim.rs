//! The victim: a mesh of honest nodes in a process of its own, so that its memory is its own.
//!
//! The child stores and finds at a steady rate and answers each line on its input with a line of figures.
//! It ends with its input, so it never outlives the test.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use foveola::mesh::LocalMesh;
use foveola::{Ack, Key, Node};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Set for the child: the test binary is also the victim's program.
const CHILD: &str = "FOVEOLA_HOSTILE_VICTIM";
/// Before the lines that are meant for the parent, as the test harness writes lines of its own.
const MARK: &str = "victim ";
const NODES: usize = 3;
/// Pause between the operations of each node.
const PACE: Duration = Duration::from_millis(10);
const PAGE: u64 = 4_096;

/// What the victim says about itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    /// Of all nodes together.
    pub(crate) tasks: u64,
    pub(crate) streams: u64,
    pub(crate) connections: u64,
    /// Records that others hold for the attacker's use.
    pub(crate) held: u64,
    /// Inbound attempts that failed.
    pub(crate) refusals: u64,
}

/// A running victim.
pub(crate) struct Victim {
    pub(crate) addr: SocketAddr,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Memory that it had at rest and the most that was seen since, bytes.
    pub(crate) memory: Arc<Memory>,
    _child: Child,
}

/// Resident memory of a process, looked at all the time.
#[derive(Debug)]
pub(crate) struct Memory {
    pid: u32,
    peak: AtomicU64,
    stop: AtomicBool,
}

impl Memory {
    /// Resident bytes now.
    pub(crate) fn now(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid)).unwrap_or_default();
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE
    }

    /// The most that was seen since the last call.
    pub(crate) fn take_peak(&self) -> u64 {
        self.peak.swap(0, Ordering::Relaxed).max(self.now())
    }

    fn watch(self: Arc<Self>) {
        tokio::spawn(async move {
            let mut every = tokio::time::interval(Duration::from_millis(10));
            while !self.stop.load(Ordering::Relaxed) {
                every.tick().await;
                self.peak.fetch_max(self.now(), Ordering::Relaxed);
            }
        });
    }
}

impl Victim {
    /// Starts the victim and waits until its traffic runs.
    pub(crate) async fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hostile::victim::child", "--ignored", "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let memory =
            Memory { pid: child.id().unwrap(), peak: AtomicU64::new(0), stop: AtomicBool::new(false) };
        let memory = Arc::new(memory);
        Arc::clone(&memory).watch();
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut victim = Self { addr: unknown, input, output, memory, _child: child };
        victim.addr = victim.line().await.parse().unwrap();
        victim
    }

    async fn line(&mut self) -> String {
        let marked = async {
            loop {
                let line = self.output.next_line().await.unwrap().expect("the victim lives");
                if let Some((_, said)) = line.split_once(MARK) {
                    return said.to_owned();
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), marked).await.expect("the victim answers")
    }

    /// Asks the victim for its figures; fails when it no longer lives.
    pub(crate) async fn figures(&mut self) -> Figures {
        self.input.write_all(b"figures\n").await.expect("the victim lives");
        let line = self.line().await;
        let all: Vec<u64> = line.split(' ').map(|figure| figure.parse().unwrap()).collect();
        let [ok, failed, tasks, streams, connections, held, refusals] = all[..] else { panic!("{line}") };
        Figures { ok, failed, tasks, streams, connections, held, refusals }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.memory.stop.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Tally {
    ok: AtomicU64,
    failed: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the program of the child process, not a test"]
async fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let mesh = LocalMesh::builder().nodes(NODES).spawn().await.unwrap();
    let tally = Arc::new(Tally::default());
    for i in 0..NODES {
        let others: Vec<Node> =
            mesh.nodes().iter().enumerate().filter(|(j, _)| *j != i).map(|(_, node)| node.clone()).collect();
        tokio::spawn(live(mesh.node(i).clone(), others, Arc::clone(&tally)));
    }
    println!("{MARK}{}", mesh.node(0).local_addr());
    let (asked, mut asks) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if line.is_err() || asked.blocking_send(()).is_err() {
                return;
            }
        }
    });
    while asks.recv().await.is_some() {
        let mut sums = [0_u64; 5];
        for node in mesh.nodes() {
            let stats = node.stats();
            let refusals = node.pool().refusals().len();
            let all =
                [stats.tasks, stats.streams_served as usize, stats.connections, stats.held_records, refusals];
            for (sum, figure) in sums.iter_mut().zip(all) {
                *sum += figure as u64;
            }
        }
        let [ok, failed] = [&tally.ok, &tally.failed].map(|count| count.load(Ordering::Relaxed));
        let [tasks, streams, connections, held, refusals] = sums;
        println!("{MARK}{ok} {failed} {tasks} {streams} {connections} {held} {refusals}");
    }
    std::process::exit(0);
}

/// Stores a record on both others, then asks one of them for it, again and again.
async fn live(node: Node, others: Vec<Node>, tally: Arc<Tally>) {
    let mut every = tokio::time::interval(PACE);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for i in 0_u64.. {
        every.tick().await;
        let key = Key::of_name(format!("{} {}", node.id(), i % 500));
        let value = i.to_be_bytes().to_vec();
        let begun = Instant::now();
        let stored = node.dht().store(key, value.clone()).ack(Ack::All).await.map(drop);
        let asked = others[usize::try_from(i).unwrap_or(0) % others.len()].id();
        let found = node.dht().query_peer(asked, key).await;
        let right = found.as_ref().is_ok_and(|records| {
            records.iter().any(|record| record.publisher == node.id() && record.value == value)
        });
        for ok in [stored.is_ok(), right] {
            let count = if ok { &tally.ok } else { &tally.failed };
            count.fetch_add(1, Ordering::Relaxed);
        }
        if stored.is_err() || !right {
            eprintln!("after {:?}: stored {stored:?}, found {found:?}", begun.elapsed());
        }
    }
}
