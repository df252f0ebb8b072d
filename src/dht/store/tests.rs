//! The replica store beside a model that is too simple to be wrong: a sorted map and sums over it.

#![expect(clippy::disallowed_methods, reason = "tests read the clock and build what the library may not")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sha2::{Digest, Sha256};

use super::*;
use crate::dht::record::VALUE_BYTES_MAX;
use crate::wire::Reject;

const SECOND: u64 = 1_000_000_000;
const WIDE: ShardLimits = ShardLimits {
    records: usize::MAX,
    bytes: usize::MAX,
    publisher_records: usize::MAX,
    publisher_bytes: usize::MAX,
    key_records: usize::MAX,
};
const NARROW: ShardLimits =
    ShardLimits { records: 8, bytes: 24, publisher_records: 4, publisher_bytes: 14, key_records: 2 };

fn seeded(seed: u64) -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..ProptestConfig::default() }
}

fn key(n: u8) -> Key {
    Key::of_name([n])
}

fn publisher(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

/// A copy of a record on its way to a shard.
#[derive(Debug, Clone)]
struct Sent {
    key: u8,
    publisher: u8,
    first_hand: bool,
    seq: u64,
    ttl_ms: u32,
    value: Vec<u8>,
}

impl Sent {
    fn record(&self) -> Record<'_> {
        let Self { seq, ttl_ms, ref value, .. } = *self;
        let kind = RecordKind::VALUE;
        Record { key: key(self.key), seq, ttl_ms, kind, flags: 0, proof: &[], value }
    }

    fn apply(&self, shard: &mut Shard, now: Instant) -> Status {
        let mut status = None;
        shard.apply(now, &publisher(self.publisher), self.first_hand, [self.record()], |s| status = Some(s));
        status.expect("a status for each record")
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let ttl = prop_oneof![Just(1), 1..5_000u32, Just(u32::MAX)];
    let value = prop::collection::vec(0..3u8, 0..6);
    (0..4u8, 0..4u8, any::<bool>(), 0..4u64, ttl, value).prop_map(
        |(key, publisher, first_hand, seq, ttl_ms, value)| Sent {
            key,
            publisher,
            first_hand,
            seq,
            ttl_ms,
            value,
        },
    )
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Sent),
    Wait { ms: u64 },
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => sent().prop_map(Step::Apply),
        1 => (0..3_000u64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Expire),
    ]
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    rank: (bool, u64, [u8; 32]),
    value: Vec<u8>,
    ends: u64,
}

/// What a shard should hold, by key and publisher.
#[derive(Default)]
struct Model {
    held: BTreeMap<(u8, u8), Held>,
}

impl Model {
    fn apply(&mut self, sent: &Sent, limits: &ShardLimits, now: u64) -> Status {
        match self.merge(sent, limits, now) {
            Status::StorageFull => {
                self.expire(now);
                self.merge(sent, limits, now)
            }
            status => status,
        }
    }

    fn merge(&mut self, sent: &Sent, limits: &ShardLimits, now: u64) -> Status {
        let ttl = Duration::from_millis(sent.ttl_ms.into()).min(TTL_MAX);
        let rank = (sent.first_hand, sent.seq, Sha256::digest(&sent.value).into());
        let mut new = Held { rank, value: sent.value.clone(), ends: now + nanos(ttl) };
        let at = (sent.key, sent.publisher);
        let mut status = Status::Applied;
        if let Some(old) = self.held.get(&at).filter(|old| old.ends > now) {
            let same = (old.rank.1, old.rank.2) == (new.rank.1, new.rank.2);
            if same {
                status = Status::AlreadyHave;
            }
            if old.rank > new.rank {
                return if same { status } else { Status::Superseded { seq: old.rank.1 } };
            }
            if old.rank == new.rank {
                new.ends = new.ends.max(old.ends);
            }
        }
        let mut after = self.held.clone();
        let old = after.insert(at, new);
        let grows = old.is_none_or(|old| old.value.len() < sent.value.len());
        if grows && !fits(&after, sent, limits) {
            return Status::StorageFull;
        }
        self.held = after;
        status
    }

    fn expire(&mut self, now: u64) {
        self.held.retain(|_, held| held.ends.div_ceil(SECOND) > now / SECOND);
    }
}

fn fits(held: &BTreeMap<(u8, u8), Held>, sent: &Sent, limits: &ShardLimits) -> bool {
    let bytes = |held: &mut dyn Iterator<Item = &Held>| held.map(|held| held.value.len()).sum::<usize>();
    let own = || held.iter().filter(|((_, publisher), _)| *publisher == sent.publisher).map(|(_, held)| held);
    held.len() <= limits.records
        && bytes(&mut held.values()) <= limits.bytes
        && own().count() <= limits.publisher_records
        && bytes(&mut own()) <= limits.publisher_bytes
        && held.keys().filter(|(key, _)| *key == sent.key).count() <= limits.key_records
}

