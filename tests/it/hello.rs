//! Ready means HELLO_ACK: who is refused after TLS learns why, and is not heard before it is let in.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use foveola::addr::PeerAddr;
use foveola::mesh::RealmCa;
use foveola::wire::{self, Grant, Hello, Kind, Ping, Pong, Status};
use foveola::{AcquireError, Admit, AttemptError, CloseCode, Config, Lost, Node, Trust};
use quinn::ConnectionError;

use crate::tls::raw::{self, Met, Raw, framed, hello, identity};
use crate::tls::{join_error, let_nobody_in, pinned};
use crate::util::{PATIENCE, in_time, until};

/// Default of the time for HELLO, and what a busy machine may add to it.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_millis(1_300);

async fn met(raw: &Raw, node: &Node) -> Met {
    raw.dial(node.local_addr()).await.unwrap()
}

fn told(error: &ConnectionError, code: CloseCode) {
    assert_eq!(raw::close_code(error), Some(code), "{error:?}");
}

/// A node closes with `code` on a peer that says `hello` and does not wait before it stores a record.
async fn refuses(hello: &Hello, code: CloseCode) {
    let (node, raw) = (pinned(1).await, Raw::honest(2));
    let met = met(&raw, &node).await;
    let _lanes = raw.barge_in(&met.connection, hello).await;
    told(&in_time(met.connection.closed()).await, code);
    let_nobody_in(&node, &[Lost::ByUs(code)]).await;
}

/// A node closes with `code` on an acceptor that answers its HELLO with `answer`, or not at all.
async fn refuses_answer(answer: Option<Hello>, code: CloseCode) {
    let (dialer, endpoint) = (pinned(1).await, Raw::honest(2).listen());
    let address = PeerAddr::node(identity(2).node_id(), endpoint.local_addr().unwrap());
    let answering = async {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let (mut send, mut recv) = connection.accept_bi().await.unwrap();
        let asked = Hello::decode(&raw::frame(&mut recv, Kind::Hello).await).unwrap();
        if let Some(answer) = answer {
            let answer = Hello { dial: asked.dial, ..answer };
            send.write_all(&framed(|out| answer.encode_ack(0, out).unwrap())).await.unwrap();
        }
        connection.closed().await
    };
    let (end, error) = tokio::join!(in_time(answering), join_error(&dialer, &address));
    assert_eq!(error, AttemptError::Hello(code));
    told(&end, code);
}

#[tokio::test]
async fn another_realm() {
    let start = |seed, realm| Node::builder().identity(identity(seed)).realm(realm).spawn();
    let (a, b) = (start(1, "a.mesh").await.unwrap(), start(2, "b.mesh").await.unwrap());
    let error = join_error(&a, &b.peer_addr()).await;
    assert_eq!(error, AttemptError::Lost(Lost::ByPeer(CloseCode::Realm)));
    let_nobody_in(&b, &[Lost::ByUs(CloseCode::Realm)]).await;
    refuses(&Hello { realm: "a.mesh".into(), ..hello() }, CloseCode::Realm).await;
    refuses_answer(Some(Hello { realm: "a.mesh".into(), ..hello() }), CloseCode::Realm).await;
}

#[tokio::test]
async fn no_common_version() {
    for (version_min, version_max) in [(2, 9), (0, 0)] {
        let other = Hello { version_min, version_max, ..hello() };
        refuses(&other, CloseCode::Version).await;
        refuses_answer(Some(other), CloseCode::Version).await;
    }
}

/// Nobody could ever send a request on a lane without a grant.
#[tokio::test]
async fn a_lane_without_a_grant() {
    for lane in 0..4 {
        let mut other = hello();
        other.grants[lane] = match lane % 2 {
            0 => Grant { requests: 0, bytes: 1 },
            _ => Grant { requests: 1, bytes: 0 },
        };
        refuses(&other, CloseCode::Protocol).await;
        refuses_answer(Some(other), CloseCode::Protocol).await;
    }
}

#[tokio::test]
async fn an_acceptor_that_is_full() {
    let mut config = Config::default();
    (config.pool.soft_limit, config.pool.hard_limit) = (1, 1);
    let full = Node::builder().identity(identity(1)).config(config).spawn().await.unwrap();
    let (first, second) = (pinned(2).await, pinned(3).await);
    assert_eq!(first.join(&full.peer_addr()).await, Ok(full.id()));
    let _lease = full.pool().lease(first.id(), PATIENCE).await.unwrap();
    let error = join_error(&second, &full.peer_addr()).await;
    assert_eq!(error, AttemptError::Lost(Lost::ByPeer(CloseCode::Full)));
    let kept = || full.pool().refusals();
    until(PATIENCE, "the refusal is on record", || !kept().is_empty()).await;
    assert_eq!(kept(), [Lost::ByUs(CloseCode::Full)]);
    assert_eq!(full.pool().stats().refused, 1);
    assert_eq!((full.pool().residents(), full.stats().table_nodes), (vec![first.id()], 1));
    assert!(first.ping(full.id()).await.is_ok());
}

#[tokio::test]
async fn a_hello_that_never_comes() {
    let node = pinned(1).await;
    let met = met(&Raw::honest(2), &node).await;
    let begun = Instant::now();
    told(&in_time(met.connection.closed()).await, CloseCode::HelloTimeout);
    let took = begun.elapsed();
    assert!((HELLO_TIMEOUT / 2..HELLO_TIMEOUT + SLACK).contains(&took), "{took:?}");
    let_nobody_in(&node, &[Lost::ByUs(CloseCode::HelloTimeout)]).await;
    refuses_answer(None, CloseCode::HelloTimeout).await;
}

