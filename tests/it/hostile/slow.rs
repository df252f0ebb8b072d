//! Peers that take their time: streams that are begun and not ended cost the stream, at the time its
//! deadline says, and never the connection.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foveola::wire::{Class, Kind, encode_open};
use quinn::{SendStream, VarInt, WriteError};

use super::raw::{Dialer, PATIENCE, claiming, frame, ping};
use super::{Verdict, Watch};

/// Between two bytes of a peer that dribbles.
const DRIP: Duration = Duration::from_millis(100);

/// Sends `bytes` one by one, over and over; returns after how long the node would have no more.
async fn dribble(send: &mut SendStream, bytes: &[u8]) -> Option<Duration> {
    let begun = Instant::now();
    let mut every = tokio::time::interval(DRIP);
    for byte in bytes.iter().cycle() {
        every.tick().await;
        match send.write_all(&[*byte]).await {
            Ok(()) if begun.elapsed() < PATIENCE => {}
            Err(WriteError::Stopped(_)) => return Some(begun.elapsed()),
            _ => return None,
        }
    }
    None
}

/// Whether `took` is the deadline of `seconds` and no more than the machine's slowness.
fn in_time(name: &str, took: Option<Duration>, seconds: u64) -> bool {
    println!("{name}: given up after {took:?}");
    let due = Duration::from_secs(seconds);
    took.is_some_and(|took| took + DRIP > due && took < due + Duration::from_secs(2))
}

async fn header_never_whole(addr: SocketAddr) -> Verdict {
    let mut raw = Dialer::new().greet(addr).await;
    let mut stream = raw.stream().await;
    // The body of an unknown first frame would be waited for, too.
    let took = dribble(&mut stream.send, &claiming(0x07, 1, 0, 60_000, b"")).await;
    Verdict::stream_only(in_time("first frame, dribbled", took, 2), raw.is_served().await)
}

async fn body_never_whole(addr: SocketAddr) -> Verdict {
    let mut raw = Dialer::new().greet(addr).await;
    let mut lane = raw.lane(Class::Bulk).await;
    let took = dribble(&mut lane.send, &claiming(0x14, 0, 1, 60_000, b"")).await;
    Verdict::stream_only(in_time("frame on a lane, dribbled", took, 5), raw.is_served().await)
}

async fn single_never_whole(addr: SocketAddr) -> Verdict {
    let mut raw = Dialer::new().greet(addr).await;
    let mut stream = raw.lane(Class::Single).await;
    let took = dribble(&mut stream.send, &claiming(0x14, 0, 1, 60_000, b"")).await;
    Verdict::stream_only(in_time("frame on a stream of its own, dribbled", took, 5), raw.is_served().await)
}

/// The deadline of a frame holds whatever whole frames came before it.
async fn body_stops_halfway(addr: SocketAddr) -> Verdict {
    let mut raw = Dialer::new().greet(addr).await;
    let mut lane = raw.lane(Class::Request).await;
    let mut bytes = ping(1);
    bytes.extend_from_slice(&claiming(0x14, 0, 2, 1_000, &[0; 999]));
    lane.send.write_all(&bytes).await.unwrap();
    let answered = lane.reply().await.is_some_and(|(header, _)| header.kind == Kind::Pong as u8);
    Verdict::stream_only(answered && lane.is_given_up().await, raw.is_served().await)
}

/// A stream that exists only because a later one was used has no byte at all.
async fn no_byte(addr: SocketAddr) -> Verdict {
    let mut raw = Dialer::new().greet(addr).await;
    let begun = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(raw.stream().await);
    }
    let _lane = raw.lane(Class::Request).await;
    let mut given_up = true;
    for stream in &mut silent {
        given_up &= stream.is_given_up().await;
    }
    let in_time = in_time("40 streams without a byte", Some(begun.elapsed()), 2);
    Verdict::stream_only(given_up && in_time, raw.is_served().await)
}

/// Asks and asks and never reads an answer, until no more is taken.
async fn never_reads(addr: SocketAddr) -> Verdict {
    let dialer = Dialer::with(|transport| {
        transport.stream_receive_window(VarInt::from_u32(2_048)).receive_window(VarInt::from_u32(64 << 10));
    });
    let mut raw = dialer.greet(addr).await;
    let mut lane = raw.lane(Class::Request).await;
    let asks = ping(1).repeat(1_000);
    let begun = Instant::now();
    let stopped = loop {
        match tokio::time::timeout(PATIENCE, lane.send.write_all(&asks)).await {
            Ok(Ok(())) => {}
            Ok(Err(WriteError::Stopped(_))) => break true,
            _ => break false,
        }
    };
    println!("a peer that never reads: given up after {:?}", begun.elapsed());
    Verdict::stream_only(stopped, raw.is_served().await)
}

/// Whole frames in single bytes are slow, and nothing worse.
async fn single_bytes(addr: SocketAddr) -> Verdict {
    let mut raw = Dialer::new().greet(addr).await;
    let mut lane = raw.stream().await;
    let mut bytes = bytes::BytesMut::new();
    encode_open(Class::Request, &mut bytes);
    bytes.extend_from_slice(&ping(3));
    for byte in bytes {
        lane.send.write_all(&[byte]).await.unwrap();
        // Each byte in a packet of its own, as far as the scheduler lets it.
        tokio::task::yield_now().await;
    }
    let answered = lane.reply().await.is_some_and(|(header, _)| header.id == 3);
    Verdict::served(answered && raw.is_served().await)
}