/// What readers see, by key and publisher: sequence, milliseconds left, value.
fn seen(shard: &Shard, now: Instant) -> BTreeMap<(u8, u8), (u64, u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for k in 0..4 {
        let mut last = None;
        shard.find(now, &key(k), None, |found| {
            assert!(Some(found.publisher) > last, "publishers come in order");
            last = Some(found.publisher);
            let publisher = found.publisher.as_bytes()[0];
            all.insert((k, publisher), (found.seq, found.ttl_ms, found.value.to_vec()));
            ControlFlow::Continue(())
        });
    }
    all
}

/// Each register is filed once and never late, and the accounts are the sums.
fn audit(shard: &Shard) {
    let registers = || shard.keys.values().flatten();
    assert_eq!(shard.used.records, registers().count());
    assert_eq!(shard.used.bytes, registers().map(Register::bytes).sum::<usize>());
    assert_eq!(shard.wheel.len(), shard.used.records);
    assert!(registers().all(|register| !register.place.is_after(register.ends)));
    let mut by_publisher = BTreeMap::<Slot, Usage>::new();
    for register in registers() {
        let used = by_publisher.entry(register.publisher).or_default();
        used.records += 1;
        used.bytes += register.bytes();
    }
    assert_eq!(shard.publishers.len(), by_publisher.len(), "idle publishers give their number back");
    for (slot, used) in by_publisher {
        assert_eq!(shard.publishers.used(slot), used);
    }
    assert!(shard.keys.values().all(|registers| !registers.is_empty()));
}

fn compare_with_model(steps: &[Step], limits: ShardLimits) {
    let epoch = Instant::now();
    let (mut shard, mut model) = (Shard::new(epoch, limits, (1, 2)), Model::default());
    let mut now = 0;
    for step in steps {
        let instant = epoch + Duration::from_nanos(now);
        match step {
            Step::Apply(sent) => {
                assert_eq!(sent.apply(&mut shard, instant), model.apply(sent, &limits, now), "{sent:?}");
            }
            Step::Wait { ms } => now += ms * MILLI,
            Step::Expire => {
                shard.expire(instant, usize::MAX);
                model.expire(now);
            }
        }
        audit(&shard);
        assert_eq!(shard.len(), model.held.len());
        assert_eq!(shard.bytes(), model.held.values().map(|held| held.value.len()).sum::<usize>());
        let live = model.held.iter().filter(|(_, held)| held.ends > now);
        let expected: BTreeMap<_, _> = live
            .map(|(at, held)| {
                let left = u32::try_from((held.ends - now) / MILLI).expect("a ttl");
                (*at, (held.rank.1, left, held.value.clone()))
            })
            .collect();
        assert_eq!(seen(&shard, epoch + Duration::from_nanos(now)), expected);
    }
}

proptest! {
    #![proptest_config(seeded(0x5705_0001))]

    #[test]
    fn a_wide_shard_does_what_the_model_does(steps in prop::collection::vec(step(), 1..120)) {
        compare_with_model(&steps, WIDE);
    }

    #[test]
    fn a_narrow_shard_does_what_the_model_does(steps in prop::collection::vec(step(), 1..120)) {
        compare_with_model(&steps, NARROW);
    }

    #[test]
    fn the_order_in_which_copies_come_does_not_matter(
        (copies, shuffled) in prop::collection::vec(sent(), 1..24)
            .prop_flat_map(|copies| (Just(copies.clone()), Just([copies.clone(), copies].concat()).prop_shuffle()))
    ) {
        let now = Instant::now();
        let (mut once, mut again) = (Shard::new(now, WIDE, (1, 2)), Shard::new(now, WIDE, (3, 4)));
        for copy in &copies {
            copy.apply(&mut once, now);
        }
        for copy in &shuffled {
            copy.apply(&mut again, now);
        }
        prop_assert_eq!(seen(&once, now), seen(&again, now));
        let first_hand = |shard: &Shard| shard.keys.values().flatten().filter(|r| r.first_hand).count();
        prop_assert_eq!(first_hand(&once), first_hand(&again));
    }
}

fn plain(k: u8, p: u8, seq: u64, value: &[u8]) -> Sent {
    Sent { key: k, publisher: p, first_hand: true, seq, ttl_ms: 60_000, value: value.to_vec() }
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
        (Record { kind: RecordKind::PROVIDER, ..good }, Status::Rejected(Reject::Kind)),
        (Record { flags: 1, ..good }, Status::Rejected(Reject::Flags)),
        (Record { proof: &[0; 64], ..good }, Status::Rejected(Reject::Proof)),
        (Record { value: &large, ..good }, Status::Rejected(Reject::TooLarge)),
        (Record { ttl_ms: 0, ..good }, Status::Rejected(Reject::Ttl)),
        (good, Status::Applied),
    ];
    let mut out = Vec::new();
    shard.apply(now, &publisher(1), true, cases.map(|(record, _)| record), |status| out.push(status));
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
    assert_eq!(seen(&shard, at(10)).into_keys().collect::<Vec<_>>(), [(0, 1), (2, 1)]);
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
    }
    let page = |after: Option<NodeId>| {
        let mut page = Vec::new();
        shard.find(now, &key(0), after.as_ref(), |found| {
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
