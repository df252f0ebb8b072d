//! What must hold: a second account of everything that was promised, kept beside the nodes.
//!
//! The ledger hears of every record that is written, of every acknowledgement that a replica gives, with what
//! the replica then holds, and of everything that is read. It derives nothing from the nodes' own accounts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use foveola::dht::ack::{Ack, CLUSTER_MEMORY, required};
use foveola::dht::lookup::{LOOKUP_TIMEOUT, Outcome};
use foveola::dht::table::Table;
use foveola::id::{Key, NodeId};
use foveola::wire::{Status, TOMBSTONE};

use super::clock::{Micros, micros};
use super::core::Directory;
use super::message::Copied;

/// One publisher's record under one key.
pub(crate) type Register = (Key, NodeId, u8);

/// A process of a node.
pub(crate) type Process = (u32, u32);

/// Something that must not happen, and when it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) at: Micros,
    pub(crate) what: Broken,
}

/// The invariants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A replica acknowledged what is not in its store.
    AckedUnheld { node: u32, seq: u64 },
    /// A store returned well with fewer acknowledgements than it takes.
    TooFewAcks { node: u32, acks: usize, required: usize },
    /// A replica went back to an earlier sequence.
    SequenceFell { node: u32, from: u64, to: u64 },
    /// A quorum read lacks what was acknowledged and should still live.
    Lost { key: Key, seq: u64, survivors: usize, acks: usize },
    /// A quorum read shows what was removed.
    Resurrected { key: Key, seq: u64, removed: u64 },
    /// The table holds the own id, or a peer that there was no handshake with, or a bucket is too large.
    Table { node: u32 },
    /// A lookup took more queries or more time than it may.
    Budget { node: u32, queries: u32 },
    /// After everything healed, an operation failed.
    NotLive { node: u32, what: &'static str },
}

/// One value that a publisher gave a register.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) seq: u64,
    flags: u8,
    value: Bytes,
    signed: bool,
    /// The last true time at which every clock that may be says that it lives.
    pub(crate) ends: Micros,
    /// The processes that acknowledged it to its publisher, and when each did first.
    acks: BTreeMap<Process, Micros>,
    /// How many nodes must acknowledge it at least.
    pub(crate) least: usize,
    /// When its publisher was told that enough had.
    pub(crate) acknowledged: Option<Micros>,
}

impl Version {
    pub(crate) fn is_tombstone(&self) -> bool {
        self.flags & TOMBSTONE != 0
    }

    fn is(&self, copy: &Copied) -> bool {
        (self.seq, self.flags, &self.value) == (copy.seq, copy.flags, &copy.value)
    }

    /// The nodes that had acknowledged it before `by` and have what they had then.
    pub(crate) fn survivors(&self, hosts: &Directory, by: Micros) -> BTreeSet<u32> {
        let keeps = |&(node, boot): &Process| hosts.host(node).up && hosts.host(node).oldest <= boot;
        self.acked(by).filter(keeps).map(|(node, _)| node).collect()
    }

    /// The processes that had acknowledged it before `by`.
    fn acked(&self, by: Micros) -> impl Iterator<Item = Process> {
        self.acks.iter().filter(move |(_, at)| **at < by).map(|(process, _)| *process)
    }

    /// How many nodes that had acknowledged it before `by` have not got it any more: because they do not run,
    /// and for any reason.
    fn losses(&self, hosts: &Directory, by: Micros) -> (usize, usize) {
        let nodes: BTreeSet<u32> = self.acked(by).map(|(node, _)| node).collect();
        let dead = nodes.iter().filter(|node| !hosts.host(**node).up).count();
        (dead, nodes.len() - self.survivors(hosts, by).len())
    }

    /// Whether enough nodes that are not among `survivors` hold this one from its publisher itself to answer
    /// a whole read at `by`: no copy of `newer` that another node vouches for replaces it there.
    fn keeps_out(&self, newer: &Self, hosts: &Directory, by: Micros, survivors: &BTreeSet<u32>) -> bool {
        let apart = self.survivors(hosts, by).difference(survivors).count();
        self.seq < newer.seq && by < self.ends && apart >= newer.least
    }
}

/// The account of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) registers: BTreeMap<Register, Vec<Version>>,
    pub(crate) broken: Vec<Violation>,
    /// Whether tables and handshakes are watched too; it takes memory.
    pub(crate) watches: bool,
    /// The part by which a clock may be off, in parts per million.
    pub(crate) skew: u64,
    /// What each replica held last: whether authentic, its sequence, and until when at least.
    held: BTreeMap<(Process, Register), (bool, u64, Micros)>,
    /// Who has completed a handshake with whom.
    met: BTreeSet<(Process, NodeId)>,
    /// How many members that answer each process had from when on.
    sizes: BTreeMap<Process, Vec<(Micros, usize)>>,
}

