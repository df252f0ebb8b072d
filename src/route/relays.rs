//! What a node passes on for others, and how much of it at a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::id::NodeId;

/// The default of [`RelayConfig::in_flight`].
pub const RELAY_IN_FLIGHT: usize = 1_024;
/// The default of [`RelayConfig::per_peer`].
pub const RELAY_PER_PEER: usize = 64;
/// The least that may be saved up of a rate, bytes: one request of any size.
const BURST_MIN: u64 = 64 << 10;

/// What a node passes on for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayConfig {
    /// Whether it passes on anything at all; the default is to.
    pub enabled: bool,
    /// Requests in flight for others; default [`RELAY_IN_FLIGHT`].
    pub in_flight: usize,
    /// Requests in flight that came from one peer; default [`RELAY_PER_PEER`].
    pub per_peer: usize,
    /// Bytes of requests a second, of which a second's worth may be saved up; by default any number.
    pub bytes_per_second: Option<u64>,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self { enabled: true, in_flight: RELAY_IN_FLIGHT, per_peer: RELAY_PER_PEER, bytes_per_second: None }
    }
}

/// What is being passed on.
#[derive(Debug)]
pub struct Relays {
    config: RelayConfig,
    in_flight: usize,
    by_peer: BTreeMap<NodeId, usize>,
    /// Bytes that may pass, and since when they were counted.
    saved: u64,
    since: Option<Instant>,
}

impl Relays {
    /// Nothing is in flight.
    pub fn new(config: RelayConfig) -> Self {
        Self { config, in_flight: 0, by_peer: BTreeMap::new(), saved: 0, since: None }
    }

    /// Whether a request of `bytes` that came from `peer` may be passed on; if so it is in flight until
    /// [`done`](Self::done).
    pub fn admit(&mut self, now: Instant, peer: NodeId, bytes: usize) -> bool {
        let mine = self.by_peer.get(&peer).copied().unwrap_or(0);
        let RelayConfig { enabled, in_flight, per_peer, .. } = self.config;
        if !enabled || self.in_flight >= in_flight || mine >= per_peer || !self.spend(now, bytes) {
            return false;
        }
        self.in_flight += 1;
        self.by_peer.insert(peer, mine + 1);
        true
    }

    /// A request that came from `peer` is in flight no more.
    pub fn done(&mut self, peer: &NodeId) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(mine) = self.by_peer.get_mut(peer) {
            *mine -= 1;
            if *mine == 0 {
                self.by_peer.remove(peer);
            }
        }
    }

    fn spend(&mut self, now: Instant, bytes: usize) -> bool {
        let Some(rate) = self.config.bytes_per_second else { return true };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let burst = rate.max(BURST_MIN);
        let passed = self.since.map_or(Duration::MAX, |since| now.saturating_duration_since(since));
        let earned = u128::from(rate).saturating_mul(passed.as_micros()) / 1_000_000;
        let earned = u64::try_from(earned).unwrap_or(u64::MAX);
        // What is less than a byte is earned later, not lost.
        if earned > 0 || self.since.is_none() {
            self.saved = self.saved.saturating_add(earned).min(burst);
            self.since = Some(now);
        }
        let enough = bytes <= self.saved;
        if enough {
            self.saved -= bytes;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests read the clock")]

    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    #[test]
    fn no_peer_and_not_all_together_have_more_in_flight_than_allowed() {
        let now = Instant::now();
        let config = RelayConfig { in_flight: 5, per_peer: 3, ..RelayConfig::default() };
        let mut relays = Relays::new(config);
        assert!((0..3).all(|_| relays.admit(now, node(1), 100)));
        assert!(!relays.admit(now, node(1), 100));
        assert!((0..2).all(|_| relays.admit(now, node(2), 100)));
        assert!(!relays.admit(now, node(3), 100));
        relays.done(&node(1));
        assert!(relays.admit(now, node(3), 100));
        for peer in [1, 1, 2, 2, 3] {
            relays.done(&node(peer));
        }
        assert!(relays.by_peer.is_empty() && relays.in_flight == 0);
    }

    #[test]
    fn nothing_passes_a_node_that_does_not_relay() {
        let mut relays = Relays::new(RelayConfig { enabled: false, ..RelayConfig::default() });
        assert!(!relays.admit(Instant::now(), node(1), 0));
    }

    #[test]
    fn a_rate_is_kept_over_time() {
        let start = Instant::now();
        let config =
            RelayConfig { bytes_per_second: Some(100_000), in_flight: usize::MAX, ..RelayConfig::default() };
        let mut relays = Relays::new(RelayConfig { per_peer: usize::MAX, ..config });
        let mut passed = 0;
        for ms in 0..10_000 {
            if relays.admit(start + Duration::from_millis(ms), node(1), 1_000) {
                passed += 1_000;
            }
        }
        assert!((1_000_000..=1_100_000).contains(&passed), "{passed} in ten seconds and a burst");
    }
}
