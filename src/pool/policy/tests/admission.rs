//! Which connection to a peer stays.

use super::types::Refusal;
use super::*;

#[test]
fn the_greater_dialer_wins_in_either_order() {
    for greater in [false, true] {
        let peer = if greater { LOCAL + 1 } else { LOCAL - 1 };
        for inbound_first in [false, true] {
            let mut world = World::new(config(4, 8));
            let (seq, _) = world.dial(peer);
            let mut admit = |side| match side {
                Side::Us => world.admit(peer, Side::Us, seq, BOOT),
                Side::Them => world.admit(peer, Side::Them, 1, BOOT),
            };
            let order = if inbound_first { [Side::Them, Side::Us] } else { [Side::Us, Side::Them] };
            let winner = if greater { Side::Them } else { Side::Us };
            let (first, admitted) = admit(order[0]);
            assert_eq!(kept(admitted), []);
            let (second, admitted) = admit(order[1]);
            let stays = if order[0] == winner {
                assert!(matches!(admitted, Admit::Duplicate));
                first
            } else {
                assert_eq!(kept(admitted), [(first, CloseReason::Duplicate)]);
                second
            };
            assert_eq!(world.lease(peer), stays);
            let stats = world.pool.stats();
            assert_eq!((stats.residents, stats.retiring, stats.dialing), (1, 1, 0));
            assert_eq!((stats.closes.duplicate, stats.handshakes), (1, 2));
        }
    }
}

#[test]
fn the_same_dialer_is_decided_by_its_number() {
    let mut world = World::new(config(4, 8));
    let (old, _) = world.inbound(1, 5);
    let (_, admit) = world.admit(1, Side::Them, 4, BOOT);
    assert!(matches!(admit, Admit::Duplicate), "dialed before, arrived after");
    let (new, retired) = world.inbound(1, 6);
    assert_eq!(retired, [(old, CloseReason::Duplicate)]);
    assert_eq!(world.lease(1), new);
}

#[test]
fn a_loser_with_leases_drains_until_the_last_is_released() {
    let mut world = World::new(config(4, 8));
    let (old, _) = world.inbound(1, 1);
    world.lease(1);
    world.lease(1);
    let (_, admit) = world.admit(1, Side::Them, 2, BOOT);
    let Admit::Kept { retire } = admit else { panic!("the greater number wins") };
    assert_eq!((retire[0].id, retire[0].leases), (old, 2));
    assert!(matches!(world.release(old), Release::Done));
    assert!(matches!(world.release(old), Release::Drained { id, .. } if id == old));
    world.close(old, CloseReason::Error);
    assert_eq!(world.pool.explain(world.now, id(1)).closed[0].reason, CloseReason::Duplicate);
    assert_eq!(world.pool.stats().closes.error, 0);
}

#[test]
fn a_late_close_of_the_loser_leaves_the_winner() {
    let mut world = World::new(config(4, 8));
    let (old, _) = world.inbound(1, 1);
    let (new, _) = world.inbound(1, 2);
    world.close(old, CloseReason::Remote);
    world.close(old, CloseReason::Remote);
    assert_eq!(world.lease(1), new);
}

#[test]
fn a_release_after_the_close_changes_nothing() {
    let mut world = World::new(config(4, 8));
    let old = world.outbound(1);
    world.lease(1);
    world.close(old, CloseReason::Remote);
    assert_eq!((world.pool.stats().leased, world.pool.stats().leases), (0, 0));
    let (_, admit) = world.admit(1, Side::Them, 1, BOOT);
    assert_eq!(kept(admit), []);
    let new = world.lease(1);
    assert!(matches!(world.release(old), Release::Done));
    assert_eq!((new == old, world.pool.stats().leases), (false, 1));
}

#[test]
fn a_restarted_peer_supersedes_all_its_older_connections() {
    let mut world = World::new(config(4, 8));
    let (oldest, _) = world.inbound(1, 8);
    let (older, _) = world.inbound(1, 9);
    world.lease(1);
    // The new process starts its numbers again, and its id is the lesser one.
    let (new, admit) = world.admit(1, Side::Them, 1, BOOT + 1);
    let mut retired = kept(admit);
    retired.sort();
    assert_eq!(retired, [(oldest, CloseReason::Superseded), (older, CloseReason::Superseded)]);
    assert_eq!(world.lease(1), new);
    assert_eq!(world.pool.stats().closes.superseded, 1, "the other one was a duplicate before");
}

