//! Envelopes that are opened, refused, and never opened again.

use proptest::prelude::*;

use super::*;

const SKEW: u64 = 300_000;
const NOW: u64 = 1_000_000_000;

fn node(n: u64) -> NodeId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&n.to_be_bytes());
    NodeId::from_bytes(id)
}

#[test]
fn one_origin_sends_thousands_a_second_for_minutes_and_none_is_taken_twice() {
    let mut seen = Seen::default();
    let (first, rate, seconds) = (NOW << 22, 6_000, 180);
    for n in 0..rate * seconds {
        let now = NOW + n * 1_000 / rate;
        // Every other one is late by a second.
        let number = first + n + if n % 2 == 0 { rate } else { 0 };
        assert!(seen.open(now, node(1), number, now - 40), "{n}");
        assert!(!seen.open(now, node(1), number, now - 40), "{n}");
    }
    let numbers = &seen.origins[&node(1)].numbers;
    assert!(numbers.blocks.len() as u64 <= BLOCKS, "{}", numbers.blocks.len());
}

#[test]
fn what_many_later_ones_have_overtaken_is_refused() {
    let mut seen = Seen::default();
    let last = 10 * WINDOW;
    assert!(seen.open(NOW, node(1), last, NOW));
    assert!(seen.open(NOW, node(1), last - (WINDOW - 64), NOW));
    assert!(!seen.open(NOW, node(1), last - WINDOW, NOW));
    assert!(seen.open(NOW, node(1), u64::MAX, NOW), "it may leave out what it likes");
    assert!(!seen.open(NOW, node(1), last + 1, NOW));
    assert!(seen.open(NOW, node(2), last - WINDOW, NOW), "each origin has its own numbers");
}

#[test]
fn an_envelope_is_open_to_nobody_before_and_after_its_time() {
    let mut seen = Seen::default();
    for (number, issued) in [(1, NOW - SKEW), (2, NOW + SKEW)] {
        assert!(seen.open(NOW, node(1), number, issued));
    }
    for (number, issued) in [(3, NOW - SKEW - 1), (4, NOW + SKEW + 1)] {
        assert!(!seen.open(NOW, node(1), number, issued));
    }
    // A clock that is set back makes none of them fresh again.
    assert!(seen.open(NOW + 3 * SKEW, node(2), 1, NOW + 3 * SKEW));
    assert_eq!(seen.len(), 1);
    assert!(!seen.open(NOW, node(1), 1, NOW - SKEW) && !seen.open(NOW, node(1), 2, NOW + SKEW));
}

#[test]
fn a_crowd_of_origins_costs_the_memory_of_the_oldest_and_lets_none_of_it_in_again() {
    let mut seen = Seen::new(64);
    for n in 0..1_000 {
        assert!(seen.open(NOW + n, node(n), 1, NOW + n), "a newer one has room");
        assert!(seen.len() <= 64);
    }
    for n in 0..1_000 {
        assert!(!seen.open(NOW + 1_000, node(n), 1, NOW + n), "{n}");
    }
    assert_eq!(seen.forgotten_ms, NOW + 935, "what is refused makes nothing forgotten");
    // Remembered again, an origin does not get back what was forgotten of it.
    assert!(seen.open(NOW + 1_001, node(0), 2, NOW + 1_001));
    assert!(!seen.open(NOW + 1_001, node(0), 1, NOW));
}

proptest! {
    #[test]
    fn nothing_is_opened_twice_whatever_comes(
        steps in prop::collection::vec((0_u64..6, 0_u64..200_000, 0..4 * SKEW, -1_000_i64..200_000), 1..400),
    ) {
        let (mut seen, mut opened) = (Seen::new(3), BTreeSet::new());
        let (mut now, mut tried) = (NOW, Vec::new());
        for (origin, nonce, issued, passed) in steps {
            now = now.saturating_add_signed(passed);
            tried.push((origin, nonce % 7_000 * 40, now + issued - 2 * SKEW));
            // The new one, and all before it once more.
            for &(origin, nonce, issued) in tried.iter().rev().take(20) {
                if seen.open(now, node(origin), nonce, issued) {
                    prop_assert!(opened.insert((origin, nonce, issued)));
                    prop_assert!(is_fresh(now, issued));
                }
            }
            prop_assert!(seen.len() <= 3 && seen.youngest.len() == seen.origins.len());
        }
    }
}