impl Ledger {
    /// Notes that an invariant was broken.
    pub(crate) fn breaks(&mut self, at: Micros, what: Broken) {
        self.broken.push(Violation { at, what });
    }

    /// A publisher sends a new value of a register on its way.
    pub(crate) fn written(&mut self, at: Micros, by: Process, k: usize, copy: &Copied) {
        let version = Version {
            seq: copy.seq,
            flags: copy.flags,
            value: copy.value.clone(),
            signed: !copy.proof.is_empty(),
            ends: at + self.shortest(copy.ttl_ms),
            acks: BTreeMap::new(),
            least: required(Ack::Quorum, k.min(self.largest(at, by))).unwrap_or(1),
            acknowledged: None,
        };
        self.registers.entry(copy.register()).or_default().push(version);
    }

    /// A replica answers a copy with `status` and holds `held` of the register then.
    pub(crate) fn answered(
        &mut self,
        at: Micros,
        by: Process,
        copy: &Copied,
        first_hand: bool,
        answer: (Status, Option<&Copied>),
    ) {
        let (status, held) = answer;
        let register = copy.register();
        if matches!(status, Status::Applied | Status::AlreadyHave) {
            if !held.is_some_and(|held| is_same(held, copy)) {
                self.breaks(at, Broken::AckedUnheld { node: by.0, seq: copy.seq });
            }
            let versions = self.registers.entry(register).or_default();
            let version = versions.iter_mut().rev().find(|version| version.is(copy));
            if let Some(version) = version.filter(|_| first_hand) {
                version.acks.entry(by).or_insert(at);
            }
        }
        let Some(held) = held else { return };
        let brought = (first_hand || !copy.proof.is_empty()) && is_same(held, copy);
        let ends = at + self.shortest(held.ttl_ms);
        let before = self.held.get(&(by, register)).filter(|(.., ends)| at < *ends).copied();
        let (was_authentic, seq, _) = before.unwrap_or((false, 0, 0));
        let authentic = brought || was_authentic && held.seq == seq;
        self.held.insert((by, register), (authentic, held.seq, ends));
        if held.seq < seq && was_authentic >= authentic {
            self.breaks(at, Broken::SequenceFell { node: by.0, from: seq, to: held.seq });
        }
    }

    /// How long a life of `ttl_ms` is at least, whatever clock measures it.
    fn shortest(&self, ttl_ms: u32) -> Micros {
        let life = u64::from(ttl_ms) * 1_000;
        life - life * 2 * self.skew / 1_000_000
    }

    /// A store has returned well.
    pub(crate) fn acknowledged(
        &mut self,
        at: Micros,
        node: u32,
        register: &Register,
        seq: u64,
        value: &Bytes,
    ) {
        let versions = self.registers.get_mut(register).map_or(&mut [][..], Vec::as_mut_slice);
        let this = versions.iter_mut().rev().find(|version| version.seq == seq && version.value == *value);
        let Some(version) = this else { return };
        let nodes: BTreeSet<u32> = version.acks.keys().map(|(node, _)| *node).collect();
        version.acknowledged = Some(at);
        let (acks, required) = (nodes.len(), version.least);
        if acks < required {
            self.breaks(at, Broken::TooFewAcks { node, acks, required });
        }
    }

    /// A handshake of a process with a peer is complete.
    pub(crate) fn met(&mut self, process: Process, peer: NodeId) {
        if self.watches {
            self.met.insert((process, peer));
        }
    }

    /// A lookup has ended.
    pub(crate) fn looked_up(
        &mut self,
        at: Micros,
        node: u32,
        outcome: &Outcome,
        budget: usize,
        took: Duration,
    ) {
        if outcome.queries as usize > budget || took > LOOKUP_TIMEOUT + Duration::from_millis(1) {
            self.breaks(at, Broken::Budget { node, queries: outcome.queries });
        }
    }

    /// Looks at the table of a process after it has changed.
    pub(crate) fn table(&mut self, at: Micros, process: Process, k: usize, table: &Table<u32>) {
        let mut buckets: BTreeMap<u32, usize> = BTreeMap::new();
        let mut sound = true;
        for contact in table.iter() {
            let shared = contact.id.distance(&table.own().to_key()).leading_zeros();
            *buckets.entry(shared).or_default() += 1;
            sound &= contact.id != *table.own() && self.met.contains(&(process, contact.id));
        }
        if !sound || buckets.values().any(|members| *members > k) {
            self.breaks(at, Broken::Table { node: process.0 });
        }
    }

    /// A process knows of so many members that answer.
    pub(crate) fn size(&mut self, at: Micros, process: Process, size: usize) {
        let sizes = self.sizes.entry(process).or_default();
        if sizes.last().is_none_or(|(_, last)| *last != size) {
            sizes.push((at, size));
        }
    }

