//! The replica store beside a model that is too simple to be wrong: a sorted map and sums over it.

#![expect(clippy::disallowed_methods, reason = "tests read the clock and build what the library may not")]

mod cases;
mod turns;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::dht::record::{Rank, TOMBSTONE_MARGIN, TTL_MAX};
use crate::wire::{PROOF_LEN, TOMBSTONE};

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
    kind: RecordKind,
    publisher: u8,
    origin: Origin,
    signed: bool,
    removes: bool,
    seq: u64,
    ttl_ms: u32,
    value: Vec<u8>,
}

impl Sent {
    fn record(&self) -> Record<'_> {
        let Self { kind, seq, ttl_ms, ref value, .. } = *self;
        let proof: &[u8] = if self.signed { &[7; PROOF_LEN] } else { &[] };
        let (flags, value): (_, &[u8]) = if self.removes { (TOMBSTONE, &[]) } else { (0, value) };
        Record { key: key(self.key), seq, ttl_ms, kind, flags, proof, value }
    }

    fn authentic(&self) -> bool {
        self.signed || self.origin == Origin::FirstHand
    }

    fn apply(&self, shard: &mut Shard, now: Instant) -> Status {
        let mut status = None;
        shard.apply(now, &publisher(self.publisher), self.origin, [self.record()], |s| status = Some(s));
        status.expect("a status for each record")
    }
}

fn origin() -> impl Strategy<Value = Origin> + Clone {
    prop_oneof![Just(Origin::FirstHand), Just(Origin::Vouched(None))]
}

fn sent(origin: impl Strategy<Value = Origin> + Clone) -> impl Strategy<Value = Sent> {
    let ttl = prop_oneof![Just(1), 1..5_000u32, Just(u32::MAX)];
    let value = prop::collection::vec(0..3u8, 0..6);
    let says = (any::<bool>(), prop::bool::weighted(0.3), 0..4u64, ttl, value);
    (0..4u8, any::<bool>(), 0..4u8, origin, says).prop_map(
        |(key, entry, publisher, origin, (signed, removes, seq, ttl_ms, value))| {
            let kind = if entry { RecordKind::PROVIDER } else { RecordKind::VALUE };
            Sent { key, kind, publisher, origin, signed: signed || entry, removes, seq, ttl_ms, value }
        },
    )
}

/// The copy as it is if the publisher signs whatever it has under some keys, and nothing under others.
fn all_or_nothing(sent: Sent) -> Sent {
    Sent { signed: sent.kind == RecordKind::PROVIDER || sent.key.is_multiple_of(2), ..sent }
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Sent),
    Wait { ms: u64 },
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => sent(origin()).prop_map(Step::Apply),
        1 => prop_oneof![0..3_000u64, 0..600_000u64].prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Expire),
    ]
}

/// What is held as one record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    rank: Rank,
    removes: bool,
    signed: bool,
    value: Vec<u8>,
    ends: u64,
    /// Until when a tombstone must stay that beats all copies so far, in seconds.
    outlives: u64,
}

/// What a shard should hold, by key, kind and publisher.
#[derive(Default)]
struct Model {
    held: BTreeMap<(u8, u8, u8), Kept>,
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
        let record = sent.record();
        let most = if sent.removes { TTL_MAX + TOMBSTONE_MARGIN } else { TTL_MAX };
        let ends = now + nanos(Duration::from_millis(sent.ttl_ms.into()).min(most));
        let outlives = if sent.removes { ends / SECOND } else { ends.div_ceil(SECOND) + 300 };
        let (rank, value) = (Rank::of(sent.authentic(), &record), record.value.to_vec());
        let mut new = Kept { rank, removes: sent.removes, signed: sent.signed, value, ends, outlives };
        let at = (sent.key, sent.kind.0, sent.publisher);
        let mut status = Status::Applied;
        if let Some(old) = self.held.get(&at).filter(|old| old.ends >= now + 1_000_000) {
            let same = (old.rank.seq, old.rank.digest) == (new.rank.seq, new.rank.digest);
            if same {
                status = Status::AlreadyHave;
                new.signed |= old.signed;
            }
            if old.rank > new.rank || old.signed && !sent.signed && !same {
                if !same {
                    status = Status::Superseded { seq: old.rank.seq };
                }
                let signed = if same { new.signed } else { old.signed };
                new = Kept { signed, outlives: new.outlives, ..old.clone() };
            } else if old.rank == new.rank {
                new.ends = new.ends.max(old.ends);
            }
            new.outlives = new.outlives.max(old.outlives);
        }
        if new.removes {
            new.ends = new.ends.max(new.outlives * SECOND);
        }
        let mut after = self.held.clone();
        let len = new.value.len();
        let old = after.insert(at, new);
        let grows = old.is_none_or(|old| old.value.len() < len);
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

fn fits(held: &BTreeMap<(u8, u8, u8), Kept>, sent: &Sent, limits: &ShardLimits) -> bool {
    let bytes = |held: &mut dyn Iterator<Item = &Kept>| held.map(|held| held.value.len()).sum::<usize>();
    let own =
        || held.iter().filter(|((.., publisher), _)| *publisher == sent.publisher).map(|(_, held)| held);
    held.len() <= limits.records
        && bytes(&mut held.values()) <= limits.bytes
        && own().count() <= limits.publisher_records
        && bytes(&mut own()) <= limits.publisher_bytes
        && held.keys().filter(|(key, ..)| *key == sent.key).count() <= limits.key_records
}

/// What readers see of a record: sequence, flags, milliseconds left, whether it is signed, value.
type Seen = (u64, u8, u32, bool, Vec<u8>);

/// What readers see, by key, kind and publisher.
fn seen(shard: &Shard, now: Instant) -> BTreeMap<(u8, u8, u8), Seen> {
    let mut all = BTreeMap::new();
    for (k, kind) in (0..4).flat_map(|k| [(k, RecordKind::VALUE), (k, RecordKind::PROVIDER)]) {
        let mut last = None;
        shard.find(now, &key(k), kind, None, |found| {
            assert!(Some(found.publisher) > last, "publishers come in order");
            assert_eq!(found.kind, kind);
            last = Some(found.publisher);
            let says = (found.seq, found.flags, found.ttl_ms, !found.proof.is_empty(), found.value.to_vec());
            all.insert((k, kind.0, found.publisher.as_bytes()[0]), says);
            ControlFlow::Continue(())
        });
    }
    all
}

/// What is handed to other replicas: what readers see, and whether it is authentic.
fn handed(shard: &Shard, now: Instant) -> Vec<(Seen, bool)> {
    let mut all = BTreeMap::new();
    shard.select(
        now,
        |_| true,
        |held| {
            let Held { publisher, record, authentic } = held;
            let says =
                (record.seq, record.flags, record.ttl_ms, !record.proof.is_empty(), record.value.to_vec());
            all.insert((record.key, record.kind, publisher), (says, authentic));
        },
    );
    all.into_values().collect()
}

/// Each register is filed once and never late, and the accounts are the sums.
fn audit(shard: &Shard) {
    let registers = || shard.keys.iter().flat_map(|(_, registers)| registers);
    assert_eq!(shard.used.records, registers().count());
    assert_eq!(shard.used.bytes, registers().map(Register::bytes).sum::<usize>());
    assert_eq!(shard.wheel.len(), shard.used.records);
    assert!(registers().all(|register| !register.place.is_after(register.next())));
    assert_eq!(shard.queue.len(), registers().filter(|register| register.queued).count());
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
    assert!(shard.keys.iter().all(|(_, registers)| !registers.is_empty()));
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
            Step::Wait { ms } => now += ms * 1_000_000,
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
                let left = u32::try_from((held.ends - now) / 1_000_000).expect("a ttl");
                let flags = if held.removes { TOMBSTONE } else { 0 };
                (*at, (held.rank.seq, flags, left, held.signed, held.value.clone()))
            })
            .collect();
        assert_eq!(seen(&shard, epoch + Duration::from_nanos(now)), expected);
    }
}

