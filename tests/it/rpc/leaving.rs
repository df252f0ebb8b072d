//! Providers that leave in good order while they are called.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use foveola::mesh::LocalMesh;

use super::{Ran, SECOND, offer};
use crate::util::{in_time, until};

const PROVIDERS: usize = 4;

/// Calls without a pause while providers leave, of which none may fail and none run twice.
async fn leave(pause: Duration, leave: impl AsyncFn(&LocalMesh, usize)) {
    let mesh = LocalMesh::builder().nodes(PROVIDERS + 1).spawn().await.unwrap();
    let ran = Ran::default();
    let mut services = Vec::new();
    for i in 0..PROVIDERS {
        services.push(offer(mesh.node(i), "work", &ran, pause).await);
    }
    let caller = mesh.node(PROVIDERS).rpc().caller("work").unwrap().timeout(15 * SECOND);
    let (next, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let (caller, next, stop) = (caller.clone(), Arc::clone(&next), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let id = next.fetch_add(1, Ordering::Relaxed);
                assert_eq!(caller.call::<_, u64>(&id).await, Ok(id));
            }
        }));
    }
    for i in 0..PROVIDERS - 1 {
        let calls = next.load(Ordering::Relaxed);
        until(10 * SECOND, "calls go on", || next.load(Ordering::Relaxed) > calls + 200).await;
        in_time(leave(&mesh, i)).await;
    }
    let calls = next.load(Ordering::Relaxed);
    until(10 * SECOND, "calls go on", || next.load(Ordering::Relaxed) > calls + 200).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        in_time(task).await.unwrap();
    }
    assert_eq!(ran.most(), 1, "none was run twice");
    assert!((0..next.load(Ordering::Relaxed)).all(|id| ran.times(id) == 1), "each was run");
    drop(services);
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_or_runs_twice_while_providers_shut_down() {
    leave(Duration::ZERO, async |mesh, i| mesh.node(i).shutdown().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_run_when_their_node_shuts_down_are_waited_for() {
    leave(Duration::from_millis(50), async |mesh, i| mesh.node(i).shutdown().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_dropped_right_before_the_shutdown_is_removed_all_the_same() {
    let mesh = LocalMesh::builder().nodes(8).k(4).spawn().await.unwrap();
    let brief = offer(mesh.node(1), "brief", &Ran::default(), Duration::ZERO).await;
    assert_eq!(mesh.node(5).rpc().find_providers("brief").await.unwrap().len(), 1);
    drop(brief);
    in_time(mesh.node(1).shutdown()).await;
    assert!(mesh.node(5).rpc().find_providers("brief").fresh().await.unwrap().is_empty());
    mesh.shutdown().await;
}
