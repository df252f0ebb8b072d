//! What a caller remembers of providers, and for how long.

use std::time::{Duration, Instant};

use bytes::Bytes;
use foveola::mesh::LocalMesh;
use foveola::{CallError, Config, Node, Source};

use super::{SECOND, echo};
use crate::nodes::{config, identity};
use crate::util::in_time;

/// A node that holds nothing for others.
async fn client_only(mesh: &LocalMesh, n: u64, config: Config) -> Node {
    let addresses = mesh.nodes().iter().map(Node::peer_addr).collect::<Vec<_>>();
    let builder = Node::builder().identity(identity(n)).seed(n).config(config).serves(false);
    builder.bootstrap(addresses).spawn().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_lives_is_called_although_the_dht_cannot_be_asked() {
    let hasty = config(|config| config.query_timeout = 2 * SECOND);
    let mut mesh = LocalMesh::builder().nodes(3).config(hasty.clone()).faults().spawn().await.unwrap();
    let provider = client_only(&mesh, 61_000, hasty.clone()).await;
    let caller = client_only(&mesh, 61_001, hasty).await;
    let service = provider.rpc().advertise_raw("echo", echo).ttl(2 * SECOND).await.unwrap();
    assert!(service.published().unwrap().is_met());
    let calls = caller.rpc().caller("echo").unwrap();
    let (result, report) = calls.report("first").await;
    assert_eq!((result, report.source), (Ok(Bytes::from("first")), Source::Dht));
    (0..3).for_each(|i| mesh.kill(i));
    let deadline = Instant::now() + 20 * SECOND;
    loop {
        let (result, report) = in_time(calls.report("again")).await;
        assert_eq!(result, Ok(Bytes::from("again")), "{report:?}");
        if report.source == Source::Stale {
            break;
        }
        assert!(Instant::now() < deadline, "it is never stale: {report:?}");
        tokio::time::sleep(SECOND / 20).await;
    }
    assert!(caller.stats().discovery_stale >= 1);
    // The DHT is not asked again by each call.
    let (asked, start) = (caller.stats().discoveries, Instant::now());
    for _ in 0..20 {
        let (result, report) = in_time(calls.report("more")).await;
        assert_eq!((result, report.source), (Ok(Bytes::from("more")), Source::Stale));
    }
    println!("20 calls of a stale provider took {:?}", start.elapsed());
    assert!(caller.stats().discoveries <= asked + 2 + start.elapsed().as_secs());
    // Who forces an answer wants a true one; that there was none spoils nothing.
    let forced = in_time(caller.rpc().find_providers("echo").fresh()).await;
    assert!(matches!(forced, Err(CallError::Discovery(_))), "{forced:?}");
    let (result, report) = in_time(calls.report("more")).await;
    assert_eq!((result, report.source), (Ok(Bytes::from("more")), Source::Stale));
    // Nothing was remembered of another, so that is an error, and not that nobody offers it.
    let error = caller.rpc().call_raw("other", "").await.unwrap_err();
    assert!(matches!(error, CallError::Discovery(_) | CallError::Timeout { .. }), "{error:?}");
    assert!(!error.maybe_executed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_remembered_is_asked_for_again_before_it_ends() {
    let mesh = LocalMesh::builder().nodes(3).spawn().await.unwrap();
    let _service = mesh.node(0).rpc().advertise_raw("echo", echo).ttl(4 * SECOND).await.unwrap();
    let calls = mesh.node(2).rpc().caller("echo").unwrap();
    assert_eq!(calls.report("").await.1.source, Source::Dht);
    let start = Instant::now();
    while start.elapsed() < 10 * SECOND {
        let (result, report) = calls.report("x").await;
        assert_eq!((result, report.source), (Ok(Bytes::from("x")), Source::Cache), "{report:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stats = mesh.node(2).stats();
    assert!((3..40).contains(&stats.discoveries), "{}", stats.discoveries);
    assert_eq!(stats.discovery_hits, stats.calls - 1);
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_nobody_offers_it_is_believed_for_a_second() {
    let mesh = LocalMesh::builder().nodes(6).k(3).spawn().await.unwrap();
    let rpc = mesh.node(5).rpc();
    let discoveries = || mesh.node(5).stats().discoveries;
    assert_eq!(rpc.call_raw("late", "").await, Err(CallError::NoProvider));
    let since = Instant::now();
    let asked = discoveries();
    let _service = mesh.node(0).rpc().advertise_raw("late", echo).await.unwrap();
    loop {
        let result = rpc.call_raw("late", "x").await;
        if since.elapsed() < 9 * SECOND / 10 {
            assert_eq!((result, discoveries()), (Err(CallError::NoProvider), asked));
        } else if result == Ok(Bytes::from("x")) {
            break;
        }
        assert!(since.elapsed() < 5 * SECOND, "it is not found");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Whoever wants to know it at once asks for it.
    assert_eq!(rpc.call_raw("later", "").await, Err(CallError::NoProvider));
    let _service = mesh.node(0).rpc().advertise_raw("later", echo).await.unwrap();
    assert_eq!(rpc.find_providers("later").fresh().await.unwrap().len(), 1);
    assert_eq!(rpc.call_raw("later", "x").await, Ok(Bytes::from("x")));
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forgotten_is_asked_for() {
    let mesh = LocalMesh::builder().nodes(3).spawn().await.unwrap();
    let _service = mesh.node(0).rpc().advertise_raw("echo", echo).await.unwrap();
    let node = mesh.node(2);
    let calls = node.rpc().caller("echo").unwrap();
    for expected in [Source::Dht, Source::Cache, Source::Cache] {
        assert_eq!(calls.report("").await.1.source, expected);
        node.rpc().prune();
    }
    assert_eq!(node.stats().services_remembered, 1, "what is good is not pruned");
    node.rpc().clear();
    assert_eq!(calls.report("").await.1.source, Source::Dht, "a handle forgets as well");
    assert_eq!(calls.report("").await.1.source, Source::Cache);
    let nobody = node.rpc().call_raw("nobody", "").await;
    assert_eq!(nobody, Err(CallError::NoProvider));
    assert!(node.stats().services_remembered >= 1);
    node.rpc().prune();
    mesh.shutdown().await;
}
