//! Ordering ids by their distance to a key.

use std::cmp::Ordering;

use crate::id::{ID_LEN, Key, NodeId};

/// Of the ids from `start` on, leaves the `n` closest to `key`, closest first.
pub(super) fn keep(key: &Key, start: usize, n: usize, ids: &mut Vec<NodeId>) {
    let order = |a: &NodeId, b: &NodeId| by_distance(key, a, b);
    if n < ids.len() - start {
        if n > 0 {
            ids[start..].select_nth_unstable_by(n - 1, order);
        }
        ids.truncate(start + n);
    }
    ids[start..].sort_unstable_by(order);
}

/// Orders two ids by their distance to `key`; the first 64 bits nearly always decide.
fn by_distance(key: &Key, a: &NodeId, b: &NodeId) -> Ordering {
    let key_head = head(key.as_bytes());
    (head(a.as_bytes()) ^ key_head)
        .cmp(&(head(b.as_bytes()) ^ key_head))
        .then_with(|| a.distance(key).cmp(&b.distance(key)))
}

fn head(bytes: &[u8; ID_LEN]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *bytes;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