#[test]
fn two_processes_with_one_key_do_not_take_turns() {
    let mut world = World::new(config(4, 8));
    world.inbound(1, 1);
    let (newer, admit) = world.admit(1, Side::Them, 1, BOOT + 1);
    assert_eq!(kept(admit).len(), 1);
    for seq in 2..10 {
        let (_, admit) = world.admit(1, Side::Them, seq, BOOT);
        assert!(matches!(admit, Admit::Refused(Refusal::Stale)));
    }
    assert_eq!((world.lease(1), world.pool.stats().stale), (newer, 8));
    // Once the newer one is gone, the older one may come back.
    world.close(newer, CloseReason::Remote);
    let (older, admit) = world.admit(1, Side::Them, 10, BOOT);
    assert_eq!(kept(admit), []);
    assert_eq!(world.lease(1), older);
}

#[test]
fn a_winner_takes_the_place_of_the_loser_and_evicts_nobody_else() {
    let mut world = World::new(config(2, 8));
    world.inbound(1, 1);
    let (old, _) = world.inbound(2, 1);
    let (_, retired) = world.inbound(2, 2);
    assert_eq!(retired, [(old, CloseReason::Duplicate)]);
    let (_, admit) = world.admit(2, Side::Them, 1, BOOT + 1);
    assert!(kept(admit).iter().all(|(_, reason)| *reason == CloseReason::Superseded));
    assert_eq!(world.pool.stats().closes.capacity, 0);
}

#[test]
fn a_dial_has_its_place_even_in_a_full_pool() {
    let mut world = World::new(config(2, 2));
    world.inbound(1, 1);
    world.lease(1);
    let (seq, _) = world.dial(2);
    let (_, admit) = world.admit(2, Side::Them, 1, BOOT);
    assert!(matches!(admit, Admit::Full { retire } if retire.is_empty()));
    let (conn, admit) = world.admit(2, Side::Us, seq, BOOT);
    assert_eq!(kept(admit), []);
    assert_eq!(world.lease(2), conn);
}

#[test]
fn a_loser_that_cannot_be_drained_is_refused() {
    let mut world = World::new(config(2, 2));
    let (_, _) = (world.inbound(1, 5), world.inbound(2, 1));
    let (_, admit) = world.admit(1, Side::Them, 4, BOOT);
    assert!(matches!(admit, Admit::Refused(Refusal::Duplicate)));
    assert_eq!((world.pool.stats().residents, world.pool.stats().retiring), (2, 0));
}

#[test]
fn in_a_full_pool_the_dead_connection_makes_room_for_its_successor() {
    let mut world = World::new(config(2, 2));
    let (old, other) = (world.inbound(1, 1).0, world.inbound(2, 1).0);
    let candidate = world.candidate(1, Side::Them, 1, BOOT + 1);
    let Admit::Full { retire } = world.pool.admit(world.now, candidate.clone()) else { panic!("room") };
    assert_eq!(names(retire), [(old, CloseReason::Superseded)]);
    let again = world.pool.admit(world.now, candidate.clone());
    assert!(matches!(again, Admit::Full { retire } if retire.is_empty()), "one victim is enough");
    world.close(old, CloseReason::Error);
    assert_eq!(kept(world.pool.admit(world.now, candidate)), []);
    assert_eq!(world.lease(2), other);
}

#[test]
fn a_connection_that_the_peer_drains_takes_no_new_work() {
    let mut world = World::new(config(4, 8));
    let conn = world.outbound(1);
    world.lease(1);
    let retire = world.pool.retire_one(conn, CloseReason::Remote).expect("it was live");
    assert_eq!((retire.id, retire.leases), (conn, 1));
    assert!(world.pool.retire_one(conn, CloseReason::Remote).is_none());
    assert!(world.pool.ready(id(1)).is_none());
    world.dial(1);
    assert!(matches!(world.release(conn), Release::Drained { .. }));
}

#[test]
fn residents_are_the_live_ones() {
    let mut world = World::new(config(4, 8));
    let (one, two) = (world.outbound(1), world.inbound(2, 1).0);
    let gone = world.outbound(3);
    assert!(world.pool.retire_one(gone, CloseReason::Remote).is_some());
    let all: Vec<_> = world.pool.residents().collect();
    assert_eq!(all, [(id(1), one.0), (id(2), two.0)]);
}
