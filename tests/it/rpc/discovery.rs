//! Many services of many nodes, found by many others, and not found when they are gone.

use std::time::{Duration, Instant};

use bytes::Bytes;
use foveola::mesh::LocalMesh;
use foveola::{Advertisement, CallError, HandlerError};
use tokio::task::JoinSet;

use super::{SECOND, echo};
use crate::util::in_time;

fn name(service: usize) -> String {
    format!("service.{service}")
}

/// A mesh whose first half offers `services`, all of which its other half calls.
async fn found_called_and_gone(owners: usize, services: usize) {
    let start = Instant::now();
    let mesh = LocalMesh::builder().nodes(2 * owners).k(8).spawn().await.unwrap();
    let mut offers: Vec<Advertisement> = Vec::new();
    for service in 0..services {
        let answer = move |(): ()| async move { Ok::<_, HandlerError>(service) };
        offers.push(mesh.node(service % owners).rpc().advertise(name(service), answer).await.unwrap());
    }
    assert!(offers.iter().all(|offer| offer.published().is_ok()));
    println!("{services} services offered after {:?}", start.elapsed());
    let mut callers = JoinSet::new();
    for i in owners..2 * owners {
        let node = mesh.node(i).clone();
        callers.spawn(async move {
            for service in (i..services + i).map(|n| n % services) {
                let result = node.rpc().call::<_, usize>(&name(service), &()).timeout(15 * SECOND).await;
                assert_eq!(result, Ok(service));
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    println!("called by {owners} after {:?}", start.elapsed());
    let served = || mesh.nodes().iter().map(|node| node.stats().calls_served).sum::<u64>();
    let refused = || mesh.nodes().iter().map(|node| node.stats().calls_refused).sum::<u64>();
    assert_eq!((served(), refused()), ((owners * services) as u64, 0));
    let withdrawn = Instant::now();
    let mut removals = JoinSet::new();
    for offer in offers {
        removals.spawn(offer.withdraw());
    }
    while let Some(removed) = removals.join_next().await {
        removed.unwrap().unwrap();
    }
    println!("withdrawn in {:?}", withdrawn.elapsed());
    tokio::time::sleep_until((withdrawn + 2 * SECOND).into()).await;
    for service in 0..services {
        let node = mesh.node(owners + service % owners);
        let error = node.rpc().call::<_, usize>(&name(service), &()).await.unwrap_err();
        assert!(matches!(error, CallError::NoService { .. } | CallError::NoProvider), "{error:?}");
        let other = mesh.node(owners + (service + 1) % owners);
        assert_eq!(other.rpc().find_providers(&name(service)).fresh().await.unwrap(), []);
    }
    assert_eq!(served(), (owners * services) as u64 + refused(), "nothing was run");
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_found_by_all_and_by_nobody_once_withdrawn() {
    found_called_and_gone(10, 100).await;
}

/// `cargo test --release --test it rpc::discovery -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "for a release build on an idle machine"]
async fn a_thousand_services_are_found_by_all_and_by_nobody_once_withdrawn() {
    found_called_and_gone(20, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_dies_in_silence_is_not_found_after_its_ttl() {
    const TTL: Duration = Duration::from_secs(3);
    let mut mesh = LocalMesh::builder().nodes(8).k(4).faults().spawn().await.unwrap();
    let mut offers = Vec::new();
    for service in 0..10 {
        offers.push(mesh.node(0).rpc().advertise_raw(name(service), echo).ttl(TTL).await.unwrap());
    }
    for service in 0..10 {
        let node = mesh.node(1 + service % 7);
        assert_eq!(in_time(node.rpc().call_raw(&name(service), "x")).await, Ok(Bytes::from("x")));
    }
    let died = Instant::now();
    mesh.kill(0);
    tokio::time::sleep_until((died + TTL).into()).await;
    for service in 0..10 {
        let finder = mesh.node(1 + (service + 1) % 7);
        let found = in_time(finder.rpc().find_providers(&name(service)).fresh()).await.unwrap();
        assert_eq!(found, [], "after {:?}", died.elapsed());
        let call = mesh.node(1 + service % 7).rpc().call_raw(&name(service), "x");
        assert!(!in_time(call).await.unwrap_err().maybe_executed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_follows_another_at_once_is_not_removed_with_it() {
    let mesh = LocalMesh::builder().nodes(6).k(3).spawn().await.unwrap();
    let provider = mesh.node(0);
    let mut last = None;
    for round in 0..30 {
        drop(last.take());
        let answer = move |(): ()| async move { Ok::<_, HandlerError>(round) };
        last = Some(provider.rpc().advertise("again", answer).await.unwrap());
        if round % 5 == 4 {
            let found = mesh.node(5).rpc().find_providers("again").fresh().await.unwrap();
            assert_eq!(found.len(), 1, "round {round}");
            assert_eq!(mesh.node(5).rpc().call("again", &()).await, Ok(round));
        }
    }
    // Whatever was still under way has been done by the time that this is.
    let settled = Instant::now();
    while settled.elapsed() < SECOND {
        let found = mesh.node(4).rpc().find_providers("again").fresh().await.unwrap();
        assert_eq!(found.len(), 1, "after {:?}", settled.elapsed());
        tokio::time::sleep(SECOND / 20).await;
    }
    in_time(last.take().unwrap().withdraw()).await.unwrap();
    assert_eq!(mesh.node(4).rpc().find_providers("again").fresh().await.unwrap(), []);
    mesh.shutdown().await;
}

/// Entries are refreshed for as long as their guards live, and not after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_outlives_its_ttl_and_not_its_guard() {
    let mesh = LocalMesh::builder().nodes(6).k(3).spawn().await.unwrap();
    let offer = mesh.node(0).rpc().advertise_raw("echo", echo).ttl(2 * SECOND).await.unwrap();
    let start = Instant::now();
    while start.elapsed() < 7 * SECOND {
        let found = mesh.node(5).rpc().find_providers("echo").fresh().await.unwrap();
        assert_eq!(found.len(), 1, "after {:?}", start.elapsed());
        tokio::time::sleep(SECOND / 20).await;
    }
    assert!(offer.published().unwrap().seq() > 2, "it was stored again");
    in_time(offer.withdraw()).await.unwrap();
    let start = Instant::now();
    while start.elapsed() < 5 * SECOND {
        assert_eq!(mesh.node(5).rpc().find_providers("echo").fresh().await.unwrap(), []);
        tokio::time::sleep(SECOND / 20).await;
    }
    mesh.shutdown().await;
}
