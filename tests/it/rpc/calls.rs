//! What a call comes to: results, errors that say what happened, deadlines, cancellation, limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foveola::mesh::LocalMesh;
use foveola::{AdvertiseError, CallError, HandlerError, NodeId, Path, Request, Source};
use serde::{Deserialize, Serialize};

use crate::util::{in_time, until};

const SECOND: Duration = Duration::from_secs(1);

async fn pair() -> LocalMesh {
    LocalMesh::builder().nodes(2).spawn().await.unwrap()
}

async fn echo(request: Request) -> Result<Bytes, HandlerError> {
    Ok(request.args)
}

#[derive(Debug, Serialize, Deserialize)]
struct Sum {
    a: i64,
    b: i64,
}

async fn add(Sum { a, b }: Sum) -> Result<i64, HandlerError> {
    a.checked_add(b).ok_or_else(|| HandlerError::new("overflow").code(7))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_found_and_called_with_values() {
    let mesh = pair().await;
    let (provider, caller) = (mesh.node(0), mesh.node(1));
    let service = provider.rpc().advertise("calculator.add", add).metadata("v1").await.unwrap();
    assert_eq!(service.published().unwrap().acks(), 1);
    let (sum, report) = caller.rpc().call::<_, i64>("calculator.add", &Sum { a: 40, b: 2 }).report().await;
    assert_eq!(sum, Ok(42));
    let report = report.unwrap();
    assert_eq!(
        (report.source, report.path(), report.provider()),
        (Source::Dht, Path::Direct, Some(provider.id()))
    );
    let (_, report) = caller.rpc().call::<_, i64>("calculator.add", &Sum { a: 1, b: 2 }).report().await;
    assert_eq!(report.unwrap().source, Source::Cache);
    let overflow = caller.rpc().call::<_, i64>("calculator.add", &Sum { a: i64::MAX, b: 1 }).await;
    let error = HandlerError::new("overflow").code(7);
    assert_eq!(overflow, Err(CallError::Handler { provider: provider.id(), error }));
    let wrong = caller.rpc().call::<_, i64>("calculator.add", "no sum").await;
    assert!(matches!(wrong, Err(CallError::BadArguments { .. })), "{wrong:?}");
    let unreadable = caller.rpc().call::<_, String>("calculator.add", &Sum { a: 1, b: 2 }).await;
    assert!(matches!(unreadable, Err(CallError::Decode(_))), "{unreadable:?}");
    let found = caller.rpc().find_providers("calculator.add").await.unwrap();
    assert_eq!((found.len(), found[0].id, &found[0].metadata[..]), (1, provider.id(), &b"v1"[..]));
    assert_eq!(found[0].health.failures, 0);
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_serves_itself_without_the_network() {
    let mesh = LocalMesh::builder().nodes(1).spawn().await.unwrap();
    let node = mesh.node(0);
    let service = node.rpc().advertise("calculator.add", add).await.unwrap();
    assert!(service.published().is_err(), "nobody could take the entry");
    let sent = node.stats().datagrams_sent;
    let (sum, report) = node.rpc().call::<_, i64>("calculator.add", &Sum { a: 1, b: 2 }).report().await;
    assert_eq!((sum, report.unwrap().source), (Ok(3), Source::Local));
    assert_eq!((node.stats().calls_local, node.stats().datagrams_sent), (1, sent));
    let again = node.rpc().advertise("calculator.add", add).await;
    assert!(matches!(again, Err(AdvertiseError::Taken)));
    drop(service);
    let gone = node.rpc().call::<_, i64>("calculator.add", &Sum { a: 1, b: 2 }).await;
    assert!(matches!(gone, Err(CallError::Discovery(_))), "{gone:?}");
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_offers_it_is_an_answer_and_not_a_timeout() {
    let mesh = LocalMesh::builder().nodes(12).k(4).spawn().await.unwrap();
    let start = Instant::now();
    let nobody = mesh.node(3).rpc().call_raw("no.such.service", "").timeout(20 * SECOND).await;
    assert_eq!(nobody, Err(CallError::NoProvider));
    assert!(start.elapsed() < 10 * SECOND, "{:?}", start.elapsed());
    let asked = mesh.node(3).stats().discoveries;
    assert_eq!(mesh.node(3).rpc().call_raw("no.such.service", "").await, Err(CallError::NoProvider));
    assert_eq!(mesh.node(3).stats().discoveries, asked, "that nobody does is remembered for a second");
    let bad = mesh.node(3).rpc().call_raw("no such service", "").await;
    assert!(matches!(bad, Err(CallError::Name(_))), "{bad:?}");
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_waits_answers_later_and_out_of_order() {
    let mesh = pair().await;
    let _service = mesh.node(0).rpc().advertise("sleep", |ms: u64| async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok::<_, HandlerError>(ms)
    });
    let _service = _service.await.unwrap();
    let caller = mesh.node(1).rpc().caller("sleep").unwrap().timeout(20 * SECOND);
    let slow = tokio::spawn({
        let caller = caller.clone();
        async move { caller.call::<_, u64>(&1_500).await }
    });
    assert_eq!(caller.call::<_, u64>(&1).await, Ok(1));
    assert!(!slow.is_finished(), "the fast one does not wait for the slow one");
    let provider = mesh.node(0).id();
    let suspect = || mesh.node(1).pool().explain(provider).suspect;
    until(5 * SECOND, "the slow one ends", || {
        assert!(!suspect(), "who works long is there all the same");
        slow.is_finished()
    })
    .await;
    assert_eq!(slow.await.unwrap(), Ok(1_500));
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_travels_and_stops_the_handler() {
    let mesh = pair().await;
    let left = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&left);
    let handler = move |request: Request| {
        seen.store(u64::try_from(request.time_left().as_millis()).unwrap(), Ordering::SeqCst);
        std::future::pending::<Result<Bytes, HandlerError>>()
    };
    let _service = mesh.node(0).rpc().advertise_raw("never", handler).await.unwrap();
    let start = Instant::now();
    let late = mesh.node(1).rpc().call_raw("never", "").timeout(SECOND).await;
    let Err(CallError::Timeout { maybe_executed: true, .. }) = late else { panic!("{late:?}") };
    assert!(start.elapsed() < 3 * SECOND);
    assert!((1..=1_000).contains(&left.load(Ordering::SeqCst)), "{left:?}");
    until(5 * SECOND, "the handler is stopped", || mesh.node(0).stats().handlers == 0).await;
    mesh.shutdown().await;
}

/// Counts that it is dropped.
struct Counted(Arc<AtomicU64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_a_call_stops_its_handler() {
    let mesh = pair().await;
    let dropped = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&dropped);
    let handler = move |_: Request| {
        let counted = Counted(Arc::clone(&count));
        async move {
            std::future::pending::<()>().await;
            drop(counted);
            Ok::<_, HandlerError>(Bytes::new())
        }
    };
    let _service = mesh.node(0).rpc().advertise_raw("never", handler).await.unwrap();
    for caller in [mesh.node(1), mesh.node(0)] {
        let before = dropped.load(Ordering::SeqCst);
        let call = tokio::spawn(caller.rpc().call_raw("never", "").timeout(60 * SECOND).into_future());
        until(5 * SECOND, "it runs", || mesh.node(0).stats().handlers == 1).await;
        call.abort();
        until(5 * SECOND, "it is stopped", || dropped.load(Ordering::SeqCst) == before + 1).await;
        assert_eq!(mesh.node(0).stats().handlers, 0);
    }
    assert_eq!(mesh.node(0).stats().handlers_cancelled, 1, "the other one was no call of a peer");
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cast_returns_when_it_is_taken_and_is_not_stopped() {
    let mesh = pair().await;
    let (ran, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
    let (count, wait) = (Arc::clone(&ran), Arc::clone(&gate));
    let handler = move |_: Request| {
        let (count, wait) = (Arc::clone(&count), Arc::clone(&wait));
        async move {
            let _pass = wait.acquire().await;
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, HandlerError>(Bytes::new())
        }
    };
    let _service = mesh.node(0).rpc().advertise_raw("log", handler).await.unwrap();
    in_time(mesh.node(1).rpc().call_raw("log", "line").cast()).await.unwrap();
    assert_eq!((ran.load(Ordering::SeqCst), mesh.node(0).stats().handlers), (0, 1));
    gate.add_permits(1);
    until(5 * SECOND, "it has run", || ran.load(Ordering::SeqCst) == 1).await;
    let nobody = mesh.node(1).rpc().call_raw("other", "line").cast().await;
    assert_eq!(nobody, Err(CallError::NoProvider));
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_handlers_run_than_may() {
    let mesh = pair().await;
    let handler = |_: Request| std::future::pending::<Result<Bytes, HandlerError>>();
    let _service = mesh.node(0).rpc().advertise_raw("never", handler).concurrency(3).await.unwrap();
    let call = || tokio::spawn(mesh.node(1).rpc().call_raw("never", "").timeout(60 * SECOND).into_future());
    let running: Vec<_> = (0..3).map(|_| call()).collect();
    until(5 * SECOND, "they run", || mesh.node(0).stats().handlers == 3).await;
    let fourth = in_time(call()).await.unwrap();
    assert_eq!(fourth, Err(CallError::Overloaded { provider: mesh.node(0).id() }));
    assert!(!fourth.unwrap_err().maybe_executed());
    running.iter().for_each(|call| call.abort());
    until(5 * SECOND, "there is room again", || mesh.node(0).stats().handlers == 0).await;
    mesh.shutdown().await;
}

async fn panics_concern_their_own_calls(calls: u64) {
    let mesh = pair().await;
    let handler = |n: u64| async move {
        if n % 200 == 7 {
            tokio::task::yield_now().await;
        }
        assert!(n % 100 != 7, "unlucky");
        Ok::<_, HandlerError>(n)
    };
    // What the handlers say when they panic would bury the output of the tests.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str().is_none_or(|text| text != "unlucky") {
            usual(info);
        }
    }));
    let _service = mesh.node(0).rpc().advertise("lucky", handler).await.unwrap();
    let caller = mesh.node(1).rpc().caller("lucky").unwrap().timeout(20 * SECOND);
    let mut tasks = Vec::new();
    for task in 0..50 {
        let caller = caller.clone();
        tasks.push(tokio::spawn(async move {
            for n in (0..calls).filter(|n| n % 50 == task) {
                match caller.call::<_, u64>(&n).await {
                    Ok(m) => assert!(m == n && n % 100 != 7),
                    Err(CallError::Panicked { .. }) => assert_eq!(n % 100, 7),
                    Err(error) => panic!("{n}: {error}"),
                }
            }
        }));
    }
    for task in tasks {
        tokio::time::timeout(120 * SECOND, task).await.unwrap().unwrap();
    }
    assert_eq!(mesh.node(0).stats().handler_panics, calls / 100);
    assert_eq!((mesh.node(0).stats().handlers, mesh.node(0).stats().calls_served), (0, calls));
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_the_calls_whose_handler_panics_fail() {
    panics_concern_their_own_calls(5_000).await;
}

/// `cargo test --release --test it rpc::calls -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "for a release build on an idle machine"]
async fn exactly_the_calls_of_a_hundred_thousand_whose_handler_panics_fail() {
    panics_concern_their_own_calls(100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_arguments_and_results_have_streams_of_their_own() {
    let mesh = pair().await;
    let _service = mesh.node(0).rpc().advertise_raw("echo", echo).await.unwrap();
    let rpc = mesh.node(1).rpc();
    for size in [0, 1, 60_000, 66_000, 1_000_000] {
        let args = Bytes::from(vec![7; size]);
        assert_eq!(rpc.call_raw("echo", args.clone()).await, Ok(args), "{size}");
    }
    assert_eq!(rpc.call_raw("echo", vec![7; 1 << 20]).await, Err(CallError::TooLarge));
    let inflate = |n: usize| async move { Ok::<_, HandlerError>("x".repeat(n)) };
    let _service = mesh.node(0).rpc().advertise("inflate", inflate).await.unwrap();
    let small = rpc.call::<_, String>("inflate", &100_000).await.unwrap();
    assert_eq!(small.len(), 100_000);
    let refused = rpc.call::<_, String>("inflate", &200_000).await;
    assert_eq!(refused, Err(CallError::ResultTooLarge { provider: mesh.node(0).id() }));
    let large = rpc.call::<_, String>("inflate", &1_000_000).large_result().await.unwrap();
    assert_eq!(large.len(), 1_000_000);
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_node_is_called_and_no_other() {
    let mesh = LocalMesh::builder().nodes(3).spawn().await.unwrap();
    let name = |i: usize| move |(): ()| async move { Ok::<_, HandlerError>(i) };
    let _first = mesh.node(0).rpc().advertise("name", name(0)).await.unwrap();
    let _second = mesh.node(1).rpc().advertise("name", name(1)).await.unwrap();
    for i in [0, 1, 0, 0, 1] {
        let (named, report) =
            mesh.node(2).rpc().call::<_, usize>("name", &()).node(mesh.node(i).id()).report().await;
        assert_eq!((named, report.unwrap().source), (Ok(i), Source::Named));
    }
    let own = mesh.node(2).rpc().call::<_, usize>("name", &()).node(mesh.node(2).id()).await;
    assert_eq!(own, Err(CallError::NoService { provider: mesh.node(2).id() }));
    let nobody = NodeId::from_bytes([3; 32]);
    let unknown = mesh.node(2).rpc().call::<_, usize>("name", &()).node(nobody).timeout(3 * SECOND).await;
    assert!(!unknown.as_ref().unwrap_err().maybe_executed(), "{unknown:?}");
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_withdrawn_is_run_no_more_and_found_no_more() {
    let mesh = LocalMesh::builder().nodes(12).k(4).spawn().await.unwrap();
    let service = mesh.node(1).rpc().advertise_raw("echo", echo).await.unwrap();
    let caller = mesh.node(7).rpc().caller("echo").unwrap();
    assert_eq!(caller.call_raw("hello").await, Ok(Bytes::from("hello")));
    in_time(service.withdraw()).await.unwrap();
    let gone = caller.call_raw("hello").await;
    assert!(matches!(gone, Err(CallError::NoService { .. } | CallError::NoProvider)), "{gone:?}");
    assert!(mesh.node(4).rpc().find_providers("echo").fresh().await.unwrap().is_empty());
    // Dropping the guard does the same, in the background.
    drop(mesh.node(2).rpc().advertise_raw("echo", echo).await.unwrap());
    assert_eq!(mesh.node(2).stats().services, 0);
    let deadline = Instant::now() + 10 * SECOND;
    while !mesh.node(5).rpc().find_providers("echo").fresh().await.unwrap().is_empty() {
        assert!(Instant::now() < deadline, "the entry is still found");
    }
    // So does a shutdown.
    let _service = mesh.node(3).rpc().advertise_raw("echo", echo).await.unwrap();
    assert_eq!(mesh.node(6).rpc().find_providers("echo").fresh().await.unwrap().len(), 1);
    in_time(mesh.node(3).shutdown()).await;
    assert!(mesh.node(6).rpc().find_providers("echo").fresh().await.unwrap().is_empty());
    mesh.shutdown().await;
}
