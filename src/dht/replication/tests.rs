//! Whole meshes in which every node carries out its part of the plan.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::seq::IteratorRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Nodes, and who holds a copy under which key.
struct Mesh {
    k: usize,
    nodes: BTreeSet<NodeId>,
    held: BTreeMap<Key, BTreeSet<NodeId>>,
}

impl Mesh {
    fn closest(&self, key: &Key) -> Vec<NodeId> {
        let mut nodes: Vec<_> = self.nodes.iter().copied().collect();
        nodes.sort_by_key(|node| node.distance(key));
        nodes
    }

    /// Lets every holder of every copy do what `plan` says, and checks that no more than `senders` of them
    /// send to one node, and only to one of the `reach` closest.
    fn carry_out(&mut self, reach: usize, senders: usize, plan: impl Fn(&Neighbourhood<'_>) -> Vec<NodeId>) {
        for key in self.held.keys().copied().collect::<Vec<_>>() {
            let closest = self.closest(&key);
            let mut sent: BTreeMap<NodeId, usize> = BTreeMap::new();
            for own in self.held[&key].iter().filter(|node| self.nodes.contains(node)) {
                let mut others = closest.clone();
                others.retain(|node| node != own);
                others.truncate(self.k + 4);
                let around = Neighbourhood { own: *own, key, k: self.k, others: &others };
                for receiver in plan(&around) {
                    assert_ne!(receiver, *own, "nobody sends to itself");
                    *sent.entry(receiver).or_default() += 1;
                }
            }
            for (receiver, count) in sent {
                assert!(closest[..reach.min(closest.len())].contains(&receiver), "a copy for a stranger");
                assert!(count <= senders, "{count} senders of one copy");
                self.held.get_mut(&key).expect("it is held").insert(receiver);
            }
        }
    }

    /// Takes `lost` away, with what they hold; a copy that nobody has any more is no longer looked for.
    fn lose(&mut self, lost: &[NodeId]) {
        self.nodes.retain(|node| !lost.contains(node));
        for holders in self.held.values_mut() {
            holders.retain(|node| !lost.contains(node));
        }
        self.held.retain(|_, holders| !holders.is_empty());
    }

    fn assert_whole(&self) {
        for (key, holders) in &self.held {
            for node in self.closest(key).iter().take(self.k) {
                assert!(holders.contains(node), "{node:?} lacks the copy under {key:?}");
            }
        }
    }
}

fn random_id(rng: &mut impl Rng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill(&mut bytes);
    bytes
}

fn mesh(rng: &mut impl Rng, k: usize, nodes: usize) -> Mesh {
    let nodes = (0..nodes).map(|_| NodeId::from_bytes(random_id(rng))).collect();
    let mut mesh = Mesh { k, nodes, held: BTreeMap::new() };
    for _ in 0..8 {
        let key = Key::from_bytes(random_id(rng));
        let holders = mesh.closest(&key).into_iter().take(k).collect();
        mesh.held.insert(key, holders);
    }
    mesh
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn whoever_comes_or_goes_every_copy_stays_on_the_k_closest(
        seed in any::<u64>(),
        k in 2..8_usize,
        nodes in 2..30_usize,
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut mesh = mesh(&mut rng, k, nodes);
        for _ in 0..25 {
            let some: Vec<_> = mesh.nodes.iter().copied().sample(&mut rng, 2);
            let new = [(); 3].map(|()| NodeId::from_bytes(random_id(&mut rng)));
            match rng.random_range(0..4) {
                0 if mesh.nodes.len() > 2 => {
                    mesh.lose(&some[..1]);
                    mesh.carry_out(k, SENDERS, |around| around.receivers(&[], &some[..1]));
                }
                1 if mesh.nodes.len() > 2 => {
                    let heirs = |around: &Neighbourhood<'_>| around.heir().filter(|_| around.own == some[0]);
                    mesh.carry_out(k + 1, 1, |around| heirs(around).into_iter().collect());
                    mesh.lose(&some[..1]);
                }
                2 if mesh.nodes.len() > 2 => {
                    mesh.lose(&some);
                    mesh.nodes.extend(new);
                    mesh.carry_out(k, usize::MAX, |around| around.receivers(&new, &some));
                }
                _ => {
                    mesh.nodes.insert(new[0]);
                    mesh.carry_out(k, SENDERS + 1, |around| around.receivers(&new[..1], &[]));
                }
            }
            mesh.assert_whole();
        }
    }

    #[test]
    fn one_holder_whose_time_has_come_restores_all(seed in any::<u64>(), k in 1..8_usize, nodes in 1..30_usize) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut mesh = mesh(&mut rng, k, nodes);
        for holders in mesh.held.values_mut() {
            let left = holders.iter().copied().nth(rng.random_range(0..holders.len()));
            *holders = left.into_iter().collect();
        }
        mesh.carry_out(k, 1, |around| around.round().to_vec());
        mesh.assert_whole();
    }
}

fn line(own: u8, others: &[u8]) -> (NodeId, Vec<NodeId>) {
    let node = |byte: &u8| NodeId::from_bytes([*byte; 32]);
    (node(&own), others.iter().map(node).collect())
}

#[test]
fn a_node_outside_the_k_closest_is_nobody_to_plan_with() {
    let (own, others) = line(9, &[1, 2, 3, 4]);
    let key = Key::from_bytes([0; 32]);
    let around = Neighbourhood { own, key, k: 3, others: &others };
    assert_eq!(around.receivers(&others[..2], &[]), &others[..2], "they have pushed it out");
    assert_eq!(around.receivers(&others[3..], &[]), [], "nobody of them is new");
    assert_eq!(around.receivers(&[], &[NodeId::from_bytes([1; 32])]), []);
    assert_eq!(around.heir(), None, "its copy is one too many");
    assert_eq!(around.round(), &others[..2], "but it may be the only one");
    assert!(!around.is_close() && Neighbourhood { k: 5, ..around }.is_close());
    assert!(Neighbourhood { own: NodeId::from_bytes([0; 32]), ..around }.is_close());
}

#[test]
fn where_there_are_no_more_than_k_nodes_everybody_has_everything() {
    let (own, others) = line(1, &[2, 3]);
    let key = Key::from_bytes([0; 32]);
    let around = Neighbourhood { own, key, k: 4, others: &others };
    assert_eq!(around.receivers(&[], &[NodeId::from_bytes([5; 32])]), []);
    assert_eq!(around.heir(), None);
    assert_eq!(around.receivers(&others[1..], &[]), &others[1..]);
    assert_eq!(around.round(), &others[..]);
    let nobody = Neighbourhood { others: &[], ..around };
    assert!(nobody.round().is_empty() && nobody.heir().is_none());
}
