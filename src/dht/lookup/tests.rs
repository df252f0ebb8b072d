//! Searches of a network that stands still but for what its nodes do wrong, on a virtual clock.

#![expect(clippy::disallowed_methods, reason = "tests read the clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::dht::table::Table;

const K: usize = 8;
const TIMING: Timing = Timing { slow: Duration::from_millis(50), timeout: Duration::from_millis(400) };

fn id(rng: &mut impl Rng) -> NodeId {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    NodeId::from_bytes(bytes)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How a node answers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    After(Duration),
    Never,
    /// Tells of nodes that do not exist, each closer than the last.
    Invents,
}

struct Net {
    nodes: Vec<NodeId>,
    tables: BTreeMap<NodeId, Table<()>>,
    manners: BTreeMap<NodeId, Manner>,
    rng: ChaCha8Rng,
}

/// What one search has done beside its outcome.
struct Run {
    outcome: Outcome,
    asked: Vec<NodeId>,
    took: Duration,
    most_at_a_time: usize,
}

impl Net {
    /// Tables are what joining leaves: full buckets near the own id, k of many far from it.
    fn new(seed: u64, size: usize) -> Self {
        println!("seed {seed}");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let nodes: Vec<NodeId> = (0..size).map(|_| id(&mut rng)).collect();
        let now = Instant::now();
        let mut tables = BTreeMap::new();
        for own in &nodes {
            let mut table = Table::new(*own, K);
            for _ in 0..size / 3 {
                let peer = nodes[rng.random_range(0..size)];
                table.insert(now, peer, IpAddr::from([127, 0, 0, 1]), ());
            }
            for peer in closest(nodes.iter().filter(|peer| *peer != own), &own.to_key(), K) {
                table.insert(now, peer, IpAddr::from([127, 0, 0, 1]), ());
            }
            tables.insert(*own, table);
        }
        let manners = nodes.iter().map(|node| (*node, Manner::After(ms(rng.random_range(5..20))))).collect();
        Self { nodes, tables, manners, rng }
    }

    fn key(&mut self) -> Key {
        id(&mut self.rng).to_key()
    }

    fn told(&mut self, node: &NodeId, target: &Key, invented: &mut u8) -> Vec<NodeId> {
        if self.manners.get(node) != Some(&Manner::Invents) {
            let mut told = Vec::new();
            self.tables[node].closest(target, K, &mut told);
            return told;
        }
        let next = |_| {
            *invented = invented.saturating_add(1);
            let mut bytes = *target.as_bytes();
            bytes[8] ^= 255 - *invented;
            bytes[9] ^= 1;
            NodeId::from_bytes(bytes)
        };
        (0..K).map(next).collect()
    }

    fn search(&mut self, own: NodeId, target: Key, config: LookupConfig, deadline: Duration) -> Run {
        let start = Instant::now();
        let mut seeds = Vec::new();
        self.tables[&own].closest(&target, K, &mut seeds);
        let mut lookup = Lookup::new(start, own, target, config, TIMING, start + deadline, seeds);
        let mut run = Run { outcome: lookup.outcome(), asked: vec![], took: ms(0), most_at_a_time: 0 };
        let mut answers: BTreeSet<(Instant, NodeId)> = BTreeSet::new();
        let mut under_way = BTreeSet::new();
        let (mut now, mut invented) = (start, 0);
        loop {
            match lookup.step(now) {
                Step::Ask { node, until } => {
                    assert!(until > now && until <= start + deadline);
                    run.asked.push(node);
                    under_way.insert(node);
                    match self.manners.get(&node) {
                        Some(Manner::After(delay)) => drop(answers.insert((now + *delay, node))),
                        Some(Manner::Invents) => drop(answers.insert((now + ms(1), node))),
                        Some(Manner::Never) | None => {}
                    }
                    run.most_at_a_time = run.most_at_a_time.max(under_way.len());
                }
                Step::Wait { until } => {
                    assert!(until > now, "a wait for nothing");
                    now = until.min(answers.first().map_or(until, |(at, _)| *at));
                    while let Some((_, node)) = answers.first().copied().filter(|(at, _)| *at <= now) {
                        answers.pop_first();
                        under_way.remove(&node);
                        let told = self.told(&node, &target, &mut invented);
                        lookup.answered(&node, told);
                    }
                }
                Step::Done => break,
            }
        }
        assert_eq!(lookup.step(now), Step::Done);
        (run.outcome, run.took) = (lookup.outcome(), now - start);
        let distinct: BTreeSet<_> = run.asked.iter().collect();
        assert_eq!(distinct.len(), run.asked.len(), "a node was asked twice");
        assert!(!run.asked.contains(&own));
        assert_eq!(run.outcome.queries as usize, run.asked.len());
        assert!(run.asked.len() <= config.budget, "{} queries", run.asked.len());
        run
    }

