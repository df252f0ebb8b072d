//! What was removed stays away, what is signed is mended, and entries of many publishers make one set.

use std::time::{Duration, Instant};

use foveola::mesh::LocalMesh;
use foveola::wire::RecordKind;
use foveola::{Ack, Key, Node, Record};

use crate::nodes::{config, key};
use crate::util::{PATIENCE, until};

/// Nodes that leave it to readers to mend what is wrong. The first is the writer, all others are its replicas.
async fn mesh(nodes: usize) -> LocalMesh {
    let settings = config(|config| {
        config.k = nodes - 1;
        config.replication.settle = Duration::from_secs(3_600);
        config.request_timeout = Duration::from_secs(1);
        config.transport.keep_alive = Duration::from_millis(300);
        config.transport.idle_timeout = Duration::from_secs(2);
    });
    LocalMesh::builder().nodes(nodes).config(settings).faults().spawn().await.unwrap()
}

/// Whatever node 0 does in `work`, node 1 misses it: nothing is left to be sent again when they can talk.
async fn behind_its_back<T>(mesh: &LocalMesh, work: impl Future<Output = T>) -> T {
    mesh.cut(0, 1);
    mesh.cut(1, 0);
    let done = work.await;
    let parted = |of: usize, from: usize| mesh.node(of).pool().explain(mesh.node(from).id()).open.is_none();
    until(PATIENCE, "the connection is given up", || parted(0, 1) && parted(1, 0)).await;
    mesh.heal(0, 1);
    mesh.heal(1, 0);
    done
}

fn values(records: &[Record]) -> Vec<&[u8]> {
    records.iter().map(|record| record.value.as_ref()).collect()
}

