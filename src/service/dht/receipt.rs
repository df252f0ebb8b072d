//! What an operation returns: receipts of stores, records of finds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::dht::tally::Tally;
use crate::id::{Key, NodeId};
use crate::wire::RecordKind;

/// A record that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The key it is stored under.
    pub key: Key,
    /// Who published it.
    pub publisher: NodeId,
    /// The publisher's sequence number: the higher one is the newer record.
    pub seq: u64,
    /// How much longer it lives.
    pub ttl: Duration,
    /// What it is.
    pub kind: RecordKind,
    /// The value, at most [`VALUE_BYTES_MAX`](crate::dht::record::VALUE_BYTES_MAX) bytes.
    pub value: Bytes,
    /// Whether its publisher has signed it; the proof was verified.
    pub signed: bool,
    pub(super) flags: u8,
    pub(super) proof: Bytes,
}

/// Where a replica has a record that it has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    /// In memory: it is lost when the process of the replica ends.
    Memory,
    /// On its disk, with an `fsync` behind it: a crash or a loss of power leaves it there.
    Disk,
}

/// What it took to find the nodes closest to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LookupStats {
    /// How far the closest node was: 1 when this node knew it, 2 when one of those did, and so on.
    pub hops: u32,
    /// Nodes that were asked.
    pub queries: u32,
    /// Whether these are the closest of all that are alive, as far as anybody knew. If not, nodes that should
    /// have answered did not in time, and the record may lie on others than the closest until it is next sent to
    /// them; with [`fresh`](crate::Store::fresh), the store may be repeated.
    pub complete: bool,
}

/// What became of the store of one record.
///
/// It tells which replicas held the record, or a copy equal to it, when the store returned, and where.
/// Others may still acknowledge it in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub(super) key: Key,
    pub(super) seq: u64,
    pub(super) replicas: Arc<[NodeId]>,
    pub(super) tally: Tally,
    pub(super) required: usize,
    pub(super) target: usize,
    pub(super) superseded: Option<u64>,
    pub(super) log_full: bool,
    pub(super) lookup: Option<LookupStats>,
}

impl Receipt {
    /// The search for the replicas, if there was one: none is needed where all nodes around the key are
    /// known, and those of many keys at a time are not told apart.
    pub fn lookup(&self) -> Option<LookupStats> {
        self.lookup
    }

    /// The key of the record.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The sequence number that the record was given.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The nodes that were asked to hold the record.
    pub fn replicas(&self) -> &[NodeId] {
        &self.replicas
    }

    /// The replicas that have acknowledged.
    pub fn acked(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.pick(Tally::is_acked)
    }

    /// The replicas that have acknowledged it as durable: on disk, where a restart finds it again.
    pub fn durable(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.pick(Tally::is_durable)
    }

    /// Where `replica` has the record; `None` unless it has acknowledged.
    pub fn durability(&self, replica: &NodeId) -> Option<Durability> {
        let i = self.replicas.iter().position(|other| other == replica)?;
        match (self.tally.is_durable(i), self.tally.is_acked(i)) {
            (true, _) => Some(Durability::Disk),
            (false, true) => Some(Durability::Memory),
            (false, false) => None,
        }
    }

    /// The replicas that refused the record or could not be asked.
    pub fn failed(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.pick(Tally::is_failed)
    }

    /// The replicas that may hold the record although no acknowledgement came.
    pub fn unknown(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.pick(Tally::is_unknown)
    }

    /// How many replicas have acknowledged.
    pub fn acks(&self) -> usize {
        self.tally.acks()
    }

    /// How many acknowledgements the level asked for.
    pub fn required(&self) -> usize {
        self.required
    }

    /// How many replicas a record should have in this mesh.
    pub fn target(&self) -> usize {
        self.target
    }

    /// Whether the acknowledgement level was reached.
    pub fn is_met(&self) -> bool {
        !self.log_full && self.tally.is_met(self.required)
    }

    /// Whether the record may be held although the level was not reached.
    pub fn is_indeterminate(&self) -> bool {
        !self.is_met() && self.tally.may_be_held()
    }

    /// The sequence number of a newer record of this node that a replica holds, if one refused for that.
    pub fn superseded(&self) -> Option<u64> {
        self.superseded
    }

    /// Whether the record was sent to nobody because the publication log of this node was full.
    pub fn is_log_full(&self) -> bool {
        self.log_full
    }

    fn pick(&self, is: fn(&Tally, usize) -> bool) -> impl Iterator<Item = NodeId> + '_ {
        self.replicas.iter().enumerate().filter(move |(i, _)| is(&self.tally, *i)).map(|(_, node)| *node)
    }
}
