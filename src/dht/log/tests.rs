//! The log keeps the newest publication of each kind for as long as it lives, and says when to send it again.

#![expect(clippy::disallowed_methods, reason = "tests read the clock")]

use super::*;
use crate::dht::record::{TOMBSTONE_MARGIN, TTL_MAX};
use crate::wire::TOMBSTONE;

const WIDE: LogLimits = LogLimits { records: 100, bytes: 1_000 };

fn log(limits: LogLimits) -> (PublicationLog, Instant) {
    let epoch = Instant::now();
    (PublicationLog::new(epoch, limits, (1, 2)), epoch)
}

fn draft(value: impl Into<Bytes>, ttl: Duration, seq: u64) -> Draft {
    Draft::value(value.into(), ttl, seq)
}

fn removal(ttl: Duration, seq: u64) -> Draft {
    Draft { flags: TOMBSTONE, ..draft("", ttl, seq) }
}

fn found(log: &PublicationLog, now: Instant, key: Key) -> Option<Publication<'_>> {
    log.find(now, &key, RecordKind::VALUE)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_publication_is_found_until_it_ends() {
    let (mut log, epoch) = log(WIDE);
    let (key, value) = (Key::of_name("a"), Bytes::from_static(b"value"));
    assert_eq!(log.publish(epoch, key, draft(value.clone(), seconds(10), 7)), Ok(false));
    let own = found(&log, epoch + seconds(4), key).expect("it lives");
    assert_eq!((own.seq, own.ttl, own.value), (7, seconds(6), &value));
    assert_eq!(own.value.as_ptr(), value.as_ptr(), "the value is shared, not copied");
    assert_eq!(found(&log, epoch + seconds(10), key), None);
    assert_eq!(log.expire(epoch + seconds(10), 9), 1);
    assert!(log.is_empty() && log.bytes() == 0);
}

#[test]
fn a_time_to_live_is_cut() {
    let (mut log, epoch) = log(WIDE);
    log.publish(epoch, Key::of_name("a"), draft(Bytes::new(), Duration::MAX, 1)).expect("there is room");
    assert_eq!(found(&log, epoch, Key::of_name("a")).map(|found| found.ttl), Some(TTL_MAX));
}

#[test]
fn who_replaces_a_live_signed_one_is_told() {
    let (mut log, epoch) = log(WIDE);
    let key = Key::of_name("a");
    let signed = |seq| Draft { proof: Some(Box::new([1; PROOF_LEN])), ..draft("a", seconds(9), seq) };
    assert_eq!(log.publish(epoch, key, signed(1)), Ok(false));
    assert_eq!(log.publish(epoch, key, signed(2)), Ok(true));
    assert_eq!(log.publish(epoch, key, draft("a", seconds(9), 1)), Ok(false), "it replaces nothing");
    assert_eq!(log.publish(epoch, key, draft("a", seconds(9), 3)), Ok(true));
    assert_eq!(log.publish(epoch, key, signed(4)), Ok(false));
    assert_eq!(log.publish(epoch + seconds(9), key, draft("a", seconds(9), 5)), Ok(false), "it has ended");
}

#[test]
fn the_higher_sequence_stays() {
    let (mut log, epoch) = log(WIDE);
    let key = Key::of_name("a");
    for (seq, value) in [(2, "two"), (1, "one"), (3, "three"), (2, "two again")] {
        assert_eq!(log.publish(epoch, key, draft(value, seconds(9), seq)), Ok(false));
    }
    assert_eq!(found(&log, epoch, key).map(|found| (found.seq, &found.value[..])), Some((3, &b"three"[..])));
    assert_eq!((log.len(), log.bytes()), (1, 5));
    assert_eq!(log.publish(epoch + seconds(9), key, draft("1", seconds(9), 1)), Ok(false));
    assert_eq!(found(&log, epoch + seconds(9), key).map(|found| found.seq), Some(1), "the other has ended");
}

