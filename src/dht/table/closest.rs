//! The members closest to a key, without looking at more buckets than it takes.
//!
//! Seen from any key, all members of one bucket are closer than all members of another, so the buckets have
//! an order and the search can stop in the middle of it. Let `d` be the distance from the own id to the key,
//! with its first one bit at `b`. A member of bucket `i` differs from the own id in bit `i` and in none
//! before it, so its distance to the key is `d` up to there, and `d` with bit `i` flipped from there on:
//!
//! 1. bucket `b` itself: the only one whose distances have bit `b` clear and nothing set before it;
//! 2. of the buckets after `b`, those where `d` has a one, rising: flipped to zero, earlier is closer;
//! 3. those where `d` has a zero, falling: flipped to one, later is closer;
//! 4. the buckets before `b`, falling.

use std::collections::BTreeMap;

use super::bucket::Bucket;
use crate::dht::nearest;
use crate::id::{Distance, Key, NodeId};

/// Replaces what is in `out` by the `n` members closest to `key`, closest first; `distance` is the distance
/// from the own id to `key`.
pub(super) fn closest<T>(
    buckets: &BTreeMap<u8, Bucket<T>>,
    distance: Distance,
    key: &Key,
    n: usize,
    out: &mut Vec<NodeId>,
) {
    out.clear();
    let bits = distance.as_bytes();
    let is_one = |i: &u8| bits[usize::from(i / 8)] & (0x80 >> (i % 8)) != 0;
    let mut visit = |bucket: &Bucket<T>| {
        extend(bucket, key, n, out);
        out.len() < n
    };
    let first = u8::try_from(distance.leading_zeros()).ok();
    if let Some(b) = first {
        let within = || buckets.range(b..);
        let ones = within().filter(|(i, _)| is_one(i));
        let zeros = within().rev().filter(|(i, _)| !is_one(i));
        let _ = ones.chain(zeros).chain(buckets.range(..b).rev()).all(|(_, bucket)| visit(bucket));
    } else {
        let _ = buckets.iter().rev().all(|(_, bucket)| visit(bucket));
    }
}

/// Appends the members of one bucket, closest first, as far as `out` has room for up to `n`.
fn extend<T>(bucket: &Bucket<T>, key: &Key, n: usize, out: &mut Vec<NodeId>) {
    let start = out.len();
    out.extend(bucket.members.iter().map(|contact| contact.id));
    nearest::keep(key, start, n - start, out);
}
