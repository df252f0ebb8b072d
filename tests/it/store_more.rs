//! Stores at their edges: earlier lives of the writer, full stores and logs, silent replicas, partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::future::IntoFuture;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use foveola::dht::log::LogLimits;
use foveola::dht::record::VALUE_BYTES_MAX;
use foveola::dht::store::StoreLimits;
use foveola::mesh::LocalMesh;
use foveola::wire::{Decoder, FindNodeReply, Kind, Status, StoreReply, decode_store};
use foveola::{Ack, Config, Key, Node, NodeId, StoreError};

use crate::nodes::{RawPeer, config, identity, key, next_frame, node, tick};
use crate::util::{PATIENCE, in_time, until};

/// Waits until every one of `peers` holds `value` of `writer` under `key`.
async fn held_by_all(writer: &Node, peers: &[NodeId], key: Key, value: &Bytes) {
    let deadline = Instant::now() + PATIENCE;
    for peer in peers {
        loop {
            let held = writer.dht().query_peer(*peer, key).await.unwrap_or_default();
            if held.first().is_some_and(|record| record.value == *value) {
                break;
            }
            assert!(Instant::now() < deadline, "{peer} still holds {held:?}");
            tick().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_wins_over_the_record_that_one_replica_keeps_from_an_earlier_life() {
    let mut mesh = LocalMesh::builder().nodes(5).k(4).faults().spawn().await.unwrap();
    let ids: Vec<_> = mesh.nodes().iter().map(Node::id).collect();
    let new = Bytes::from_static(b"new");
    for way in ["local", "quorum", "all", "many"] {
        for to in 2..5 {
            mesh.cut(0, to);
        }
        let keys: Vec<_> = (0..9).map(|i| key(format!("{way} {i}"))).collect();
        for key in keys.iter().rev().cycle().take(30) {
            mesh.node(0).dht().store(*key, "old").ack(Ack::One).await.unwrap();
        }
        mesh.kill(0);
        mesh.restart(0).await.unwrap();
        let writer = mesh.node(0).clone();
        until(PATIENCE, "the writer knows all", || writer.stats().table_nodes == 4).await;
        let last = keys[0];
        let one = |ack| writer.dht().store(last, new.clone()).ack(ack);
        match way {
            // The caller is gone before any replica answers.
            "local" => drop(one(Ack::Local).await.unwrap()),
            "quorum" => drop(one(Ack::Quorum).await.unwrap()),
            "all" => assert_eq!(one(Ack::All).await.unwrap().superseded(), None),
            _ => {
                let items = keys.iter().map(|key| (*key, new.clone()));
                for receipt in writer.dht().store_many(items).ack(Ack::All).await.unwrap() {
                    assert!(receipt.is_met(), "{receipt:?}");
                }
                for key in &keys {
                    held_by_all(&writer, &ids[1..], *key, &new).await;
                }
            }
        }
        held_by_all(&writer, &ids[1..], last, &new).await;
    }
    mesh.shutdown().await;
}

/// A replica that answers every store with what `answer` makes of the sequences in the frame.
async fn scripted(writer: &Node, mut answer: impl FnMut(u64) -> Status + Send + 'static) {
    let raw = RawPeer::dial(900, writer, 1 << 20).await;
    tokio::spawn(async move {
        let (mut send, mut recv) = raw.connection.accept_bi().await.unwrap();
        let mut decoder = Decoder::new(1 << 20);
        loop {
            let (kind, id, body) = next_frame(&mut recv, &mut decoder).await;
            let mut out = BytesMut::new();
            if kind == Kind::FindNode as u8 {
                FindNodeReply::open(id, &mut out);
                send.write_all(&out).await.unwrap();
            }
            if kind != Kind::Store as u8 {
                continue;
            }
            let mut reply = StoreReply::open(id, false, &mut out);
            for record in decode_store(&body).unwrap().records {
                reply.push(answer(record.seq), &mut out).unwrap();
            }
            send.write_all(&out).await.unwrap();
        }
    });
    until(PATIENCE, "the replica is known", || writer.stats().table_nodes == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_always_ahead_is_followed_once() {
    let writer = node(901, config(|_| ())).await;
    let (seen, mut seqs) = tokio::sync::mpsc::unbounded_channel();
    scripted(&writer, move |seq| {
        seen.send(seq).unwrap();
        Status::Superseded { seq: if seq < 1_000 { seq + 1_000 } else { 1 << 61 } }
    })
    .await;
    let stored = in_time(async { writer.dht().store(key("ahead"), "x").await }).await;
    assert_eq!(stored, Err(StoreError::Superseded { seq: 1 << 61 }));
    let stored = in_time(async { writer.dht().store(key("too far"), "x").await }).await;
    assert_eq!(stored, Err(StoreError::Superseded { seq: 1 << 61 }), "not believed");
    let seqs: Vec<_> = std::iter::from_fn(|| seqs.try_recv().ok()).collect();
    assert_eq!(seqs, [1, 1_002, 1_003]);
    writer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_a_later_one_of_the_same_life_overtook_says_so() {
    let writer = node(902, config(|_| ())).await;
    let (go, wait) = std::sync::mpsc::channel();
    let first = Arc::new(OnceLock::new());
    let is_first = Arc::clone(&first);
    // The later store has its number before the replica speaks of it.
    scripted(&writer, move |seq| match is_first.get() {
        Some(first) if *first == seq => wait.recv().map(|()| Status::Superseded { seq: seq + 1 }).unwrap(),
        _ => Status::Applied,
    })
    .await;
    // Both are numbered in their order once no lookup comes before.
    let warm = loop {
        let receipt = in_time(writer.dht().store(key("warm"), "0").into_future()).await.unwrap();
        if receipt.lookup().is_none() {
            break receipt.seq();
        }
    };
    first.set(warm + 1).unwrap();
    let (first, second, ()) = in_time(async {
        tokio::join!(
            writer.dht().store(key("twice"), "1").into_future(),
            writer.dht().store(key("twice"), "2").into_future(),
            async { go.send(()).unwrap() }
        )
    })
    .await;
    assert_eq!(first, Err(StoreError::Superseded { seq: warm + 2 }));
    assert_eq!(second.unwrap().seq(), warm + 2);
    writer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_replica_and_a_value_too_large_are_told_apart() {
    let small = config(|config| config.store = StoreLimits { bytes: 64 << 10, ..StoreLimits::default() });
    let mesh = LocalMesh::builder().nodes(3).config(small).spawn().await.unwrap();
    let dht = mesh.node(0).dht();
    // Two keys of one shard: the last four bits say which.
    let same = |n: u8| Key::from_bytes([n << 4; 32]);
    let value = Bytes::from(vec![7; VALUE_BYTES_MAX]);
    let receipt = dht.store(same(1), value.clone()).ack(Ack::All).await.unwrap();
    assert_eq!(receipt.acks(), 2);
    assert_eq!(dht.query_peer(mesh.node(1).id(), same(1)).await.unwrap()[0].value, value);
    let refused = dht.store(same(2), "x").ack(Ack::All).await;
    let Err(StoreError::StorageFull(receipt)) = refused else { panic!("{refused:?}") };
    assert_eq!((receipt.acks(), receipt.failed().count(), receipt.unknown().count()), (0, 2, 0));
    assert!(!receipt.is_indeterminate());
    let large = vec![7; VALUE_BYTES_MAX + 1];
    assert_eq!(dht.store(key("large"), large).await, Err(StoreError::TooLarge { bytes: 65_537 }));
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_tell_what_a_full_log_kept_from_being_sent() {
    let small = config(|config| config.log = LogLimits { records: 16, bytes: 1 << 20 });
    let mesh = LocalMesh::builder().nodes(3).config(small).spawn().await.unwrap();
    let dht = mesh.node(0).dht();
    let items: Vec<_> = (0..200).map(|i| (key(i), Bytes::from_static(b"x"))).collect();
    let receipts = dht.store_many(items.clone()).ack(Ack::All).await.unwrap();
    assert_eq!(receipts.len(), items.len());
    let peer = mesh.node(1).id();
    for (receipt, (key, _)) in receipts.iter().zip(&items) {
        assert_eq!(receipt.key(), *key);
        assert_eq!(receipt.is_met(), !receipt.is_log_full(), "{receipt:?}");
        let held = dht.query_peer(peer, *key).await.unwrap();
        assert_eq!(held.len(), receipt.acks() / 2, "{receipt:?}");
    }
    let met = receipts.iter().filter(|receipt| receipt.is_met()).count();
    assert_eq!(met, mesh.node(0).stats().published_records);
    assert!((16..=32).contains(&met), "{met}");
    let local = dht.store_many(items[..40].iter().cloned()).ack(Ack::Local).await.unwrap();
    assert!(local.iter().any(|receipt| receipt.is_log_full() && !receipt.is_met()));
    let unsent = receipts.iter().find(|receipt| receipt.is_log_full()).unwrap().key();
    let refused = dht.store_many([(unsent, Bytes::new())]).await;
    assert!(matches!(refused, Err(StoreError::LogFull(_))), "{refused:?}");
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_keys_goes_to_its_own_closest_nodes() {
    let mesh = LocalMesh::builder().nodes(12).k(4).spawn().await.unwrap();
    let items: Vec<_> = (0..300).map(|i| (key(i), Bytes::from(format!("{i}")))).collect();
    let receipts = mesh.node(0).dht().store_many(items).ack(Ack::All).await.unwrap();
    let known: BTreeSet<NodeId> = receipts.iter().flat_map(|receipt| receipt.replicas().to_vec()).collect();
    assert!(known.len() > 4, "{} nodes known", known.len());
    let mut orders: BTreeMap<BTreeSet<NodeId>, Vec<NodeId>> = BTreeMap::new();
    for receipt in &receipts {
        assert!(receipt.is_met() && receipt.acks() == 4, "{receipt:?}");
        let mut closest: Vec<_> = known.iter().copied().collect();
        closest.sort_by_key(|node| node.distance(&receipt.key()));
        let set: BTreeSet<_> = closest[..4].iter().copied().collect();
        assert_eq!(receipt.replicas().iter().copied().collect::<BTreeSet<_>>(), set);
        let order = orders.entry(set).or_insert_with(|| receipt.replicas().to_vec());
        assert_eq!(order, receipt.replicas(), "keys of one set share their frames");
    }
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_replica_does_not_use_up_the_time_of_the_others() {
    let mut mesh = LocalMesh::builder().nodes(5).k(4).faults().spawn().await.unwrap();
    mesh.kill(4);
    // Twice the room that a replica grants.
    let value = Bytes::from(vec![1; 60 << 10]);
    let items: Vec<_> = (0..64).map(|i| (key(i), value.clone())).collect();
    let began = Instant::now();
    let receipts = mesh.node(0).dht().store_many(items).timeout(Duration::from_secs(8)).await.unwrap();
    assert!(receipts.iter().all(foveola::Receipt::is_met));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_work_again_after_a_partition_without_a_new_join() {
    let hasty = config(|config| {
        config.transport.idle_timeout = Duration::from_millis(600);
        config.transport.keep_alive = Duration::from_millis(150);
        config.pool.dial_timeout = Duration::from_millis(200);
        config.pool.back_off_max = Duration::from_millis(300);
        config.request_timeout = Duration::from_millis(500);
    });
    let mesh = LocalMesh::builder().nodes(5).config(hasty).faults().spawn().await.unwrap();
    let pairs: Vec<_> = (0..5).flat_map(|i| (0..5).filter(move |j| i != *j).map(move |j| (i, j))).collect();
    pairs.iter().for_each(|(i, j)| mesh.cut(*i, *j));
    let writer = mesh.node(0);
    let failed = || mesh.nodes()[1..].iter().all(|peer| writer.pool().explain(peer.id()).failures >= 2);
    let deadline = Instant::now() + PATIENCE;
    while !failed() {
        assert!(Instant::now() < deadline, "no dial has failed");
        assert!(writer.dht().store(key("cut"), "x").await.is_err());
        tick().await;
    }
    pairs.iter().for_each(|(i, j)| mesh.heal(*i, *j));
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = writer.dht().store(key("healed"), "x").ack(Ack::All).await {
        assert!(Instant::now() < deadline, "{error}");
        tick().await;
    }
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_serves_nobody_is_in_no_table_and_holds_nothing() {
    let mesh = LocalMesh::builder().nodes(3).spawn().await.unwrap();
    let own = || Node::builder().identity(identity(903)).bootstrap([mesh.node(0).peer_addr()]);
    let served = own().spawn().await.unwrap();
    until(PATIENCE, "it is known", || mesh.node(0).stats().table_nodes == 3).await;
    served.shutdown().await;
    let client = own().serves(false).spawn().await.unwrap();
    until(PATIENCE, "it is known no more", || mesh.node(0).stats().table_nodes == 2).await;
    let receipt = client.dht().store(key("client"), "x").await.unwrap();
    assert!(mesh.nodes().iter().any(|node| receipt.acked().any(|acked| acked == node.id())));
    mesh.node(0).dht().store(key("mesh"), "x").await.unwrap();
    assert!(mesh.node(0).dht().query_peer(client.id(), key("mesh")).await.is_err(), "it answers nobody");
    assert_eq!(client.stats().held_records, 0);
    client.shutdown().await;
    mesh.shutdown().await;
}

/// The smallest windows carry the largest values, and frames of a lane as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_little_memory_stores_large_values() {
    let config = Config::for_memory(64 << 20);
    assert_eq!(config.transport.connection_window, 64 << 10);
    assert_eq!(Config::for_memory(32 << 30).transport.connection_window, 8 << 20);
    let mesh = LocalMesh::builder().nodes(3).config(config).spawn().await.unwrap();
    let large = Bytes::from(vec![1; 64 << 10]);
    let key = Key::of_name("large");
    mesh.node(0).dht().store(key, large.clone()).ack(Ack::All).await.unwrap();
    assert_eq!(mesh.node(1).dht().find_value(key).await.unwrap()[0].value, large);
    // Everyone writes to everyone at once: nobody's replies may wait for somebody's requests.
    let items = |of: usize| (0..1_000).map(move |i| (Key::of_name(format!("{of} {i}")), vec![2; 256]));
    let store = |of: usize| mesh.node(of).dht().store_many(items(of)).ack(Ack::All).into_future();
    let (a, b, c) = tokio::join!(store(0), store(1), store(2));
    for receipt in [a, b, c].into_iter().flat_map(Result::unwrap) {
        assert!(receipt.is_met(), "{receipt:?}");
    }
    mesh.shutdown().await;
}