    /// The largest number of members that a process had in the time that it must remember.
    fn largest(&self, at: Micros, process: Process) -> usize {
        let sizes = self.sizes.get(&process).map_or(&[][..], Vec::as_slice);
        let memory = micros(CLUSTER_MEMORY) - micros(CLUSTER_MEMORY) * 2 * self.skew / 1_000_000;
        let from = at.saturating_sub(memory);
        // A size lasts until the next one begins.
        let first = sizes.partition_point(|(begins, _)| *begins <= from).saturating_sub(1);
        sizes[first.min(sizes.len())..].iter().map(|(_, size)| *size).max().unwrap_or(0)
    }

    /// Checks what a quorum read that began at `began` has shown of one register, `shown`, and of which it
    /// has seen `newest`. `heard` are the nodes that answered; without them, everybody who must know counts.
    pub(crate) fn read(
        &mut self,
        hosts: &Directory,
        at: Micros,
        register: &Register,
        read: &Read<'_>,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        let versions = self.registers.get(register).map_or(&[][..], Vec::as_slice);
        let mut broken = Vec::new();
        for version in
            versions.iter().filter(|version| version.acknowledged.is_some_and(|at| at < read.began))
        {
            let survivors = version.survivors(hosts, read.began);
            let (dead, gone) = version.losses(hosts, read.began);
            match read.heard {
                Some(heard) if survivors.is_disjoint(heard) => continue,
                None if gone >= version.least => {
                    let why = if dead >= version.least { &mut verdict.died } else { &mut verdict.forgotten };
                    *why += 1;
                    continue;
                }
                _ => {}
            }
            // What has replaced it may have ended before it would have; then nobody needs to know of either.
            // A publisher that has restarted may have given both the same sequence.
            let is_other = |other: &Version| !std::ptr::eq(other, version);
            if versions.iter().any(|newer| is_other(newer) && newer.seq >= version.seq && newer.ends <= at) {
                verdict.outlived += 1;
                continue;
            }
            let out_of_reach = || !hosts.any_close(&register.0, read.reach, &survivors);
            let kept_out = || {
                let keep = |older: &Version| older.keeps_out(version, hosts, read.began, &survivors);
                versions.iter().any(keep)
            };
            if read.heard.is_none() && !version.signed && (out_of_reach() || kept_out()) {
                verdict.misplaced += 1;
                continue;
            }
            let removed = version.is_tombstone();
            if removed && read.shown.is_some_and(|shown| shown < version.seq) {
                broken.push(Broken::Resurrected {
                    key: register.0,
                    seq: read.shown.unwrap_or(0),
                    removed: version.seq,
                });
            }
            if !removed && at < version.ends {
                verdict.checked += 1;
                if read.newest.is_none_or(|newest| newest < version.seq) {
                    let (survivors, acks) = (survivors.len(), version.acks.len());
                    broken.push(Broken::Lost { key: register.0, seq: version.seq, survivors, acks });
                }
            }
        }
        for what in broken {
            self.breaks(at, what);
        }
        verdict
    }
}

/// What a quorum read has come to for one register.
#[derive(Debug)]
pub(crate) struct Read<'a> {
    pub(crate) began: Micros,
    /// Who answered, while faults strike; nobody named means that all promises are called in.
    pub(crate) heard: Option<&'a BTreeSet<u32>>,
    /// How many of the nodes closest to a key may vouch for what is under it.
    pub(crate) reach: usize,
    /// The sequence of the live record that it returned.
    pub(crate) shown: Option<u64>,
    /// The highest sequence of any answer, tombstones included.
    pub(crate) newest: Option<u64>,
}

/// What a read was good for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Verdict {
    /// Versions that had to be found.
    pub(crate) checked: u64,
    /// Versions that as many nodes had as must acknowledge them, and have not got any more because they died
    /// for good.
    pub(crate) died: u64,
    /// The same, where some of them run but have lost their memory.
    pub(crate) forgotten: u64,
    /// Versions that were replaced by one that has ended since.
    pub(crate) outlived: u64,
    /// Unsigned versions that were stored while the nodes closest to the key could not be reached, and are held
    /// only by nodes too far from it to vouch for them, or beside as many nodes as a read asks that have an
    /// older one from the publisher itself. Until their publisher publishes them again, nobody takes them from
    /// there. It is a limit of unsigned records, not a fault.
    pub(crate) misplaced: u64,
}

fn is_same(a: &Copied, b: &Copied) -> bool {
    (a.seq, a.flags, &a.value) == (b.seq, b.flags, &b.value)
}

impl Copied {
    pub(crate) fn register(&self) -> Register {
        (self.key, self.publisher, self.kind.0)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}.{:06} s: {:?}", self.at / 1_000_000, self.at % 1_000_000, self.what)
    }
}