async fn ends_early(addr: SocketAddr) -> Verdict {
    let mut raw = Dialer::new().greet(addr).await;
    let mut ended = raw.lane(Class::Request).await;
    ended.send.write_all(&claiming(0x14, 0, 1, 100, &[0; 99])).await.unwrap();
    ended.send.finish().unwrap();
    let silent = ended.reply().await.is_none();
    let mut reset = raw.lane(Class::Bulk).await;
    reset.send.write_all(&claiming(0x14, 0, 1, 100, &[0; 50])).await.unwrap();
    reset.send.reset(VarInt::from_u32(77)).unwrap();
    let given_up = reset.is_given_up().await;
    let mut single = raw.lane(Class::Single).await;
    single.send.finish().unwrap();
    Verdict::stream_only(silent && given_up && single.is_given_up().await, raw.is_served().await)
}

/// Refuses every answer: the node keeps its own side of the lane short, and the connection.
async fn stops_answers(addr: SocketAddr) -> Verdict {
    let mut raw = Dialer::new().greet(addr).await;
    let mut lane = raw.lane(Class::Request).await;
    lane.recv.stop(VarInt::from_u32(5)).unwrap();
    let stopped = async {
        while lane.send.write_all(&ping(1)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let given_up = tokio::time::timeout(PATIENCE, stopped).await.is_ok();
    Verdict::stream_only(given_up, raw.is_served().await)
}

/// What this version does not know is answered as such.
async fn unknown_kind(addr: SocketAddr) -> Verdict {
    let mut raw = Dialer::new().greet(addr).await;
    let mut lane = raw.lane(Class::Publish).await;
    for (id, kind) in (1_u64..).zip([0x00, 0x0a, 0x16, 0x32, 0x7f, 0xff]) {
        lane.send.write_all(&frame(kind, 0xff, id, &[0xc1; 300])).await.unwrap();
        let Some((header, body)) = lane.reply().await else {
            return Verdict::Else(format!("kind {kind:#x} has no answer"));
        };
        if (header.kind, header.id, body.len()) != (Kind::Unsupported as u8, id, 0) {
            return Verdict::Else(format!("kind {kind:#x} was answered by {header:?}"));
        }
    }
    Verdict::served(raw.is_served().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_or_broken_stream_costs_that_stream() {
    let mut watch = Watch::start().await;
    let addr = watch.victim.addr;
    let verdicts = tokio::join!(
        header_never_whole(addr),
        body_never_whole(addr),
        single_never_whole(addr),
        body_stops_halfway(addr),
        no_byte(addr),
        never_reads(addr),
    );
    assert_eq!(verdicts.0, Verdict::StreamOnly, "a first frame that is dribbled");
    assert_eq!(verdicts.1, Verdict::StreamOnly, "a frame that is dribbled");
    assert_eq!(verdicts.2, Verdict::StreamOnly, "a frame on a stream of its own that is dribbled");
    assert_eq!(verdicts.3, Verdict::StreamOnly, "a frame that stops half-way");
    assert_eq!(verdicts.4, Verdict::StreamOnly, "streams without a byte");
    assert_eq!(verdicts.5, Verdict::StreamOnly, "a peer that never reads");
    watch.settled("slow streams").await;
    assert_eq!(single_bytes(addr).await, Verdict::Served, "frames in single bytes");
    assert_eq!(ends_early(addr).await, Verdict::StreamOnly, "streams that end too early");
    assert_eq!(stops_answers(addr).await, Verdict::StreamOnly, "answers that nobody wants");
    assert_eq!(unknown_kind(addr).await, Verdict::Served, "unknown kinds");
    watch.settled("broken streams").await;
    watch.finish().await;
}

/// 16 connections of 60 streams each, every one of which has begun a frame and goes on byte by byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_dribbling_streams_are_gone_by_their_deadline() {
    let mut watch = Watch::start().await;
    let addr = watch.victim.addr;
    let mut drips = tokio::task::JoinSet::new();
    for _ in 0..16 {
        drips.spawn(async move {
            let raw = Dialer::new().greet(addr).await;
            let mut streams = Vec::new();
            for _ in 0..60 {
                let mut stream = raw.lane(Class::Single).await;
                stream.send.write_all(&claiming(0x14, 0, 1, 1 << 20, &[0; 8_192])).await.unwrap();
                streams.push(stream);
            }
            let begun = Instant::now();
            let mut every = tokio::time::interval(Duration::from_millis(500));
            while !streams.is_empty() && begun.elapsed() < PATIENCE {
                every.tick().await;
                let mut left = Vec::new();
                for mut stream in streams {
                    if stream.send.write_all(b"x").await.is_ok() {
                        left.push(stream);
                    }
                }
                streams = left;
            }
            (streams.len(), begun.elapsed())
        });
    }
    for (left, took) in drips.join_all().await {
        assert_eq!(left, 0, "streams that dribble are still read after {took:?}");
        assert!(took < Duration::from_secs(9), "{took:?}");
    }
    watch.settled("dribbling streams").await;
    watch.finish().await;
}
