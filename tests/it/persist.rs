//! What a data directory promises: a crash, a restart, a damaged file and a full disk.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use foveola::addr::PeerAddr;
use foveola::{Ack, Builder, Damage, Durability, Key, Node, NodeId, PersistError, SpawnError, StoreError};
use tokio::task::JoinSet;

use crate::nodes::{identity, key, tick};
use crate::util::{PATIENCE, in_time, until};

/// Where a child process finds what it is to be.
const NUMBER: &str = "FOVEOLA_TEST_NODE";
const DIR: &str = "FOVEOLA_TEST_DIR";
const LISTEN: &str = "FOVEOLA_TEST_LISTEN";
const BOOTSTRAP: &str = "FOVEOLA_TEST_BOOTSTRAP";

/// A directory that is gone with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("foveola-it-{}-{unique}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn builder(n: u64, dir: &Path) -> Builder {
    Node::builder().identity(identity(n)).seed(n).data_dir(dir)
}

/// Starts a node whose directory or port may not be free yet.
async fn spawn(make: impl Fn() -> Builder) -> Node {
    let start = Instant::now();
    loop {
        match make().spawn().await {
            Ok(node) => return node,
            Err(error) if start.elapsed() > PATIENCE => panic!("{error}"),
            Err(SpawnError::Persist(PersistError::InUse { .. }) | SpawnError::Bind(_)) => tick().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A node in a process of its own, which is killed with the value.
struct Process {
    child: Child,
    addr: PeerAddr,
}

impl Process {
    /// Runs this test binary as node `n`.
    fn start(n: u64, dir: &Path, listen: &str, bootstrap: Option<&PeerAddr>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "persist::a_node_in_a_process_of_its_own", "--nocapture"]);
        command.env(NUMBER, n.to_string()).env(DIR, dir).env(LISTEN, listen);
        if let Some(bootstrap) = bootstrap {
            command.env(BOOTSTRAP, bootstrap.to_string());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.map_while(Result::ok).find_map(|line| line.split("ready ").nth(1)?.parse().ok());
        let Some(addr) = ready else { panic!("node {n} did not start: {:?}", child.wait()) };
        Self { child, addr }
    }

    fn id(&self) -> NodeId {
        self.addr.id().unwrap()
    }

    /// SIGKILL: no destructor runs, nothing is flushed.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test of its own: what [`Process`] runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_in_a_process_of_its_own() {
    let Ok(number) = std::env::var(NUMBER) else { return };
    let var = |name: &str| std::env::var(name).unwrap();
    let bootstrap = std::env::var(BOOTSTRAP).ok().map(|text| text.parse().unwrap());
    let dir = PathBuf::from(var(DIR));
    let node = spawn(|| {
        let builder = builder(number.parse().unwrap(), &dir).listen(var(LISTEN).parse().unwrap());
        builder.bootstrap(bootstrap.clone())
    });
    let node = node.await;
    println!("\nready {}", node.peer_addr());
    std::io::stdout().flush().unwrap();
    // It ends with its parent at the latest.
    let waiting = std::thread::spawn(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    while !waiting.is_finished() {
        tick().await;
    }
}

/// Stores records with [`Ack::All`], many at a time, until `stop` says how many are enough or a store
/// fails; returns the keys of those that every replica has acknowledged as durable.
async fn store_while(writer: &Node, stop: impl Fn(usize) -> bool) -> Vec<Key> {
    let mut flying = JoinSet::new();
    let (mut durable, mut next, mut failed) = (Vec::new(), 0, false);
    loop {
        while flying.len() < 64 && !failed && !stop(durable.len()) {
            let (writer, name) = (writer.clone(), key(next));
            next += 1;
            flying.spawn(async move {
                let stored = writer.dht().store(name, name.to_string()).ack(Ack::All).await;
                stored.map(|receipt| (receipt.durable().count() == receipt.replicas().len()).then_some(name))
            });
        }
        match flying.join_next().await {
            Some(Ok(Ok(stored))) => durable.push(stored.expect("every replica has a data directory")),
            Some(_) => failed = true,
            None => return durable,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_as_durable_survives_a_kill() {
    let scratch = Scratch::new();
    let dir = |n: u64| scratch.0.join(n.to_string());
    let first = Process::start(1, &dir(1), "127.0.0.1:0", None);
    let seed = first.addr.clone();
    let mut nodes = vec![first];
    for n in 2..=3 {
        nodes.push(Process::start(n, &dir(n), "127.0.0.1:0", Some(&seed)));
    }
    let writer = Node::builder().identity(identity(9)).serves(false).spawn().await.unwrap();
    writer.join(&seed).await.unwrap();
    until(PATIENCE, "three replicas", || writer.stats().table_nodes == 3).await;
    // Killed in the middle of the stores.
    let enough = |stored| stored >= 2_000;
    let killed = std::sync::Mutex::new(Some(nodes));
    let places = std::sync::Mutex::new(Vec::new());
    let durable = store_while(&writer, |stored| {
        if stored >= 300
            && let Some(nodes) = killed.lock().unwrap().take()
        {
            for node in nodes {
                places.lock().unwrap().push(node.addr.endpoint().to_string());
                node.kill();
            }
        }
        enough(stored)
    });
    let durable = durable.await;
    assert!((300..2_000).contains(&durable.len()), "{} were durable before the kill", durable.len());
    println!("{} durable", durable.len());
    drop(writer);
    // Nobody tells them where the others are.
    let places = places.into_inner().unwrap();
    let back: Vec<Process> =
        (1..).zip(&places).map(|(n, place)| Process::start(n, &dir(n), place, None)).collect();
    let reader = Node::builder().identity(identity(10)).serves(false).spawn().await.unwrap();
    reader.join(&back[0].addr).await.unwrap();
    for key in &durable {
        for node in &back {
            let start = Instant::now();
            let found = loop {
                match reader.dht().query_peer(node.id(), *key).await {
                    Ok(found) => break found,
                    Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
                }
            };
            assert_eq!(found.len(), 1, "{key} is gone from {}", node.addr);
            assert_eq!(found[0].value, key.to_string());
            assert_eq!(found[0].publisher, identity(9).node_id());
        }
    }
    // The first one has found the others again, and hands them on.
    until(PATIENCE, "the three know each other", || reader.stats().table_nodes == 3).await;
    reader.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publications_and_sequence_numbers_survive_a_restart() {
    let scratch = Scratch::new();
    let replica = Node::builder().identity(identity(2)).spawn().await.unwrap();
    let mut last = 0;
    for round in 1..=3 {
        let writer = in_time(spawn(|| builder(1, &scratch.0).bootstrap([replica.peer_addr()]))).await;
        assert_eq!(writer.stats().published_records, 10 * (round - 1), "those of the rounds before");
        until(PATIENCE, "the replica is a member", || writer.stats().table_nodes == 1).await;
        for i in 0..10 {
            let receipt =
                writer.dht().store(key(format!("{round} {i}")), "mine").ack(Ack::All).await.unwrap();
            assert!(receipt.seq() > last, "{} was given out before", receipt.seq());
            last = receipt.seq();
            assert_eq!(receipt.durable().count(), 0, "the replica has no data directory");
            assert_eq!(receipt.durability(&replica.id()), Some(Durability::Memory));
        }
        writer.shutdown().await;
    }
    replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_stopped_in_good_order_comes_back_whole() {
    let scratch = Scratch::new();
    let writer = Node::builder().identity(identity(1)).spawn().await.unwrap();
    let replica = spawn(|| builder(2, &scratch.0)).await;
    writer.join(&replica.peer_addr()).await.unwrap();
    let items = (0..3_000).map(|i| (key(i), format!("value {i}")));
    let receipts = writer.dht().store_many(items).ack(Ack::All).await.unwrap();
    for receipt in &receipts {
        assert_eq!(receipt.durability(&replica.id()), Some(Durability::Disk));
    }
    replica.shutdown().await;
    drop(replica);
    // The writer is a contact: nobody has to be named.
    let replica = spawn(|| builder(2, &scratch.0)).await;
    assert_eq!(replica.stats().held_records, 3_000);
    until(PATIENCE, "the contact is a member", || replica.stats().table_nodes == 1).await;
    let found = writer.dht().find_value(key(77)).await.unwrap();
    assert_eq!(found[0].value, "value 77");
    assert!(found[0].ttl < Duration::from_secs(3_600), "{:?}", found[0].ttl);
    replica.shutdown().await;
    writer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_cannot_be_used_keeps_the_node_from_starting() {
    let scratch = Scratch::new();
    let node = spawn(|| builder(1, &scratch.0)).await;
    let refused = builder(1, &scratch.0).spawn().await.unwrap_err();
    assert!(matches!(refused, SpawnError::Persist(PersistError::InUse { .. })), "{refused}");
    node.shutdown().await;
    drop(node);
    let refused = builder(2, &scratch.0).spawn().await.unwrap_err();
    let owner = identity(1).node_id();
    assert!(
        matches!(refused, SpawnError::Persist(PersistError::OtherNode { found, .. }) if found == owner),
        "{refused}"
    );
    let file = scratch.0.join("foveola.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.truncate(bytes.len() / 2);
    std::fs::write(&file, &bytes).unwrap();
    let refused = builder(1, &scratch.0).spawn().await.unwrap_err();
    assert!(
        matches!(&refused, SpawnError::Persist(PersistError::Damaged { source: Damage::Database(_), .. })),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("foveola.redb"), "{refused}");
    assert!(std::fs::read(&file).unwrap() == bytes, "the file was changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_disk_is_full_acknowledges_only_what_it_keeps() {
    let scratch = Scratch::new();
    let writer = Node::builder().identity(identity(1)).spawn().await.unwrap();
    let replica = spawn(|| builder(2, &scratch.0).data_bytes_max(3 << 20)).await;
    writer.join(&replica.peer_addr()).await.unwrap();
    let mut kept = Vec::new();
    let refused = loop {
        let name = key(kept.len());
        match writer.dht().store(name, vec![7; 60_000]).ack(Ack::All).await {
            Ok(receipt) => {
                assert_eq!(receipt.durable().count(), 1);
                kept.push(name);
            }
            Err(error) => break error,
        }
        assert!(kept.len() < 1_000, "it never fills");
    };
    assert!(matches!(refused, StoreError::StorageFull(_)), "{refused}");
    assert!(kept.len() > 5, "{} were kept", kept.len());
    // In memory it is all the same.
    let found = writer.dht().query_peer(replica.id(), key(kept.len())).await.unwrap();
    assert_eq!(found.len(), 1);
    replica.shutdown().await;
    drop(replica);
    let replica = spawn(|| builder(2, &scratch.0)).await;
    for name in kept {
        assert_eq!(writer.dht().query_peer(replica.id(), name).await.unwrap().len(), 1, "{name} is gone");
    }
    replica.shutdown().await;
    writer.shutdown().await;
}
