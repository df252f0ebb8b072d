//! What a replica takes, what it refuses, and how long it keeps it, case by case.

use super::*;
use crate::dht::record::VALUE_BYTES_MAX;
use crate::wire::Reject;

pub(super) fn plain(k: u8, p: u8, seq: u64, value: &[u8]) -> Sent {
    Sent {
        key: k,
        kind: RecordKind::VALUE,
        publisher: p,
        origin: Origin::FirstHand,
        signed: false,
        removes: false,
        seq,
        ttl_ms: 60_000,
        value: value.to_vec(),
    }
}

#[test]
fn what_a_replica_does_not_take_is_named() {
    let now = Instant::now();
    let mut shard = Shard::new(now, WIDE, (1, 2));
    let large = vec![0; VALUE_BYTES_MAX + 1];
    let good = Record {
        key: key(1),
        seq: 1,
        ttl_ms: 1,
        kind: RecordKind::VALUE,
        flags: 0,
        proof: &[],
        value: &large[1..],
    };
    let cases = [
        (Record { kind: RecordKind::PROVIDER, ..good }, Status::Rejected(Reject::Proof)),
        (Record { kind: RecordKind(9), ..good }, Status::Rejected(Reject::Kind)),
        (Record { flags: 1, ..good }, Status::Rejected(Reject::Flags)),
        (Record { value: &large, ..good }, Status::Rejected(Reject::TooLarge)),
        (Record { ttl_ms: 0, ..good }, Status::Rejected(Reject::Ttl)),
        (good, Status::Applied),
    ];
    let mut out = Vec::new();
    shard.apply(now, &publisher(1), Origin::FirstHand, cases.map(|(record, _)| record), |status| {
        out.push(status)
    });
    assert_eq!(out, cases.map(|(_, status)| status));
    assert_eq!(shard.len(), 1);
}

#[test]
fn a_full_shard_refuses_what_is_new_and_keeps_what_it_has() {
    let now = Instant::now();
    let mut shard = Shard::new(now, NARROW, (1, 2));
    for n in 0..8 {
        assert_eq!(plain(n, n / 4, 1, b"ab").apply(&mut shard, now), Status::Applied, "{n}");
    }
    assert_eq!(plain(9, 3, 1, b"").apply(&mut shard, now), Status::StorageFull);
    assert_eq!(plain(0, 0, 2, b"longer than the limits").apply(&mut shard, now), Status::StorageFull);
    assert_eq!(plain(0, 0, 2, b"ba").apply(&mut shard, now), Status::Applied, "a replacement takes no room");
    assert_eq!(plain(0, 0, 3, b"").apply(&mut shard, now), Status::Applied, "a smaller value always fits");
    assert_eq!(shard.len(), 8);
    let later = now + Duration::from_secs(60);
    assert_eq!(plain(9, 3, 1, b"").apply(&mut shard, later), Status::Applied, "what has ended makes room");
    assert_eq!(shard.len(), 1);
}

#[test]
fn an_overwritten_record_ends_when_the_last_copy_says() {
    let epoch = Instant::now();
    let at = |seconds| epoch + Duration::from_secs(seconds);
    let mut shard = Shard::new(epoch, WIDE, (1, 2));
    let sent = |k, seq, ttl_ms| Sent { ttl_ms, ..plain(k, 1, seq, b"x") };
    for (k, first, second) in [(0, 10_000, 100_000), (1, 100_000, 10_000), (2, 100_000, 100_000)] {
        sent(k, 1, first).apply(&mut shard, epoch);
        sent(k, 2, second).apply(&mut shard, epoch);
        audit(&shard);
    }
    assert_eq!(shard.expire(at(9), usize::MAX), 0);
    assert_eq!(shard.expire(at(10), usize::MAX), 2, "one ends, one is filed again");
    audit(&shard);
    assert_eq!(seen(&shard, at(10)).into_keys().collect::<Vec<_>>(), [(0, 0, 1), (2, 0, 1)]);
    assert_eq!(shard.expire(at(100), 1), 1, "the budget holds");
    assert_eq!(shard.expire(at(100), 1), 1);
    assert_eq!(shard.expire(at(100), 1), 0);
    assert!(shard.is_empty() && shard.bytes() == 0);
    audit(&shard);
}

