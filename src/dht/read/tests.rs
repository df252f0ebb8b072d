//! The levels case by case, and quorum reads of random histories.

use proptest::prelude::*;

use super::*;
use crate::wire::TOMBSTONE;

fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn copy(publisher: u8, seq: u64, value: &'static str) -> Heard {
    Heard {
        publisher: node(publisher),
        seq,
        ttl: Duration::from_secs(60),
        flags: 0,
        authentic: false,
        proof: Bytes::new(),
        value: Bytes::from_static(value.as_bytes()),
    }
}

fn tombstone(publisher: u8, seq: u64) -> Heard {
    Heard { flags: TOMBSTONE, ..copy(publisher, seq, "") }
}

fn authentic(copy: Heard) -> Heard {
    Heard { authentic: true, ..copy }
}

fn values(read: &Read) -> Vec<(u64, &[u8])> {
    read.records().map(|copy| (copy.seq, copy.value.as_ref())).collect()
}

#[test]
fn the_first_live_record_is_enough_and_nothing_is_not() {
    let mut read = Read::new(Level::First, 20, None);
    read.answered(node(1), []);
    assert_eq!(read.verdict(), Verdict::More);
    read.answered(node(2), [tombstone(9, 4)]);
    assert_eq!(read.verdict(), Verdict::More, "others may have published too");
    read.answered(node(3), [copy(9, 3, "removed"), copy(8, 1, "live")]);
    assert_eq!(read.verdict(), Verdict::Done);
    assert_eq!(values(&read), [(1, &b"live"[..])], "a tombstone beats what it removes");
    assert_eq!(read.repairs().count(), 0);
}

#[test]
fn of_one_publisher_a_tombstone_is_an_answer() {
    let mut read = Read::new(Level::First, 20, Some(node(9)));
    read.answered(node(1), [copy(8, 3, "of another")]);
    assert_eq!(read.verdict(), Verdict::More);
    read.answered(node(2), [tombstone(9, 4)]);
    assert_eq!((read.verdict(), read.end()), (Verdict::Done, Ok(())));
    assert_eq!(values(&read), []);
}

#[test]
fn nothing_is_an_answer_only_when_all_have_said_so() {
    let mut read = Read::new(Level::First, 3, None);
    assert!(read.end().is_err(), "nobody was asked");
    read.answered(node(1), []);
    assert_eq!(read.end(), Ok(()));
    read.failed();
    assert_eq!(read.end(), Err(Incomplete { answers: 1, failed: 1, needed: 2 }));
    read.answered(node(2), [copy(9, 1, "here")]);
    assert_eq!(read.end(), Ok(()), "what was found was found");
}

#[test]
fn a_quorum_is_more_than_half_of_the_target() {
    for (target, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (19, 10), (20, 11)] {
        assert_eq!(Read::new(Level::Quorum, target, None).wanting(), needed, "target {target}");
        assert_eq!(Read::new(Level::Merge, target, None).wanting(), target.min(3), "target {target}");
    }
    let mut read = Read::new(Level::Quorum, 3, None);
    read.answered(node(1), [copy(9, 1, "old")]);
    read.answered(node(1), [copy(9, 7, "again")]);
    read.noted([copy(8, 1, "of this node")]);
    read.failed();
    assert_eq!(read.wanting(), 1, "one replica counts once, and what this node has does not");
    assert_eq!(read.end(), Err(Incomplete { answers: 1, failed: 1, needed: 2 }));
    read.answered(node(2), [copy(9, 2, "new")]);
    assert_eq!(read.end(), Ok(()));
    assert_eq!(values(&read), [(1, &b"of this node"[..]), (2, &b"new"[..])]);
}

#[test]
fn who_lacks_the_best_copy_is_told() {
    let mut read = Read::new(Level::Quorum, 3, None);
    read.answered(node(1), [copy(8, 1, "a"), copy(9, 1, "old")]);
    read.answered(node(2), [copy(8, 1, "a"), tombstone(9, 2)]);
    read.answered(node(3), [copy(8, 1, "a")]);
    let repairs: Vec<_> = read.repairs().map(|(node, copy)| (node, copy.publisher, copy.seq)).collect();
    assert_eq!(repairs, [(node(1), node(9), 2), (node(3), node(9), 2)]);
}

