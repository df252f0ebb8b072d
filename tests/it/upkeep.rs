//! Tables that stay true while nodes come up late, fall silent, leave and lie.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use foveola::addr::{Endpoint as Address, PeerAddr};
use foveola::mesh::LocalMesh;
use foveola::wire::{Class, FindNode, FindNodeReply, Kind, Ping, Pong, decode_find_node_reply};
use foveola::{Config, Node, NodeId};

use crate::hostile::raw::{Acceptor, Dialer, Raw, Stream};
use crate::nodes::{config, identity};
use crate::util::{PATIENCE, in_time, until};

/// Everything that takes minutes by default takes less than a second.
fn brisk() -> Config {
    config(|config| {
        config.upkeep.neighbours = Duration::from_millis(500);
        config.upkeep.ping = Duration::from_millis(200);
        config.upkeep.rejoin_min = Duration::from_millis(50);
        config.upkeep.rejoin_max = Duration::from_millis(400);
        config.join_timeout = Duration::from_millis(500);
        config.request_timeout = Duration::from_millis(500);
        config.pool.dial_timeout = Duration::from_millis(500);
    })
}

/// The bucket of `peer` in the table of `own`.
fn bucket(own: NodeId, peer: NodeId) -> u32 {
    own.distance(&peer.to_key()).leading_zeros()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_bootstrap_is_down_joins_when_it_comes_up() {
    let seed = |listen: SocketAddr| Node::builder().identity(identity(1)).listen(listen).spawn();
    let first = seed(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let (address, listen) = (first.peer_addr(), first.local_addr());
    first.shutdown().await;
    drop(first);
    let spawn = Node::builder().config(brisk()).bootstrap([address]).spawn();
    let node = in_time(spawn).await.unwrap();
    assert!(node.table().is_empty());
    let second = seed(listen).await.unwrap();
    until(PATIENCE, "the node joins", || node.table() == [second.id()]).await;
    until(PATIENCE, "the other knows it", || second.table() == [node.id()]).await;
    node.shutdown().await;
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_falls_silent_is_replaced() {
    let mut config = brisk();
    config.k = 2;
    let mut mesh = LocalMesh::builder().nodes(12).config(config).seed(7).faults().spawn().await.unwrap();
    // A node whose two neighbours share a bucket with others that wait for their places.
    let ids: Vec<NodeId> = mesh.nodes().iter().map(Node::id).collect();
    let crowd = |own: NodeId| {
        let mut near: Vec<NodeId> = ids.iter().copied().filter(|id| *id != own).collect();
        near.sort_by_key(|id| id.distance(&own.to_key()));
        let deepest = bucket(own, near[0]);
        near.into_iter().filter(|id| bucket(own, *id) == deepest).collect::<Vec<_>>()
    };
    let i = (0..12).find(|i| crowd(ids[*i]).len() > 2).expect("such a node, with this seed");
    let (node, crowd) = (mesh.node(i).clone(), crowd(ids[i]));
    let places = |node: &Node| node.table().into_iter().filter(|id| crowd.contains(id)).collect::<Vec<_>>();
    until(PATIENCE, "the bucket is full", || places(&node).len() == 2).await;
    let silenced = places(&node)[0];
    mesh.kill(ids.iter().position(|id| *id == silenced).unwrap());
    until(PATIENCE, "another has its place", || {
        let places = places(&node);
        places.len() == 2 && !places.contains(&silenced)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_many_nodes_keep_to_their_limits_and_know_their_neighbours() {
    const K: usize = 4;
    let mut config = brisk();
    config.k = K;
    config.upkeep.refresh = Duration::from_secs(1);
    config.request_timeout = Duration::from_secs(5);
    let mesh = LocalMesh::builder().nodes(30).config(config).seed(11).spawn().await.unwrap();
    let ids: Vec<NodeId> = mesh.nodes().iter().map(Node::id).collect();
    for node in mesh.nodes() {
        let own = node.id();
        let mut there = BTreeMap::<u32, usize>::new();
        for id in ids.iter().filter(|id| **id != own) {
            *there.entry(bucket(own, *id)).or_default() += 1;
        }
        let mut near: Vec<NodeId> = ids.iter().copied().filter(|id| *id != own).collect();
        near.sort_by_key(|id| id.distance(&own.to_key()));
        // Of a bucket that has more nodes than places, any may be members.
        let certain = near.into_iter().take(K).filter(|id| there[&bucket(own, *id)] <= K);
        let certain: Vec<NodeId> = certain.collect();
        until(PATIENCE, "the neighbours are known, and somebody in every bucket", || {
            let table = node.table();
            let mut held = BTreeMap::<u32, usize>::new();
            for id in &table {
                assert_ne!(*id, own);
                *held.entry(bucket(own, *id)).or_default() += 1;
            }
            assert!(held.values().all(|held| *held <= K), "{held:?}");
            held.len() == there.len() && certain.iter().all(|id| table.contains(id))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_is_gone_from_every_table_at_once() {
    let mesh = LocalMesh::builder().nodes(5).spawn().await.unwrap();
    let left = mesh.node(2).id();
    assert!(mesh.node(0).table().contains(&left));
    in_time(mesh.node(2).shutdown()).await;
    until(PATIENCE, "nobody knows it any more", || {
        let mut others = mesh.nodes().iter().filter(|node| node.id() != left);
        others.all(|node| node.table().len() == 3 && !node.table().contains(&left))
    })
    .await;
}

/// Answers pings, and every question for nodes with `contacts`.
async fn tell(mut raw: Raw, contacts: Vec<NodeId>) {
    let told = |mut lane: Stream, contacts: Vec<NodeId>| async move {
        while let Some((header, _)) = lane.frame().await {
            let mut out = BytesMut::new();
            if header.kind == Kind::FindNode as u8 {
                let mut reply = FindNodeReply::open(header.id, &mut out);
                for id in &contacts {
                    reply.push(id, ["127.0.0.1:9"], &mut out).unwrap();
                }
            }
            if lane.send.write_all(&out).await.is_err() {
                return;
            }
        }
    };
    loop {
        tokio::select! {
            frame = raw.control.frame() => {
                let Some((header, body)) = frame else { return };
                if let Ok(ping) = Ping::decode(&body) {
                    let mut out = BytesMut::new();
                    Pong { nonce: ping.nonce }.encode(header.id, &mut out).unwrap();
                    raw.control.send.write_all(&out).await.unwrap();
                }
            }
            lane = raw.connection.accept_bi() => {
                let Ok((send, recv)) = lane else { return };
                tokio::spawn(told(Stream::new(send, recv), contacts.clone()));
            }
        }
    }
}

/// Whom the node tells a stranger of.
async fn told_by(node: &Node, lane: &mut Stream, id: u64) -> Vec<NodeId> {
    let mut out = BytesMut::new();
    FindNode { target: node.id().to_key(), count: 20 }.encode(id, &mut out).unwrap();
    lane.send.write_all(&out).await.unwrap();
    let (header, body) = lane.frame().await.expect("an answer");
    assert_eq!(header.kind, Kind::FindNodeReply as u8);
    decode_find_node_reply(&body).unwrap().iter().map(|contact| contact.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_those_that_serve_and_were_met_are_told_of() {
    let liar = Acceptor::new();
    let address = PeerAddr::node(liar.id, Address::from(liar.addr));
    // They seem to be the closest there are.
    let node = Node::builder().config(brisk()).spawn().await.unwrap();
    let invented: Vec<NodeId> = (0..20)
        .map(|i| {
            let mut bytes = *node.id().as_bytes();
            bytes[31] ^= i + 1;
            NodeId::from_bytes(bytes)
        })
        .collect();
    let (known, told) = (liar.id, invented.clone());
    tokio::spawn(async move {
        while let Some(raw) = liar.accept().await {
            tokio::spawn(tell(raw, told.clone()));
        }
    });
    let honest = Node::builder().config(brisk()).bootstrap([node.peer_addr()]).spawn().await.unwrap();
    let client = Node::builder().serves(false).bootstrap([node.peer_addr()]).spawn().await.unwrap();
    in_time(node.join(&address)).await.unwrap();
    let stranger = Dialer::new().greet(node.local_addr()).await;
    let mut met = vec![known, honest.id()];
    met.sort_unstable();
    let mut lane = stranger.lane(Class::Request).await;
    for id in 1..4 {
        let mut told = in_time(told_by(&node, &mut lane, id)).await;
        told.sort_unstable();
        assert_eq!(told, met, "neither the client nor the stranger nor what was made up");
        // Another search hears the lies again.
        in_time(node.join(&address)).await.unwrap();
    }
    let mut table = node.table();
    table.sort_unstable();
    assert_eq!(table, met);
    for node in [client, honest, node] {
        node.shutdown().await;
    }
}
