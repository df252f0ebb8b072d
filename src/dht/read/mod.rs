//! Reading the records under one key from several replicas: when enough have answered, what their answers
//! come to together, and which of them lack something.
//!
//! A read takes the answers as they come and does not ask anybody: the driver asks replicas, closest first,
//! until the [`Verdict`] is [`Done`](Verdict::Done) or nobody is left. Of each publisher the copy that
//! replicas would keep wins; a tombstone wins over what it removes, and is then not among the records.
//!
//! A quorum of readers meets every quorum of writers as long as both take more than half of the same replica
//! set, so what was acknowledged by a quorum is seen by a quorum.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use super::ack::{Ack, required};
use super::record::{digest, is_tombstone};
use super::store::KEY_RECORDS_MAX;
use super::tally::REPLICAS_MAX;
use crate::id::{Key, NodeId};
use crate::wire::{Record, RecordKind};
use bytes::Bytes;

/// How many replicas a [`Level::Merge`] asks where there are as many.
pub const MERGED: usize = 3;

/// How many replicas a read listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Level {
    /// The first that has a live record. Nothing is there only when every one of the k closest said so.
    #[default]
    First,
    /// As many as a write of [`Ack::Quorum`] takes, so one of them has what was acknowledged last.
    Quorum,
    /// At least [`MERGED`], for sets of entries of many publishers, of which each replica may lack some.
    Merge,
}

/// A copy of a record as a replica has answered it; key and kind are those that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Who published it.
    pub publisher: NodeId,
    /// Its sequence.
    pub seq: u64,
    /// How much longer it lives.
    pub ttl: Duration,
    /// Its flags; [`TOMBSTONE`](crate::wire::TOMBSTONE) says that it removes the record.
    pub flags: u8,
    /// Whether it carries a proof that was verified.
    pub authentic: bool,
    /// The proof, or nothing.
    pub proof: Bytes,
    /// The value; nothing in a tombstone.
    pub value: Bytes,
}

impl Heard {
    /// Whether it says that the record was removed.
    pub fn is_tombstone(&self) -> bool {
        is_tombstone(self.flags)
    }

    /// The copy as a record that is stored under `key`.
    pub fn as_record(&self, key: Key, kind: RecordKind) -> Record<'_> {
        let ttl_ms = u32::try_from(self.ttl.as_millis()).unwrap_or(u32::MAX);
        let Self { seq, flags, ref proof, ref value, .. } = *self;
        Record { key, seq, ttl_ms, kind, flags, proof, value }
    }

    /// The order in which replicas keep copies ([`Rank`](super::record::Rank)), where only a proof makes a
    /// copy authentic; the digests are looked at when nothing else decides.
    fn order(&self, other: &Self) -> Ordering {
        let by_rank = (self.authentic, self.seq).cmp(&(other.authentic, other.seq));
        by_rank.then_with(|| {
            if self.is_same(other) { Ordering::Equal } else { self.digest().cmp(&other.digest()) }
        })
    }

    /// Whether both are copies of one record, whatever vouches for them.
    fn is_same(&self, other: &Self) -> bool {
        (self.seq, self.flags, &self.value) == (other.seq, other.flags, &other.value)
    }

    fn digest(&self) -> [u8; 32] {
        digest(self.flags, &self.value)
    }
}

/// Whether a read needs more answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As long as there is somebody to ask.
    More,
    /// Its level is reached.
    Done,
}

/// Too few replicas answered for the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{answers} replicas answered, {failed} did not, and {needed} must")]
pub struct Incomplete {
    /// Replicas that answered.
    pub answers: usize,
    /// Replicas that did not.
    pub failed: usize,
    /// Replicas that must answer; for [`Level::First`] all that are asked.
    pub needed: usize,
}

/// The best copy of one publisher so far, and which of the answers had it (bit i: answer i).
#[derive(Debug)]
struct Winner {
    copy: Heard,
    holders: u64,
}

/// One read under way.
#[derive(Debug)]
pub struct Read {
    level: Level,
    needed: usize,
    /// Whose record is wanted; everybody's if nobody is named.
    publisher: Option<NodeId>,
    /// Who has answered, in this order.
    answered: Vec<NodeId>,
    failed: usize,
    winners: BTreeMap<NodeId, Winner>,
}

