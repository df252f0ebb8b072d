//! Who goes, who waits: capacity, idle time, order.

use super::*;

#[test]
fn above_the_soft_limit_the_least_recently_used_goes_one_by_one() {
    let mut world = World::new(config(3, 8));
    let (one, two, three) = (world.outbound(1), world.outbound(2), world.outbound(3));
    world.pass(SECOND);
    let leased = world.lease(1);
    assert!(matches!(world.release(leased), Release::Done), "used later than two and three");
    assert_eq!(world.dial(4).1, Some(two));
    assert_eq!(world.dial(5).1, Some(three));
    assert_eq!(world.dial(6).1, Some(one));
    assert_eq!(world.dial(7).1, None, "only dials are left");
}

#[test]
fn a_touch_counts_as_use() {
    let mut world = World::new(config(2, 8));
    let (_, two) = (world.outbound(1), world.outbound(2));
    world.pass(SECOND);
    world.pool.touch(world.now, id(1));
    assert_eq!(world.dial(3).1, Some(two));
}

#[test]
fn leased_ones_carry_the_pool_above_the_soft_limit_and_shrink_it_when_released() {
    let mut world = World::new(config(2, 8));
    let conns: Vec<ConnId> = (1..=4)
        .map(|peer| {
            world.outbound(peer);
            world.lease(peer)
        })
        .collect();
    assert_eq!(world.pool.stats().residents, 4);
    for conn in &conns[..2] {
        let Release::Evict(retire) = world.release(*conn) else { panic!("above the soft limit") };
        assert_eq!((retire.id, retire.reason, retire.leases), (*conn, CloseReason::Capacity, 0));
    }
    assert!(matches!(world.release(conns[2]), Release::Done));
    assert!(matches!(world.release(conns[3]), Release::Done));
    assert_eq!((world.pool.stats().residents, world.pool.stats().closes.capacity), (2, 2));
}

#[test]
fn at_the_hard_limit_the_place_is_free_once_the_evicted_is_closed() {
    let mut world = World::new(PoolConfig { outbound_percent: 100, ..config(2, 2) });
    let (one, _) = (world.outbound(1), world.outbound(2));
    let Acquire::Full { evict: Some(retire) } = world.pool.acquire(world.now, id(3)) else { panic!("room") };
    assert_eq!((retire.id, retire.reason), (one, CloseReason::Capacity));
    // Asking again while the first one drains takes no second victim, until it has taken too long.
    assert!(matches!(world.pool.acquire(world.now, id(3)), Acquire::Full { evict: None }));
    assert_eq!(world.pool.stats().residents, 1);
    world.close(one, CloseReason::Error);
    assert_eq!(world.dial(3).1, None);
}

#[test]
fn a_victim_that_does_not_close_is_followed_by_another() {
    let mut world = World::new(PoolConfig { outbound_percent: 100, ..config(2, 2) });
    let (_, two) = (world.outbound(1), world.outbound(2));
    assert!(matches!(world.pool.acquire(world.now, id(3)), Acquire::Full { evict: Some(_) }));
    world.pass(world.pool.config().wait);
    let Acquire::Full { evict: Some(retire) } = world.pool.acquire(world.now, id(3)) else { panic!("room") };
    assert_eq!(retire.id, two);
}

#[test]
fn a_place_taken_by_another_is_made_again() {
    let mut world = World::new(PoolConfig { outbound_percent: 100, ..config(2, 2) });
    let (one, two) = (world.outbound(1), world.outbound(2));
    assert!(matches!(world.pool.acquire(world.now, id(3)), Acquire::Full { evict: Some(_) }));
    world.close(one, CloseReason::Error);
    world.dial(4);
    let Acquire::Full { evict: Some(retire) } = world.pool.acquire(world.now, id(3)) else { panic!("room") };
    assert_eq!(retire.id, two);
}

#[test]
fn when_all_are_leased_the_request_waits() {
    let mut world = World::new(PoolConfig { outbound_percent: 100, ..config(2, 2) });
    for peer in [1, 2] {
        world.outbound(peer);
        world.lease(peer);
    }
    assert!(matches!(world.pool.acquire(world.now, id(3)), Acquire::Full { evict: None }));
    world.pool.exhausted();
    assert_eq!((world.pool.stats().exhausted, world.pool.stats().leased), (1, 2));
}

#[test]
fn neither_side_starves_the_other_at_the_hard_limit() {
    let mut world = World::new(config(10, 10));
    for peer in 1..=6 {
        world.inbound(peer, 1);
        world.lease(peer);
    }
    let (_, admit) = world.admit(7, Side::Them, 1, BOOT);
    assert!(matches!(admit, Admit::Full { retire } if retire.is_empty()), "60 % of ten are inbound");
    for peer in 11..=14 {
        world.outbound(peer);
    }
    assert!(matches!(world.pool.acquire(world.now, id(15)), Acquire::Full { evict: Some(_) }));

    let mut world = World::new(config(10, 10));
    for peer in 1..=8 {
        world.outbound(peer);
        world.lease(peer);
    }
    assert!(matches!(world.pool.acquire(world.now, id(9)), Acquire::Full { evict: None }), "80 % of ten");
    world.inbound(11, 1);
    world.inbound(12, 1);
    let (_, admit) = world.admit(13, Side::Them, 1, BOOT);
    let Admit::Full { retire } = admit else { panic!("ten of ten") };
    assert_eq!(retire[0].peer, id(11));
    world.pool.turned_away();
    assert_eq!(world.pool.stats().refused, 1);
}

