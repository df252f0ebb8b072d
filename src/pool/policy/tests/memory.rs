//! Back-off, health, and what the pool tells.

use super::types::DialFailure;
use super::*;

/// Fails a dial to peer 1 as soon as it is allowed, and returns the pause that follows.
fn fail(world: &mut World) -> Duration {
    let (seq, _) = world.dial(1);
    world.pool.dial_failed(world.now, id(1), seq, DialFailure::Unreachable);
    let pause = world.pool.explain(world.now, id(1)).back_off.unwrap_or_default();
    world.pass(pause);
    pause
}

#[test]
fn the_pause_doubles_within_its_bounds_and_is_spread_over_them() {
    let mut sums = [Duration::ZERO; 12];
    for seed in 0..200 {
        let mut world = World::new(config(4, 8));
        world.pool = Policy::new(id(LOCAL), config(4, 8), seed);
        let mut bound = world.pool.config().back_off_min;
        for sum in &mut sums {
            let pause = fail(&mut world);
            assert!(pause <= bound, "{pause:?} above {bound:?}, seed {seed}");
            bound = (bound * 2).min(world.pool.config().back_off_max);
            *sum += pause;
        }
    }
    let mut bound = PoolConfig::BACK_OFF_MIN;
    for sum in sums {
        let mean = sum / 200;
        assert!(mean > bound.mul_f64(0.4) && mean < bound.mul_f64(0.6), "{mean:?} of {bound:?}");
        bound = (bound * 2).min(PoolConfig::BACK_OFF_MAX);
    }
}

#[test]
fn a_request_within_the_pause_is_told_until_when() {
    let mut world = World::new(config(4, 8));
    let (seq, _) = world.dial(1);
    world.pool.dial_failed(world.now, id(1), seq, DialFailure::TimedOut);
    let Acquire::BackOff { until } = world.pool.acquire(world.now, id(1)) else { panic!("no pause") };
    assert!(until > world.now && until <= world.now + PoolConfig::BACK_OFF_MIN);
    assert_eq!(world.pool.stats().backed_off, 1);
    world.dial(2);
    world.now = until;
    world.dial(1);
}

#[test]
fn an_inbound_connection_serves_within_the_pause() {
    let mut world = World::new(config(4, 8));
    let (seq, _) = world.dial(1);
    world.pool.dial_failed(world.now, id(1), seq, DialFailure::Unreachable);
    let (conn, _) = world.inbound(1, 1);
    assert_eq!(world.lease(1), conn);
}

#[test]
fn only_a_connection_that_lasted_ends_the_doubling() {
    let mut world = World::new(config(4, 8));
    for _ in 0..5 {
        fail(&mut world);
    }
    let conn = world.outbound(1);
    world.pass(PoolConfig::LASTING - Duration::from_millis(1));
    world.close(conn, CloseReason::Idle);
    assert_eq!(world.pool.explain(world.now, id(1)).failures, 5);
    let conn = world.outbound(1);
    world.pass(PoolConfig::LASTING);
    world.close(conn, CloseReason::Error);
    let told = world.pool.explain(world.now, id(1));
    assert_eq!((told.failures, told.back_off), (0, None));
}

#[test]
fn a_connection_lost_early_counts_as_a_failure() {
    for (reason, failures) in [(CloseReason::Error, 1), (CloseReason::Remote, 1), (CloseReason::Duplicate, 0)]
    {
        let mut world = World::new(config(4, 8));
        let conn = world.outbound(1);
        world.close(conn, reason);
        assert_eq!(world.pool.explain(world.now, id(1)).failures, failures, "{reason}");
    }
}

#[test]
fn losing_a_duel_at_the_peer_is_no_failure() {
    let mut world = World::new(config(4, 8));
    let (seq, _) = world.dial(1);
    world.pool.dial_failed(world.now, id(1), seq, DialFailure::Duplicate);
    let told = world.pool.explain(world.now, id(1));
    assert_eq!((told.failures, told.back_off), (0, None));
}

#[test]
fn a_dial_that_ended_does_not_end_a_newer_one() {
    let mut world = World::new(config(4, 8));
    let (old, _) = world.dial(1);
    world.pool.dial_aborted(id(1), old);
    let (new, _) = world.dial(1);
    world.pool.dial_failed(world.now, id(1), old, DialFailure::TimedOut);
    world.pool.dial_aborted(id(1), old);
    assert!(matches!(world.pool.acquire(world.now, id(1)), Acquire::Dialing));
    world.pool.dial_failed(world.now, id(1), new, DialFailure::TimedOut);
    assert_eq!((world.pool.stats().dial_failures, world.pool.stats().dialing), (1, 0));
}