impl Read {
    /// A read of records that should have `target` replicas ([`target`](super::ack::target)), of all
    /// publishers or one.
    pub fn new(level: Level, target: usize, publisher: Option<NodeId>) -> Self {
        let needed = match level {
            Level::First => 1,
            Level::Quorum => required(Ack::Quorum, target).unwrap_or(1),
            Level::Merge => target.clamp(1, MERGED),
        };
        Self { level, needed, publisher, answered: Vec::new(), failed: 0, winners: BTreeMap::new() }
    }

    /// `from` has answered with everything that it holds. A second answer of one replica, and more than
    /// [`REPLICAS_MAX`] of them, do not count.
    pub fn answered(&mut self, from: NodeId, copies: impl IntoIterator<Item = Heard>) {
        if self.answered.len() == REPLICAS_MAX || self.answered.contains(&from) {
            return;
        }
        let bit = 1 << self.answered.len();
        self.answered.push(from);
        self.take(bit, copies);
    }

    /// Copies that count for no answer: those of this node itself, or a part of what a replica holds.
    pub fn noted(&mut self, copies: impl IntoIterator<Item = Heard>) {
        self.take(0, copies);
    }

    fn take(&mut self, bit: u64, copies: impl IntoIterator<Item = Heard>) {
        let wanted = |copy: &Heard| self.publisher.is_none_or(|publisher| publisher == copy.publisher);
        for copy in copies.into_iter().filter(wanted).take(KEY_RECORDS_MAX) {
            let Some(winner) = self.winners.get_mut(&copy.publisher) else {
                self.winners.insert(copy.publisher, Winner { copy, holders: bit });
                continue;
            };
            let (same, order) = (winner.copy.is_same(&copy), copy.order(&winner.copy));
            winner.holders = if same { winner.holders | bit } else { winner.holders };
            match order {
                Ordering::Greater if same => winner.copy = copy,
                Ordering::Greater => *winner = Winner { copy, holders: bit },
                Ordering::Equal if same => winner.copy.ttl = winner.copy.ttl.max(copy.ttl),
                Ordering::Equal | Ordering::Less => {}
            }
        }
    }

    /// A replica that was asked does not answer.
    pub fn failed(&mut self) {
        self.failed += 1;
    }

    /// Whether the level is reached.
    pub fn verdict(&self) -> Verdict {
        if self.wanting() == 0 { Verdict::Done } else { Verdict::More }
    }

    /// How many answers are wanting at least: that many replicas are worth asking at once.
    pub fn wanting(&self) -> usize {
        match self.level {
            Level::First => usize::from(!self.winners.values().any(|winner| self.settles(&winner.copy))),
            Level::Quorum | Level::Merge => self.needed.saturating_sub(self.answered.len()),
        }
    }

    /// Whether one copy is all that a [`Level::First`] looks for: a live record, or of the publisher that it
    /// names also the word that there is none.
    fn settles(&self, copy: &Heard) -> bool {
        self.publisher.is_some() || !copy.is_tombstone()
    }

    /// Ends the read when nobody is left to ask: whether its records are the answer, none included.
    ///
    /// # Errors
    ///
    /// [`Incomplete`].
    pub fn end(&self) -> Result<(), Incomplete> {
        let (answers, failed) = (self.answered.len(), self.failed);
        let complete = match self.level {
            Level::First => self.wanting() == 0 || (failed == 0 && answers > 0),
            Level::Quorum | Level::Merge => self.wanting() == 0,
        };
        let needed = if self.level == Level::First { answers + failed.max(1) } else { self.needed };
        if complete { Ok(()) } else { Err(Incomplete { answers, failed, needed }) }
    }

    /// The live records, by publisher.
    pub fn records(&self) -> impl Iterator<Item = &Heard> {
        self.winners.values().map(|winner| &winner.copy).filter(|copy| !copy.is_tombstone())
    }

    /// What the replicas that have answered lack: to whom which copy should be sent, tombstones included.
    /// Nothing at [`Level::First`], which knows one answer.
    pub fn repairs(&self) -> impl Iterator<Item = (NodeId, &Heard)> {
        let answered = if self.level == Level::First { &[][..] } else { &self.answered };
        self.winners.values().flat_map(move |Winner { copy, holders }| {
            let lacking = answered.iter().enumerate().filter(move |(i, _)| holders >> i & 1 == 0);
            lacking.map(move |(_, node)| (*node, copy))
        })
    }

    /// The live records, by publisher, without a copy of them.
    pub fn into_records(self) -> impl Iterator<Item = Heard> {
        self.winners.into_values().map(|winner| winner.copy).filter(|copy| !copy.is_tombstone())
    }
}
