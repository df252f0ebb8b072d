//! Before HELLO: strangers with valid keys who say nothing, too much, or the wrong thing.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use foveola::CloseCode;
use foveola::wire::{Class, Grant, Hello};
use quinn::VarInt;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::raw::{Dialer, PATIENCE, claiming, close_code, frame, hello, hello_frame, ping};
use super::{Verdict, Watch};

/// A body that no HELLO has.
const OVER_HELLO: u32 = (16 << 10) + 1;
/// Handshakes under way above which addresses must be proved, and that there are at most.
const RETRY_ABOVE: usize = 64;
const HANDSHAKES_MAX: usize = 128;

/// How the first stream ends after the bytes of the attacker.
#[derive(Debug, Clone, Copy)]
enum Then {
    Silence,
    End,
    Reset,
}

async fn say(addr: SocketAddr, bytes: Vec<u8>, then: Then) -> Verdict {
    let connection = Dialer::new().handshake(addr).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let _ = send.write_all(&bytes).await;
    match then {
        Then::Silence => {}
        Then::End => send.finish().unwrap_or(()),
        Then::Reset => send.reset(VarInt::from_u32(3)).unwrap_or(()),
    }
    Verdict::closed(close_code(&connection).await)
}

fn rows() -> Vec<(&'static str, Vec<u8>, Then, CloseCode)> {
    use Then::{End, Reset, Silence};
    let valid = hello_frame(&hello());
    let half = valid[..valid.len() / 2].to_vec();
    let other = |change: fn(&mut Hello)| {
        let mut hello = hello();
        change(&mut hello);
        hello_frame(&hello)
    };
    let mut padded = vec![0xc4_u8, 255];
    padded.extend_from_slice(&[0; 255]);
    vec![
        ("half a HELLO", half.clone(), Silence, CloseCode::HelloTimeout),
        ("half a HELLO and an end", half.clone(), End, CloseCode::Protocol),
        ("half a HELLO and a reset", half, Reset, CloseCode::Protocol),
        ("an end at once", Vec::new(), End, CloseCode::Protocol),
        ("PING first", ping(1), Silence, CloseCode::Protocol),
        ("a lane first", frame(0x07, 1, 0, b""), Silence, CloseCode::Protocol),
        ("an unknown frame first", frame(0x66, 1, 0, b""), Silence, CloseCode::Protocol),
        ("a HELLO of 4 GiB", claiming(0x01, 0, 0, u32::MAX, b""), Silence, CloseCode::Protocol),
        ("a HELLO of 16 KiB and a byte", claiming(0x01, 0, 0, OVER_HELLO, b""), Silence, CloseCode::Protocol),
        ("a HELLO that is no map", frame(0x01, 0, 0, &padded), Silence, CloseCode::Protocol),
        ("an empty HELLO", frame(0x01, 0, 0, b"\x80"), Silence, CloseCode::Protocol),
        ("another realm", other(|hello| hello.realm.push('x')), Silence, CloseCode::Realm),
        ("a later version", other(|hello| hello.version_min = 2), Silence, CloseCode::Version),
        ("version zero", other(|hello| hello.version_max = 0), Silence, CloseCode::Version),
        (
            "nothing granted",
            other(|hello| hello.grants = [Grant::default(); Class::LANES]),
            Silence,
            CloseCode::Protocol,
        ),
    ]
}

/// Closed with `code`, after `seconds` and not much more.
async fn closed_after(name: &str, connection: &quinn::Connection, begun: Instant, seconds: u64) -> Verdict {
    let verdict = Verdict::closed(close_code(connection).await);
    let took = begun.elapsed();
    println!("{name}: {verdict:?} after {took:?}");
    let due = Duration::from_secs(seconds);
    assert!(
        took + Duration::from_millis(100) > due && took < due + Duration::from_secs(2),
        "{name}: {took:?}"
    );
    verdict
}

async fn silent(addr: SocketAddr) -> Verdict {
    let begun = Instant::now();
    let connection = Dialer::new().handshake(addr).await.unwrap();
    closed_after("silence", &connection, begun, 2).await
}

/// The first stream exists, because the second was used, and is not the second.
async fn second_stream_first(addr: SocketAddr) -> Verdict {
    let begun = Instant::now();
    let connection = Dialer::new().handshake(addr).await.unwrap();
    let _first = connection.open_bi().await.unwrap();
    let (mut second, _recv) = connection.open_bi().await.unwrap();
    second.write_all(&hello_frame(&hello())).await.unwrap();
    closed_after("HELLO on the second stream", &connection, begun, 2).await
}

