//! Records go to the replicas, receipts say so, and finds bring them back.

use bytes::Bytes;
use foveola::mesh::LocalMesh;
use foveola::{Ack, Key};

use crate::util::PATIENCE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_record_is_held_by_every_replica_in_its_receipt() {
    let mesh = LocalMesh::builder().nodes(5).k(4).spawn().await.unwrap();
    let writer = mesh.node(0);
    for i in 0..100 {
        let key = Key::of_name(format!("key {i}"));
        let value = Bytes::from(format!("value {i}"));
        let receipt = writer.dht().store(key, value.clone()).ack(Ack::All).await.unwrap();
        assert_eq!(receipt.acks(), 4);
        for replica in receipt.acked() {
            let records = writer.dht().query_peer(replica, key).await.unwrap();
            assert_eq!(records.len(), 1);
            assert_eq!((&records[0].value, records[0].seq), (&value, receipt.seq()));
        }
        let found = mesh.node(3).dht().find_value(key).await.unwrap();
        assert_eq!(found[0].value, value);
    }
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_records_have_one_receipt_each() {
    let mesh = LocalMesh::builder().nodes(3).spawn().await.unwrap();
    let items: Vec<_> =
        (0..2_000).map(|i| (Key::of_name(format!("k{i}")), Bytes::from(format!("v{i}")))).collect();
    let receipts = mesh.node(0).dht().store_many(items.clone()).ack(Ack::All).await.unwrap();
    assert_eq!(receipts.len(), items.len());
    for (receipt, (key, _)) in receipts.iter().zip(&items) {
        assert!(receipt.is_met() && receipt.acks() == 2, "{receipt:?}");
        assert_eq!(receipt.key(), *key);
    }
    let found = mesh.node(1).dht().find_many(items.iter().map(|(key, _)| *key)).await.unwrap();
    for (records, (_, value)) in found.iter().zip(&items) {
        assert_eq!(records[0].value, *value);
    }
    mesh.shutdown().await;
}

/// Calls that want the same room at the same replicas, for the same keys, all get it in turn. One that was
/// overtaken by a later call for the same key is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_of_many_records_share_the_room_of_their_replicas() {
    let mesh = LocalMesh::builder().nodes(5).k(4).spawn().await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for call in 0..64_usize {
        let node = mesh.node(0).clone();
        calls.spawn(async move {
            for round in 0..4 {
                let first = 997 * (call + round);
                let items = (first..first + 256)
                    .map(|i| (Key::of_name(format!("k{}", i % 10_000)), Bytes::from(vec![1; 256])));
                // On a busy machine the turn of the last may be long in coming.
                let stored = node.dht().store_many(items).ack(Ack::All).timeout(PATIENCE);
                for receipt in stored.await.unwrap() {
                    assert!(receipt.is_met() || receipt.superseded().is_some(), "{receipt:?}");
                }
            }
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    mesh.shutdown().await;
}
