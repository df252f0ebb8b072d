//! Nodes under more load than they can take: two that flood each other go on, and one that does not read
//! harms nobody but itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foveola::{Ack, Config, Node, StoreError};
use tokio::task::JoinSet;

use crate::nodes::{RawPeer, identity, key, node, tick};
use crate::util::until;

const SECOND: Duration = Duration::from_secs(1);

/// Stores under keys of the caller's own, alone and in batches, until told to stop.
async fn flood(node: Node, caller: usize, stored: Arc<AtomicUsize>, stop: Arc<AtomicBool>) {
    let value = Bytes::from(vec![u8::try_from(caller % 256).unwrap(); 256]);
    for i in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = |j: usize| key(format!("{} {caller} {} {j}", node.id(), i % 16));
        if caller.is_multiple_of(8) {
            let items: Vec<_> = (0..64).map(|j| (name(j), value.clone())).collect();
            let receipts = node.dht().store_many(items).ack(Ack::All).timeout(20 * SECOND).await.unwrap();
            assert!(receipts.iter().all(foveola::Receipt::is_met));
            stored.fetch_add(64, Ordering::Relaxed);
        } else {
            let store = node.dht().store(name(0), value.clone()).ack(Ack::All);
            store.timeout(20 * SECOND).await.unwrap();
            stored.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The longest time in the next five seconds in which `stored` did not change.
async fn longest_gap(stored: &AtomicUsize) -> Duration {
    let start = Instant::now();
    let (mut last, mut changed, mut longest) = (stored.load(Ordering::Relaxed), start, Duration::ZERO);
    while start.elapsed() < 5 * SECOND {
        tick().await;
        longest = longest.max(changed.elapsed());
        let now = stored.load(Ordering::Relaxed);
        if now != last {
            (last, changed) = (now, Instant::now());
        }
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_flood_each_other_do_not_stop() {
    let nodes = [node(1, Config::default()).await, node(2, Config::default()).await];
    nodes[0].join(&nodes[1].peer_addr()).await.unwrap();
    nodes[1].join(&nodes[0].peer_addr()).await.unwrap();
    let stored = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for (node, stored) in nodes.iter().zip(&stored) {
        for caller in 0..256 {
            callers.spawn(flood(node.clone(), caller, Arc::clone(stored), Arc::clone(&stop)));
        }
    }
    let gaps = tokio::join!(longest_gap(&stored[0]), longest_gap(&stored[1]));
    println!("stored {stored:?}, longest gaps {gaps:?}");
    assert!(gaps.0 < SECOND && gaps.1 < SECOND, "{gaps:?}");
    stop.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    let handshakes = nodes.each_ref().map(|node| node.stats().handshakes);
    assert_eq!(handshakes, [1, 1], "the connection did not last");
}

/// Resident memory of this process, bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Run by [`a_peer_that_never_reads_harms_nobody_else`] in a process of its own, because it looks at its
/// memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of another test"]
async fn alone_with_a_slow_reader() {
    const VALUE: usize = 32 << 10;
    let writer = node(1, Config::default()).await;
    let honest = [node(2, Config::default()).await, node(3, Config::default()).await];
    for node in &honest {
        writer.join(&node.peer_addr()).await.unwrap();
    }
    let slow_id = identity(4).node_id();
    let slow = RawPeer::dial(4, &writer, 16 << 10).await;
    until(SECOND, "the slow one is known", || writer.stats().table_nodes == 3).await;
    let since = Instant::now();

    let value = Bytes::from(vec![5; VALUE]);
    let before = resident();
    let mut most = before;
    // Stores that need everybody, so the slow one, too: each ends within its time.
    let mut doomed = JoinSet::new();
    for caller in 0..64 {
        let (writer, value) = (writer.clone(), value.clone());
        doomed.spawn(async move {
            for _ in 0..2 {
                let start = Instant::now();
                let error = writer
                    .dht()
                    .store(key(format!("doomed {caller}")), value.clone())
                    .ack(Ack::All)
                    .await
                    .unwrap_err();
                // Two lookups that the slow one does not answer, and the 2 s that it has for the store.
                assert!(start.elapsed() < 5 * SECOND, "{:?}", start.elapsed());
                let StoreError::NotAcknowledged(receipt) = error else { panic!("{error:?}") };
                assert_eq!(receipt.acks(), 2, "{receipt:?}");
                let lost: Vec<_> = receipt.unknown().chain(receipt.failed()).collect();
                assert_eq!(lost, [slow_id]);
            }
        });
    }
    // Stores that do without it go on as if it were not there.
    let mut moved = 0;
    let mut longest = Duration::ZERO;
    while moved < 128 << 20 || since.elapsed() < 5 * SECOND {
        let start = Instant::now();
        writer.dht().store(key(moved % 64), value.clone()).ack(Ack::Quorum).await.unwrap();
        longest = longest.max(start.elapsed());
        moved += VALUE;
        most = most.max(resident());
    }
    doomed.join_all().await.into_iter().for_each(drop);
    println!("{} MiB stored, {} MiB grown, longest {longest:?}", moved >> 20, (most - before) >> 20);
    assert!(longest < SECOND, "{longest:?}");
    assert!(most - before < 48 << 20, "{} MiB of growth", (most - before) >> 20);

    let gone = tokio::time::timeout(20 * SECOND, slow.connection.closed()).await.expect("it is never cut");
    println!("cut after {:?}: {gone}", since.elapsed());
    assert!(
        matches!(&gone, quinn::ConnectionError::ApplicationClosed(close) if close.error_code == 13u32.into())
    );
    assert!(since.elapsed() > 10 * SECOND && since.elapsed() < 16 * SECOND, "{:?}", since.elapsed());
    writer.dht().store(key("after"), value).ack(Ack::Quorum).await.unwrap();
}

#[test]
fn a_peer_that_never_reads_harms_nobody_else() {
    let program = std::env::current_exe().unwrap();
    let child = std::process::Command::new(program)
        .args(["--exact", "flood::alone_with_a_slow_reader", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    println!("{said}{}", String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && said.contains("1 passed"));
}
