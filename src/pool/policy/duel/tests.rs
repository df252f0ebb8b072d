//! Both ends, every order.

use super::*;
use crate::id::ID_LEN;

const A: NodeId = NodeId::from_bytes([1; ID_LEN]);
const B: NodeId = NodeId::from_bytes([2; ID_LEN]);

/// All orders of `0..n`.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![vec![]];
    }
    let shorter = orders(n - 1);
    let insert = |order: &Vec<usize>, at: usize| {
        let mut longer = order.clone();
        longer.insert(at, n - 1);
        longer
    };
    shorter.iter().flat_map(|order| (0..n).map(move |at| insert(order, at))).collect()
}

/// The one that stays at the node `local` when the dials become ready there in `order`.
fn survivor(local: NodeId, dials: &[(NodeId, u64)], order: &[usize]) -> usize {
    let peer = if local == A { B } else { A };
    let rank = |i: usize| {
        let (dialer, seq) = dials[i];
        let side = if dialer == local { Side::Us } else { Side::Them };
        Rank::new(local, peer, side, seq)
    };
    order
        .iter()
        .copied()
        .reduce(|kept, new| if replaces(rank(new), rank(kept)) { new } else { kept })
        .unwrap_or(0)
}

#[test]
fn every_order_at_either_end_leaves_the_same_connection() {
    let all = [(A, 1), (A, 2), (B, 1), (B, 2), (B, 9)];
    for picked in 1_u32..1 << all.len() {
        let dials: Vec<_> = (0..all.len()).filter(|i| picked >> i & 1 == 1).map(|i| all[i]).collect();
        let best = (0..dials.len()).max_by_key(|i| dials[*i]);
        for order in orders(dials.len()) {
            for local in [A, B] {
                assert_eq!(Some(survivor(local, &dials, &order)), best, "{dials:?} at {local} in {order:?}");
            }
        }
    }
}

#[test]
fn the_greater_dialer_beats_any_number_of_dials() {
    let mine = Rank::new(A, B, Side::Us, u64::MAX);
    let theirs = Rank::new(A, B, Side::Them, 0);
    assert!(replaces(theirs, mine) && !replaces(mine, theirs));
}

#[test]
fn a_number_used_twice_replaces_nothing() {
    let rank = Rank::new(A, B, Side::Them, 7);
    assert!(!replaces(rank, rank));
}
