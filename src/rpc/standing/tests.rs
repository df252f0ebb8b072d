//! What one provider comes to look like, call by call.

#![expect(clippy::disallowed_methods, reason = "tests read the clock")]

use super::*;
use crate::rpc::breaker::{FAILURES_IN_A_ROW, PAUSE_MIN};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Lets one call run.
fn call(standing: &mut Standing, now: Instant, ended: Ended) {
    let begun = standing.begin(now);
    standing.end(now, begun, ended);
}

fn answered(millis: u64) -> Ended {
    Ended::Answered { latency: ms(millis) }
}

/// A provider whose answers all took so long.
fn settled(now: Instant, millis: u64) -> Standing {
    let mut standing = Standing::new();
    (0..100).for_each(|_| call(&mut standing, now, answered(millis)));
    standing
}

#[test]
fn health_counts_what_happened() {
    let now = Instant::now();
    let mut standing = Standing::default();
    let none =
        ProviderHealth { calls: 0, failures: 0, in_flight: 0, latency: None, breaker: Breaker::Closed };
    assert_eq!(standing.health(now), none);
    call(&mut standing, now, Ended::Failed);
    call(&mut standing, now, Ended::Unjudged);
    call(&mut standing, now, answered(8));
    call(&mut standing, now, answered(16));
    let _in_flight = [standing.begin(now), standing.begin(now)];
    let latency = Some(ms(9));
    assert_eq!(standing.health(now), ProviderHealth { calls: 6, failures: 1, in_flight: 2, latency, ..none });
}

#[test]
fn latency_and_patience_follow_the_answers() {
    let now = Instant::now();
    let mut standing = Standing::new();
    call(&mut standing, now, Ended::Failed);
    assert_eq!(standing.patience(), None);
    call(&mut standing, now, answered(80));
    assert_eq!(standing.patience(), Some(2 * (ms(80) + 4 * ms(40))));
    assert_eq!(settled(now, 1).patience(), Some(PATIENCE_MIN));
    let mut slowed = settled(now, 10);
    (0..6).for_each(|_| call(&mut slowed, now, answered(100)));
    let latency = slowed.health(now).latency.expect("many answers");
    assert!((ms(50)..ms(70)).contains(&latency), "{latency:?}");
    let steady = settled(now, 400).patience().expect("many answers");
    assert!((ms(800)..ms(810)).contains(&steady), "{steady:?}");
    // A host that slept for a day is not waited for as long the next time.
    let mut slept = settled(now, 10);
    call(&mut slept, now, Ended::Answered { latency: Duration::MAX });
    assert!(slept.patience() < Some(Duration::from_secs(4 * 3600)), "{slept:?}");
    assert!(slept.load(now) > 0);
}

#[test]
fn load_grows_with_latency_calls_in_flight_and_failures() {
    let now = Instant::now();
    let (mut fast, slow) = (settled(now, 1), settled(now, 10));
    assert!(fast.load(now) < slow.load(now));
    let alone = fast.load(now);
    let begun: Vec<_> = (0..20).map(|_| fast.begin(now)).collect();
    assert_eq!(fast.load(now), 21 * alone);
    assert!(fast.load(now) > slow.load(now));
    begun.into_iter().for_each(|begun| fast.end(now, begun, Ended::Unjudged));
    assert_eq!(fast.load(now), alone);
    (0..2).for_each(|_| call(&mut fast, now, Ended::Failed));
    assert_eq!(fast.load(now), 4 * alone);
    call(&mut fast, now, answered(1));
    assert!(fast.load(now).abs_diff(alone) < alone / 100);
}

#[test]
fn a_provider_that_was_never_called_is_tried_with_one_call() {
    let now = Instant::now();
    let mut new = Standing::new();
    assert_eq!(new.weight(now), Some(0));
    let begun = new.begin(now);
    assert!(new.load(now) > settled(now, 1_000).load(now));
    let second = new.begin(now + LATENCY_UNKNOWN);
    assert_eq!(new.weight(now + LATENCY_UNKNOWN + ms(1)), None, "it has never answered");
    new.end(now, second, Ended::Unjudged);
    new.end(now, begun, Ended::Failed);
    assert!(new.load(now) > settled(now, 1_000).load(now), "failing is not fast");
}