#[test]
fn a_full_log_keeps_what_it_has_until_it_ends() {
    let (mut log, epoch) = log(LogLimits { records: 2, bytes: 6 });
    let [a, b, c] = ["a", "b", "c"].map(Key::of_name);
    assert_eq!(log.publish(epoch, a, draft("aaa", seconds(5), 1)), Ok(false));
    assert_eq!(log.publish(epoch, b, draft("bb", seconds(50), 1)), Ok(false));
    let full = Err(LogFull { records: 2, bytes: 5 });
    assert_eq!(log.publish(epoch, c, draft("", seconds(5), 2)), full, "too many");
    assert_eq!(log.publish(epoch, b, draft("bbbb", seconds(5), 2)), full, "too large");
    assert_eq!(log.publish(epoch, b, draft("BBB", seconds(50), 2)), Ok(false));
    assert_eq!(log.publish(epoch, b, draft("B", seconds(50), 3)), Ok(false));
    assert_eq!(found(&log, epoch, a).map(|found| &found.value[..]), Some(&b"aaa"[..]));
    assert_eq!(log.publish(epoch + seconds(5), c, draft("ccccc", seconds(5), 4)), Ok(false));
    assert_eq!((log.len(), log.bytes()), (2, 6));
}

#[test]
fn what_is_published_anew_ends_when_the_last_one_says() {
    let (mut log, epoch) = log(WIDE);
    for (name, first, second) in [("a", 10, 100), ("b", 100, 10), ("c", 100, 100)] {
        for (seq, ttl) in [(1, first), (2, second)] {
            log.publish(epoch, Key::of_name(name), draft(name, seconds(ttl), seq)).expect("there is room");
        }
        assert_eq!(log.wheel.len(), log.len());
    }
    assert_eq!(log.expire(epoch + seconds(10), 9), 2, "one ends, one is filed again");
    assert_eq!((log.len(), log.wheel.len()), (2, 2));
    assert_eq!(log.expire(epoch + seconds(100), 1), 1, "the budget holds");
    assert_eq!(log.expire(epoch + seconds(100), 9), 1);
    assert!(log.is_empty());
}

#[test]
fn each_kind_has_a_publication_of_its_own() {
    let (mut log, epoch) = log(WIDE);
    let key = Key::of_name("a");
    let proof = Some(Box::new([7; PROOF_LEN]));
    let kind = RecordKind::PROVIDER;
    log.publish(epoch, key, draft("value", seconds(50), 9)).expect("there is room");
    log.publish(epoch, key, Draft { kind, proof, ..draft("entry", seconds(5), 3) }).expect("there is room");
    let entry = log.find(epoch, &key, kind).expect("it lives");
    assert_eq!((entry.seq, entry.proof, entry.value.as_ref()), (3, &[7; PROOF_LEN][..], &b"entry"[..]));
    assert_eq!(found(&log, epoch, key).map(|own| (own.seq, own.proof)), Some((9, &[][..])));
    assert_eq!(log.find(epoch, &key, RecordKind::SUBSCRIPTION), None);
    assert_eq!((log.len(), log.bytes(), log.wheel.len()), (2, 10, 2));
    log.expire(epoch + seconds(5), 9);
    assert_eq!((log.len(), log.bytes(), log.wheel.len()), (1, 5, 1));
    assert_eq!(found(&log, epoch + seconds(5), key).map(|own| own.seq), Some(9));
}

#[test]
fn a_tombstone_outlives_what_it_removes() {
    let (mut log, epoch) = log(WIDE);
    let key = Key::of_name("a");
    log.publish(epoch, key, draft("value", seconds(600), 1)).expect("there is room");
    log.publish(epoch, key, removal(seconds(1), 2)).expect("a removal takes no room");
    let own = found(&log, epoch, key).expect("it lives");
    assert_eq!((own.flags, own.ttl), (TOMBSTONE, seconds(600) + TOMBSTONE_MARGIN));
    assert_eq!((log.len(), log.bytes()), (1, 0));
    log.publish(epoch, key, removal(seconds(1), 3)).expect("there is room");
    assert_eq!(found(&log, epoch, key).map(|own| own.ttl), Some(seconds(600) + TOMBSTONE_MARGIN));
    log.publish(epoch, key, removal(Duration::MAX, 4)).expect("there is room");
    assert_eq!(found(&log, epoch, key).map(|own| own.ttl), Some(TTL_MAX + TOMBSTONE_MARGIN));
    log.publish(epoch, key, draft("again", seconds(60), 5)).expect("there is room");
    assert_eq!(found(&log, epoch, key).map(|own| (own.flags, own.ttl)), Some((0, seconds(60))));
}

