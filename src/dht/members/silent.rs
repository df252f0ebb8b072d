//! Who has stopped answering, and when to ask again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{AVOIDED, AVOIDED_MAX, FORGOTTEN};
use crate::id::NodeId;

/// Since when a member has not answered.
#[derive(Debug, Clone, Copy)]
struct Silence {
    since: Instant,
    /// Until when it is not asked again.
    until: Instant,
    wait: Duration,
}

/// The members that do not answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Silent(BTreeMap<NodeId, Silence>);

impl Silent {
    /// Notes that `peer` did not answer. Returns whether it has been silent for so long that it should be
    /// forgotten.
    pub(super) fn note(&mut self, now: Instant, peer: NodeId) -> bool {
        let first = Silence { since: now, until: now + AVOIDED, wait: AVOIDED };
        let silence = self.0.entry(peer).or_insert(first);
        // Of several failures at a time only the first says something.
        if silence.until <= now {
            silence.wait = (silence.wait * 2).min(AVOIDED_MAX);
            silence.until = now + silence.wait;
        }
        now.saturating_duration_since(silence.since) >= FORGOTTEN
    }

    pub(super) fn remove(&mut self, peer: &NodeId) {
        self.0.remove(peer);
    }

    pub(super) fn contains(&self, peer: &NodeId) -> bool {
        self.0.contains_key(peer)
    }

    /// Whether it is too early to ask `peer` again.
    pub(super) fn is_avoided(&self, now: Instant, peer: &NodeId) -> bool {
        self.0.get(peer).is_some_and(|silence| now < silence.until)
    }

    /// Those that may be asked again.
    pub(super) fn due(&self, now: Instant) -> impl Iterator<Item = &NodeId> {
        self.0.iter().filter(move |(_, silence)| silence.until <= now).map(|(peer, _)| peer)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes that it takes, about.
    pub(super) fn memory(&self) -> usize {
        self.0.len() * size_of::<(NodeId, Silence)>()
    }
}
