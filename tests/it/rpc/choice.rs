//! Which provider is called, which is left alone, and when another is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foveola::mesh::{Link, LocalMesh};
use foveola::rpc::breaker::Breaker;
use foveola::{Advertisement, CallError, HandlerError, NodeId, Request, Selection};

use super::{Ran, SECOND, echo, offer};
use crate::util::{in_time, until};

/// Offers of the first `count` nodes that answer with their number.
async fn offers(mesh: &LocalMesh, count: usize) -> Vec<Advertisement> {
    let mut all = Vec::new();
    for i in 0..count {
        let name = move |(): ()| async move { Ok::<_, HandlerError>(i) };
        all.push(mesh.node(i).rpc().advertise("name", name).await.unwrap());
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers_are_chosen_as_the_caller_wants() {
    let mesh = LocalMesh::builder().nodes(4).spawn().await.unwrap();
    let _offers = offers(&mesh, 3).await;
    let caller = mesh.node(3).rpc().caller("name").unwrap();
    let counts = async |selection: Selection, calls: u32| {
        let caller = caller.clone().selection(selection);
        let mut counts = BTreeMap::<usize, u32>::new();
        for _ in 0..calls {
            *counts.entry(caller.call(&()).await.unwrap()).or_default() += 1;
        }
        counts.into_values().collect::<Vec<_>>()
    };
    assert_eq!(counts(Selection::RoundRobin, 30).await, [10, 10, 10]);
    assert_eq!(counts(Selection::First, 30).await, [30]);
    let random = counts(Selection::Random, 90).await;
    assert!(random.len() == 3 && random.iter().all(|count| (10..60).contains(count)), "{random:?}");
    // The slowest of three loses against either of the others.
    assert!(counts(Selection::PowerOfTwo, 90).await.len() >= 2);
    assert_eq!(mesh.node(3).stats().failovers, 0);
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_fails_is_left_alone_and_used_again_when_it_is_back() {
    let mut mesh = LocalMesh::builder().nodes(3).faults().spawn().await.unwrap();
    let _offers = offers(&mesh, 2).await;
    let caller = mesh.node(2).rpc().caller("name").unwrap().idempotent().selection(Selection::RoundRobin);
    let silent = mesh.node(0).id();
    for _ in 0..20 {
        caller.call::<_, usize>(&()).await.unwrap();
    }
    let breaker = || caller.health().iter().find(|(id, _)| *id == silent).unwrap().1.breaker;
    assert_eq!(breaker(), Breaker::Closed);
    mesh.kill(0);
    let deadline = Instant::now() + 15 * SECOND;
    while breaker() == Breaker::Closed {
        assert_eq!(caller.call::<_, usize>(&()).await, Ok(1), "the other one answers");
        assert!(Instant::now() < deadline, "{:?}", caller.health());
    }
    // While it is open, calls do not wait for the silent one.
    let start = Instant::now();
    if let Breaker::Open { until } = breaker() {
        while Instant::now() + Duration::from_millis(100) < until {
            let begun = Instant::now();
            caller.call::<_, usize>(&()).await.unwrap();
            assert!(begun.elapsed() < SECOND / 10 || Instant::now() > until, "{:?}", begun.elapsed());
        }
    }
    println!("left alone for {:?}", start.elapsed());
    mesh.resume(0);
    let deadline = Instant::now() + 20 * SECOND;
    while caller.call::<_, usize>(&()).await != Ok(0) {
        assert!(Instant::now() < deadline, "{:?}", caller.health());
    }
    until(5 * SECOND, "the breaker is closed", || breaker() == Breaker::Closed).await;
    let mut counts = [0; 2];
    for _ in 0..20 {
        counts[caller.call::<_, usize>(&()).await.unwrap()] += 1;
    }
    assert_eq!(counts, [10, 10]);
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_may_have_run_goes_to_nobody_else_without_leave() {
    let mut mesh = LocalMesh::builder().nodes(3).faults().spawn().await.unwrap();
    let ran = Ran::default();
    let mut offers = Vec::new();
    for i in 0..2 {
        offers.push(offer(mesh.node(i), "slow", &ran, 60 * SECOND).await);
    }
    let caller = mesh.node(2).rpc().caller("slow").unwrap().timeout(15 * SECOND);
    let call = tokio::spawn(async move { caller.call::<_, u64>(&1).await });
    until(5 * SECOND, "it runs", || ran.times(1) == 1).await;
    let at = (0..2).find(|i| mesh.node(*i).stats().handlers == 1).unwrap();
    let provider = mesh.node(at).id();
    mesh.kill(at);
    mesh.restart(at).await.unwrap();
    let error = in_time(call).await.unwrap().unwrap_err();
    assert_eq!(error, CallError::PeerLost { provider, maybe_executed: true });
    assert_eq!(ran.times(1), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_offers_it_no_more_leaves_the_memory_at_once() {
    let mesh = LocalMesh::builder().nodes(4).spawn().await.unwrap();
    let mut offers = offers(&mesh, 3).await;
    let caller = mesh.node(3).rpc().caller("name").unwrap().selection(Selection::RoundRobin);
    for _ in 0..6 {
        caller.call::<_, usize>(&()).await.unwrap();
    }
    let gone = mesh.node(0).id();
    in_time(offers.remove(0).withdraw()).await.unwrap();
    assert!(caller.health().iter().any(|(id, _)| *id == gone), "the caller does not know yet");
    let asked = mesh.node(3).stats().discoveries;
    for _ in 0..30 {
        assert_ne!(caller.call::<_, usize>(&()).await, Ok(0));
    }
    assert_eq!(caller.health().len(), 2);
    assert_eq!(mesh.node(0).stats().calls_refused, 1, "it was asked once");
    assert_eq!((mesh.node(3).stats().failovers, mesh.node(3).stats().calls_failed), (1, 0));
    assert_eq!(mesh.node(3).stats().discoveries, asked);
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hedged_call_does_not_wait_for_the_slow() {
    let mesh = LocalMesh::builder().nodes(3).spawn().await.unwrap();
    let slow = Arc::new(AtomicU64::new(u64::MAX));
    let mut offers = Vec::new();
    for i in 0..2 {
        let slow = Arc::clone(&slow);
        let handler = move |(): ()| {
            let slow = Arc::clone(&slow);
            async move {
                if slow.load(Ordering::Relaxed) == i {
                    tokio::time::sleep(10 * SECOND).await;
                }
                Ok::<_, HandlerError>(i)
            }
        };
        offers.push(mesh.node(usize::try_from(i).unwrap()).rpc().advertise("name", handler).await.unwrap());
    }
    let caller = mesh.node(2).rpc().caller("name").unwrap().hedged().selection(Selection::RoundRobin);
    let caller = caller.timeout(20 * SECOND);
    for _ in 0..100 {
        caller.call::<_, u64>(&()).await.unwrap();
    }
    slow.store(0, Ordering::Relaxed);
    let mut overtaken = 0;
    for _ in 0..4 {
        let start = Instant::now();
        let (result, report) = caller.report(Bytes::from_static(&[0xc0])).await;
        assert_eq!(result.as_deref(), Ok(&[1][..]));
        assert!(start.elapsed() < 2 * SECOND, "{:?}", start.elapsed());
        overtaken += report.overtaken;
    }
    assert!(overtaken >= 2, "every other call began at the slow one");
    assert!(mesh.node(2).stats().overlaps >= 2);
    until(5 * SECOND, "what was overtaken is stopped", || {
        mesh.node(0).stats().handlers_cancelled >= 2 && mesh.node(0).stats().handlers == 0
    })
    .await;
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_stop_when_everybody_is_overloaded() {
    const CALLS: u64 = 300;
    let mesh = LocalMesh::builder().nodes(4).spawn().await.unwrap();
    let mut offers = Vec::new();
    for i in 0..3 {
        offers.push(mesh.node(i).rpc().advertise_raw("busy", echo).concurrency(0).await.unwrap());
    }
    let caller = mesh.node(3).rpc().caller("busy").unwrap().idempotent();
    for _ in 0..CALLS {
        let error = caller.call_raw("x").await.unwrap_err();
        assert!(matches!(error, CallError::Overloaded { .. }), "{error:?}");
    }
    let stats = mesh.node(3).stats();
    assert!((10..=10 + CALLS / 10).contains(&stats.failovers), "{} failovers", stats.failovers);
    let served: u64 = (0..3).map(|i| mesh.node(i).stats().calls_served).sum();
    assert_eq!(served, CALLS + stats.failovers);
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_comes_too_late_is_counted_and_dropped() {
    let mesh = LocalMesh::builder().nodes(2).faults().spawn().await.unwrap();
    let _service = mesh.node(0).rpc().advertise_raw("echo", echo).await.unwrap();
    let caller = mesh.node(1).rpc().caller("echo").unwrap();
    assert_eq!(caller.call_raw("warm").await, Ok(Bytes::from("warm")));
    let link = Link { delay: SECOND / 4, ..Link::default() };
    mesh.set_link(0, 1, link);
    let late = caller.clone().timeout(SECOND / 10).call_raw("late").await;
    assert!(matches!(late, Err(CallError::Timeout { maybe_executed: true, .. })), "{late:?}");
    until(5 * SECOND, "the late reply is counted", || mesh.node(1).stats().late_replies == 1).await;
    mesh.clear_faults(0);
    for i in 0..100 {
        let args = format!("{i}");
        assert_eq!(caller.call_raw(args.clone()).await, Ok(Bytes::from(args)), "no answer for another");
    }
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_calls_is_who_it_proves_to_be_by_any_way() {
    let mesh = LocalMesh::builder().nodes(3).reach(|a, b| b == a + 1).spawn().await.unwrap();
    let whoami = |request: Request| async move {
        Ok::<_, HandlerError>(Bytes::copy_from_slice(request.caller.as_bytes()))
    };
    let _service = mesh.node(2).rpc().advertise_raw("whoami", whoami).await.unwrap();
    for node in mesh.nodes() {
        let id = in_time(node.rpc().call_raw("whoami", "").timeout(18 * SECOND)).await.unwrap();
        assert_eq!(NodeId::from_bytes(id[..].try_into().unwrap()), node.id());
    }
    mesh.shutdown().await;
}