#[test]
fn what_is_signed_is_not_replaced_by_what_is_not() {
    let now = Instant::now();
    let mut shard = Shard::new(now, WIDE, (1, 2));
    let (kind, origin, value) = (RecordKind::VALUE, Origin::FirstHand, vec![1]);
    let sent = |seq, signed| {
        let value = value.clone();
        Sent { key: 1, kind, publisher: 1, origin, signed, removes: false, seq, ttl_ms: 5_000, value }
    };
    assert_eq!(sent(2, true).apply(&mut shard, now), Status::Applied);
    assert_eq!(sent(2, false).apply(&mut shard, now), Status::AlreadyHave);
    assert_eq!(
        sent(3, false).apply(&mut shard, now),
        Status::Superseded { seq: 2 },
        "its publisher must sign"
    );
    assert_eq!(sent(4, true).apply(&mut shard, now), Status::Applied);
    let later = now + Duration::from_secs(5);
    assert_eq!(sent(5, false).apply(&mut shard, later), Status::Applied, "that one has ended");
    let old = Sent { origin: Origin::Vouched(None), ..sent(4, true) };
    assert_eq!(old.apply(&mut shard, later), Status::Superseded { seq: 5 }, "whoever has kept it");
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
    fn the_order_in_which_copies_come_does_not_matter_where_a_publisher_signs_all_or_nothing(
        (copies, shuffled) in prop::collection::vec(sent(origin()).prop_map(all_or_nothing), 1..24)
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
        for later in [0, 1, 2_500, 300_000, 305_000, 86_400_000, 86_700_000] {
            let later = now + Duration::from_millis(later);
            prop_assert_eq!(seen(&once, later), seen(&again, later));
            prop_assert_eq!(handed(&once, later), handed(&again, later));
        }
    }

    #[test]
    fn replicas_that_exchange_what_they_hold_agree(
        one in prop::collection::vec(sent(Just(Origin::Vouched(None))), 0..16),
        two in prop::collection::vec(sent(Just(Origin::Vouched(None))), 0..16),
    ) {
        let now = Instant::now();
        let shard = |copies: &mut dyn Iterator<Item = &Sent>| {
            let mut shard = Shard::new(now, WIDE, (1, 2));
            for copy in copies {
                copy.apply(&mut shard, now);
            }
            shard
        };
        let all = shard(&mut one.iter().chain(&two));
        let (mut left, mut right) = (shard(&mut one.iter()), shard(&mut two.iter()));
        hand_over(&left, &mut right, now);
        hand_over(&right, &mut left, now);
        let winners = |shard: &Shard| -> Vec<_> {
            let says = |((seq, flags, _, signed, value), authentic)| (seq, flags, signed, value, authentic);
            handed(shard, now).into_iter().map(says).collect()
        };
        prop_assert_eq!(winners(&left), winners(&all));
        prop_assert_eq!(winners(&right), winners(&all));
        let before = handed(&left, now);
        hand_over(&right, &mut left, now);
        prop_assert_eq!(handed(&left, now), before, "what is known already changes nothing");
    }
}

/// Sends what `from` holds to `to`, as one replica does to another.
fn hand_over(from: &Shard, to: &mut Shard, now: Instant) {
    from.select(
        now,
        |_| true,
        |held| {
            to.apply(now, &held.publisher, Origin::Vouched(None), [held.record], |status| {
                assert!(!matches!(status, Status::Rejected(_) | Status::StorageFull), "{status:?}");
            });
        },
    );
}
