//! The levels case by case, and what a node remembers of its cluster.

#![expect(clippy::disallowed_methods, reason = "tests read the clock and build what the library may not")]

use super::*;

fn at(epoch: Instant, minutes: u64) -> Instant {
    epoch + Duration::from_secs(60 * minutes)
}

#[test]
fn the_levels_by_target() {
    let cases = [
        // target, one, quorum, all
        (1, 1, 1, 1),
        (2, 1, 2, 2),
        (3, 1, 2, 3),
        (4, 1, 3, 4),
        (5, 1, 3, 5),
        (19, 1, 10, 19),
        (20, 1, 11, 20),
    ];
    for (target, one, quorum, all) in cases {
        assert_eq!(required(Ack::Local, target), Ok(0), "local of {target}");
        assert_eq!(required(Ack::One, target), Ok(one), "one of {target}");
        assert_eq!(required(Ack::Quorum, target), Ok(quorum), "quorum of {target}");
        assert_eq!(required(Ack::All, target), Ok(all), "all of {target}");
    }
    assert_eq!(Ack::default(), Ack::Quorum);
}

#[test]
fn a_node_that_never_saw_another_can_only_store_locally() {
    let none = target(20, 0, LargestSeen::new().largest(Instant::now()));
    assert_eq!(none, 0);
    assert_eq!(required(Ack::Local, none), Ok(0));
    for ack in [Ack::One, Ack::Quorum, Ack::All] {
        assert_eq!(required(ack, none), Err(NotEnoughReplicas { required: 1, available: 0 }));
    }
}

#[test]
fn the_target_is_the_cluster_up_to_k() {
    assert_eq!(target(20, 4, 4), 4);
    assert_eq!(target(4, 100, 100), 4);
    assert_eq!(target(20, 5, 3), 5, "growth counts at once");
    assert_eq!(target(20, 0, 9), 9, "a node that was cut off still aims at the cluster it knew");
    assert_eq!(target(0, 9, 9), 0);
}

#[test]
fn a_size_is_remembered_for_ten_minutes_after_it_ended() {
    let epoch = Instant::now();
    let mut seen = LargestSeen::new();
    seen.observe(epoch, 9);
    assert_eq!(seen.largest(at(epoch, 60)), 9, "a size lasts until another is noted");
    seen.observe(at(epoch, 60), 2);
    seen.observe(at(epoch, 65), 5);
    seen.observe(at(epoch, 66), 0);
    assert_eq!(seen.largest(at(epoch, 70)), 9);
    assert_eq!(seen.largest(at(epoch, 71)), 5);
    assert_eq!(seen.largest(at(epoch, 76)), 5);
    assert_eq!(seen.largest(at(epoch, 77)), 0);
}

#[test]
fn a_flapping_cluster_needs_no_memory() {
    let epoch = Instant::now();
    let mut seen = LargestSeen::new();
    for second in 0..500 {
        let size = if second % 2 == 0 { 7 } else { 3 };
        seen.observe(epoch + Duration::from_secs(second), size);
    }
    assert_eq!(seen.largest(epoch + Duration::from_secs(500)), 7);
    assert!(seen.past.len() <= 2, "{} sizes kept", seen.past.len());
}
