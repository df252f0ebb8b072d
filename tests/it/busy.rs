//! Operations that wait for their turn to search, and searches that find nobody in time.

use std::future::IntoFuture;
use std::time::{Duration, Instant};

use foveola::mesh::LocalMesh;
use foveola::{Ack, FindError, StoreError};
use tokio::task::JoinSet;

use crate::nodes::{config, key};

const TIMEOUT: Duration = Duration::from_millis(500);
/// Several times as many as may search at a time.
const CALLS: usize = 600;
/// What may come on top in a debug build on a busy machine: far less than the turns of all calls would take.
const SLACK: Duration = Duration::from_millis(1_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_operation_outlasts_its_time_however_many_wait_to_search() {
    let settings = config(|config| {
        config.query_timeout = TIMEOUT;
        config.request_timeout = TIMEOUT;
    });
    let mut mesh = LocalMesh::builder().nodes(12).k(3).config(settings).faults().spawn().await.unwrap();
    let node = mesh.node(0).clone();
    let receipt = node.dht().store(key("sure"), "value").fresh().await.unwrap();
    assert!(receipt.lookup().is_some_and(|lookup| lookup.complete), "{receipt:?}");
    (1..12).for_each(|i| mesh.kill(i));
    // A search that nobody answers says so.
    let receipt = node.dht().store(key("unsure"), "value").fresh().ack(Ack::Local).await.unwrap();
    assert!(receipt.lookup().is_some_and(|lookup| !lookup.complete), "{receipt:?}");

    let mut calls = JoinSet::new();
    let start = Instant::now();
    for i in 0..CALLS {
        let (find, store) = (node.dht().find_value(key(i)).quorum(), node.dht().store(key(i), "value"));
        calls.spawn(async move { (Some(find.into_future().await.unwrap_err()), None, start.elapsed()) });
        calls.spawn(async move { (None, Some(store.into_future().await.unwrap_err()), start.elapsed()) });
    }
    let (mut finds, mut stores) = (0, 0);
    while let Some(ended) = calls.join_next().await {
        let (find, store, elapsed) = ended.unwrap();
        finds += usize::from(find == Some(FindError::Overloaded));
        stores += usize::from(store == Some(StoreError::Overloaded));
        assert!(find.is_none() || elapsed < TIMEOUT + SLACK, "{find:?} after {elapsed:?}");
        assert!(store.is_none() || elapsed < 2 * TIMEOUT + SLACK, "{store:?} after {elapsed:?}");
    }
    assert!(finds > 0 && stores > 0, "{finds} finds and {stores} stores had no turn");
    // Many keys at once leave time to ask somebody.
    let start = Instant::now();
    let many = node.dht().find_many((0..CALLS).map(|i| key(format!("many {i}")))).await;
    assert!(many.is_err(), "{many:?}");
    assert!(start.elapsed() < TIMEOUT + SLACK, "{:?}", start.elapsed());
}