    fn alive(&self, but: &NodeId) -> Vec<NodeId> {
        let alive = |node: &&NodeId| *node != but && self.manners[*node] != Manner::Never;
        self.nodes.iter().filter(alive).copied().collect()
    }
}

fn closest<'a>(nodes: impl IntoIterator<Item = &'a NodeId>, key: &Key, n: usize) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = nodes.into_iter().copied().collect();
    nodes.sort_by_cached_key(|node| node.distance(key));
    nodes.truncate(n);
    nodes
}

fn config() -> LookupConfig {
    LookupConfig::new(K, ALPHA)
}

#[test]
fn the_closest_of_500_nodes_are_found() {
    let mut net = Net::new(1, 500);
    let (mut queries, mut hops) = (0, 0);
    for i in 0..200 {
        let (own, target) = (net.nodes[i * 2], net.key());
        let run = net.search(own, target, config(), LOOKUP_TIMEOUT);
        assert_eq!(run.outcome.nodes, closest(&net.alive(&own), &target, K), "search {i}");
        assert!(run.outcome.complete && run.outcome.failed == 0, "{:?}", run.outcome);
        assert!(run.most_at_a_time <= ALPHA_MAX);
        queries += run.outcome.queries;
        hops += run.outcome.hops;
    }
    println!("{} queries and {} hops in 200 searches", queries, hops);
    assert!((200..=200 * 9 / 2).contains(&hops), "{hops} hops");
    assert!(queries < 200 * 18, "{queries} queries");
}

#[test]
fn the_own_neighbourhood_is_found_without_oneself() {
    let mut net = Net::new(2, 300);
    for i in 0..50 {
        let own = net.nodes[i];
        let run = net.search(own, own.to_key(), config(), LOOKUP_TIMEOUT);
        assert_eq!(run.outcome.nodes, closest(&net.alive(&own), &own.to_key(), K));
    }
}

#[test]
fn the_dead_are_left_out_and_the_living_found() {
    let mut net = Net::new(3, 500);
    for node in net.nodes.clone().iter().step_by(10) {
        net.manners.insert(*node, Manner::Never);
    }
    let mut overlap = 0;
    for i in 0..100 {
        let (own, target) = (net.nodes[i * 5 + 1], net.key());
        let run = net.search(own, target, config(), LOOKUP_TIMEOUT);
        let best = closest(&net.alive(&own), &target, K);
        overlap += best.iter().filter(|node| run.outcome.nodes.contains(node)).count();
        assert!(run.outcome.complete && run.outcome.nodes.len() == K);
        assert!(run.took < 5 * TIMING.timeout, "{:?}", run.took);
    }
    // One in ten of the contacts that nodes tell is dead, so a living one may be told by nobody.
    println!("{overlap} of {} found", 100 * K);
    assert!(overlap >= 100 * K - 8);
}

#[test]
fn who_invents_closer_nodes_does_not_hide_those_that_exist() {
    let mut net = Net::new(4, 500);
    for node in net.nodes.clone().iter().step_by(25) {
        net.manners.insert(*node, Manner::Invents);
    }
    let (mut met, mut exact) = (0, 0);
    for i in 0..100 {
        let (own, target) = (net.nodes[i * 5 + 1], net.key());
        let run = net.search(own, target, config(), LOOKUP_TIMEOUT);
        met += u32::from(run.asked.iter().any(|node| net.manners.get(node) == Some(&Manner::Invents)));
        exact += u32::from(run.outcome.nodes == closest(&net.alive(&own), &target, K));
        assert!(run.took < LOOKUP_TIMEOUT);
    }
    println!("{met} of 100 searches met one who invents");
    assert!(met >= 10);
    assert_eq!(exact, 100);
}

