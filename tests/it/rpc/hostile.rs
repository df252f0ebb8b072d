//! Peers that call as no honest node does.

use bytes::{Bytes, BytesMut};
use foveola::wire::{Call, CallStatus, Class, Decoder, Failed, Kind, Reply, encode_cancel, encode_open};
use foveola::{CloseCode, Config, HandlerError, Node, Request};

use super::{SECOND, echo};
use crate::hostile::raw::{claiming, frame};
use crate::nodes::{RawPeer, config, next_frame, node};
use crate::util::{in_time, until};

struct Lane {
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    decoder: Decoder,
}

impl Lane {
    async fn open(raw: &RawPeer, class: Class) -> Self {
        let (mut send, recv) = raw.connection.open_bi().await.unwrap();
        let mut out = BytesMut::new();
        encode_open(class, &mut out);
        send.write_all(&out).await.unwrap();
        Self { send, recv, decoder: Decoder::new(1 << 20) }
    }

    async fn call(&mut self, id: u64, call: Call<'_>) {
        let mut out = BytesMut::new();
        call.encode(id, 0, &mut out).unwrap();
        self.send.write_all(&out).await.unwrap();
    }

    async fn frame(&mut self) -> (u8, u64, Vec<u8>) {
        in_time(next_frame(&mut self.recv, &mut self.decoder)).await
    }

    async fn status(&mut self, id: u64) -> CallStatus {
        let (kind, of, body) = self.frame().await;
        assert_eq!((kind, of), (Kind::Reply as u8, id));
        Reply::decode(&body).unwrap().status
    }
}

/// An array of four: the layout, and what follows.
fn body(tail: &[u8]) -> Vec<u8> {
    [&[0x94, foveola::wire::LAYOUT][..], tail].concat()
}

fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let call = |body: &[u8]| frame(Kind::Call as u8, 0, 1, body);
    let long = [&[0xda, 1, 0][..], &[b'x'; 256], &[1, 0xc4, 0]].concat();
    vec![
        ("no body", call(b"")),
        ("no array", call(&[0xc0])),
        ("too few values", call(&[0x93, foveola::wire::LAYOUT, 0xa1, b'x', 1])),
        ("too many values", call(&[0x95, foveola::wire::LAYOUT, 0xa1, b'x', 1, 0xc4, 0, 1])),
        ("a byte too many", call(&body(&[0xa1, b'x', 1, 0xc4, 0, 0]))),
        ("another layout", call(&[0x94, foveola::wire::LAYOUT + 1, 0xa1, b'x', 1, 0xc4, 0])),
        ("a name of 256 bytes", call(&body(&long))),
        ("a name that claims 2^32-1 bytes", call(&body(&[0xdb, 255, 255, 255, 255]))),
        ("a name that is no UTF-8", call(&body(&[0xa2, 0xff, 0xff, 1, 0xc4, 0]))),
        ("a name that is a number", call(&body(&[1, 1, 0xc4, 0]))),
        ("arguments that claim 2^32-1 bytes", call(&body(&[0xa1, b'x', 1, 0xc6, 255, 255, 255, 255]))),
        (
            "a timeout that is no u32",
            call(&body(&[0xa1, b'x', 0xcf, 255, 255, 255, 255, 255, 255, 255, 255, 0xc4, 0])),
        ),
        ("a negative timeout", call(&body(&[0xa1, b'x', 0xff, 0xc4, 0]))),
        ("a call that claims more than a lane takes", claiming(Kind::Call as u8, 0, 1, 1 << 20, b"")),
        ("a reply that nobody asked for", frame(Kind::Reply as u8, 0, 1, &body(&[0, 0, 0xc4, 0]))),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_call_ends_its_connection_and_nothing_else() {
    let target: Node = node(62_000, Config::default()).await;
    let _service = target.rpc().advertise_raw("x", echo).await.unwrap();
    let honest = node(62_001, Config::default()).await;
    honest.join(&target.peer_addr()).await.unwrap();
    for (n, (what, bytes)) in (62_100..).zip(malformed()) {
        let raw = RawPeer::dial(n, &target, 1 << 20).await;
        let mut lane = Lane::open(&raw, Class::Request).await;
        let _ = lane.send.write_all(&bytes).await;
        let quinn::ConnectionError::ApplicationClosed(close) = in_time(raw.connection.closed()).await else {
            panic!("{what}: the connection was not closed")
        };
        let code = CloseCode::from_u32(u32::try_from(close.error_code.into_inner()).unwrap());
        assert_eq!(code, CloseCode::Protocol, "{what}");
        let fine = honest.rpc().call_raw("x", "fine").node(target.id()).await;
        assert_eq!(fine, Ok(Bytes::from("fine")), "{what}");
    }
    let calls = u64::try_from(malformed().len()).unwrap();
    assert_eq!((target.stats().calls_served, target.stats().handlers), (calls, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_calls_that_are_whole_are_answered() {
    let target: Node = node(62_200, Config::default()).await;
    let slow = |request: Request| async move {
        tokio::time::sleep(SECOND / 50).await;
        Ok::<_, HandlerError>(request.args)
    };
    let _service = target.rpc().advertise_raw("x", slow).await.unwrap();
    let raw = RawPeer::dial(62_201, &target, 1 << 20).await;
    let mut lane = Lane::open(&raw, Class::Request).await;
    let longest = "n".repeat(255);
    for (id, service) in (1..).zip(["", "no such", &longest, "\u{0}", "../..", "x\n"]) {
        lane.call(id, Call { service, timeout_ms: 1_000, args: b"" }).await;
        assert_eq!(lane.status(id).await, CallStatus::NoService, "{service:?}");
    }
    lane.call(20, Call { service: "x", timeout_ms: u32::MAX, args: b"" }).await;
    assert_eq!(lane.status(20).await, CallStatus::Done, "a long time is cut, not overflown");
    lane.call(21, Call { service: "x", timeout_ms: 0, args: b"" }).await;
    assert_eq!(lane.status(21).await, CallStatus::Late, "without time it does not wait");
    // The same id twice is one promise, which nobody can keep.
    for _ in 0..2 {
        lane.call(22, Call { service: "x", timeout_ms: 5_000, args: b"" }).await;
    }
    let (kind, of, _) = lane.frame().await;
    assert_eq!((kind, of), (Kind::Failed as u8, 22));
    lane.call(23, Call { service: "x", timeout_ms: 5_000, args: b"" }).await;
    assert_eq!(lane.status(23).await, CallStatus::Done);
    until(5 * SECOND, "nothing is left", || target.stats().handlers == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_has_more_in_flight_than_it_was_granted_is_cut_off() {
    let roomy = config(|config| config.rpc.running = 1 << 20);
    let target: Node = node(62_300, roomy).await;
    let never = |_: Request| std::future::pending::<Result<Bytes, HandlerError>>();
    let _service = target.rpc().advertise_raw("never", never).concurrency(1 << 20).await.unwrap();
    let _echo = target.rpc().advertise_raw("echo", echo).await.unwrap();
    let honest = node(62_301, Config::default()).await;
    honest.join(&target.peer_addr()).await.unwrap();
    let raw = RawPeer::dial(62_302, &target, 1 << 20).await;
    let mut lane = Lane::open(&raw, Class::Request).await;
    let mut most = 0;
    for id in 0..100_000 {
        let mut out = BytesMut::new();
        Call { service: "never", timeout_ms: 60_000, args: b"x" }.encode(id, 0, &mut out).unwrap();
        if lane.send.write_all(&out).await.is_err() {
            break;
        }
        most = most.max(target.stats().handlers);
    }
    let closed = in_time(raw.connection.closed()).await;
    assert!(matches!(closed, quinn::ConnectionError::ApplicationClosed(_)), "{closed}");
    println!("{most} handlers at most");
    // What was granted, and the one that was not.
    assert!((1..=4_097).contains(&most), "{most} handlers");
    let fine = honest.rpc().call_raw("echo", "fine").node(target.id()).await;
    assert_eq!(fine, Ok(Bytes::from("fine")));
    until(5 * SECOND, "its handlers are stopped", || target.stats().handlers == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_is_answered_once_and_its_room_is_free() {
    let target: Node = node(62_400, Config::default()).await;
    let never = |_: Request| std::future::pending::<Result<Bytes, HandlerError>>();
    let _service = target.rpc().advertise_raw("never", never).await.unwrap();
    let raw = RawPeer::dial(62_401, &target, 1 << 20).await;
    let mut lane = Lane::open(&raw, Class::Request).await;
    for id in 1..=200 {
        lane.call(id, Call { service: "never", timeout_ms: 60_000, args: b"" }).await;
        until(5 * SECOND, "it runs", || target.stats().handlers == 1).await;
        let mut out = BytesMut::new();
        encode_cancel(id, &mut out);
        lane.send.write_all(&out).await.unwrap();
        let (kind, of, body) = lane.frame().await;
        assert_eq!((kind, of), (Kind::Failed as u8, id));
        assert_eq!(Failed::decode(&body).unwrap().code, Failed::ABANDONED);
        until(5 * SECOND, "it is stopped", || target.stats().handlers == 0).await;
    }
    assert_eq!(target.stats().handlers_cancelled, 200);
}
