//! What an outbox holds: no more than it should for a generous peer, nothing when nothing is in flight.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};

use super::{Freed, GRANT_MAX, Next, Outbox, PENDING_KEEP, Pushed, Replied, Sink, Tag};
use crate::pool::inbound::{Outcome, Violation};
use crate::runtime;
use crate::wire::{BODY_MAX, Class, Decoder, Grant, Header, Kind};

struct Ignore;

impl Sink for Ignore {
    fn settle(&self, _: Tag, _: Outcome<'_>) {}
}

const GRANT: Grant = Grant { requests: 1_000, bytes: 1 << 20 };

fn push(outbox: &Outbox, deadline: Instant) {
    let waiting: (Arc<dyn Sink>, Tag) = (Arc::new(Ignore), Tag { peer: 0, first: 0, count: 1 });
    let pushed = outbox.push(100, deadline, waiting, |_, out: &mut BytesMut| out.put_bytes(7, 100));
    assert!(matches!(pushed, Ok(Pushed { open: false, .. })));
}

fn reply(outbox: &Outbox, header: &Header, now: Instant) -> Result<Replied, Violation> {
    let mut freed = Freed::default();
    let replied = outbox.reply(header, b"", now, &mut freed);
    outbox.free(&freed);
    replied
}

#[test]
fn a_lane_that_rests_gives_back_what_a_burst_has_taken() {
    let now = runtime::now();
    let outbox = Outbox::new(Class::Request, GRANT, true);
    for _ in 0..500 {
        push(&outbox, now + Duration::from_secs(1));
    }
    let Some(Next::Write(burst)) = outbox.take() else { panic!("a burst was queued") };
    assert_eq!(burst.len(), 500 * 100);
    for id in 1..=500 {
        assert!(outbox.lock().pending.capacity() >= 500, "in use until the last reply");
        let header = Header { kind: Kind::Pong as u8, flags: 0, body_len: 0, id };
        assert!(reply(&outbox, &header, now).is_ok());
        outbox.expire(now);
    }
    let state = outbox.lock();
    assert_eq!(state.queue.capacity(), 0);
    assert!(state.pending.capacity() <= PENDING_KEEP, "{}", state.pending.capacity());
    assert!(burst.is_unique(), "nothing but the writer holds the burst");
}

#[test]
fn a_peer_that_offers_to_take_everything_does_not_fill_our_memory() {
    let offer = Grant { requests: u32::MAX, bytes: u32::MAX };
    let outbox = Outbox::new(Class::Bulk, offer, true);
    assert_eq!(u32::try_from(outbox.room.available_permits()), Ok(GRANT_MAX.bytes));
    assert_eq!(outbox.capacity / outbox.unit, GRANT_MAX.requests);
    let fair = Outbox::new(Class::Bulk, Grant { requests: 16, bytes: 1_600 }, true);
    assert_eq!((fair.capacity, fair.unit), (1_600, 100));
}

/// Kind and id of each frame that the writer would write.
fn written(outbox: &Outbox) -> Vec<(u8, u64)> {
    let Some(Next::Write(bytes)) = outbox.take() else { return Vec::new() };
    let mut decoder = Decoder::new(BODY_MAX);
    decoder.feed(&bytes);
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = decoder.next() {
        frames.push((frame.header.kind, frame.header.id));
    }
    frames
}

#[test]
fn a_lane_that_is_silent_for_long_is_asked_whether_anyone_is_there() {
    let start = runtime::now();
    let at = |ms| start + Duration::from_millis(ms);
    let outbox = Outbox::new(Class::Request, GRANT, true);
    push(&outbox, at(60_000));
    assert!(outbox.take().is_some());
    outbox.expire(start);
    outbox.expire(at(300));
    assert!(written(&outbox).is_empty(), "too early");
    outbox.expire(at(500));
    assert_eq!(written(&outbox), [(Kind::Ping as u8, 2)]);
    outbox.expire(at(900));
    assert!(written(&outbox).is_empty(), "one at a time");
    assert_eq!(outbox.expire(at(950)).1, Some(Duration::from_millis(950)));
    let pong = Header { kind: Kind::Pong as u8, flags: 0, body_len: 0, id: 2 };
    assert_eq!(reply(&outbox, &pong, at(1_000)), Ok(Replied::Alive));
    assert_eq!(outbox.expire(at(1_100)).1, Some(Duration::from_millis(100)), "it is there");
    assert_eq!(reply(&outbox, &pong, at(1_200)), Ok(Replied::Late), "nobody has asked again");
    outbox.expire(at(1_600));
    assert_eq!(written(&outbox), [(Kind::Ping as u8, 3)]);
}

#[test]
fn who_gives_up_tells_the_peer_and_gets_the_room_back_with_the_reply() {
    let now = runtime::now();
    let outbox = Outbox::new(Class::Request, GRANT, true);
    push(&outbox, now + Duration::from_secs(1));
    assert!(outbox.take().is_some());
    outbox.give_up(1);
    outbox.give_up(1);
    outbox.give_up(7);
    assert_eq!(written(&outbox), [(Kind::Cancel as u8, 1)]);
    assert!(outbox.room.available_permits() < 1 << 20, "the peer may still hold it");
    let failed = Header { kind: Kind::Failed as u8, flags: 0, body_len: 0, id: 1 };
    assert_eq!(reply(&outbox, &failed, now), Ok(Replied::Late));
    assert_eq!(outbox.room.available_permits(), 1 << 20);
}