#[test]
fn a_slow_node_has_a_substitute_and_its_answer_counts() {
    let mut net = Net::new(5, 200);
    let (own, target) = (net.nodes[0], net.key());
    let best = closest(&net.alive(&own), &target, K);
    net.manners.insert(best[0], Manner::After(TIMING.timeout - ms(1)));
    let run = net.search(own, target, config(), LOOKUP_TIMEOUT);
    assert_eq!(run.outcome.nodes, best);
    assert_eq!(run.outcome.failed, 0);
    let beyond = run.asked.iter().filter(|node| node.distance(&target) > best[K - 1].distance(&target));
    assert!(beyond.count() > 0, "nobody was asked in its place");
}

#[test]
fn an_answer_after_its_time_still_counts() {
    let now = Instant::now();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let (own, late, told) = (id(&mut rng), id(&mut rng), id(&mut rng));
    let other = id(&mut rng);
    let target = id(&mut rng).to_key();
    let mut lookup = Lookup::new(now, own, target, config(), TIMING, now + LOOKUP_TIMEOUT, [late, other]);
    while !matches!(lookup.step(now), Step::Wait { .. }) {}
    let later = now + ms(399);
    lookup.step(later);
    lookup.allow(now, &other, Timing { slow: ms(500), timeout: ms(1_000) });
    lookup.failed(&late);
    assert_eq!(lookup.outcome().failed, 1);
    lookup.answered(&late, [told]);
    assert_eq!(lookup.outcome().failed, 0);
    assert!(matches!(lookup.step(later), Step::Ask { node, .. } if node == told));
    lookup.answered(&late, [own]);
    lookup.answered(&told, []);
    lookup.answered(&other, []);
    assert_eq!(lookup.step(later), Step::Done);
    assert!(lookup.outcome().complete);
    assert_eq!(lookup.outcome().nodes.len(), 3);
}

#[test]
fn a_connection_that_is_made_first_has_its_own_time() {
    let now = Instant::now();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (own, cold, target) = (id(&mut rng), id(&mut rng), id(&mut rng).to_key());
    let mut lookup = Lookup::new(now, own, target, config(), TIMING, now + LOOKUP_TIMEOUT, [cold]);
    assert!(matches!(lookup.step(now), Step::Ask { .. }));
    lookup.allow(now, &cold, Timing { slow: ms(900), timeout: ms(2_000) });
    assert_eq!(lookup.step(now + ms(500)), Step::Wait { until: now + ms(900) });
    assert_eq!(lookup.step(now + ms(900)), Step::Wait { until: now + ms(2_000) });
    assert_eq!(lookup.step(now + ms(2_000)), Step::Done);
    assert_eq!((lookup.outcome().failed, lookup.outcome().hops), (1, 0));
    assert!(lookup.outcome().complete, "nobody is alive");
}

#[test]
fn a_search_ends_at_its_deadline_and_when_it_is_told() {
    let mut net = Net::new(8, 100);
    for node in net.nodes.clone() {
        net.manners.insert(node, Manner::Never);
    }
    let (own, target) = (net.nodes[0], net.key());
    let run = net.search(own, target, config(), ms(300));
    assert_eq!(run.took, ms(300));
    assert!(!run.outcome.complete && run.outcome.nodes.is_empty());
    assert!(run.most_at_a_time > ALPHA, "nobody was asked in place of those who stall");

    let now = Instant::now();
    let mut lookup = Lookup::new(now, own, target, config(), TIMING, now + LOOKUP_TIMEOUT, [net.nodes[1]]);
    lookup.step(now);
    lookup.answered(&net.nodes[1], [net.nodes[2]]);
    lookup.finish();
    assert_eq!(lookup.step(now), Step::Done);
    assert!(!lookup.outcome().complete);
    assert_eq!(lookup.outcome().nodes, [net.nodes[1]]);
}

