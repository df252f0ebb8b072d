//! Which way to a peer has worked lately.
//!
//! Direct is what is tried unless something else is known, so only the exceptions are remembered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::id::NodeId;

/// How long it is remembered that a peer answers by a route and not directly.
pub const STRATEGY_TTL: Duration = Duration::from_secs(300);
/// How often the direct way is tried again meanwhile, at most.
pub const PROBE_EVERY: Duration = Duration::from_secs(30);
/// How long no route to a peer is looked for after none was found.
pub const NOWHERE_TTL: Duration = Duration::from_secs(10);
/// Peers remembered; beyond them, those are forgotten that would be soonest.
pub const STRATEGIES_MAX: usize = 4_096;

/// How a request goes to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Directly, and by a route if that fails.
    Direct,
    /// By a route at once.
    Routed {
        /// Whether the direct way is to be tried in the background.
        probe: bool,
    },
    /// Directly or not at all: lately there was no route.
    DirectOnly,
}

/// What is known of the ways to peers.
#[derive(Debug, Default)]
pub struct Strategies {
    known: BTreeMap<NodeId, Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    until: Instant,
    /// When the direct way may be tried next, if there is a route.
    probe: Option<Instant>,
    /// Whether the last request by a route was answered.
    works: bool,
}

impl Strategies {
    /// Nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// How the next request goes to `peer`. A probe that it asks for counts as made.
    pub fn choose(&mut self, now: Instant, peer: &NodeId) -> Choice {
        let Some(known) = self.known.get_mut(peer).filter(|known| now < known.until) else {
            return Choice::Direct;
        };
        let Some(due) = &mut known.probe else { return Choice::DirectOnly };
        let probe = *due <= now;
        if probe {
            *due = now + PROBE_EVERY;
        }
        Choice::Routed { probe }
    }

    /// `peer` was reached directly.
    pub fn direct(&mut self, peer: &NodeId) {
        self.known.remove(peer);
    }

    /// The direct way to `peer` has failed: routes are tried until one has failed as well.
    pub fn trying(&mut self, now: Instant, peer: NodeId) {
        let works = self.works(now, &peer);
        self.route(now, peer, works);
    }

    /// `peer` has answered by a route.
    pub fn routed(&mut self, now: Instant, peer: NodeId) {
        self.route(now, peer, true);
    }

    /// `peer` has not answered by a route, whatever the reason.
    pub fn doubt(&mut self, peer: &NodeId) {
        if let Some(known) = self.known.get_mut(peer) {
            known.works = false;
        }
    }

    /// Whether `peer` has answered the last request that took a route.
    pub fn works(&self, now: Instant, peer: &NodeId) -> bool {
        self.known.get(peer).is_some_and(|known| known.works && now < known.until)
    }

    fn route(&mut self, now: Instant, peer: NodeId, works: bool) {
        let known = self.known.get(&peer).filter(|known| now < known.until);
        let probe = known.and_then(|known| known.probe).unwrap_or(now + PROBE_EVERY);
        self.remember(now, peer, Known { until: now + STRATEGY_TTL, probe: Some(probe), works });
    }

    /// No route to `peer` was found.
    pub fn nowhere(&mut self, now: Instant, peer: NodeId) {
        self.remember(now, peer, Known { until: now + NOWHERE_TTL, probe: None, works: false });
    }

    fn remember(&mut self, now: Instant, peer: NodeId, known: Known) {
        if self.known.len() >= STRATEGIES_MAX && !self.known.contains_key(&peer) {
            self.known.retain(|_, known| now < known.until);
            let soonest = self.known.iter().min_by_key(|(_, known)| known.until).map(|(peer, _)| *peer);
            if let Some(soonest) = soonest.filter(|_| self.known.len() >= STRATEGIES_MAX) {
                self.known.remove(&soonest);
            }
        }
        self.known.insert(peer, known);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests read the clock")]

    use super::*;

    const PEER: NodeId = NodeId::from_bytes([1; 32]);

    #[test]
    fn a_route_is_taken_until_the_direct_way_works_again() {
        let start = Instant::now();
        let mut known = Strategies::new();
        assert_eq!(known.choose(start, &PEER), Choice::Direct);
        known.routed(start, PEER);
        assert_eq!(known.choose(start, &PEER), Choice::Routed { probe: false });
        let later = start + PROBE_EVERY;
        assert_eq!(known.choose(later, &PEER), Choice::Routed { probe: true });
        assert_eq!(known.choose(later, &PEER), Choice::Routed { probe: false }, "one probe at a time");
        // Its success by the route does not put the next probe off.
        known.routed(later + PROBE_EVERY / 2, PEER);
        assert_eq!(known.choose(later + PROBE_EVERY, &PEER), Choice::Routed { probe: true });
        known.direct(&PEER);
        assert_eq!(known.choose(later, &PEER), Choice::Direct);
    }

    #[test]
    fn a_route_works_once_it_has_answered_and_until_it_does_not() {
        let start = Instant::now();
        let mut known = Strategies::new();
        known.trying(start, PEER);
        assert!(!known.works(start, &PEER), "nobody has answered yet");
        known.routed(start, PEER);
        known.trying(start, PEER);
        assert!(known.works(start, &PEER) && !known.works(start + STRATEGY_TTL, &PEER));
        known.doubt(&PEER);
        assert!(!known.works(start, &PEER));
        assert_eq!(known.choose(start, &PEER), Choice::Routed { probe: false });
    }

    #[test]
    fn what_is_known_is_forgotten_in_time() {
        let start = Instant::now();
        let mut known = Strategies::new();
        known.routed(start, PEER);
        assert_eq!(known.choose(start + STRATEGY_TTL, &PEER), Choice::Direct);
        known.nowhere(start, PEER);
        assert_eq!(known.choose(start, &PEER), Choice::DirectOnly);
        assert_eq!(known.choose(start + NOWHERE_TTL, &PEER), Choice::Direct);
    }

    #[test]
    fn what_is_known_is_bounded() {
        let start = Instant::now();
        let mut known = Strategies::new();
        let node = |n: usize| {
            let mut id = [7; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            NodeId::from_bytes(id)
        };
        known.nowhere(start, PEER);
        for n in 0..STRATEGIES_MAX + 50 {
            known.routed(start, node(n));
        }
        assert_eq!(known.known.len(), STRATEGIES_MAX);
        assert_eq!(known.choose(start, &PEER), Choice::Direct);
        assert_eq!(known.choose(start, &node(STRATEGIES_MAX + 49)), Choice::Routed { probe: false });
    }
}
