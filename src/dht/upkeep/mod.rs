//! What keeps a routing table true: when to look up, when to ask whether somebody is still there, and when
//! to begin anew.
//!
//! - After joining, a node looks up its own id and then a random key in each bucket that is farther away
//!   than the k nodes closest to it (Maymounkov and Mazières, *Kademlia*, 2002, section 2.3); what is
//!   closer, the first lookup has found. From then on it looks into every bucket in which nothing was
//!   looked up for an hour, and for its own id every few minutes.
//! - The k closest neighbours, which hold the same records, are asked for a sign of life when nothing was
//!   heard of them for half a minute; silent members when their time has come.
//! - A node that knows nobody who answers goes back to the addresses through which it joined, ever more
//!   rarely.
//!
//! Duties come one at a time and at times that differ from node to node: lookups follow each other, and
//! the pings of one round are spread over it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::lookup::LOOKUP_TIMEOUT;
use super::members::Members;
use crate::id::{ID_LEN, Key, NodeId};

/// The default of [`UpkeepConfig::refresh`]: 1 hour.
pub const REFRESH: Duration = Duration::from_secs(3_600);
/// The default of [`UpkeepConfig::neighbours`]: 5 minutes.
pub const NEIGHBOURS: Duration = Duration::from_secs(300);
/// The default of [`UpkeepConfig::ping`]: 30 s.
pub const PING: Duration = Duration::from_secs(30);
/// The default of [`UpkeepConfig::rejoin_min`]: 1 s.
pub const REJOIN_MIN: Duration = Duration::from_secs(1);
/// The default of [`UpkeepConfig::rejoin_max`]: 60 s.
pub const REJOIN_MAX: Duration = Duration::from_secs(60);

/// Nodes that are pinged in one round, at most: the neighbours come first.
pub const ROUND_MAX: usize = 256;

/// How long a duty may go without word of what became of it.
const PATIENCE: Duration = Duration::from_secs(2 * LOOKUP_TIMEOUT.as_secs());

/// No time is longer: 30 days.
const WAIT_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

/// How often a table is kept up. All times are jittered by a quarter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpkeepConfig {
    /// A bucket in which nothing was looked up for so long is looked into; default [`REFRESH`].
    pub refresh: Duration,
    /// The own id is looked up so often: a node that has come closer need not have met this one. Default
    /// [`NEIGHBOURS`].
    pub neighbours: Duration,
    /// A neighbour that was not heard of for so long is asked for a sign of life; default [`PING`].
    pub ping: Duration,
    /// How long a node that knows nobody waits before it tries its bootstrap addresses again; doubles with
    /// each try. Default [`REJOIN_MIN`].
    pub rejoin_min: Duration,
    /// The longest such wait; default [`REJOIN_MAX`].
    pub rejoin_max: Duration,
}

impl Default for UpkeepConfig {
    fn default() -> Self {
        Self {
            refresh: REFRESH,
            neighbours: NEIGHBOURS,
            ping: PING,
            rejoin_min: REJOIN_MIN,
            rejoin_max: REJOIN_MAX,
        }
    }
}

