//! What operation `i` does: a pure function of the seed and `i`, so that a run can be repeated, split
//! over machines, and audited without having written anything down.
//!
//! Everything costly is made before the clock starts: keys are a table, values are a pool.

use bytes::{Bytes, BytesMut};
use foveola::id::Key;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

use crate::plan::{KeyDist, NUMBER_BYTES, Plan};

/// Memory that the pool of values may take; it holds between 16 and 4,096 values.
const POOL_BYTES: usize = 16 << 20;

/// The exponent of [`KeyDist::Latest`].
const LATEST_EXPONENT: f64 = 0.99;

/// Keys, values, and which of them an operation uses.
pub struct Data {
    seed: u64,
    keys: Vec<Key>,
    values: Vec<Bytes>,
    picker: Picker,
}

enum Picker {
    Uniform,
    Seq,
    Zipf(Zipf<f64>),
    Latest(Zipf<f64>),
    Hotspot { hot: u64, ops: f64 },
}

impl Data {
    /// The data of `plan`, with keys that `admit` accepts. When it accepts fewer than one in 64, the
    /// keys are taken as they come.
    pub fn new(plan: &Plan, admit: impl Fn(&Key) -> bool) -> Self {
        let name = |i: usize| Key::of_name(format!("loadgen/{}/{}/{i}", plan.seed, plan.label));
        let mut keys: Vec<Key> = (0..plan.keys * 64).map(name).filter(admit).take(plan.keys).collect();
        if keys.len() < plan.keys {
            keys = (0..plan.keys).map(name).collect();
        }
        let values = pool(plan.seed, plan.size);
        Self { seed: plan.seed, picker: Picker::new(plan.key_dist, keys.len()), keys, values }
    }

    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The key of item `n`; operation `i` of batch size `b` has the items `i * b` to `i * b + b - 1`.
    pub fn key(&self, n: u64) -> Key {
        self.keys[self.key_index(n)]
    }

    /// The key of item `n`, or the next one after it that `admit` accepts: what one caller must not use, another
    /// may. When it accepts none of the next 64, the key is taken as it comes.
    pub fn key_for(&self, n: u64, admit: impl Fn(&Key) -> bool) -> Key {
        let first = self.key_index(n);
        let mut near = (first..first + 64).map(|index| self.keys[index % self.keys.len()]);
        near.find(|key| admit(key)).unwrap_or(self.keys[first])
    }

    /// The value of item `n`.
    pub fn value(&self, n: u64) -> Bytes {
        let place = mix(self.seed ^ 0x76_616c_7565, n) % self.values.len() as u64;
        self.values[place as usize].clone()
    }

    /// The value of item `n` with `n` in its first [`NUMBER_BYTES`], so that each is another.
    pub fn numbered(&self, n: u64) -> Bytes {
        let mut value = BytesMut::from(&self.value(n)[..]);
        value[..NUMBER_BYTES].copy_from_slice(&n.to_le_bytes());
        value.freeze()
    }

    /// Whether `value` is one that this run may have written.
    pub fn wrote(&self, value: &[u8]) -> bool {
        match value.get(..8) {
            None => self.values.iter().any(|ours| ours == value),
            Some(tag) => {
                let place = u64::from_le_bytes(tag.try_into().expect("the slice has 8 bytes"));
                usize::try_from(place)
                    .ok()
                    .and_then(|place| self.values.get(place))
                    .is_some_and(|ours| ours == value)
            }
        }
    }

    fn key_index(&self, n: u64) -> usize {
        let len = self.keys.len() as u64;
        let mut rng = SmallRng::seed_from_u64(mix(self.seed, n));
        let index = match &self.picker {
            Picker::Seq => n % len,
            Picker::Uniform => rng.next_u64() % len,
            Picker::Zipf(zipf) => rank(zipf, &mut rng),
            Picker::Latest(zipf) => (n % len + len - rank(zipf, &mut rng)) % len,
            Picker::Hotspot { hot, ops } if *hot < len => {
                let draw = rng.next_u64();
                if rng.random_bool(*ops) { draw % hot } else { hot + draw % (len - hot) }
            }
            Picker::Hotspot { .. } => rng.next_u64() % len,
        };
        index as usize
    }
}

