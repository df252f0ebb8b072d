//! Regions beside a full sort of all nodes there are.

#![expect(clippy::disallowed_methods, reason = "tests read the clock")]

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::dht::lookup::Outcome;

const OWN: NodeId = NodeId::from_bytes([0x5a; 32]);

fn point(rng: &mut ChaCha8Rng) -> Key {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    Key::from_bytes(bytes)
}

fn node(rng: &mut ChaCha8Rng) -> NodeId {
    NodeId::from_bytes(*point(rng).as_bytes())
}

/// A node that shares about as many bits with others as chance has it: crowds within crowds.
fn crowded(rng: &mut ChaCha8Rng, nodes: &[NodeId]) -> NodeId {
    let Some(near) = nodes.choose(rng) else { return node(rng) };
    let tree = Subtree::around(&near.to_key(), rng.random_range(0..64));
    NodeId::from_bytes(*tree.nearest_to(&point(rng)).as_bytes())
}

fn brute(nodes: &[NodeId], key: &Key, k: usize) -> Vec<NodeId> {
    let mut near: Vec<_> = nodes.iter().map(|node| (node.distance(key), *node)).collect();
    if k < near.len() {
        near.select_nth_unstable(k);
        near.truncate(k);
    }
    near.sort_unstable();
    near.into_iter().map(|(_, node)| node).collect()
}

fn outcome(nodes: &[NodeId], target: Key, k: usize) -> Outcome {
    let nodes = brute(nodes, &target, k);
    Outcome { target, nodes, complete: true, queries: 1, failed: 0, hops: 1 }
}

/// Surveys the region of `key`; how many lookups it took, and what it came to.
fn survey(nodes: &[NodeId], key: Key, k: usize, now: Instant) -> (usize, Option<Region>) {
    let mut survey = Survey::new(key, OWN, k);
    let mut lookups = 0;
    while let Some(target) = survey.next() {
        survey.learn(&outcome(nodes, target, k));
        lookups += 1;
        assert!(lookups <= SURVEY_LOOKUPS_MAX);
    }
    (lookups, survey.finish(now))
}

fn assert_exact(region: &Region, nodes: &[NodeId], k: usize, rng: &mut ChaCha8Rng) {
    let mut out = Vec::new();
    for _ in 0..8 {
        let near = nodes.choose(rng).expect("a node").to_key();
        for key in [point(rng), near] {
            let key = region.tree().nearest_to(&key);
            region.closest(&key, k, &mut out);
            assert_eq!(out, brute(nodes, &key, k));
        }
    }
}

#[test]
fn a_region_answers_what_a_full_sort_finds() {
    let (mut most, mut sum, now) = (0, 0, Instant::now());
    for seed in 0..100 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (n, k) = (rng.random_range(3..=2_000), rng.random_range(2..=20));
        let nodes: Vec<_> = (0..n).map(|_| node(&mut rng)).collect();
        let (lookups, region) = survey(&nodes, point(&mut rng), k, now);
        let region = region.unwrap_or_else(|| panic!("seed {seed}: no region of {n} nodes, k = {k}"));
        assert!(region.nodes().len() >= k.min(n), "seed {seed}");
        assert!(region.tree() == &Subtree::WHOLE || n > k, "seed {seed}");
        assert_exact(&region, &nodes, k, &mut rng);
        (most, sum) = (most.max(lookups), sum + lookups);
    }
    assert!(sum <= 4 * 100 && most < SURVEY_LOOKUPS_MAX, "{sum} lookups, {most} of one survey");
}

#[test]
fn crowds_of_ids_end_a_survey_and_never_make_it_wrong() {
    let (mut found, now) = (0, Instant::now());
    for seed in 0..200 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (n, k) = (rng.random_range(3..=300), rng.random_range(1..=20));
        let mut nodes = Vec::new();
        for _ in 0..n {
            let new = crowded(&mut rng, &nodes);
            nodes.push(new);
        }
        nodes.sort_unstable();
        nodes.dedup();
        let key = if seed % 2 == 0 { point(&mut rng) } else { nodes[0].to_key() };
        let (_, region) = survey(&nodes, key, k, now);
        if let Some(region) = region {
            found += 1;
            assert_exact(&region, &nodes, k, &mut rng);
        }
    }
    assert!(found > 20, "only {found} regions");
}

#[test]
fn regions_stay_exact_while_nodes_come_and_go() {
    let now = Instant::now();
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (n, k) = (rng.random_range(3..=300), rng.random_range(2..=20));
        let mut nodes: Vec<_> = (0..n).map(|_| node(&mut rng)).collect();
        let mut regions = Regions::new(k);
        let (mut out, mut known) = (Vec::new(), 0);
        for step in 0..200 {
            match rng.random_range(0..10) {
                0..4 => {
                    let new = crowded(&mut rng, &nodes);
                    if !nodes.contains(&new) {
                        nodes.push(new);
                    }
                    regions.add(new);
                }
                4..8 if nodes.len() > 2 => {
                    let gone = nodes.swap_remove(rng.random_range(0..nodes.len()));
                    regions.remove(&gone);
                }
                _ => {
                    let key = crowded(&mut rng, &nodes).to_key();
                    if let Some(region) = survey(&nodes, key, k, now).1 {
                        regions.learn(now, region);
                    }
                }
            }
            for _ in 0..3 {
                let key = crowded(&mut rng, &nodes).to_key();
                if let Some(region) = regions.get(now, &key) {
                    known += 1;
                    region.closest(&key, k, &mut out);
                    assert_eq!(out, brute(&nodes, &key, k), "seed {seed}, step {step}");
                }
            }
        }
        assert!(known > 100, "seed {seed}: only {known} keys were known");
    }
}