#[test]
fn a_flood_of_inbound_connections_replaces_itself() {
    let mut world = World::new(config(10, 100));
    let ours: Vec<ConnId> = (1..=4).map(|peer| world.outbound(peer)).collect();
    world.pass(SECOND);
    for peer in 101..=250 {
        let (_, retired) = world.inbound(peer, 1);
        for (conn, _) in retired {
            assert!(!ours.contains(&conn), "an inbound one takes more than its share");
            world.close(conn, CloseReason::Capacity);
        }
    }
    assert_eq!((world.pool.stats().residents, world.pool.stats().inbound), (10, 6));
}

#[test]
fn the_idle_go_after_a_time_that_differs() {
    let mut world = World::new(config(100, 100));
    let ttl = world.pool.config().idle_ttl;
    let conns: Vec<ConnId> = (1..=50).map(|peer| world.inbound(peer, 1).0).collect();
    let first = world.pool.next_deadline().expect("there are alarms");
    assert!(first >= world.now + ttl.mul_f64(0.75) && first < world.now + ttl.mul_f64(0.9));
    world.pass(ttl.mul_f64(0.75) - Duration::from_millis(1));
    assert_eq!(world.tick(), []);
    world.pass(ttl.mul_f64(0.125));
    let half = world.tick().len();
    assert!((10..40).contains(&half), "{half} of 50 halfway");
    world.pass(ttl.mul_f64(0.125) + Duration::from_millis(1));
    assert_eq!(half + world.tick().len(), conns.len());
    assert_eq!((world.pool.next_deadline(), world.pool.stats().closes.idle), (None, 50));
}

#[test]
fn leases_and_frames_keep_a_connection_from_being_idle() {
    let mut world = World::new(config(4, 8));
    let ttl = world.pool.config().idle_ttl;
    let (one, two) = (world.outbound(1), world.outbound(2));
    world.lease(1);
    for _ in 0..4 {
        world.pass(ttl / 2);
        world.pool.touch(world.now, id(2));
        assert_eq!(world.tick(), []);
    }
    assert!(matches!(world.release(one), Release::Done));
    world.pass(ttl / 2);
    assert_eq!(world.tick(), [], "both were used half a life ago");
    world.pass(ttl / 2);
    let mut gone = world.tick();
    gone.sort();
    assert_eq!(gone, [(one, CloseReason::Idle), (two, CloseReason::Idle)]);
}

#[test]
fn every_alarm_lies_ahead_of_the_tick_that_moved_it() {
    let mut world = World::new(config(8, 8));
    for peer in 1..=4 {
        world.inbound(peer, 1);
        world.lease(peer);
    }
    for _ in 0..20 {
        let at = world.pool.next_deadline().expect("there are alarms");
        assert!(at > world.now);
        world.now = at;
        assert_eq!(world.tick(), []);
    }
}

#[test]
fn absurd_times_are_no_trouble() {
    for time in [Duration::ZERO, Duration::MAX] {
        let mut world = World::new(PoolConfig {
            idle_ttl: time,
            wait: time,
            back_off_min: time,
            back_off_max: time,
            lasting: time,
            ..config(1, 1)
        });
        world.outbound(1);
        let conn = world.lease(1);
        world.tick();
        assert!(matches!(world.release(conn), Release::Done));
        assert!(matches!(world.pool.acquire(world.now, id(2)), Acquire::Full { evict: Some(_) }));
        world.close(conn, CloseReason::Error);
        let (seq, _) = world.dial(2);
        world.pool.dial_failed(world.now, id(2), seq, types::DialFailure::TimedOut);
    }
}

#[test]
fn limits_that_disagree_are_found() {
    use super::config::PoolConfigError::{BackOff, Limits, Percent, Zero};
    let sound = PoolConfig::default;
    assert_eq!(sound().check(), Ok(()));
    let bad = [
        (config(0, 8), Limits),
        (config(9, 8), Limits),
        (PoolConfig { inbound_percent: 0, outbound_percent: 100, ..sound() }, Percent),
        (PoolConfig { inbound_percent: 40, outbound_percent: 59, ..sound() }, Percent),
        (PoolConfig { outbound_percent: 101, ..sound() }, Percent),
        (PoolConfig { idle_ttl: Duration::ZERO, ..sound() }, Zero),
        (PoolConfig { back_off_min: Duration::ZERO, ..sound() }, BackOff),
        (PoolConfig { back_off_min: SECOND, back_off_max: SECOND / 2, ..sound() }, BackOff),
    ];
    for (config, error) in bad {
        assert_eq!(config.check(), Err(error), "{config:?}");
    }
}