#[test]
fn a_proof_beats_a_higher_claim_and_one_record_is_one_record() {
    let mut read = Read::new(Level::Quorum, 4, None);
    read.answered(node(1), [copy(9, 3, "signed")]);
    read.answered(node(2), [copy(9, 99, "claimed")]);
    read.answered(node(3), [Heard { ttl: Duration::from_secs(5), ..authentic(copy(9, 3, "signed")) }]);
    assert_eq!(values(&read), [(3, &b"signed"[..])]);
    let mut read = Read::new(Level::Quorum, 2, None);
    read.answered(node(1), [authentic(copy(9, 3, "signed"))]);
    read.answered(node(2), [copy(9, 3, "signed")]);
    assert_eq!(read.repairs().count(), 0, "the other has it, only without the proof");
}

#[test]
fn one_replica_cannot_make_a_read_grow_without_end() {
    let mut read = Read::new(Level::Merge, 3, None);
    let many = (0..10_000_u32).map(|i| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&i.to_be_bytes());
        Heard { publisher: NodeId::from_bytes(id), ..copy(0, 1, "") }
    });
    read.answered(node(1), many);
    assert_eq!(read.records().count(), KEY_RECORDS_MAX);
}

/// What one publisher does in a history: which replicas of `REPLICAS` take it, and whether it removes.
type Write = (u8, bool, bool);

const REPLICAS: usize = 5;

fn reaches(mask: u8) -> impl Iterator<Item = usize> {
    (0..REPLICAS).filter(move |i| mask >> i & 1 == 1)
}

proptest! {
    #[test]
    fn a_quorum_reads_the_last_acknowledged_write(
        writes in proptest::collection::vec(any::<Write>(), 1..12),
        readers in any::<u8>(),
        order in Just((0..REPLICAS).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut replicas: Vec<BTreeMap<NodeId, Heard>> = vec![BTreeMap::new(); REPLICAS];
        let mut last: BTreeMap<NodeId, Heard> = BTreeMap::new();
        for ((mask, other, removes), seq) in writes.into_iter().zip(1_u64..) {
            let publisher = if other { 8 } else { 9 };
            let written = if removes { tombstone(publisher, seq) } else { copy(publisher, seq, "live") };
            reaches(mask).for_each(|i| drop(replicas[i].insert(node(publisher), written.clone())));
            if reaches(mask).count() > REPLICAS / 2 {
                last.insert(node(publisher), written);
            }
        }
        let mut read = Read::new(Level::Quorum, REPLICAS, None);
        for i in order.iter().filter(|i| readers >> **i & 1 == 1) {
            read.answered(node(*i as u8), replicas[*i].values().cloned());
        }
        prop_assert_eq!(read.verdict() == Verdict::Done, reaches(readers).count() > REPLICAS / 2);
        if read.end().is_ok() {
            let found: BTreeMap<_, _> = read.records().map(|copy| (copy.publisher, copy.seq)).collect();
            for (publisher, copy) in &last {
                let seq = found.get(publisher);
                prop_assert!(seq.is_none_or(|seq| *seq >= copy.seq), "an older record came back");
                let newer = read.winners[publisher].copy.seq;
                prop_assert!(newer >= copy.seq, "the acknowledged write was not seen");
            }
            // Once repaired, every replica that answered says the same.
            let repairs: Vec<_> = read.repairs().map(|(node, copy)| (node, copy.clone())).collect();
            for (to, copy) in repairs {
                replicas[usize::from(to.as_bytes()[0])].insert(copy.publisher, copy);
            }
            for i in reaches(readers) {
                let held: Vec<_> = replicas[i].values().cloned().collect();
                let best: Vec<_> = read.winners.values().map(|winner| winner.copy.clone()).collect();
                prop_assert_eq!(held, best);
            }
        }
    }
}