/// What node `of` holds under `key`, when it is `expected`.
async fn until_holds(asker: &Node, of: &Node, key: Key, expected: &[&[u8]]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let held = asker.dht().query_peer(of.id(), key).await.unwrap_or_default();
        if values(&held) == expected {
            return;
        }
        assert!(Instant::now() < deadline, "it holds {held:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_removed_does_not_come_back_from_a_replica_that_missed_it() {
    let mesh = mesh(5).await;
    let writer = mesh.node(0).dht();
    writer.store(key("gone"), "kept").ack(Ack::All).await.unwrap();
    let removed = behind_its_back(&mesh, async { writer.remove(key("gone")).await }).await.unwrap();
    assert!(removed.is_met() && removed.acks() < 4, "{removed:?}");
    let stale = mesh.node(2).dht().query_peer(mesh.node(1).id(), key("gone")).await.unwrap();
    assert_eq!(values(&stale), [b"kept"], "the replica has missed the removal");
    for reader in mesh.nodes() {
        assert_eq!(reader.dht().find_value(key("gone")).quorum().await.unwrap(), []);
    }
    assert_eq!(writer.find_value(key("gone")).await.unwrap(), []);
    writer.store(key("gone"), "again").await.unwrap();
    let found = mesh.node(1).dht().find_value(key("gone")).quorum().await.unwrap();
    assert_eq!(values(&found), [b"again"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_removal_is_believed_although_a_replica_knows_only_of_the_removal() {
    let mesh = mesh(4).await;
    let writer = mesh.node(0).dht();
    writer.store(key("back"), "old").ack(Ack::All).await.unwrap();
    writer.remove(key("back")).ack(Ack::All).await.unwrap();
    let store = async { writer.store(key("back"), "new").await };
    behind_its_back(&mesh, store).await.unwrap();
    for _ in 0..4 {
        let found = mesh.node(2).dht().find_value(key("back")).quorum().await.unwrap();
        assert_eq!(values(&found), [b"new"]);
    }
    let stale = mesh.node(1);
    let deadline = Instant::now() + PATIENCE;
    while values(&mesh.node(3).dht().query_peer(stale.id(), key("back")).await.unwrap()) != [b"new"] {
        assert!(Instant::now() < deadline, "the reads have not mended it");
        mesh.node(2).dht().find_value(key("back")).quorum().await.unwrap();
    }
    let many = [(key("back"), "newer"), (key("fresh"), "first")];
    writer.store_many(many).ack(Ack::All).await.unwrap();
    let found = mesh.node(2).dht().find_value(key("back")).await.unwrap();
    assert!(found[0].signed && values(&found) == [b"newer"]);
    let found = mesh.node(2).dht().find_value(key("fresh")).await.unwrap();
    assert!(!found[0].signed && values(&found) == [b"first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_has_forgotten_what_it_signed_signs_what_follows() {
    let mut mesh = mesh(4).await;
    mesh.node(0).dht().store(key("kept"), "signed").signed().ack(Ack::All).await.unwrap();
    mesh.restart(0).await.unwrap();
    let writer = mesh.node(0).dht();
    // The counter of the new process is already beyond that of the one before.
    for i in 0..5 {
        writer.store(key(format!("other {i}")), "unsigned").ack(Ack::All).await.unwrap();
    }
    writer.store(key("kept"), "later").ack(Ack::All).await.unwrap();
    for reader in mesh.nodes() {
        let found = reader.dht().find_value(key("kept")).quorum().await.unwrap();
        assert!(found[0].signed && values(&found) == [b"later"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_read_mends_a_replica_that_has_missed_a_signed_record() {
    let mesh = mesh(4).await;
    let writer = mesh.node(0).dht();
    writer.store(key("signed"), "old").signed().ack(Ack::All).await.unwrap();
    let store = async { writer.store(key("signed"), "new").signed().await };
    behind_its_back(&mesh, store).await.unwrap();
    let stale = mesh.node(1);
    assert_eq!(values(&mesh.node(2).dht().query_peer(stale.id(), key("signed")).await.unwrap()), [b"old"]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = mesh.node(2).dht().find_value(key("signed")).quorum().await.unwrap();
        assert_eq!(values(&found), [b"new"]);
        assert!(found[0].signed && found[0].publisher == mesh.node(0).id());
        let held = mesh.node(3).dht().query_peer(stale.id(), key("signed")).await.unwrap();
        if values(&held) == [b"new"] {
            break;
        }
        assert!(Instant::now() < deadline, "it holds {held:?}");
    }
    // A removal is signed whether it is asked to be or not: unsigned it would lose to what it removes.
    let removal = async { writer.remove(key("signed")).await };
    behind_its_back(&mesh, removal).await.unwrap();
    for _ in 0..4 {
        assert_eq!(mesh.node(2).dht().find_value(key("signed")).quorum().await.unwrap(), []);
    }
    until_holds(mesh.node(3), stale, key("signed"), &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_several_publishers_are_one_set_and_each_removes_its_own() {
    let mesh = mesh(5).await;
    let kind = RecordKind::PROVIDER;
    for (i, node) in mesh.nodes().iter().enumerate().take(3) {
        node.dht().store(key("service"), format!("at {i}")).kind(kind).ack(Ack::All).await.unwrap();
    }
    // Of the same publisher and under the same key, but another record.
    mesh.node(0).dht().store(key("service"), "a value").ack(Ack::All).await.unwrap();
    for reader in mesh.nodes() {
        let mut found = reader.dht().find_value(key("service")).kind(kind).await.unwrap();
        assert!(found.iter().all(|entry| entry.signed && entry.kind == kind));
        found.sort_by(|a, b| a.value.cmp(&b.value));
        assert_eq!(values(&found), [&b"at 0"[..], b"at 1", b"at 2"]);
    }
    mesh.node(1).dht().remove(key("service")).kind(kind).ack(Ack::All).await.unwrap();
    for reader in mesh.nodes() {
        let mut found = reader.dht().find_value(key("service")).kind(kind).await.unwrap();
        found.sort_by(|a, b| a.value.cmp(&b.value));
        assert_eq!(values(&found), [&b"at 0"[..], b"at 2"]);
        assert_eq!(values(&reader.dht().find_value(key("service")).await.unwrap()), [b"a value"]);
        let many = reader.dht().find_many([key("none"), key("service")]).kind(kind).await.unwrap();
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [0, 2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_that_does_not_answer_is_an_error() {
    let mut mesh = mesh(4).await;
    mesh.node(0).dht().store(key("here"), "kept").ack(Ack::All).await.unwrap();
    let reader = mesh.node(1).clone();
    let many = reader.dht().find_many([key("never"), key("here")]).quorum().await.unwrap();
    assert_eq!((values(&many[0]), values(&many[1])), (vec![], vec![&b"kept"[..]]));
    mesh.kill(2);
    mesh.kill(3);
    let quorum = reader.dht().find_value(key("here")).quorum().await;
    assert!(quorum.as_ref().is_err_and(foveola::FindError::is_retryable), "{quorum:?}");
    let many = reader.dht().find_many([key("here")]).quorum().await;
    assert!(many.as_ref().is_err_and(foveola::FindError::is_retryable), "{many:?}");
    assert_eq!(values(&reader.dht().find_value(key("here")).await.unwrap()), [b"kept"]);
}