#[test]
fn a_new_connection_ends_suspicion() {
    let mut world = World::new(config(4, 8));
    world.pool.suspect(id(1));
    assert!(world.pool.is_suspect(id(1)));
    world.inbound(1, 1);
    assert!(!world.pool.is_suspect(id(1)));
}

#[test]
fn a_failure_of_no_dial_is_ignored() {
    let mut world = World::new(config(4, 8));
    world.pool.dial_failed(world.now, id(1), 1, DialFailure::TimedOut);
    assert_eq!((world.pool.stats().dial_failures, world.pool.stats().dialing), (0, 0));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut world = World::new(PoolConfig { remembered: 3, history: 2, ..config(4, 8) });
    for peer in [1, 2, 3, 1, 4] {
        let (conn, _) = world.inbound(peer, 1);
        world.pass(SECOND);
        world.close(conn, CloseReason::Remote);
    }
    for _ in 0..3 {
        let (conn, _) = world.inbound(4, 1);
        world.close(conn, CloseReason::Remote);
    }
    let remembered = |peer| world.pool.explain(world.now, id(peer)).closed.len();
    assert_eq!([1, 2, 3, 4].map(remembered), [2, 0, 1, 2]);
    for peer in 1..=4 {
        world.pool.suspect(id(peer));
    }
    assert!(!world.pool.is_suspect(id(1)) && world.pool.is_suspect(id(2)));
}

#[test]
fn two_timeouts_in_a_row_make_a_peer_suspect_and_an_answer_clears_it() {
    let mut world = World::new(config(4, 8));
    assert!(!world.pool.timed_out(id(1)));
    world.pool.healthy(id(1));
    assert!(!world.pool.timed_out(id(1)) && !world.pool.is_suspect(id(1)), "not in a row");
    assert!(world.pool.timed_out(id(1)) && world.pool.is_suspect(id(1)));
    assert!(!world.pool.is_suspect(id(2)));
    world.pool.healthy(id(1));
    assert!(!world.pool.is_suspect(id(1)));
    world.pool.suspect(id(1));
    assert!(world.pool.is_suspect(id(1)));
}

#[test]
fn explain_tells_why_open_and_when_it_goes() {
    let mut world = World::new(config(4, 8));
    let lost = world.outbound(1);
    world.pass(20 * SECOND);
    world.close(lost, CloseReason::Error);
    world.pass(SECOND);
    let (seq, _) = world.dial(1);
    world.pass(SECOND);
    let told = world.pool.explain(world.now, id(1));
    assert_eq!((told.open, told.dialing), (None, Some(SECOND)));
    let (conn, admit) = world.admit(1, Side::Us, seq, BOOT);
    assert_eq!(kept(admit), []);
    world.lease(1);
    world.pass(SECOND);
    let open = world.pool.explain(world.now, id(1)).open.expect("it is open");
    assert_eq!((open.dialed_by, open.age, open.leases, open.goes_in), (Side::Us, SECOND, 1, None));
    assert!(matches!(world.release(conn), Release::Done));
    world.pass(SECOND);
    let told = world.pool.explain(world.now, id(1));
    let open = told.open.expect("it is open");
    let left = open.goes_in.expect("it is not leased");
    assert_eq!((open.idle, open.leases), (SECOND, 0));
    assert!(left >= PoolConfig::IDLE_TTL.mul_f64(0.75) - SECOND && left < PoolConfig::IDLE_TTL);
    let closed = told.closed[0];
    assert_eq!((closed.reason, closed.dialed_by), (CloseReason::Error, Side::Us));
    assert_eq!((closed.lived, closed.ago), (20 * SECOND, 4 * SECOND));
    let text = told.to_string();
    assert!(text.contains("dialed by us, idle for 1.0s") && text.contains("after 20.0s: lost"), "{text}");
    world.pass(left);
    assert_eq!(world.tick(), [(conn, CloseReason::Idle)], "explain names the instant it goes");
}

#[test]
fn handshakes_are_told_per_thousand_messages() {
    let mut world = World::new(config(4, 8));
    world.outbound(1);
    let mut stats = world.pool.stats();
    assert_eq!(stats.handshakes_per_1000(), None);
    stats.messages = 4000;
    assert_eq!(stats.handshakes_per_1000(), Some(0.25));
}
