//! What is remembered of a peer without a connection: failures, closed connections, earlier processes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lru::LruCache;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::id::NodeId;

use super::config::PoolConfig;
use super::hash::Keyed;
use super::types::{CloseReason, DialFailure, Side};

/// Earlier processes remembered per peer.
const BOOTS: usize = 4;

/// A connection that is no more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed {
    pub(super) at: Instant,
    pub(super) reason: CloseReason,
    pub(super) dialer: Side,
    pub(super) lived: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Past {
    /// Dials and short-lived connections that failed in a row.
    pub(super) failures: u32,
    pub(super) until: Option<Instant>,
    pub(super) last_failure: Option<(Instant, DialFailure)>,
    /// Oldest first.
    pub(super) closes: VecDeque<Closed>,
    /// Processes that a newer one superseded.
    boots: VecDeque<u64>,
}

/// The past of the peers that were heard of last.
pub(super) struct Memory {
    peers: LruCache<NodeId, Past, Keyed>,
}

impl Memory {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self { peers: LruCache::unbounded_with_hasher(keyed) }
    }

    pub(super) fn peek(&self, peer: NodeId) -> Option<&Past> {
        self.peers.peek(&peer)
    }

    /// Until when `peer` is not dialed.
    pub(super) fn back_off(&self, now: Instant, peer: NodeId) -> Option<Instant> {
        self.peek(peer)?.until.filter(|until| *until > now)
    }

    pub(super) fn dial_failed(
        &mut self,
        now: Instant,
        peer: NodeId,
        failure: DialFailure,
        config: &PoolConfig,
        rng: &mut ChaCha8Rng,
    ) {
        let past = self.past(peer, config);
        past.last_failure = Some((now, failure));
        if failure != DialFailure::Duplicate {
            past.back_off_more(now, config, rng);
        }
    }

    pub(super) fn closed(&mut self, peer: NodeId, closed: Closed, config: &PoolConfig, rng: &mut ChaCha8Rng) {
        let past = self.past(peer, config);
        if closed.lived >= config.lasting {
            past.failures = 0;
            past.until = None;
        } else if matches!(closed.reason, CloseReason::Error | CloseReason::Remote) {
            past.back_off_more(closed.at, config, rng);
        }
        past.closes.push_back(closed);
        while past.closes.len() > config.history {
            past.closes.pop_front();
        }
    }

    pub(super) fn superseded(&mut self, peer: NodeId, boot: u64, config: &PoolConfig) {
        let boots = &mut self.past(peer, config).boots;
        boots.retain(|known| *known != boot);
        boots.push_back(boot);
        if boots.len() > BOOTS {
            boots.pop_front();
        }
    }

    pub(super) fn is_superseded(&self, peer: NodeId, boot: u64) -> bool {
        self.peek(peer).is_some_and(|past| past.boots.contains(&boot))
    }

    fn past(&mut self, peer: NodeId, config: &PoolConfig) -> &mut Past {
        if !self.peers.contains(&peer) && self.peers.len() >= config.remembered.max(1) {
            self.peers.pop_lru();
        }
        self.peers.get_or_insert_mut(peer, Past::default)
    }
}

impl Past {
    /// One more failure: pause for a random part of a bound that doubles.
    fn back_off_more(&mut self, now: Instant, config: &PoolConfig, rng: &mut ChaCha8Rng) {
        let doublings = self.failures.min(31);
        self.failures = self.failures.saturating_add(1);
        let bound = config.back_off_min.saturating_mul(1 << doublings).min(config.back_off_max);
        let pause = bound.min(MAX_PAUSE).mul_f64(rng.random::<f64>());
        self.until = Some(now + pause);
    }
}

/// No pause is longer, whatever is configured: keeps clock arithmetic from overflowing.
const MAX_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// Peers that gave no answer lately, and are better avoided.
pub(super) struct Health {
    timeouts: LruCache<NodeId, u8, Keyed>,
}

/// Timeouts in a row that make a peer suspect.
const SUSPECT: u8 = 2;

impl Health {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self { timeouts: LruCache::unbounded_with_hasher(keyed) }
    }

    pub(super) fn add(&mut self, peer: NodeId, timeouts: u8, bound: usize) -> bool {
        if !self.timeouts.contains(&peer) && self.timeouts.len() >= bound.max(1) {
            self.timeouts.pop_lru();
        }
        let count = self.timeouts.get_or_insert_mut(peer, || 0);
        *count = count.saturating_add(timeouts);
        *count >= SUSPECT
    }

    pub(super) fn suspect(&mut self, peer: NodeId, bound: usize) {
        self.add(peer, SUSPECT, bound);
    }

    /// Cheap while all is well, as it is called for every answer.
    pub(super) fn clear(&mut self, peer: NodeId) {
        if !self.timeouts.is_empty() {
            self.timeouts.pop(&peer);
        }
    }

    pub(super) fn is_suspect(&self, peer: NodeId) -> bool {
        self.timeouts.peek(&peer).is_some_and(|count| *count >= SUSPECT)
    }
}
