//! Several small numbers from one drawn number.

/// A sequence that looks random and is a function of its first number: SplitMix64 (Steele, Lea and Flood,
/// *Fast Splittable Pseudorandom Number Generators*, 2014).
pub(super) struct Draws(u64);

impl Draws {
    /// The sequence of `draw`.
    pub(super) const fn new(draw: u64) -> Self {
        Self(draw)
    }

    /// The next number below `end`, each as likely as the others; 0 if `end` is 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        // Less than `end`, so it fits.
        scale(self.next(), end as u64) as usize
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The place of `draw` in `0..end` that it has in all 64 bits.
pub(super) fn scale(draw: u64, end: u64) -> u64 {
    // The upper half of the product is less than `end`.
    ((u128::from(draw) * u128::from(end)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_their_end_and_are_spread_evenly() {
        let mut draws = Draws::new(7);
        let mut counts = [0_u32; 7];
        (0..70_000).for_each(|_| counts[draws.below(7)] += 1);
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 500), "{counts:?}");
        assert_eq!((draws.below(1), draws.below(0)), (0, 0));
        assert_eq!((scale(0, 10), scale(u64::MAX, 10), scale(1 << 63, 10)), (0, 9, 5));
        assert_eq!(scale(u64::MAX, u64::MAX), u64::MAX - 1);
    }
}
