//! Calls over routes that end, and over routes that lead nowhere.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foveola::mesh::LocalMesh;
use foveola::{CallError, Config, HandlerError, Path, Request};

use super::{Ran, SECOND, offer};
use crate::nodes::config;
use crate::util::{in_time, until};

/// The deadline of each call.
const TIMEOUT: Duration = Duration::from_secs(12);

/// A client and a provider between which there are two ways, each over one node.
async fn two_ways() -> LocalMesh {
    let mesh = LocalMesh::builder().nodes(4).reach(|a, b| (a, b) != (0, 3)).spawn().await.unwrap();
    until(5 * SECOND, "all are connected", || {
        [0, 3].iter().all(|i| mesh.node(*i).pool().residents().len() == 2)
    })
    .await;
    mesh
}

/// Calls go on while the relay that they take falls silent, with some of them in its hands and some at the
/// provider.
async fn a_relay_falls_silent(pause: Duration) {
    let mut mesh = two_ways().await;
    let ran = Ran::default();
    let _service = offer(mesh.node(3), "far", &ran, pause).await;
    let caller = mesh.node(0).rpc().caller("far").unwrap().timeout(TIMEOUT);
    assert_eq!(in_time(caller.call::<_, u64>(&0)).await, Ok(0));
    let (next, stop) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicBool::new(false)));
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (caller, next, stop) = (caller.clone(), Arc::clone(&next), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let (id, start) = (next.fetch_add(1, Ordering::Relaxed), Instant::now());
                assert_eq!(caller.call::<_, u64>(&id).await, Ok(id), "after {:?}", start.elapsed());
                longest = longest.max(start.elapsed());
            }
            longest
        }));
    }
    let relayed = |i: usize| mesh.node(i).stats().relayed;
    until(10 * SECOND, "calls pass", || relayed(1) + relayed(2) > 40).await;
    let (used, other) = if relayed(1) > relayed(2) { (1, 2) } else { (2, 1) };
    let before = mesh.node(other).stats().relayed;
    mesh.kill(used);
    let killed = next.load(Ordering::Relaxed);
    until(3 * TIMEOUT, "calls pass by the other way", || {
        mesh.node(other).stats().relayed > before + 40 && next.load(Ordering::Relaxed) > killed + 40
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        let longest = tokio::time::timeout(2 * TIMEOUT, task).await.unwrap().unwrap();
        assert!(longest < TIMEOUT, "{longest:?}");
    }
    assert_eq!(ran.most(), 1, "none was run twice");
    let (_, report) = caller.report(rmp(1_000_000)).await;
    let Path::Routed { hops: 1 | 2 } = report.path() else { panic!("{report:?}") };
}

/// The number as MessagePack.
fn rmp(number: u32) -> Vec<u8> {
    let mut out = vec![0xce];
    out.extend_from_slice(&number.to_be_bytes());
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_by_another_way_when_a_relay_falls_silent() {
    a_relay_falls_silent(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_whose_handlers_run_when_their_relay_falls_silent_are_answered_by_another() {
    a_relay_falls_silent(Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_takes_most_of_the_time_is_run_once_and_answers_by_any_way() {
    let mesh = two_ways().await;
    let ran = Ran::default();
    let _service = offer(mesh.node(3), "slow", &ran, 5 * SECOND).await;
    // The first way is given half of the time: its answer comes by the second.
    let call = mesh.node(0).rpc().call::<_, u64>("slow", &7).timeout(9 * SECOND);
    let (result, report) = in_time(call.report()).await;
    assert_eq!((result, ran.times(7)), (Ok(7), 1), "{report:?}");
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_is_shortened_by_each_hop_and_giving_up_stops_the_handler() {
    let mesh = LocalMesh::builder().nodes(4).reach(|a, b| b == a + 1).spawn().await.unwrap();
    let left = |request: Request| async move {
        let left = u64::try_from(request.time_left().as_millis()).unwrap();
        Ok::<_, HandlerError>(Bytes::copy_from_slice(&left.to_be_bytes()))
    };
    let never = |_: Request| std::future::pending::<Result<Bytes, HandlerError>>();
    let _left = mesh.node(3).rpc().advertise_raw("left", left).await.unwrap();
    let _never = mesh.node(3).rpc().advertise_raw("never", never).await.unwrap();
    let rpc = mesh.node(0).rpc();
    in_time(rpc.call_raw("left", "").timeout(15 * SECOND)).await.unwrap();
    let left = in_time(rpc.call_raw("left", "").timeout(10 * SECOND)).await.unwrap();
    let left = Duration::from_millis(u64::from_be_bytes(left[..].try_into().unwrap()));
    assert!((SECOND..10 * SECOND * 7 / 8).contains(&left), "{left:?}");
    let call = tokio::spawn(rpc.call_raw("never", "").timeout(18 * SECOND).into_future());
    until(10 * SECOND, "it runs", || mesh.node(3).stats().handlers == 1).await;
    call.abort();
    until(5 * SECOND, "it is stopped", || mesh.node(3).stats().handlers == 0).await;
    assert_eq!(mesh.node(3).stats().handlers_cancelled, 1);
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cycle_of_stale_routes_ends_in_an_error_in_time() {
    // The client reaches one of a ring of six, all of which reach the provider until it falls silent; all
    // then hold connections that lead nowhere.
    fn ring(a: usize, b: usize) -> bool {
        match (a, b) {
            (0, b) => b == 1,
            (_, 7) => true,
            (1, 6) => true,
            (a, b) => b == a + 1,
        }
    }
    let slow = config(|config: &mut Config| config.transport.idle_timeout = 30 * SECOND);
    let mut mesh = LocalMesh::builder().nodes(8).config(slow).reach(ring).spawn().await.unwrap();
    let ran = Ran::default();
    let _service = offer(mesh.node(7), "far", &ran, Duration::ZERO).await;
    let client = mesh.node(0).clone();
    let call = |id: u64| client.rpc().call::<_, u64>("far", &id).timeout(6 * SECOND);
    assert_eq!(in_time(call(0)).await, Ok(0));
    until(10 * SECOND, "the ring is connected", || {
        (1..7).all(|i| mesh.node(i).pool().residents().contains(&mesh.node(7).id()))
    })
    .await;
    mesh.kill(7);
    for id in 1..=3 {
        let sent = client.stats().routed_sent;
        let relayed: Vec<u64> = mesh.nodes().iter().map(|node| node.stats().relayed).collect();
        let start = Instant::now();
        let error = call(id).await.unwrap_err();
        assert!(start.elapsed() < 8 * SECOND, "{error} after {:?}", start.elapsed());
        let lost = matches!(
            error,
            CallError::Timeout { .. } | CallError::PeerLost { .. } | CallError::Unreachable { .. }
        );
        assert!(lost, "{error:?}");
        // What the provider is told of the DHT travels by routes as well: each relay passes each once.
        let sent = client.stats().routed_sent - sent;
        for (i, (node, before)) in mesh.nodes().iter().zip(&relayed).enumerate() {
            let passed = node.stats().relayed - before;
            println!("{i}: {passed} of {sent}");
            assert!(passed <= sent, "node {i} has passed on {passed} times for {sent}");
        }
        assert_eq!(ran.times(id), 0);
    }
}
