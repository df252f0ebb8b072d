//! The breaker, call by call and with callers at random.

#![expect(clippy::disallowed_methods, reason = "tests read the clock")]

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::Verdict::{Failure, Success, Unjudged};
use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Lets calls through one after another.
fn run(circuit: &mut Circuit, now: Instant, verdicts: impl IntoIterator<Item = Verdict>) {
    for verdict in verdicts {
        let ticket = circuit.pass(now);
        circuit.judge(now, &ticket, verdict);
    }
}

/// A breaker that has just opened.
fn opened(now: Instant) -> Circuit {
    let mut circuit = Circuit::new();
    run(&mut circuit, now, [Failure; 5]);
    circuit
}

#[test]
fn five_failures_in_a_row_open_it() {
    let now = Instant::now();
    let mut circuit = Circuit::new();
    run(&mut circuit, now, [Failure, Failure, Failure, Failure, Success, Failure, Failure, Unjudged]);
    run(&mut circuit, now, [Failure, Failure]);
    assert_eq!(circuit.breaker(now), Breaker::Closed);
    assert_eq!((circuit.admission(now), circuit.in_a_row()), (Admission::Free, 4));
    run(&mut circuit, now, [Failure]);
    assert_eq!(circuit.breaker(now), Breaker::Open { until: now + PAUSE_MIN });
    assert_eq!(circuit.admission(now), Admission::Refused { until: Some(now + PAUSE_MIN) });
}

#[test]
fn half_of_the_last_twenty_open_it() {
    let now = Instant::now();
    let mut circuit = Circuit::new();
    run(&mut circuit, now, [Success, Failure].repeat(9));
    assert_eq!(circuit.breaker(now), Breaker::Closed);
    let mut later = circuit;
    run(&mut circuit, now, [Success, Failure]);
    assert_eq!(circuit.breaker(now), Breaker::Open { until: now + PAUSE_MIN });
    // The tenth failure again, but the first has left the window.
    run(&mut later, now, [Success, Success, Success, Success, Failure]);
    assert_eq!(later.breaker(now), Breaker::Closed);
}

#[test]
fn the_pause_doubles_with_each_failed_probe_and_a_success_resets_it() {
    let mut now = Instant::now();
    let mut circuit = opened(now);
    for pause in [1, 2, 4, 8, 16, 30, 30] {
        let until = now + Duration::from_secs(pause);
        assert_eq!(circuit.breaker(until - ms(1)), Breaker::Open { until });
        assert_eq!((circuit.breaker(until), circuit.admission(until)), (Breaker::HalfOpen, Admission::Probe));
        now = until;
        run(&mut circuit, now, [Failure]);
    }
    now += PAUSE_MAX;
    run(&mut circuit, now, [Success]);
    assert_eq!(circuit.breaker(now), Breaker::Closed);
    run(&mut circuit, now, [Failure; 4]);
    assert_eq!(circuit.breaker(now), Breaker::Closed, "it begins anew");
    run(&mut circuit, now, [Failure]);
    assert_eq!(circuit.breaker(now), Breaker::Open { until: now + PAUSE_MIN });
}

#[test]
fn a_probe_that_says_nothing_is_given_back() {
    let now = Instant::now();
    let mut circuit = opened(now);
    let later = now + PAUSE_MIN;
    let probe = circuit.pass(later);
    assert_eq!(circuit.admission(later), Admission::Refused { until: None });
    assert_eq!(circuit.breaker(later), Breaker::HalfOpen);
    // Somebody who does not ask for admission takes no probe and gives none back.
    run(&mut circuit, later, [Unjudged, Failure]);
    assert_eq!(circuit.admission(later), Admission::Refused { until: None });
    circuit.judge(later, &probe, Unjudged);
    assert_eq!(circuit.admission(later), Admission::Probe);
}

#[test]
fn what_began_before_it_opened_neither_closes_nor_prolongs() {
    let now = Instant::now();
    let mut circuit = Circuit::new();
    let early = [(); 12].map(|()| circuit.pass(now));
    for ticket in &early[..5] {
        circuit.judge(now, ticket, Failure);
    }
    let open = Breaker::Open { until: now + PAUSE_MIN };
    for ticket in &early[5..10] {
        circuit.judge(now + ms(500), ticket, Failure);
    }
    circuit.judge(now + ms(500), &early[10], Success);
    assert_eq!(circuit.breaker(now + ms(500)), open);
    run(&mut circuit, now + PAUSE_MIN, [Success]);
    circuit.judge(now + PAUSE_MIN, &early[11], Failure);
    assert_eq!(circuit.in_a_row(), 0);
}

#[test]
fn a_success_out_of_turn_closes_it() {
    let now = Instant::now();
    let mut circuit = opened(now);
    run(&mut circuit, now, [Failure]);
    assert_eq!(circuit.breaker(now), Breaker::Open { until: now + PAUSE_MIN });
    run(&mut circuit, now, [Success]);
    assert_eq!(circuit.breaker(now), Breaker::Closed);
}

#[derive(Debug, Clone)]
enum Event {
    Pass,
    Judge(prop::sample::Index, Verdict),
    Advance(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let verdict = prop_oneof![2 => Just(Success), 4 => Just(Failure), 1 => Just(Unjudged)];
    prop_oneof![
        3 => Just(Event::Pass),
        3 => (any::<prop::sample::Index>(), verdict).prop_map(|(index, verdict)| Event::Judge(index, verdict)),
        1 => (0..3_000_u64).prop_map(Event::Advance),
    ]
}

fn cases() -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(0x0b2e_a4e2);
    ProptestConfig { rng_seed, failure_persistence: None, ..ProptestConfig::with_cases(500) }
}

proptest! {
    #![proptest_config(cases())]

    /// Callers that ask for admission: at most one of them is out as a probe, none while it is open, and a
    /// pause is as long as it may be.
    #[test]
    fn never_more_than_one_probe_is_out(events in prop::collection::vec(event(), 0..400)) {
        let start = Instant::now();
        let (mut now, mut circuit, mut out) = (start, Circuit::new(), Vec::new());
        for event in events {
            match event {
                Event::Advance(by) => now += ms(by),
                Event::Pass => match circuit.admission(now) {
                    Admission::Refused { .. } => prop_assert_ne!(circuit.breaker(now), Breaker::Closed),
                    admitted => {
                        let ticket = circuit.pass(now);
                        prop_assert_eq!(ticket.probe, admitted == Admission::Probe);
                        out.push(ticket);
                    }
                },
                Event::Judge(index, verdict) if !out.is_empty() => {
                    let ticket = out.swap_remove(index.index(out.len()));
                    circuit.judge(now, &ticket, verdict);
                    if ticket.probe {
                        prop_assert_ne!(circuit.admission(now), Admission::Refused { until: None });
                    }
                }
                Event::Judge(..) => {}
            }
            let probes = out.iter().filter(|ticket| ticket.probe).count();
            prop_assert!(probes <= 1);
            match circuit.breaker(now) {
                Breaker::Closed => prop_assert_eq!((probes, circuit.admission(now)), (0, Admission::Free)),
                Breaker::HalfOpen => prop_assert_eq!(probes == 0, circuit.admission(now) == Admission::Probe),
                Breaker::Open { until } => prop_assert!(probes == 0 && until - now <= PAUSE_MAX),
            }
            prop_assert!(circuit.in_a_row() < FAILURES_IN_A_ROW);
        }
    }
}
