//! The other way round: an honest node dials a peer that accepts it and then breaks the rules.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use foveola::addr::{Endpoint as Address, PeerAddr};
use foveola::wire::Kind;
use foveola::{CloseCode, Node, RequestError};
use quinn::VarInt;

use super::raw::{Acceptor, PATIENCE, Raw, claiming, close_code, frame};

/// A node and a peer that does `behave` with each of its connections.
async fn node_and_peer<F>(
    behave: impl Fn(Raw) -> F + Send + Sync + 'static,
) -> (Node, PeerAddr, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let acceptor = Acceptor::new();
    let peer = PeerAddr::node(acceptor.id, Address::from(acceptor.addr));
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Some(raw) = acceptor.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(behave(raw));
        }
    });
    let mut config = foveola::Config::default();
    config.join_timeout = Duration::from_secs(1);
    let node = Node::builder().config(config).spawn().await.unwrap();
    let _ = node.join(&peer).await;
    (node, peer, accepted)
}

/// Answers PINGs on the control lane for as long as there are any.
async fn pong(raw: &mut Raw) {
    while let Some((header, body)) = raw.control.frame().await {
        if header.kind == Kind::Ping as u8
            && raw.control.send.write_all(&frame(Kind::Pong as u8, 0, header.id, &body)).await.is_err()
        {
            return;
        }
    }
}

/// A lane cannot be opened twice, so a connection that lost one must make room for another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_ends_our_lanes_is_dialed_anew() {
    let (node, peer, accepted) = node_and_peer(|mut raw| async move {
        if raw.answer.dial < 3 {
            // A reset at once would take the answer to HELLO with it.
            tokio::select! {
                _ = raw.control.frame() => {}
                _ = raw.connection.accept_bi() => {}
            }
            let _ = raw.control.send.reset(VarInt::from_u32(1));
            let _ = raw.control.recv.stop(VarInt::from_u32(1));
            raw.connection.closed().await;
        } else {
            pong(&mut raw).await;
        }
    })
    .await;
    let id = peer.id().unwrap();
    // Before the silence of a lane would have closed the connection anyway.
    let deadline = Instant::now() + Duration::from_secs(6);
    loop {
        let answer = node.ping(id).await;
        if answer.is_ok() {
            break;
        }
        assert_ne!(answer, Err(RequestError::Timeout), "a lane that has ended is no reason to wait");
        assert!(Instant::now() < deadline, "{answer:?}: {}", node.pool().explain(id));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(accepted.load(Ordering::Relaxed) >= 3);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_no_lane_takes_closes_the_connection() {
    let (told, mut codes) = tokio::sync::mpsc::channel(4);
    let (node, _, _) = node_and_peer(move |mut raw| {
        let told = told.clone();
        async move {
            let _ = raw.control.send.write_all(&claiming(Kind::Pong as u8, 0, 1, (128 << 10) + 1, b"")).await;
            let _ = told.send(close_code(&raw.connection).await).await;
        }
    })
    .await;
    let code = tokio::time::timeout(PATIENCE, codes.recv()).await.unwrap().unwrap();
    assert_eq!(code, Some(u64::from(CloseCode::Protocol.to_u32())));
    node.shutdown().await;
}

/// Replies that nobody asked for are counted and dropped; the one that was asked for is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_that_nobody_asked_for_are_counted() {
    const UNASKED: u64 = 10_000;
    let (node, peer, _) = node_and_peer(|mut raw| async move {
        let mut bytes = Vec::new();
        for id in 0..UNASKED {
            bytes.extend_from_slice(&frame(0xff, 0, u64::MAX - id, b"nobody asked"));
        }
        if raw.control.send.write_all(&bytes).await.is_ok() {
            pong(&mut raw).await;
        }
    })
    .await;
    node.ping(peer.id().unwrap()).await.unwrap();
    assert_eq!(node.stats().late_replies, UNASKED);
    node.shutdown().await;
}
