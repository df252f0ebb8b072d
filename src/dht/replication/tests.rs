//! Whole meshes in which every node carries out its part of the plan.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
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

    /// Lets every holder of every copy do what `plan` says, and checks that no more than [`SENDERS`] copies
    /// are sent to each of the `reach` closest, and none to others.
    fn carry_out(&mut self, reach: usize, plan: impl Fn(&Neighbourhood<'_>) -> Vec<NodeId>) {
        for key in self.held.keys().copied().collect::<Vec<_>>() {
            let closest = self.closest(&key);
            let mut sent: BTreeMap<NodeId, usize> = BTreeMap::new();
            for own in self.held[&key].iter().filter(|node| self.nodes.contains(node)) {
                let mut others = closest.clone();
                others.retain(|node| node != own);
                others.truncate(self.k + 1);
                let around = Neighbourhood { own: *own, key, k: self.k, others: &others };
                for receiver in plan(&around) {
                    assert_ne!(receiver, *own, "nobody sends to itself");
                    *sent.entry(receiver).or_default() += 1;
                }
            }
            for (receiver, senders) in sent {
                assert!(closest[..reach.min(closest.len())].contains(&receiver), "a copy for a stranger");
                assert!(senders <= SENDERS, "{senders} senders of one copy");
                self.held.get_mut(&key).expect("it is held").insert(receiver);
            }
        }
    }

    fn assert_whole(&self, after: &str) {
        for (key, holders) in &self.held {
            for node in self.closest(key).iter().take(self.k) {
                assert!(holders.contains(node), "after {after}: {node:?} lacks the copy under {key:?}");
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
            let some = mesh.nodes.iter().copied().nth(rng.random_range(0..mesh.nodes.len()));
            let some = some.expect("the mesh is not empty");
            match rng.random_range(0..3) {
                0 if mesh.nodes.len() > 1 => {
                    mesh.nodes.remove(&some);
                    mesh.carry_out(k, |around| around.successor(&some).into_iter().collect());
                    mesh.assert_whole("a loss");
                }
                1 if mesh.nodes.len() > 1 => {
                    mesh.carry_out(k + 1, |around| around.heir().filter(|_| around.own == some).into_iter().collect());
                    mesh.nodes.remove(&some);
                    mesh.assert_whole("a leave");
                }
                _ => {
                    let came = NodeId::from_bytes(random_id(&mut rng));
                    mesh.nodes.insert(came);
                    mesh.carry_out(k, |around| if around.sends_to(&came) { vec![came] } else { Vec::new() });
                    mesh.assert_whole("an arrival");
                }
            }
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
        mesh.carry_out(k, |around| around.all().to_vec());
        mesh.assert_whole("a round");
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
    assert!(!around.sends_to(&others[0]), "it is the fifth closest");
    assert_eq!(around.successor(&NodeId::from_bytes([1; 32])), None);
    assert_eq!(around.heir(), None, "its copy is one too many");
    assert_eq!(around.all(), &others[..3], "but it may be the only one");
}

#[test]
fn where_there_are_no_more_than_k_nodes_everybody_has_everything() {
    let (own, others) = line(1, &[2, 3]);
    let key = Key::from_bytes([0; 32]);
    let around = Neighbourhood { own, key, k: 4, others: &others };
    assert_eq!(around.successor(&NodeId::from_bytes([5; 32])), None);
    assert_eq!(around.heir(), None);
    assert!(around.sends_to(&others[1]));
    assert_eq!(around.all(), &others[..]);
    let nobody = Neighbourhood { others: &[], ..around };
    assert!(nobody.all().is_empty() && nobody.heir().is_none());
}