#[test]
fn the_smallest_of_nested_regions_answers() {
    let now = Instant::now();
    let tree = |first: u8, bits| Subtree::around(&Key::from_bytes([first; 32]), bits);
    let nodes = |first: u8, n: u8| {
        (0..n).map(move |i| {
            let mut bytes = [first; 32];
            bytes[31] = i;
            NodeId::from_bytes(bytes)
        })
    };
    let mut regions = Regions::new(2);
    let all = nodes(0x10, 4).chain(nodes(0x13, 2)).chain(nodes(0x90, 1));
    regions.learn(now, Region::new(Subtree::WHOLE, all.collect(), now));
    regions.learn(now, Region::new(tree(0x13, 8), nodes(0x13, 2).collect(), now));
    regions.learn(now, Region::new(tree(0x11, 8), nodes(0x11, 2).collect(), now));
    for (key, expected) in [(0x13, tree(0x13, 8)), (0x11, tree(0x11, 8)), (0x12, Subtree::WHOLE)] {
        let key = Key::from_bytes([key; 32]);
        assert_eq!(regions.get(now, &key).map(|region| region.tree), Some(expected));
    }
    let [first, _] = nodes(0x13, 2).collect::<Vec<_>>()[..] else { unreachable!() };
    regions.remove(&first);
    assert_eq!(regions.len(), 2, "a region with fewer than k nodes is none");
    let wider = Region::new(tree(0x10, 4), nodes(0x10, 4).collect(), now);
    regions.learn(now, wider);
    assert_eq!(regions.len(), 2, "what the newer one covers is gone");
}

#[test]
fn what_is_known_ages() {
    let start = Instant::now();
    let region = Region::new(Subtree::WHOLE, vec![OWN], start);
    let mut regions = Regions::new(1);
    regions.learn(start, region);
    let key = Key::from_bytes([1; 32]);
    let mut stale_after = |age| regions.get(start + age, &key).map(|region| region.is_stale(start + age));
    let moment = Duration::from_millis(1);
    assert_eq!(stale_after(Duration::ZERO), Some(false));
    assert_eq!(stale_after(REGION_TTL / 2 - moment), Some(false));
    assert_eq!(stale_after(REGION_TTL / 2), Some(true));
    assert_eq!(stale_after(REGION_TTL - moment), Some(true));
    assert_eq!(stale_after(REGION_TTL), None);
    assert!(regions.is_empty());
}

#[test]
fn no_more_regions_than_allowed() {
    let start = Instant::now();
    let mut regions = Regions::new(1);
    for i in 0..=u64::try_from(REGIONS_MAX).expect("small") {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(i << 32).to_be_bytes());
        let tree = Subtree::around(&Key::from_bytes(bytes), 32);
        let at = start + Duration::from_millis(i);
        regions.learn(at, Region::new(tree, vec![NodeId::from_bytes(bytes)], at));
    }
    assert_eq!(regions.len(), REGIONS_MAX);
    assert!(regions.get(start, &Key::from_bytes([0; 32])).is_none(), "the oldest went");
    let crowd = (0..=REGION_NODES_MAX).map(|i| {
        let mut bytes = [0xff; 32];
        bytes[24..].copy_from_slice(&i.to_be_bytes());
        NodeId::from_bytes(bytes)
    });
    let tree = Subtree::around(&Key::from_bytes([0xff; 32]), 32);
    regions.learn(start, Region::new(tree, crowd.clone().take(1).collect(), start));
    crowd.for_each(|node| regions.add(node));
    assert!(regions.get(start, &Key::from_bytes([0xff; 32])).is_none(), "one that grows too large goes");
}

#[test]
fn a_lookup_that_was_cut_short_proves_nothing() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let nodes: Vec<_> = (0..100).map(|_| node(&mut rng)).collect();
    let key = point(&mut rng);
    let short = Outcome { complete: false, ..outcome(&nodes, key, 8) };
    let lonely = Outcome { nodes: Vec::new(), ..outcome(&nodes, key, 8) };
    let alone = Outcome { nodes: vec![OWN], ..outcome(&nodes, key, 8) };
    for outcome in [short, lonely, alone] {
        let mut survey = Survey::new(key, OWN, 8);
        survey.learn(&outcome);
        assert_eq!(survey.next(), None);
        assert!(survey.finish(Instant::now()).is_none());
    }
}

#[test]
fn a_lookup_that_is_short_of_dead_nodes_has_not_seen_the_whole_space() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let (now, k) = (Instant::now(), 8);
    let nodes: Vec<_> = (0..64).map(|_| node(&mut rng)).collect();
    for _ in 0..50 {
        let key = point(&mut rng);
        let mut survey = Survey::new(key, OWN, k);
        while let Some(target) = survey.next() {
            let mut outcome = outcome(&nodes, target, k);
            outcome.nodes.pop();
            outcome.failed = 1;
            survey.learn(&outcome);
        }
        if let Some(region) = survey.finish(now) {
            assert!(region.tree().bits() > 0, "{} nodes are not the whole mesh", region.nodes().len());
        }
    }
    let mut survey = Survey::new(point(&mut rng), OWN, k);
    let few = Outcome { failed: 1, ..outcome(&nodes[..3], point(&mut rng), k) };
    survey.learn(&few);
    let whole = survey.finish(now).map(|region| *region.tree());
    assert_eq!(whole, Some(Subtree::WHOLE), "three nodes and a dead one are all that anybody tells of");
}