/// HELLO is right, but the answer cannot be sent: the attacker takes nothing.
async fn takes_no_answer(addr: SocketAddr) -> Verdict {
    let dialer = Dialer::with(|transport| {
        transport.stream_receive_window(VarInt::from_u32(0));
    });
    let begun = Instant::now();
    let connection = dialer.handshake(addr).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&hello_frame(&hello())).await.unwrap();
    closed_after("no room for the answer", &connection, begun, 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_say_hello_properly_is_told_why_and_let_go() {
    let mut watch = Watch::start().await;
    let addr = watch.victim.addr;
    let mut attacks = JoinSet::new();
    for (name, bytes, then, code) in rows() {
        attacks.spawn(async move {
            assert_eq!(say(addr, bytes, then).await, Verdict::Closed(code), "{name}");
        });
    }
    attacks.spawn(async move {
        assert_eq!(silent(addr).await, Verdict::Closed(CloseCode::HelloTimeout));
    });
    attacks.spawn(async move {
        assert_eq!(second_stream_first(addr).await, Verdict::Closed(CloseCode::HelloTimeout));
    });
    attacks.spawn(async move {
        assert_eq!(takes_no_answer(addr).await, Verdict::Closed(CloseCode::HelloTimeout));
    });
    let count = attacks.len() as u64;
    attacks.join_all().await;
    watch.settled("before HELLO").await;
    let seen = watch.victim.figures().await.refusals - watch.base.refusals;
    // The last two rows were refused, or given up, after their HELLO was accepted.
    assert!(seen >= count - 2, "{seen} of {count} attempts are known to the node");
    watch.finish().await;
}

/// First packets of as many handshakes, none of which goes on.
async fn first_packets(count: usize) -> Vec<Vec<u8>> {
    let trap = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = trap.local_addr().unwrap();
    let dialer = Dialer::new();
    let _dials: Vec<_> = (0..count).map(|_| dialer.connecting(addr)).collect();
    let mut seen = BTreeSet::new();
    let mut packets = Vec::new();
    let mut packet = vec![0; 2_048];
    while packets.len() < count {
        let len = tokio::time::timeout(PATIENCE, trap.recv(&mut packet)).await.expect("a packet").unwrap();
        // Behind the first byte and the version, the connection id that the dialer has chosen (RFC 8999).
        let id_len = usize::from(packet[5]);
        if seen.insert(packet[6..6 + id_len].to_vec()) {
            packets.push(packet[..len].to_vec());
        }
    }
    packets
}

/// What the node answers to a first packet: the type of its long header (RFC 9000, section 17.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Initial,
    Retry,
    Nothing,
}

async fn knock(addr: SocketAddr, packet: Vec<u8>) -> (UdpSocket, Answer) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(&packet, addr).await.unwrap();
    let mut answer = [0; 2_048];
    let got = tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut answer)).await;
    // The second bit is chance (RFC 9287).
    let answer = match (got, answer[0] & 0b1011_0000) {
        (Ok(Ok(_)), 0b1000_0000) => Answer::Initial,
        (Ok(Ok(_)), 0b1011_0000) => Answer::Retry,
        _ => Answer::Nothing,
    };
    (socket, answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_handshakes_are_bounded_and_disturb_nobody() {
    let mut watch = Watch::start().await;
    let addr = watch.victim.addr;
    let packets = first_packets(200).await;
    let begun = Instant::now();
    let mut knocks = JoinSet::new();
    for packet in packets {
        knocks.spawn(knock(addr, packet));
    }
    let answers: Vec<_> = knocks.join_all().await;
    let count = |wanted| answers.iter().filter(|(_, answer)| *answer == wanted).count();
    println!("{} entered, {} were asked to retry", count(Answer::Initial), count(Answer::Retry));
    assert_eq!(count(Answer::Initial), RETRY_ABOVE, "let in without proof of their address");
    assert_eq!(count(Answer::Retry), 200 - RETRY_ABOVE);

    // Strangers who prove their addresses fill the rest; those above the limit hear nothing.
    let mut strangers = JoinSet::new();
    for _ in 0..100 {
        strangers.spawn(async move {
            let dialer = Dialer::new();
            let dialed = tokio::time::timeout(Duration::from_millis(1_500), dialer.handshake(addr)).await;
            // Held on to, because whoever goes makes room.
            dialed.ok().and_then(Result::ok).map(|connection| (dialer, connection))
        });
    }
    let held: Vec<_> = strangers.join_all().await.into_iter().flatten().collect();
    let entered = held.len();
    println!("{entered} of 100 strangers entered, {:?} after the first packet", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5), "too slow to tell: the half-open ones are gone");
    assert!(entered > 0 && entered <= HANDSHAKES_MAX - RETRY_ABOVE, "{entered} entered");
    watch.settled("half-open handshakes").await;
    for (_, connection) in &held {
        assert_eq!(close_code(connection).await, Some(u64::from(CloseCode::HelloTimeout.to_u32())));
    }
    let mut raw = Dialer::new().greet(addr).await;
    assert!(raw.is_served().await, "the gate is open again");
    drop(raw);
    watch.settled("the last one").await;
    watch.finish().await;
}