#[test]
fn no_more_than_k_contacts_of_an_answer_and_so_many_in_all_are_taken() {
    let now = Instant::now();
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let (own, target) = (id(&mut rng), id(&mut rng).to_key());
    let seeds: Vec<_> = (0..1_000).map(|_| id(&mut rng)).collect();
    let config = LookupConfig { budget: usize::MAX, ..config() };
    let mut lookup = Lookup::new(now, own, target, config, TIMING, now + LOOKUP_TIMEOUT, seeds.clone());
    let Step::Ask { node, .. } = lookup.step(now) else { panic!("a question") };
    assert_eq!(node, closest(&seeds, &target, 1)[0], "the farthest are forgotten, not the closest");
    let mut told = Vec::new();
    for i in 1..=20 {
        let mut bytes = *target.as_bytes();
        bytes[31] ^= i;
        told.push(NodeId::from_bytes(bytes));
    }
    lookup.answered(&node, told.clone());
    let mut asked = Vec::new();
    while let Step::Ask { node, .. } = lookup.step(now) {
        lookup.answered(&node, []);
        asked.push(node);
    }
    assert!(told[..K].iter().all(|node| asked.contains(node)));
    assert!(told[K..].iter().all(|node| !asked.contains(node)));
}

#[derive(Debug, Clone)]
enum Event {
    Answer { from: u8, contacts: Vec<u8> },
    Fail { from: u8 },
    Wait(u16),
}

fn event() -> impl Strategy<Value = Event> {
    let contacts = prop::collection::vec(any::<u8>(), 0..12);
    prop_oneof![
        4 => (any::<u8>(), contacts).prop_map(|(from, contacts)| Event::Answer { from, contacts }),
        1 => any::<u8>().prop_map(|from| Event::Fail { from }),
        2 => (0..500_u16).prop_map(Event::Wait),
    ]
}

fn cases() -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(10);
    ProptestConfig { rng_seed, failure_persistence: None, ..ProptestConfig::with_cases(300) }
}

proptest! {
    #![proptest_config(cases())]

    /// Answers of anybody, asked or not, with any contacts: nobody is asked twice, the budget holds, and
    /// the search ends.
    #[test]
    fn a_search_ends_within_its_budget_whatever_answers_come(
        events in prop::collection::vec(event(), 0..200),
        seeds in prop::collection::vec(any::<u8>(), 0..20),
        budget in 0..40_usize,
    ) {
        let start = Instant::now();
        let node = |n: u8| NodeId::from_bytes([n; 32]);
        let config = LookupConfig { k: 4, alpha: 2, alpha_max: 5, budget };
        let target = Key::from_bytes([7; 32]);
        let deadline = start + ms(3_000);
        let seeds = seeds.into_iter().map(node);
        let mut lookup = Lookup::new(start, node(0), target, config, TIMING, deadline, seeds);
        let (mut now, mut asked) = (start, BTreeSet::new());
        let mut events = events.into_iter();
        loop {
            match lookup.step(now) {
                Step::Ask { node: to, until } => {
                    prop_assert!(until > now);
                    prop_assert!(asked.insert(to) && to != node(0));
                    prop_assert!(asked.len() <= budget);
                }
                Step::Wait { until } => {
                    prop_assert!(until > now && until <= deadline);
                    match events.next() {
                        Some(Event::Answer { from, contacts }) => {
                            lookup.answered(&node(from), contacts.into_iter().map(node));
                        }
                        Some(Event::Fail { from }) => lookup.failed(&node(from)),
                        Some(Event::Wait(time)) => now += ms(time.into()),
                        None => now = until,
                    }
                }
                Step::Done => break,
            }
        }
        let outcome = lookup.outcome();
        prop_assert!(outcome.nodes.iter().all(|node| asked.contains(node)));
        prop_assert!(outcome.nodes.is_sorted_by_key(|node| node.distance(&target)));
        prop_assert!(outcome.nodes.len() <= 4 && outcome.queries as usize == asked.len());
    }
}
