//! When records are sent to the other replicas.

use super::cases::plain;
use super::*;

fn at(epoch: Instant, second: u64) -> Instant {
    epoch + Duration::from_secs(second)
}

/// A shard that sends each record every 80 seconds, with `keys` keys of a day.
fn shard(epoch: Instant, keys: u8) -> Shard {
    let mut shard = Shard::new(epoch, WIDE, (1, 2));
    shard.replicate_every(Some(Duration::from_secs(80)));
    for k in 0..keys {
        Sent { ttl_ms: u32::MAX, ..plain(k, 1, 1, &[k]) }.apply(&mut shard, epoch);
    }
    shard
}

/// What is due in each second of `seconds`, by the value of the record.
fn turns(
    shard: &mut Shard,
    epoch: Instant,
    seconds: std::ops::Range<u64>,
    budget: usize,
) -> BTreeMap<u8, Vec<u64>> {
    let mut turns: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
    for second in seconds {
        shard.due(at(epoch, second), budget, |held| {
            assert_eq!((held.publisher, held.record.key), (publisher(1), key(held.record.value[0])));
            turns.entry(held.record.value[0]).or_default().push(second);
        });
        audit(shard);
    }
    turns
}

#[test]
fn every_record_has_its_turn_in_every_interval() {
    let epoch = Instant::now();
    let mut shard = shard(epoch, 100);
    let turns = turns(&mut shard, epoch, 0..1_000, usize::MAX);
    assert_eq!(turns.len(), 100);
    for (value, turns) in &turns {
        let gaps: Vec<_> = std::iter::once(&0).chain(turns).zip(turns).map(|(a, b)| b - a).collect();
        assert!(gaps.iter().all(|gap| (70..=91).contains(gap)), "{value}: {turns:?}");
    }
    let first: std::collections::BTreeSet<_> = turns.values().map(|turns| turns[0]).collect();
    assert!(first.len() > 10, "turns are spread: {first:?}");
}

#[test]
fn a_copy_from_another_replica_puts_the_turn_off() {
    let epoch = Instant::now();
    let mut shard = shard(epoch, 10);
    for second in (0..400).step_by(40) {
        for k in 0..9 {
            let origin = Origin::Vouched(None);
            Sent { origin, ttl_ms: u32::MAX, ..plain(k, 1, 1, &[k]) }.apply(&mut shard, at(epoch, second));
        }
        let turns = turns(&mut shard, epoch, second..second + 40, usize::MAX);
        assert!(turns.keys().all(|value| *value == 9), "{turns:?}");
    }
    // Also when the turn had come already, but nobody had asked.
    shard.expire(at(epoch, 600), usize::MAX);
    assert_eq!(shard.queue.len(), 10);
    audit(&shard);
    Sent { ttl_ms: u32::MAX, ..plain(0, 1, 2, &[0]) }.apply(&mut shard, at(epoch, 600));
    assert_eq!(
        turns(&mut shard, epoch, 600..601, usize::MAX).into_keys().collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6, 7, 8, 9]
    );
    // A copy that is older than what is held does not.
    let old = Sent { origin: Origin::Vouched(None), ..plain(0, 1, 1, &[0]) };
    assert_eq!(old.apply(&mut shard, at(epoch, 660)), Status::Superseded { seq: 2 });
    assert_eq!(turns(&mut shard, epoch, 660..692, usize::MAX).remove(&0).map(|turns| turns.len()), Some(1));
}

#[test]
fn the_budget_of_a_round_leaves_the_others_for_the_next() {
    let epoch = Instant::now();
    let mut shard = shard(epoch, 20);
    let turns = turns(&mut shard, epoch, 95..115, 1);
    assert_eq!(turns.len(), 20);
    assert!(turns.values().all(|turns| turns.len() == 1));
}

#[test]
fn what_has_ended_is_not_sent_nor_kept_in_the_queue() {
    let epoch = Instant::now();
    let mut shard = shard(epoch, 0);
    Sent { ttl_ms: 100_000, ..plain(1, 1, 1, &[1]) }.apply(&mut shard, epoch);
    shard.expire(at(epoch, 95), usize::MAX);
    assert_eq!(shard.queue.len(), 1);
    shard.expire(at(epoch, 100), usize::MAX);
    assert!(shard.is_empty() && shard.queue.is_empty());
    assert_eq!(shard.due(at(epoch, 100), 9, |_| ()), 0);
}

#[test]
fn without_an_interval_nothing_is_sent() {
    let epoch = Instant::now();
    let mut shard = Shard::new(epoch, WIDE, (1, 2));
    shard.replicate_every(None);
    Sent { ttl_ms: u32::MAX, ..plain(1, 1, 1, &[1]) }.apply(&mut shard, epoch);
    assert_eq!(shard.due(at(epoch, 86_399), 9, |_| ()), 0);
    assert_eq!(shard.due(at(epoch, 86_400), 9, |_| ()), 0);
    assert!(shard.is_empty());
}

#[test]
fn only_what_is_wanted_is_selected() {
    let epoch = Instant::now();
    let shard = shard(epoch, 4);
    let mut values = Vec::new();
    shard.select(epoch, |other| *other != key(2), |held| values.push(held.record.value[0]));
    values.sort_unstable();
    assert_eq!(values, [0, 1, 3]);
    shard.select(at(epoch, 86_400), |_| true, |held| panic!("{held:?} has ended"));
}