#[test]
fn who_was_slow_is_tried_again_some_time() {
    let now = Instant::now();
    let mut slow = settled(now, 1_000);
    let at_first = slow.load(now);
    assert_eq!(slow.load(now + LATENCY_HALF_LIFE - ms(1)), at_first);
    assert_eq!(slow.load(now + 3 * LATENCY_HALF_LIFE), at_first / 8);
    assert_eq!(slow.load(now + Duration::from_secs(1 << 30)), 1);
    // Not while it is silent: it has something to do.
    let _in_flight = slow.begin(now);
    assert_eq!(slow.load(now + 3 * LATENCY_HALF_LIFE), 2 * at_first);
}

#[test]
fn who_was_silent_for_a_while_is_not_held_to_be_slow() {
    let start = Instant::now();
    let mut standing = settled(start, 1);
    let waited: Vec<_> = (0..100).map(|_| standing.begin(start)).collect();
    let back = start + ms(3_000);
    for begun in waited {
        standing.end(back, begun, answered(3_000));
    }
    let patience = standing.patience().expect("many answers");
    assert!(patience < ms(300), "{patience:?}");
    assert!(standing.health(back).latency < Some(ms(20)));
    // One that has become slow is believed, in time.
    for call in 0..40 {
        let at = back + ms(500 * call);
        let begun = standing.begin(at);
        standing.end(at + ms(500), begun, answered(500));
    }
    let latency = standing.health(back).latency.expect("many answers");
    assert!(latency > ms(400), "{latency:?}");
}

#[test]
fn who_stops_to_answer_is_called_once_a_second() {
    let now = Instant::now();
    let mut standing = settled(now, 10);
    let first = standing.begin(now);
    assert!(standing.weight(now + PATIENCE_MIN).is_some(), "it may still answer in time");
    let second = standing.begin(now + PATIENCE_MIN);
    let late = now + PATIENCE_MIN + ms(1);
    assert_eq!(standing.weight(late), None);
    let again = now + PATIENCE_MIN + STALL_PAUSE;
    assert!(standing.weight(again).is_some(), "somebody has to find out");
    let third = standing.begin(again);
    assert_eq!(standing.weight(again + ms(1)), None);
    // One answer shows that it lives, however many are still owed.
    standing.end(again + ms(1), third, answered(1));
    assert!(standing.weight(again + ms(1)).is_some());
    standing.end(again + ms(2), first, Ended::Unjudged);
    assert_eq!(standing.weight(again + ms(2 + 100)), None, "one is owed");
    standing.end(again + ms(103), second, Ended::Failed);
    assert!(standing.weight(again + ms(103)).is_some(), "it owes nothing");
}

#[test]
fn a_provider_that_fails_is_left_alone_and_probed_before_others() {
    let now = Instant::now();
    let mut standing = settled(now, 1_000);
    for _ in 0..FAILURES_IN_A_ROW {
        let begun = standing.admit(now).expect("a closed breaker");
        standing.end(now, begun, Ended::Failed);
    }
    assert_eq!(standing.weight(now), None);
    assert!(standing.admit(now).is_none());
    assert_eq!(standing.health(now).breaker, Breaker::Open { until: now + PAUSE_MIN });
    let later = now + PAUSE_MIN;
    assert_eq!(standing.weight(later), Some(0), "a probe costs nothing");
    let probe = standing.admit(later).expect("a probe");
    assert!(standing.admit(later).is_none(), "somebody else has taken the probe");
    assert_eq!((standing.weight(later), standing.health(later).breaker), (None, Breaker::HalfOpen));
    standing.end(later, probe, answered(1));
    assert!(standing.weight(later).is_some());
    assert_eq!(standing.health(later).in_flight, 0);
}
