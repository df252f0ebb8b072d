//! What happens to each datagram: the decisions of a faulty network as one value.
//!
//! It takes the time and a destination and returns a verdict. The same seed and the same calls give
//! the same verdicts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// How one direction of a path misbehaves. The default is a perfect path.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    /// Share of datagrams lost, 0 to 1.
    pub loss: f64,
    /// Time added to each datagram.
    pub delay: Duration,
    /// Up to this much more is added, drawn for each datagram: above zero datagrams overtake.
    pub jitter: Duration,
    /// Share of datagrams sent twice, 0 to 1.
    pub duplicate: f64,
}

impl Link {
    fn is_perfect(&self) -> bool {
        *self == Self::default()
    }
}

/// How many datagrams met which fate, since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Judged and let through, now or later.
    pub passed: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Sent a second time.
    pub duplicated: u64,
    /// Stopped by a cut.
    pub cut: u64,
    /// Stopped by silence, in either direction.
    pub silenced: u64,
    /// Dropped because too many were held already.
    pub overflowed: u64,
}

/// What becomes of one outgoing datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is not sent.
    Drop,
    /// It is sent at `at`, and once more at `again`.
    Send { at: Instant, again: Option<Instant> },
}

/// The faults in force and the randomness that they use.
#[derive(Debug)]
pub(super) struct Plan {
    rng: ChaCha8Rng,
    silent: bool,
    cut: BTreeSet<SocketAddr>,
    default_link: Link,
    links: BTreeMap<SocketAddr, Link>,
    pub(super) tally: Tally,
}

impl Plan {
    pub(super) fn new(rng: ChaCha8Rng) -> Self {
        Self {
            rng,
            silent: false,
            cut: BTreeSet::new(),
            default_link: Link::default(),
            links: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// Whether no datagram can meet a fault.
    pub(super) fn is_idle(&self) -> bool {
        !self.silent
            && self.cut.is_empty()
            && self.default_link.is_perfect()
            && self.links.values().all(Link::is_perfect)
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    pub(super) fn set_silent(&mut self, silent: bool) {
        self.silent = silent;
    }

    pub(super) fn cut(&mut self, to: SocketAddr) {
        self.cut.insert(canonical(to));
    }

    pub(super) fn heal(&mut self, to: SocketAddr) {
        self.cut.remove(&canonical(to));
    }

    pub(super) fn set_link(&mut self, to: SocketAddr, link: Link) {
        self.links.insert(canonical(to), link);
    }

    pub(super) fn set_default_link(&mut self, link: Link) {
        self.default_link = link;
    }

    /// Ends every fault.
    pub(super) fn clear(&mut self) {
        self.silent = false;
        self.cut.clear();
        self.default_link = Link::default();
        self.links.clear();
    }

    /// Decides over one datagram that leaves for `to` at `now`.
    pub(super) fn judge(&mut self, now: Instant, to: SocketAddr) -> Verdict {
        if !self.may_leave(to) {
            return Verdict::Drop;
        }
        let link = self.links.get(&canonical(to)).copied().unwrap_or(self.default_link);
        // The draws are the same whatever they decide, so that a seed keeps its meaning when one
        // setting changes.
        let [loss, duplicate, first, second] = self.rng.random::<[f64; 4]>();
        if loss < link.loss {
            self.tally.lost += 1;
            return Verdict::Drop;
        }
        self.tally.passed += 1;
        let at = now + link.delay + link.jitter.mul_f64(first);
        let again = (duplicate < link.duplicate).then(|| now + link.delay + link.jitter.mul_f64(second));
        self.tally.duplicated += u64::from(again.is_some());
        Verdict::Send { at, again }
    }

    /// Whether a datagram that was held back may still leave for `to`; counts it when not.
    pub(super) fn may_leave(&mut self, to: SocketAddr) -> bool {
        if self.silent {
            self.tally.silenced += 1;
        } else if self.cut.contains(&canonical(to)) {
            self.tally.cut += 1;
        } else {
            return true;
        }
        false
    }

    /// Whether `count` datagrams that arrived may be seen; counts them when not.
    pub(super) fn may_arrive(&mut self, count: u64) -> bool {
        if self.silent {
            self.tally.silenced += count;
        }
        !self.silent
    }
}

/// A dual-stack socket names IPv4 peers by mapped IPv6 addresses: both forms are one peer.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        IpAddr::V6(_) => addr,
    }
}
