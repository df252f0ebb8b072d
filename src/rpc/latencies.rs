//! How long nearly all answers take, over all providers of a service: what a hedged call waits before it
//! asks a second one (Dean and Barroso, *The Tail at Scale*, 2013).

use std::time::Duration;

/// So many last latencies count.
pub const LATENCIES: usize = 128;
/// Fewer say nothing of how long nearly all take.
pub const LATENCIES_MIN: usize = 20;
/// So many new ones pass until they are sorted again.
const SORT_EVERY: usize = 16;

/// The last latencies of answers.
#[derive(Debug, Clone)]
pub struct Latencies {
    /// In microseconds, the oldest at `next` once it is full.
    ring: [u32; LATENCIES],
    len: usize,
    next: usize,
    /// How many have come since `p95` was found.
    unsorted: usize,
    p95: Option<u32>,
}

impl Latencies {
    /// None yet.
    pub const fn new() -> Self {
        Self { ring: [0; LATENCIES], len: 0, next: 0, unsorted: 0, p95: None }
    }

    /// Takes the latency of an answer, in whole microseconds, at most 71 minutes.
    pub fn observe(&mut self, latency: Duration) {
        self.ring[self.next] = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.next = (self.next + 1) % LATENCIES;
        self.len = (self.len + 1).min(LATENCIES);
        self.unsorted += 1;
        let wait = if self.p95.is_some() { SORT_EVERY } else { LATENCIES_MIN };
        if self.unsorted >= wait {
            self.unsorted = 0;
            self.p95 = Some(self.percentile(95));
        }
    }

    /// The latency that 95 of 100 answers do not exceed, as it was up to 16 answers ago; `None` before
    /// [`LATENCIES_MIN`].
    pub fn p95(&self) -> Option<Duration> {
        self.p95.map(|micros| Duration::from_micros(micros.into()))
    }

    /// The nearest rank, of at least one latency.
    fn percentile(&self, percent: usize) -> u32 {
        let mut sorted = self.ring;
        let sorted = &mut sorted[..self.len];
        let rank = (sorted.len() * percent).div_ceil(100);
        *sorted.select_nth_unstable(rank.saturating_sub(1)).1
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(latencies: &mut Latencies, millis: impl IntoIterator<Item = u64>) {
        millis.into_iter().for_each(|millis| latencies.observe(Duration::from_millis(millis)));
    }

    fn p95(latencies: &Latencies) -> Option<u128> {
        latencies.p95().map(|latency| latency.as_millis())
    }

    #[test]
    fn nearly_all_answers_are_not_above_it() {
        let mut latencies = Latencies::default();
        observe(&mut latencies, 1..20);
        assert_eq!(p95(&latencies), None);
        observe(&mut latencies, [20]);
        assert_eq!(p95(&latencies), Some(19));
        let mut latencies = Latencies::new();
        // 116 answers, the last time that they are sorted before there are 128.
        observe(&mut latencies, (1..=116).rev());
        assert_eq!(p95(&latencies), Some(111));
    }

    #[test]
    fn one_slow_answer_in_a_hundred_does_not_count_and_old_ones_are_forgotten() {
        let mut latencies = Latencies::new();
        observe(&mut latencies, (0..1_000).map(|i| if i % 100 == 99 { 5_000 } else { 10 }));
        assert_eq!(p95(&latencies), Some(10));
        observe(&mut latencies, [300; LATENCIES + 16]);
        assert_eq!(p95(&latencies), Some(300));
        observe(&mut latencies, [1; LATENCIES + 16]);
        assert_eq!(p95(&latencies), Some(1));
        latencies.observe(Duration::MAX);
        observe(&mut latencies, [1; 40]);
        assert_eq!(p95(&latencies), Some(1));
    }
}
