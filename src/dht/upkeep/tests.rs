//! The duties of a node on a virtual clock.

#![expect(clippy::disallowed_methods, reason = "tests need an instant to count from")]

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::dht::members::AVOIDED;

const NODE: NodeId = NodeId::from_bytes([0; 32]);
const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const K: usize = 4;

/// A driver that does what it is told to at once.
struct World {
    now: Instant,
    upkeep: Upkeep,
    members: Members<()>,
    /// Who answers, and whether anybody does at the bootstrap addresses.
    alive: Vec<NodeId>,
    seed_is_up: bool,
    done: Vec<(Instant, Duty)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let upkeep = Upkeep::new(seed, now, UpkeepConfig::default());
        let (members, alive) = (Members::new(NODE, K), Vec::new());
        Self { now, upkeep, members, alive, seed_is_up: true, done: Vec::new() }
    }

    /// Lets a node in each of the first buckets join.
    fn filled(seed: u64, buckets: u16) -> Self {
        let mut world = Self::new(seed);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for bucket in 0..buckets {
            world.alive.push(NodeId::from_bytes(*random_in(&NODE, bucket, &mut rng).as_bytes()));
        }
        world
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while self.now < end {
            while let Some(duty) = self.upkeep.due(self.now, &self.members) {
                steps += 1;
                assert!(steps < 20_000, "it never rests");
                self.done.push((self.now, duty));
                self.carry_out(duty);
            }
            let next = self.upkeep.next();
            assert!(next > self.now, "what is due is done");
            self.now = next.min(end);
        }
    }

    fn carry_out(&mut self, duty: Duty) {
        let now = self.now;
        match duty {
            Duty::Bootstrap => {
                if self.seed_is_up {
                    for node in &self.alive {
                        self.members.connected(now, *node, IP, ());
                    }
                }
                self.upkeep.bootstrapped(now, self.seed_is_up);
            }
            Duty::Lookup(key) => assert!(self.upkeep.looked_up(now, &key, &self.members)),
            Duty::Ping(node) if self.alive.contains(&node) => drop(self.members.confirm(now, &node)),
            Duty::Ping(node) => self.members.unreachable(now, &node),
        }
    }

    fn times(&self, which: impl Fn(&Duty) -> bool) -> Vec<Instant> {
        self.done.iter().filter(|(_, duty)| which(duty)).map(|(at, _)| *at).collect()
    }
}

fn buckets(done: &[(Instant, Duty)]) -> Vec<u16> {
    let bucket = |duty: &Duty| match duty {
        Duty::Lookup(key) => Some(bucket_of(&NODE, key)),
        _ => None,
    };
    done.iter().filter_map(|(_, duty)| bucket(duty)).collect()
}

#[test]
fn a_node_that_joins_looks_for_itself_and_then_into_each_bucket_beyond_its_neighbours() {
    let mut world = World::filled(1, 10);
    world.run(Duration::from_secs(1));
    assert_eq!(world.done[0].1, Duty::Bootstrap);
    // The k closest nodes are those of the buckets 6 to 9.
    assert_eq!(buckets(&world.done), [OWN, 5, 4, 3, 2, 1, 0]);
    world.done.clear();
    world.run(REFRESH / 2);
    let mut again = buckets(&world.done);
    assert!((4..=9).contains(&again.len()), "{again:?}");
    assert!(again.iter().all(|bucket| *bucket == OWN), "{again:?}");
    world.run(REFRESH);
    again = buckets(&world.done);
    again.sort_unstable();
    again.dedup();
    assert_eq!(again, [0, 1, 2, 3, 4, 5, OWN]);
}

#[test]
fn who_knows_everybody_looks_only_for_itself() {
    let mut world = World::filled(2, 3);
    world.run(Duration::from_secs(60));
    assert_eq!(buckets(&world.done), [OWN]);
}

#[test]
fn a_bucket_that_was_looked_into_anyhow_needs_no_refresh() {
    let mut world = World::filled(3, 10);
    world.run(Duration::from_secs(1));
    world.done.clear();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..120 {
        world.run(Duration::from_secs(60));
        let key = random_in(&NODE, 2, &mut rng);
        assert!(!world.upkeep.looked_up(world.now, &key, &world.members));
    }
    let refreshed = buckets(&world.done);
    assert!(refreshed.contains(&3) && !refreshed.contains(&2), "{refreshed:?}");
}

#[test]
fn neighbours_are_asked_before_they_were_silent_for_long_and_not_all_at_once() {
    let mut world = World::filled(4, 10);
    world.run(Duration::from_secs(600));
    let near: Vec<_> = world.members.closest(world.now, &NODE.to_key(), K);
    for node in near {
        let pings = world.times(|duty| *duty == Duty::Ping(node));
        assert!((10..=40).contains(&pings.len()), "{} pings", pings.len());
        assert!(pings.windows(2).all(|pair| pair[1] - pair[0] <= 3 * PING));
    }
    let pings = world.times(|duty| matches!(duty, Duty::Ping(_)));
    assert!(pings.windows(2).all(|pair| pair[0] < pair[1]), "one at a time");
    assert!(pings.len() <= 600 / 30 * K * 2, "only neighbours: {}", pings.len());
}

#[test]
fn a_silent_member_is_asked_until_it_answers() {
    let mut world = World::filled(5, 10);
    world.run(Duration::from_secs(60));
    let dead = world.alive.pop().expect("a node");
    world.run(Duration::from_secs(120));
    assert!(world.members.is_silent(&dead));
    world.done.clear();
    world.run(Duration::from_secs(600));
    let pings = world.times(|duty| *duty == Duty::Ping(dead)).len();
    assert!((2..=8).contains(&pings), "{pings} pings, ever more rarely");
    world.alive.push(dead);
    world.run(Duration::from_secs(600));
    assert!(!world.members.is_silent(&dead));
    assert!(AVOIDED < PING);
}

#[test]
fn a_node_that_knows_nobody_begins_anew_ever_more_rarely() {
    let mut world = World::filled(6, 10);
    world.seed_is_up = false;
    world.run(Duration::from_secs(600));
    let tries = world.times(|duty| *duty == Duty::Bootstrap);
    assert_eq!(tries.len(), world.done.len(), "there is nobody else to ask");
    let waits: Vec<_> = tries.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    let mut expected = 1.0;
    for wait in waits {
        assert!((0.75 * expected..=1.25 * expected).contains(&wait), "{wait} instead of {expected}");
        expected = f64::min(2.0 * expected, 60.0);
    }
    assert!((12..=20).contains(&tries.len()), "{} tries", tries.len());

    world.seed_is_up = true;
    world.run(2 * REJOIN_MAX);
    assert_eq!(world.members.answering(), 10);
    world.alive.clear();
    world.seed_is_up = false;
    world.done.clear();
    for node in world.members.closest(world.now, &NODE.to_key(), 10) {
        world.members.unreachable(world.now, &node);
    }
    world.run(2 * PING);
    assert!(world.times(|duty| *duty == Duty::Bootstrap).len() >= 2, "cut off, it begins anew");
}

#[test]
fn the_same_seed_gives_the_same_duties() {
    let run = |seed| {
        let mut world = World::filled(seed, 10);
        let start = world.now;
        world.run(REFRESH);
        world.done.iter().map(|(at, duty)| (*at - start, *duty)).collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_random_key_lies_in_its_bucket() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let own = NodeId::from_bytes([0x5a; 32]);
    for bucket in 0..OWN {
        assert_eq!(bucket_of(&own, &random_in(&own, bucket, &mut rng)), bucket);
    }
}