impl Picker {
    fn new(dist: KeyDist, keys: usize) -> Self {
        let zipf = |s| Zipf::new(keys as f64, s).expect("at least one key and a positive exponent");
        match dist {
            KeyDist::Uniform => Self::Uniform,
            KeyDist::Seq => Self::Seq,
            KeyDist::Zipf(s) => Self::Zipf(zipf(s)),
            KeyDist::Latest => Self::Latest(zipf(LATEST_EXPONENT)),
            KeyDist::Hotspot { keys: part, ops } => {
                Self::Hotspot { hot: ((keys as f64 * part) as u64).max(1), ops }
            }
        }
    }
}

/// A rank from 0, at most `n - 1` for a distribution over `n`.
fn rank(zipf: &Zipf<f64>, rng: &mut SmallRng) -> u64 {
    zipf.sample(rng) as u64 - 1
}

/// Values of `size` bytes; the first eight say which place in the pool they have.
fn pool(seed: u64, size: usize) -> Vec<Bytes> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let count = (POOL_BYTES / size.max(1)).clamp(16, 4096);
    let mut value = vec![0; size];
    (0..count as u64)
        .map(|place| {
            rng.fill_bytes(&mut value);
            let tag = size.min(8);
            value[..tag].copy_from_slice(&place.to_le_bytes()[..tag]);
            Bytes::copy_from_slice(&value)
        })
        .collect()
}

/// Spreads `(seed, n)` over all 64-bit numbers (the output function of SplitMix64, Steele et al. 2014).
pub fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    fn data(dist: KeyDist) -> Data {
        let mut plan = plan();
        plan.key_dist = dist;
        Data::new(&plan, |_| true)
    }

    fn counts(dist: KeyDist) -> Vec<u32> {
        let data = data(dist);
        let mut counts = vec![0; data.keys().len()];
        for n in 0..10_000 {
            counts[data.key_index(n)] += 1;
        }
        counts
    }

    #[test]
    fn an_operation_depends_on_seed_and_number_alone() {
        for dist in [KeyDist::Uniform, KeyDist::Zipf(0.99), KeyDist::Latest, KeyDist::Seq] {
            let (one, other) = (data(dist), data(dist));
            for n in (0..1000).rev() {
                assert_eq!((one.key(n), one.value(n)), (other.key(n), other.value(n)));
            }
        }
        let mut plan = plan();
        plan.seed += 1;
        let (one, other) = (data(KeyDist::Uniform), Data::new(&plan, |_| true));
        assert!((0..100).all(|n| one.key(n) != other.key(n)));
    }

    #[test]
    fn distributions_have_their_shape() {
        assert!(counts(KeyDist::Seq).iter().all(|&n| n == 100));
        assert!(counts(KeyDist::Uniform).iter().all(|&n| (50..150).contains(&n)));
        let zipf = counts(KeyDist::Zipf(0.99));
        assert!(zipf[0] > 3 * zipf[9] && zipf[0] > 1000, "{zipf:?}");
        let hot = counts(KeyDist::Hotspot { keys: 0.2, ops: 0.8 });
        let share: u32 = hot[..20].iter().sum();
        assert!((7800..8200).contains(&share), "{share}");
    }

    #[test]
    fn latest_prefers_the_newest_key() {
        let data = data(KeyDist::Latest);
        let newest = (0..10_000).filter(|&n| data.key_index(n) as u64 == n % 100).count();
        assert!(newest > 1000, "{newest}");
    }

    #[test]
    fn own_values_are_recognised() {
        let data = data(KeyDist::Uniform);
        let value = data.value(7);
        assert!(data.wrote(&value));
        let mut forged = value.to_vec();
        forged[20] ^= 1;
        assert!(!data.wrote(&forged));
        assert!(!data.wrote(b"x"));
    }

    #[test]
    fn a_caller_that_must_not_use_a_key_takes_the_next() {
        let data = data(KeyDist::Seq);
        assert_eq!(data.key_for(7, |_| true), data.key(7));
        assert_eq!(data.key_for(99, |key| *key != data.key(99)), data.key(100));
        assert_eq!(data.key_for(7, |_| false), data.key(7));
    }

    #[test]
    fn keys_can_be_filtered() {
        let data = Data::new(&plan(), |key| key.as_bytes()[0] & 3 == 0);
        assert_eq!(data.keys().len(), 100);
        assert!(data.keys().iter().all(|key| key.as_bytes()[0] & 3 == 0));
    }
}