#[test]
fn a_reader_goes_on_behind_its_cursor() {
    let now = Instant::now();
    let mut shard = Shard::new(now, WIDE, (1, 2));
    for p in [5, 1, 3, 2, 4] {
        plain(0, p, 1, &[p]).apply(&mut shard, now);
        // Those of other kinds, on either side in the order of the kinds, are not in between.
        entry(0, p).apply(&mut shard, now);
    }
    let page = |after: Option<NodeId>| {
        let mut page = Vec::new();
        shard.find(now, &key(0), RecordKind::VALUE, after.as_ref(), |found| {
            page.push(found.publisher.as_bytes()[0]);
            if page.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        page
    };
    assert_eq!(page(None), [1, 2]);
    assert_eq!(page(Some(publisher(2))), [3, 4]);
    assert_eq!(page(Some(publisher(4))), [5]);
    assert_eq!(page(Some(publisher(5))), [0u8; 0]);
}

fn entry(k: u8, p: u8) -> Sent {
    Sent { kind: RecordKind::PROVIDER, signed: true, ..plain(k, p, 1, b"entry") }
}

fn removal(seq: u64, ttl_ms: u32) -> Sent {
    Sent { removes: true, ttl_ms, ..plain(0, 1, seq, b"") }
}

#[test]
fn a_register_fills_one_line_of_the_caches() {
    assert_eq!(size_of::<Register>(), 64);
}

#[test]
fn a_tombstone_outlives_whatever_it_beats_in_whatever_order() {
    let epoch = Instant::now();
    let minutes = |n: u64| epoch + Duration::from_secs(60 * n);
    let old = Sent { ttl_ms: 3_600_000, ..plain(0, 1, 1, b"old") };
    let newer = Sent { ttl_ms: 60_000, ..plain(0, 1, 2, b"newer") };
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut shard = Shard::new(epoch, WIDE, (1, 2));
        for i in order {
            [&old, &newer, &removal(3, 1_000)][i].apply(&mut shard, epoch);
        }
        let vouched = Sent { origin: Origin::Vouched(None), ..old.clone() };
        for minute in [0, 2, 59, 64] {
            assert_eq!(shard.len(), 1, "{order:?}");
            assert_eq!(shard.bytes(), 0);
            let all = seen(&shard, minutes(minute));
            assert_eq!(all[&(0, 0, 1)].1, TOMBSTONE, "{order:?}, minute {minute}");
            shard.expire(minutes(minute), usize::MAX);
            audit(&shard);
        }
        assert_eq!(vouched.apply(&mut shard, minutes(64)), Status::Superseded { seq: 3 });
        // One hour from minute 64 on, and the margin.
        shard.expire(minutes(64 + 60 + 5), usize::MAX);
        assert!(shard.is_empty(), "{order:?}: it ends some time");
    }
}

#[test]
fn a_tombstone_that_goes_round_does_not_grow() {
    let epoch = Instant::now();
    let mut shards = [Shard::new(epoch, WIDE, (1, 2)), Shard::new(epoch, WIDE, (3, 4))];
    plain(0, 1, 1, b"x").apply(&mut shards[0], epoch);
    removal(2, 1_000).apply(&mut shards[0], epoch);
    let left = |shard: &Shard| seen(shard, epoch)[&(0, 0, 1)].2;
    assert_eq!(left(&shards[0]), 360_000);
    for _ in 0..100 {
        let [one, two] = &mut shards;
        hand_over(one, two, epoch);
        hand_over(two, one, epoch);
    }
    assert_eq!(shards.each_ref().map(left), [360_000; 2]);
}

#[test]
fn a_vouched_copy_never_replaces_an_authentic_one() {
    let now = Instant::now();
    for signed in [false, true] {
        let mut shard = Shard::new(now, WIDE, (1, 2));
        let origin = if signed { Origin::Vouched(None) } else { Origin::FirstHand };
        let own = Sent { origin, signed, ..plain(0, 1, 5, b"own") };
        let vouched = Sent { origin: Origin::Vouched(None), ttl_ms: u32::MAX, ..plain(0, 1, 9, b"vouched") };
        assert_eq!(vouched.apply(&mut shard, now), Status::Applied);
        assert_eq!(own.apply(&mut shard, now), Status::Applied, "signed: {signed}");
        assert_eq!(vouched.apply(&mut shard, now), Status::Superseded { seq: 5 });
        let removal = Sent { removes: true, ..vouched.clone() };
        assert_eq!(removal.apply(&mut shard, now), Status::Superseded { seq: 5 });
        let same = Sent { seq: 5, value: b"own".to_vec(), ..vouched };
        assert_eq!(same.apply(&mut shard, now), Status::AlreadyHave);
        assert_eq!(seen(&shard, now)[&(0, 0, 1)], (5, 0, 60_000, signed, b"own".to_vec()));
    }
}

#[test]
fn what_is_acknowledged_is_shown_even_in_the_last_millisecond_of_what_was_there() {
    let epoch = Instant::now();
    let mut shard = Shard::new(epoch, WIDE, (1, 2));
    plain(0, 1, 1, b"x").apply(&mut shard, epoch);
    let last = epoch + Duration::from_micros(59_999_500);
    assert!(seen(&shard, last).is_empty());
    let vouched = Sent { origin: Origin::Vouched(None), ttl_ms: 24, ..plain(0, 1, 1, b"x") };
    assert_eq!(vouched.apply(&mut shard, last), Status::Applied);
    assert_eq!(seen(&shard, last)[&(0, 0, 1)], (1, 0, 24, false, b"x".to_vec()));
    audit(&shard);
}

#[test]
fn one_peer_cannot_fill_a_shard_under_names_that_it_invents() {
    let now = Instant::now();
    let limits = ShardLimits { records: 64, publisher_records: 32, ..WIDE };
    let mut shard = Shard::new(now, limits, (1, 2));
    let brought = |by: u8, p: u8| Sent {
        origin: Origin::Vouched(Some(publisher(by))),
        signed: p.is_multiple_of(2),
        ..plain(p, p, 1, b"value")
    };
    let taken = (0..60).filter(|p| brought(100, *p).apply(&mut shard, now) == Status::Applied).count();
    assert_eq!(taken, 16, "half of what one may publish, signed or not");
    assert_eq!(brought(101, 50).apply(&mut shard, now), Status::Applied, "another has a share of its own");
    assert_eq!(plain(60, 100, 1, b"own").apply(&mut shard, now), Status::Applied, "and it may publish");
    // It is relieved of what the publisher brings itself, what another brings again, and what ends.
    assert_eq!(plain(0, 0, 1, b"value").apply(&mut shard, now), Status::AlreadyHave);
    assert_eq!(brought(100, 51).apply(&mut shard, now), Status::Applied);
    let newer = Sent { seq: 2, ..brought(101, 2) };
    assert_eq!(newer.apply(&mut shard, now), Status::Applied);
    assert_eq!(brought(100, 52).apply(&mut shard, now), Status::Applied);
    assert_eq!(brought(100, 53).apply(&mut shard, now), Status::StorageFull);
    let later = now + Duration::from_secs(60);
    shard.expire(later, usize::MAX);
    assert_eq!((shard.len(), shard.publishers.len()), (0, 0));
    assert_eq!(brought(100, 53).apply(&mut shard, later), Status::Applied);
}
