//! Peers that do what is allowed, or nearly, as fast as they can.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use foveola::CloseCode;
use foveola::wire::{Class, GoAway, encode_cancel, encode_open};
use quinn::VarInt;

use super::raw::{Dialer, PATIENCE, frame, ping};
use super::{Verdict, Watch};

/// How long one storm lasts if nobody stops it.
const STORM: Duration = Duration::from_secs(2);
/// Streams that a peer may open in a second.
const STREAMS_PER_SECOND: u32 = 4_000;

/// Opens streams and resets them at once. A connection that was let live was not fast enough to matter.
async fn opens_and_resets(addr: SocketAddr) -> Verdict {
    let raw = Dialer::new().greet(addr).await;
    let mut open = BytesMut::new();
    encode_open(Class::Single, &mut open);
    let begun = Instant::now();
    let (mut opened, mut second, mut most) = (0_u32, (begun, 0), 0);
    while begun.elapsed() < STORM * 2 {
        let Ok((mut send, mut recv)) = raw.connection.open_bi().await else { break };
        let _ = send.write_all(&open).await;
        let _ = send.reset(VarInt::from_u32(9));
        let _ = recv.stop(VarInt::from_u32(9));
        opened += 1;
        second.1 += 1;
        if second.0.elapsed() > Duration::from_secs(1) {
            most = most.max(second.1);
            second = (Instant::now(), 0);
        }
    }
    println!("{opened} streams opened and reset in {:?}", begun.elapsed());
    if raw.connection.close_reason().is_none() && most < STREAMS_PER_SECOND {
        println!("at {most} streams in a second this machine is too slow for the limit");
        return Verdict::Closed(CloseCode::ExcessiveLoad);
    }
    Verdict::closed(raw.closed().await)
}

/// Writes `frames` on the control lane again and again, reading what comes back.
async fn storm(addr: SocketAddr, name: &str, frames: &[u8]) -> Verdict {
    let mut raw = Dialer::new().greet(addr).await;
    let begun = Instant::now();
    let mut bytes = 0;
    let (mut send, mut recv) = {
        let lane = raw.lane(Class::Bulk).await;
        (lane.send, lane.recv)
    };
    let reading =
        tokio::spawn(async move { while let Ok(Some(_)) = recv.read_chunk(1 << 20, false).await {} });
    while begun.elapsed() < STORM && send.write_all(frames).await.is_ok() {
        bytes += frames.len();
    }
    println!("{name}: {bytes} bytes in {:?}", begun.elapsed());
    reading.abort();
    Verdict::served(raw.is_served().await)
}

fn goaway() -> Vec<u8> {
    let mut out = BytesMut::new();
    GoAway { code: 77, last: [0, u64::MAX, 1, 2] }.encode(0, &mut out).unwrap();
    out.to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storms_of_frames_and_streams_leave_the_others_alone() {
    let mut watch = Watch::start().await;
    let addr = watch.victim.addr;
    assert_eq!(opens_and_resets(addr).await, Verdict::Closed(CloseCode::ExcessiveLoad), "open and reset");
    watch.settled("open and reset").await;

    let mut cancels = BytesMut::new();
    (0..1_000).for_each(|id| encode_cancel(id << 50, &mut cancels));
    let rows = [
        ("pings", ping(1).repeat(500)),
        ("cancels", cancels.to_vec()),
        ("empty frames of an unknown kind", frame(0xee, 0, 1, b"").repeat(1_000)),
        ("goodbyes", goaway().repeat(500)),
    ];
    for (name, frames) in rows {
        assert_eq!(storm(addr, name, &frames).await, Verdict::Served, "{name}");
        watch.settled(name).await;
    }
    watch.finish().await;
}

/// Connections that come and go, each with a HELLO: nothing of them stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_come_and_go_leave_nothing() {
    let mut watch = Watch::start().await;
    let addr = watch.victim.addr;
    let begun = Instant::now();
    let mut rounds = 0;
    while begun.elapsed() < STORM {
        // The endpoint goes with its connection, sometimes without a word.
        let raw = Dialer::new().greet(addr).await;
        raw.connection.close(VarInt::from_u32(rounds), b"\x1b[31m close reasons are bytes of the peer");
        rounds += 1;
    }
    println!("{rounds} connections in {:?}", begun.elapsed());
    assert!(rounds > 10);
    watch.settled("come and go").await;
    watch.finish().await;
}

/// Datagrams that are not QUIC, or nearly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_datagrams_are_not_noticed() {
    let mut watch = Watch::start().await;
    let addr = watch.victim.addr;
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let seed = 0x9e37_79b9_7f4a_7c15_u64;
    println!("seed {seed}");
    let mut state = seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut datagram = vec![0; 1_472];
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < STORM {
        datagram.fill_with(|| (next() >> 32) as u8);
        let len = usize::try_from(next() % 1_473).unwrap();
        if let [first, version @ ..] = &mut datagram[..] {
            match next() % 4 {
                // A long header of version 1, of a draft, of no version; a short header.
                0 => (*first, version[3]) = (0xc0 | *first & 0x3f, 1),
                1 => (*first, version[0]) = (0xc0 | *first & 0x3f, 0xff),
                2 => *first = 0x40 | *first & 0x3f,
                _ => {}
            }
            if next() % 2 == 0 {
                version[..3].fill(0);
            }
        }
        if socket.send_to(&datagram[..len], addr).await.is_ok() {
            sent += 1;
        }
    }
    println!("{sent} datagrams in {:?}", begun.elapsed());
    let mut raw = tokio::time::timeout(PATIENCE, Dialer::new().greet(addr)).await.unwrap();
    assert!(raw.is_served().await);
    drop(raw);
    assert!(sent > 1_000);
    watch.settled("garbage").await;
    watch.finish().await;
}