/// Whoever begins late and goes on slowly has no more time than he who says nothing.
#[tokio::test]
async fn a_hello_that_dribbles() {
    let node = pinned(1).await;
    let met = met(&Raw::honest(2), &node).await;
    let begun = Instant::now();
    let dribble = async {
        let whole = framed(|out| hello().encode(0, out).unwrap());
        let start = tokio::time::Instant::now() + HELLO_TIMEOUT * 3 / 4;
        let mut ticks = tokio::time::interval_at(start, Duration::from_millis(50));
        ticks.tick().await;
        let (mut send, _recv) = met.connection.open_bi().await.unwrap();
        for byte in whole.chunks(1) {
            if send.write_all(byte).await.is_err() {
                break;
            }
            ticks.tick().await;
        }
    };
    let (error, ()) = tokio::join!(in_time(met.connection.closed()), dribble);
    told(&error, CloseCode::HelloTimeout);
    assert!(begun.elapsed() < HELLO_TIMEOUT + SLACK, "{:?}", begun.elapsed());
    let_nobody_in(&node, &[Lost::ByUs(CloseCode::HelloTimeout)]).await;
}

#[tokio::test]
async fn another_frame_than_hello() {
    let node = pinned(1).await;
    let met = met(&Raw::honest(2), &node).await;
    let (mut send, _recv) = met.connection.open_bi().await.unwrap();
    let ping = framed(|out| Ping { nonce: 1 }.encode(1, out).unwrap());
    send.write_all(&ping).await.unwrap();
    told(&in_time(met.connection.closed()).await, CloseCode::Protocol);
    let_nobody_in(&node, &[Lost::ByUs(CloseCode::Protocol)]).await;
}

/// Stores a record on a stream behind the one where HELLO belongs, and waits until QUIC has delivered it.
async fn stored_early(raw: &Raw, met: &Met) -> [(quinn::SendStream, quinn::RecvStream); 2] {
    let control = met.connection.open_bi().await.unwrap();
    let mut request = met.connection.open_bi().await.unwrap();
    request.0.write_all(&raw.store()).await.unwrap();
    request.0.finish().unwrap();
    assert_eq!(in_time(request.0.stopped()).await, Ok(None), "delivered");
    [control, request]
}

#[tokio::test]
async fn no_stream_is_read_before_hello() {
    let (node, raw) = (pinned(1).await, Raw::honest(2));
    let met = met(&raw, &node).await;
    let _streams = stored_early(&raw, &met).await;
    told(&in_time(met.connection.closed()).await, CloseCode::HelloTimeout);
    let_nobody_in(&node, &[Lost::ByUs(CloseCode::HelloTimeout)]).await;
}

#[tokio::test]
async fn what_came_before_hello_is_read_after_it() {
    let (node, raw) = (pinned(1).await, Raw::honest(2));
    let met = met(&raw, &node).await;
    let [mut control, mut request] = stored_early(&raw, &met).await;
    let_nobody_in(&node, &[]).await;
    let hello = framed(|out| hello().encode(0, out).unwrap());
    control.0.write_all(&hello).await.unwrap();
    raw::frame(&mut control.1, Kind::HelloAck).await;
    let reply = raw::frame(&mut request.1, Kind::StoreReply).await;
    assert_eq!(wire::decode_store_reply(&reply), Ok(vec![Status::Applied]));
    assert_eq!(node.stats().held_records, 1);
}

#[tokio::test]
async fn requests_may_follow_a_valid_hello_at_once() {
    let (node, raw) = (pinned(1).await, Raw::honest(2));
    let met = met(&raw, &node).await;
    let mut lanes = raw.barge_in(&met.connection, &hello()).await.unwrap();
    let ping: BytesMut = framed(|out| Ping { nonce: 7 }.encode(1, out).unwrap());
    lanes.control.0.write_all(&ping).await.unwrap();
    raw::frame(&mut lanes.control.1, Kind::HelloAck).await;
    let pong = raw::frame(&mut lanes.control.1, Kind::Pong).await;
    assert_eq!(Pong::decode(&pong), Ok(Pong { nonce: 7 }));
    let reply = raw::frame(&mut lanes.request.1, Kind::StoreReply).await;
    assert_eq!(wire::decode_store_reply(&reply), Ok(vec![Status::Applied]));
    assert_eq!((node.stats().held_records, node.stats().table_nodes), (1, 1));
    assert_eq!(node.pool().residents(), [identity(2).node_id()]);
    assert_eq!(node.pool().refusals(), []);
}

#[tokio::test]
async fn a_node_does_not_connect_to_itself() {
    let node = pinned(1).await;
    assert_eq!(node.join(&node.peer_addr()).await, Err(AcquireError::SelfDial));
    let_nobody_in(&node, &[]).await;

    // Under an address that does not say who is there, it finds out in HELLO.
    let ca = RealmCa::generate();
    let trust: Trust = ca.trust(&identity(1), Admit::Open);
    let node = Node::builder().identity(identity(1)).trust(trust).spawn().await.unwrap();
    let error = join_error(&node, &PeerAddr::any(node.local_addr())).await;
    assert_eq!(error, AttemptError::Lost(Lost::ByPeer(CloseCode::SelfDial)));
    let_nobody_in(&node, &[Lost::ByUs(CloseCode::SelfDial)]).await;
}