impl UpkeepConfig {
    /// With no time so short that there is no rest, or so long that the clock overflows.
    fn clamped(self) -> Self {
        let clamp = |time: Duration| time.clamp(Duration::from_millis(1), WAIT_MAX);
        Self {
            refresh: clamp(self.refresh),
            neighbours: clamp(self.neighbours),
            ping: clamp(self.ping),
            rejoin_min: clamp(self.rejoin_min),
            rejoin_max: clamp(self.rejoin_max.max(self.rejoin_min)),
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Look up this key, then call [`Upkeep::looked_up`], whatever came of it.
    Lookup(Key),
    /// Ask this node for a sign of life, and tell the [`Members`] what came of it.
    Ping(NodeId),
    /// Join through the bootstrap addresses, then call [`Upkeep::bootstrapped`].
    Bootstrap,
}

/// When to do what for one node.
#[derive(Debug, Clone)]
pub struct Upkeep {
    config: UpkeepConfig,
    rng: ChaCha8Rng,
    /// When the own id is looked up next.
    own_at: Instant,
    /// Whether it was since this node joined: before, there are no buckets to look into.
    settled: bool,
    /// When to look into each bucket, by the bits that its members share with the own id; at once if it
    /// has no entry.
    buckets: BTreeMap<u16, Instant>,
    /// When a lookup is due next.
    lookup_at: Instant,
    /// The lookup under way.
    looking: Option<Key>,
    /// Who is pinged next in this round.
    round: VecDeque<NodeId>,
    /// The time between two pings of this round.
    pace: Duration,
    ping_at: Instant,
    /// When to see whether this node knows anybody.
    check_at: Instant,
    rejoin: Duration,
}

impl Upkeep {
    /// Nothing was done so far. What chance decides follows from `seed`.
    pub fn new(seed: u64, now: Instant, config: UpkeepConfig) -> Self {
        let config = config.clamped();
        let mut upkeep = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            own_at: now,
            settled: false,
            buckets: BTreeMap::new(),
            lookup_at: now,
            looking: None,
            round: VecDeque::new(),
            pace: config.ping,
            ping_at: now,
            check_at: now,
            rejoin: config.rejoin_min,
            config,
        };
        upkeep.ping_at = now + upkeep.jittered(upkeep.config.ping);
        upkeep
    }

    /// When something may be due, if nothing is told to it before. It is before long even if there is
    /// nothing to do.
    pub fn next(&self) -> Instant {
        self.check_at.min(self.lookup_at).min(self.ping_at)
    }

    /// One duty that is due, if there is any. The driver asks again until there is none.
    pub fn due<T>(&mut self, now: Instant, members: &Members<T>) -> Option<Duty> {
        let alone = members.answering() == 0;
        if self.check_at <= now {
            self.check_at = now + if alone { PATIENCE } else { self.config.ping };
            if alone {
                return Some(Duty::Bootstrap);
            }
        }
        if self.lookup_at <= now {
            let key = if alone { None } else { self.lookup(now, members) };
            if let Some(key) = key {
                self.looking = Some(key);
                self.lookup_at = now + PATIENCE;
                return Some(Duty::Lookup(key));
            }
            self.looking = None;
            let first = self.buckets.values().copied().fold(self.own_at, Instant::min);
            self.lookup_at = first.max(now + self.config.ping);
        }
        self.ping(now, members)
    }

    /// This node has joined a mesh, again or for the first time: its neighbourhood is looked up at once.
    pub fn joined(&mut self, now: Instant) {
        self.own_at = now;
        self.settled = false;
        self.buckets.clear();
        self.lookup_at = now;
        self.looking = None;
        self.rejoin = self.config.rejoin_min;
    }

    /// `key` was looked up, for whatever reason. Returns whether that was a duty, so that the next one may
    /// be due.
    pub fn looked_up<T>(&mut self, now: Instant, key: &Key, members: &Members<T>) -> bool {
        let bucket = bucket_of(members.table().own(), key);
        if bucket < OWN {
            let next = now + self.jittered(self.config.refresh);
            self.buckets.insert(bucket, next);
        } else {
            self.own_at = now + self.jittered(self.config.neighbours);
            self.settled = true;
        }
        let was_duty = self.looking.take_if(|looking| looking == key).is_some();
        if was_duty {
            self.lookup_at = now;
        }
        was_duty
    }

    /// The bootstrap addresses were tried; `joined` says whether anybody answered.
    pub fn bootstrapped(&mut self, now: Instant, joined: bool) {
        if joined {
            self.joined(now);
            self.check_at = now + self.config.ping;
        } else {
            self.check_at = now + self.jittered(self.rejoin);
            self.rejoin = (self.rejoin * 2).min(self.config.rejoin_max);
        }
    }

    /// The key of the next lookup: the own id, then a key in each bucket that has not been looked into, the
    /// closest first.
    fn lookup<T>(&mut self, now: Instant, members: &Members<T>) -> Option<Key> {
        let own = *members.table().own();
        if self.own_at <= now {
            self.own_at = now + self.jittered(self.config.neighbours);
            return Some(own.to_key());
        }
        if !self.settled {
            return None;
        }
        let near = members.closest(now, &own.to_key(), members.k());
        let farthest = near.iter().map(|node| bucket_of(&own, &node.to_key())).min();
        // Fewer than k nodes in all: the lookup of the own id has found everybody.
        let depth = farthest.filter(|_| near.len() == members.k())?;
        let is_due = |bucket: &u16| self.buckets.get(bucket).is_none_or(|at| *at <= now);
        let bucket = (0..depth).rev().find(is_due)?;
        let next = now + self.jittered(self.config.refresh);
        self.buckets.insert(bucket, next);
        Some(random_in(&own, bucket, &mut self.rng))
    }

    fn ping<T>(&mut self, now: Instant, members: &Members<T>) -> Option<Duty> {
        if self.ping_at > now {
            return None;
        }
        if self.round.is_empty() {
            self.begin_round(now, members);
        }
        let node = self.round.pop_front();
        self.ping_at = now + self.jittered(self.pace);
        node.map(Duty::Ping)
    }

    /// Chooses whom to ping: neighbours that were not heard of lately, and silent members whose time has
    /// come.
    fn begin_round<T>(&mut self, now: Instant, members: &Members<T>) {
        let table = members.table();
        let mut near = Vec::new();
        members.closest_answering(&table.own().to_key(), members.k(), &mut near);
        let is_quiet = |node: &NodeId| {
            table.get(node).is_some_and(|contact| {
                // A round lasts as long as the wait: whoever would be late at its end is asked in it.
                now.saturating_duration_since(contact.seen) >= self.config.ping / 2
            })
        };
        self.round = near.into_iter().filter(is_quiet).chain(members.silent_due(now).copied()).collect();
        self.round.truncate(ROUND_MAX);
        let places = u32::try_from(self.round.len().max(1)).unwrap_or(u32::MAX);
        self.pace = self.config.ping / places;
    }

    /// `time`, a quarter more or less.
    fn jittered(&mut self, time: Duration) -> Duration {
        time.mul_f64(self.rng.random_range(0.75..1.25))
    }
}

/// What [`bucket_of`] says of the own id.
const OWN: u16 = 8 * ID_LEN as u16;

/// The bucket of `key`: the leading bits that it shares with the own id.
fn bucket_of(own: &NodeId, key: &Key) -> u16 {
    u16::try_from(own.distance(key).leading_zeros()).unwrap_or(OWN)
}

/// A random key in a bucket.
fn random_in(own: &NodeId, bucket: u16, rng: &mut ChaCha8Rng) -> Key {
    let mut bytes = [0; ID_LEN];
    rng.fill_bytes(&mut bytes);
    let (whole, bit) = (usize::from(bucket / 8), bucket % 8);
    bytes[..whole].copy_from_slice(&own.as_bytes()[..whole]);
    // The bits before the bucket's are those of the own id, that one is the other.
    let other = own.as_bytes()[whole] ^ (0x80 >> bit);
    let mask = 0xff_u8 << (7 - bit);
    bytes[whole] = other & mask | bytes[whole] & !mask;
    Key::from_bytes(bytes)
}
