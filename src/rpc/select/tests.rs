//! Who is chosen, how evenly, and how few are asked.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

const ALL: [Selection; 4] =
    [Selection::PowerOfTwo, Selection::Random, Selection::RoundRobin, Selection::First];

/// How often each of `loads` is chosen in so many turns.
fn counts(selection: Selection, turns: u64, loads: &[Option<u64>]) -> Vec<u64> {
    let mut counts = vec![0; loads.len()];
    let mut draws = Draws::new(1);
    for turn in 0..turns {
        let draw = draws.below(usize::MAX) as u64;
        let chosen = choose(selection, turn, draw, loads.len(), |place| loads[place]);
        counts[chosen.expect("some are eligible")] += 1;
    }
    counts
}

/// Whether all counts are within a tenth of `expected`.
fn even(counts: &[u64], expected: u64) -> bool {
    counts.iter().all(|count| count.abs_diff(expected) < expected / 10)
}

#[test]
fn equal_loads_are_spread_evenly() {
    for loads in [vec![Some(5); 2], vec![Some(5); 3], vec![Some(5); 10]] {
        let expected = 100_000 / loads.len() as u64;
        for selection in [Selection::PowerOfTwo, Selection::Random, Selection::RoundRobin] {
            let counts = counts(selection, 100_000, &loads);
            assert!(even(&counts, expected), "{selection:?}: {counts:?}");
        }
    }
}

#[test]
fn whoever_is_not_eligible_is_left_out_evenly() {
    let loads = [None, Some(5), None, None, Some(5), Some(5), None];
    for selection in [Selection::PowerOfTwo, Selection::Random] {
        let counts = counts(selection, 90_000, &loads);
        assert!(even(&[counts[1], counts[4], counts[5]], 30_000), "{selection:?}: {counts:?}");
    }
    let two = counts(Selection::PowerOfTwo, 20_000, &[Some(5), None, None, Some(5), None]);
    assert!(even(&[two[0], two[3]], 10_000), "{two:?}");
}

#[test]
fn of_two_the_lighter_is_chosen() {
    assert_eq!(counts(Selection::PowerOfTwo, 1_000, &[Some(9), Some(8)]), [0, 1_000]);
    assert_eq!(counts(Selection::PowerOfTwo, 1_000, &[Some(9), None, Some(8)]), [0, 0, 1_000]);
    // The lightest of three is in two of three pairs, the heaviest is the lighter of none.
    let three = counts(Selection::PowerOfTwo, 30_000, &[Some(3), Some(1), Some(2)]);
    assert!(three[0] == 0 && even(&three[1..2], 20_000) && even(&three[2..], 10_000), "{three:?}");
}

/// Calls that end in no order: two choices keep the fullest near the mean, where chance alone does not.
#[test]
fn two_choices_are_nearly_as_even_as_comparing_all() {
    let fullest = |selection| {
        let mut calls = [0_u64; 100];
        let mut draws = Draws::new(3);
        for turn in 0..10_000 {
            let draw = draws.below(usize::MAX) as u64;
            let chosen = choose(selection, turn, draw, calls.len(), |place| Some(calls[place]));
            calls[chosen.expect("all are eligible")] += 1;
        }
        calls.iter().max().copied().expect("a hundred")
    };
    assert!(fullest(Selection::PowerOfTwo) <= 104, "{}", fullest(Selection::PowerOfTwo));
    assert!(fullest(Selection::Random) >= 115, "{}", fullest(Selection::Random));
}

#[test]
fn round_robin_takes_turns_and_first_is_first() {
    let loads = [Some(1), Some(9), None, Some(1)];
    let turns = |selection| -> Vec<_> {
        let one = |turn| choose(selection, turn, 0, loads.len(), |place| loads[place]).expect("eligible");
        (0..6).map(one).collect()
    };
    assert_eq!(turns(Selection::RoundRobin), [0, 1, 3, 3, 0, 1]);
    assert_eq!(turns(Selection::First), [0; 6]);
    assert_eq!(choose(Selection::First, 0, 0, 3, |place| (place > 0).then_some(0)), Some(1));
    assert_eq!(choose(Selection::RoundRobin, u64::MAX, 0, 4, |_| Some(0)), Some(3));
}

#[test]
fn few_are_asked_when_all_are_eligible() {
    for (selection, most) in ALL.into_iter().zip([2, 1, 1, 1]) {
        for count in [1, 2, 1_000] {
            let mut asked = 0;
            let chosen = choose(selection, 7, 0x0123_4567_89ab_cdef, count, |_| {
                asked += 1;
                Some(1)
            });
            assert!(chosen.is_some() && asked <= most.min(count), "{selection:?}, {count}: {asked}");
        }
    }
}

fn cases() -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(0x5e1e_c700);
    ProptestConfig { rng_seed, failure_persistence: None, ..ProptestConfig::with_cases(1_000) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn one_is_chosen_if_one_is_eligible_and_the_same_again(
        loads in prop::collection::vec(prop::option::of(any::<u64>()), 0..12),
        turn: u64,
        draw: u64,
    ) {
        for selection in ALL {
            let chosen = choose(selection, turn, draw, loads.len(), |place| loads[place]);
            prop_assert_eq!(chosen.is_some(), loads.iter().any(Option::is_some));
            prop_assert!(chosen.is_none_or(|place| loads[place].is_some()));
            prop_assert_eq!(choose(selection, turn, draw, loads.len(), |place| loads[place]), chosen);
        }
    }

    #[test]
    fn of_two_choices_the_heaviest_is_never_chosen(loads in prop::collection::btree_set(any::<u64>(), 2..12), draw: u64) {
        let loads: Vec<_> = loads.into_iter().collect();
        let chosen = choose(Selection::PowerOfTwo, 0, draw, loads.len(), |place| Some(loads[place]));
        prop_assert!(chosen.is_some_and(|place| place < loads.len() - 1));
    }
}