#[test]
fn a_tombstone_outlives_all_that_was_replaced_before() {
    let (mut log, epoch) = log(WIDE);
    let key = Key::of_name("a");
    log.publish(epoch, key, draft("long", seconds(7_200), 1)).expect("there is room");
    log.publish(epoch, key, draft("short", seconds(60), 2)).expect("there is room");
    log.publish(epoch, key, removal(seconds(1), 3)).expect("there is room");
    let left = found(&log, epoch, key).map(|own| own.ttl);
    assert_eq!(left, Some(seconds(7_200) + TOMBSTONE_MARGIN), "a replica may hold the first one still");
}

/// Asks second by second what is due, `budget` at a time; returns when which was, and its time left.
fn turns(log: &mut PublicationLog, epoch: Instant, until: u64, budget: usize) -> Vec<(u64, u64, u64)> {
    let mut turns = Vec::new();
    for second in 0..until {
        let now = epoch + seconds(second);
        log.due(now, budget, |key, own| {
            assert_eq!(*key, Key::of_name(own.seq.to_be_bytes()), "the key that it was published under");
            turns.push((own.seq, second, own.ttl.as_secs()));
        });
        assert_eq!(log.wheel.len(), log.len());
    }
    turns
}

#[test]
fn a_publication_is_sent_again_at_each_third_of_its_life_and_never_lives_longer() {
    let (mut log, epoch) = log(WIDE);
    for seq in 1..=50_u64 {
        log.publish(epoch, Key::of_name(seq.to_be_bytes()), draft("", seconds(900), seq)).expect("room");
    }
    let turns = turns(&mut log, epoch, 1_000, usize::MAX);
    assert!(log.is_empty());
    for seq in 1..=50 {
        let mine: Vec<_> = turns.iter().filter(|turn| turn.0 == seq).collect();
        assert_eq!(mine.len(), 2, "{mine:?}");
        for ((_, at, left), third) in mine.iter().zip([300, 600]) {
            assert!((third * 7 / 8..=third + 2).contains(at), "{at}");
            assert_eq!(at + left, 900);
        }
    }
    let first: std::collections::BTreeSet<_> = turns.iter().map(|turn| turn.1).collect();
    assert!(first.len() > 20, "turns are spread: {first:?}");
}

#[test]
fn the_budget_of_a_round_leaves_the_others_for_the_next() {
    let (mut log, epoch) = log(WIDE);
    for seq in 1..=10_u64 {
        log.publish(epoch, Key::of_name(seq.to_be_bytes()), draft("", seconds(90), seq)).expect("room");
    }
    let mut first: Vec<_> = turns(&mut log, epoch, 50, 1).into_iter().map(|turn| turn.0).collect();
    first.sort_unstable();
    assert_eq!(first, (1..=10).collect::<Vec<_>>());
}

#[test]
fn what_is_published_anew_is_not_due_with_the_old_one() {
    let (mut log, epoch) = log(WIDE);
    let seq = 1_u64;
    let key = Key::of_name(seq.to_be_bytes());
    log.publish(epoch, key, draft("", seconds(90), seq)).expect("room");
    log.expire(epoch + seconds(31), 9);
    assert_eq!(log.queue.len(), 1);
    log.publish(epoch + seconds(31), key, draft("", seconds(900), seq)).expect("room");
    assert_eq!(log.due(epoch + seconds(32), 9, |_, _| ()), 0);
    assert!(log.queue.is_empty());
    log.publish(epoch + seconds(33), key, draft("", seconds(2), seq)).expect("room");
    assert_eq!(turns(&mut log, epoch + seconds(33), 9, 9), [], "too short a life to be sent again");
    assert!(log.is_empty());
}
