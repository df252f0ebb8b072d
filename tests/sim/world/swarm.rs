//! Which faults a seed brings, and how many of them: every seed leaves out some and exaggerates others, so
//! that each kind also meets a mesh that the others have not numbed.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::clock::{MINUTE, Micros, SECOND};
use super::network::Conditions;

/// The faults of one seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Swarm {
    pub(crate) k: usize,
    pub(crate) conditions: Conditions,
    /// Clocks are off by up to so many parts in a million.
    pub(crate) skew: i64,
    /// Mean times between crashes, cuts, and nodes that become slow; none for never.
    pub(crate) crash_every: Option<Micros>,
    pub(crate) cut_every: Option<Micros>,
    pub(crate) slow_every: Option<Micros>,
    /// Whether nodes that do not die for good come back with their records.
    pub(crate) disks: bool,
    /// Of a hundred crashes, how many are for good.
    pub(crate) for_good: u32,
    /// Mean time between operations.
    pub(crate) op_every: Micros,
    /// How many keys are used.
    pub(crate) keys: u32,
}

impl Swarm {
    pub(crate) fn draw(rng: &mut ChaCha8Rng) -> Self {
        let way = pick(rng, &[1_000, 5_000, 20_000]);
        let conditions = Conditions {
            way,
            jitter: pick(rng, &[0, 2_000, 50_000]),
            lost: pick(rng, &[0, 0, 10_000, 50_000, 100_000]),
            duplicated: pick(rng, &[0, 0, 10_000, 50_000]),
            reordered: pick(rng, &[0, 0, 10_000, 50_000]),
        };
        Self {
            k: pick(rng, &[4, 8, 8, 20]),
            conditions,
            skew: pick(rng, &[0, 0, 1_000, 20_000]),
            crash_every: pick(rng, &[None, Some(MINUTE), Some(20 * SECOND), Some(5 * SECOND)]),
            cut_every: pick(rng, &[None, Some(2 * MINUTE), Some(40 * SECOND)]),
            slow_every: pick(rng, &[None, None, Some(MINUTE), Some(15 * SECOND)]),
            disks: pick(rng, &[false, true]),
            for_good: pick(rng, &[0, 20, 50]),
            op_every: pick(rng, &[SECOND / 5, SECOND / 2, 2 * SECOND]),
            keys: pick(rng, &[4, 16, 64]),
        }
    }
}

/// One of some, each as likely.
pub(crate) fn pick<T: Copy>(rng: &mut ChaCha8Rng, some: &[T]) -> T {
    some[rng.random_range(0..some.len())]
}
