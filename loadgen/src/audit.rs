//! Proof that "acknowledged" was true: after a run, records are asked for from each replica that their
//! receipts name, and searched for by another node than their writer.
//!
//! A replica that was killed is not asked. A record whose replicas were all killed is owed to nobody: when
//! it cannot be read any more that is counted apart, and is no loss.
//!
//! The sample is the records with the smallest hashes of `(seed, item)`: uniform over the run, the same
//! for the same run, and mergeable from worker-local parts.

use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foveola::id::{Key, NodeId};
use serde::Serialize;

use crate::errors::Failure;
use crate::target::{Held, Proof, Target};
use crate::workload::{Data, mix};

/// Acknowledged records that are checked by default, when there are as many.
pub const SAMPLE: usize = 1536;
/// Losses that are described one by one.
const SHOWN: usize = 20;
/// Questions in flight.
const CONCURRENCY: usize = 32;
/// Questions to one node before its silence counts as a loss.
const TRIES: usize = 3;

/// A bounded sample of acknowledged records.
#[derive(Debug, Default)]
pub struct Sample {
    seed: u64,
    size: usize,
    seen: u64,
    kept: BinaryHeap<Entry>,
}

#[derive(Debug)]
struct Entry {
    rank: u64,
    item: u64,
    proof: Proof,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl Sample {
    /// Of `size` records at most.
    pub fn new(seed: u64, size: usize) -> Self {
        Self { seed: mix(seed, 0x61_7564_6974), size, seen: 0, kept: BinaryHeap::new() }
    }

    /// Considers an acknowledged record.
    pub fn offer(&mut self, item: u64, proof: Proof) {
        self.seen += 1;
        let rank = mix(self.seed, item);
        if self.kept.len() < self.size {
            self.kept.push(Entry { rank, item, proof });
        } else if let Some(mut top) = self.kept.peek_mut()
            && rank < top.rank
        {
            *top = Entry { rank, item, proof };
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.seen += other.seen;
        self.size = self.size.max(other.size);
        for entry in other.kept {
            self.kept.push(entry);
            if self.kept.len() > self.size {
                self.kept.pop();
            }
        }
    }

    /// Acknowledged records that were considered.
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// The claims to check.
    pub fn into_claims(self) -> Vec<Claim> {
        let claim = |entry: Entry| Claim {
            item: entry.item,
            key: entry.proof.key(),
            publisher: entry.proof.publisher(),
            seq: entry.proof.seq(),
            replicas: entry.proof.replicas(),
            target: entry.proof.target(),
        };
        self.kept.into_iter().map(claim).collect()
    }
}

/// A receipt said: these replicas hold this sequence number, or a higher one, under this key.
#[derive(Clone, Debug)]
pub struct Claim {
    pub item: u64,
    pub key: Key,
    pub publisher: NodeId,
    pub seq: u64,
    pub replicas: Vec<NodeId>,
    /// How many replicas the record should have.
    pub target: usize,
}

impl Claim {
    /// A claim about a record that nobody stored, so that a test can see a loss being found.
    pub fn planted(number: usize, (publisher, replica): (NodeId, NodeId)) -> Self {
        let key = Key::of_name(format!("loadgen/planted/{number}"));
        Self { item: u64::MAX, key, publisher, seq: 1, replicas: vec![replica], target: 1 }
    }
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Acknowledged records of the run.
    pub acknowledged: u64,
    /// Records asked for.
    pub sampled: u64,
    /// Replicas asked, over all records.
    pub asked: u64,
    /// Replicas not asked because they were killed.
    pub gone: u64,
    /// Records searched for by another node than their writer.
    pub reads: u64,
    /// Searches that found an older record of the writer where a quorum need not meet the newest: not missing.
    pub stale: u64,
    /// Answers and searches that do not bear out the receipt.
    pub missing: u64,
    /// Records whose replicas, as the receipt names them, were all killed.
    pub orphans: u64,
    /// Those of them that are no longer found: not counted as missing.
    pub orphans_lost: u64,
    /// The first of what is missing.
    pub losses: Vec<Loss>,
}

/// What a run with an audit found: of what was acknowledged, and once more after nodes went silent.
#[derive(Clone, Debug)]
pub struct Audited {
    pub findings: Findings,
    /// How many nodes were killed, and what was found then.
    pub after: Option<(usize, Findings)>,
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Loss {
    pub key: String,
    /// `replica` or `reader`.
    pub role: &'static str,
    pub node: String,
    pub seq: u64,
    /// `absent`, `older`, `other_value` or `no_answer`.
    pub reason: &'static str,
}

impl Findings {
    fn merge(&mut self, other: Self) {
        self.asked += other.asked;
        self.gone += other.gone;
        self.reads += other.reads;
        self.stale += other.stale;
        self.missing += other.missing;
        self.orphans += other.orphans;
        self.orphans_lost += other.orphans_lost;
        self.losses.extend(other.losses);
    }

    fn lose(&mut self, claim: &Claim, role: &'static str, node: NodeId, reason: &'static str) {
        self.missing += 1;
        if self.losses.len() < SHOWN {
            let (key, node) = (claim.key.to_string(), node.to_string());
            self.losses.push(Loss { key, role, node, seq: claim.seq, reason });
        }
    }
}

/// Asks for every claim from every replica that it names, and through a node that is not its writer.
pub async fn audit(
    target: &Target,
    data: &Arc<Data>,
    acknowledged: u64,
    claims: &Arc<Vec<Claim>>,
) -> Findings {
    let mut findings = Findings { acknowledged, sampled: claims.len() as u64, ..Findings::default() };
    target.introduce().await;
    let next = Arc::new(AtomicUsize::new(0));
    let askers: Vec<_> = (0..CONCURRENCY)
        .map(|_| {
            let (target, data) = (target.clone(), data.clone());
            let (claims, next) = (claims.clone(), next.clone());
            tokio::spawn(async move {
                let mut found = Findings::default();
                while let Some(claim) = claims.get(next.fetch_add(1, Ordering::Relaxed)) {
                    ask_replicas(&target, &data, claim, &mut found).await;
                    search(&target, &data, claim, &mut found).await;
                }
                found
            })
        })
        .collect();
    for asker in askers {
        match asker.await {
            Ok(found) => findings.merge(found),
            Err(_) => findings.missing += 1,
        }
    }
    findings.losses.sort();
    findings.losses.truncate(SHOWN);
    findings
}

async fn ask_replicas(target: &Target, data: &Data, claim: &Claim, found: &mut Findings) {
    for replica in &claim.replicas {
        if !target.is_alive(replica) {
            found.gone += 1;
            continue;
        }
        found.asked += 1;
        let mut answer = target.held(*replica, claim.key, claim.publisher).await;
        for _ in 1..TRIES {
            if answer.is_err() {
                answer = target.held(*replica, claim.key, claim.publisher).await;
            }
        }
        if let Some(reason) = verdict(data, claim, &answer) {
            found.lose(claim, "replica", *replica, reason);
        }
    }
}

/// Without an acknowledgement nothing was promised to a reader.
async fn search(target: &Target, data: &Data, claim: &Claim, found: &mut Findings) {
    if claim.replicas.is_empty() {
        return;
    }
    let pick = mix(claim.seq, claim.item);
    let (mut reader, mut answer) = target.read(pick, claim.key, claim.publisher).await;
    for _ in 1..TRIES {
        if answer.is_err() {
            (reader, answer) = target.read(pick, claim.key, claim.publisher).await;
        }
    }
    found.reads += 1;
    let alive = claim.replicas.iter().filter(|replica| target.is_alive(replica)).count();
    let reason = match verdict(data, claim, &answer) {
        Some("older") if !must_meet(target, claim, alive) => {
            found.stale += 1;
            None
        }
        reason => reason,
    };
    if alive > 0 {
        if let Some(reason) = reason {
            found.lose(claim, "reader", reader, reason);
        }
    } else {
        found.orphans += 1;
        found.orphans_lost += u64::from(reason.is_some());
    }
}

/// Whether more than half of the replicas cannot but include one of the `alive` that have acknowledged: not
/// where others may have taken their places.
fn must_meet(target: &Target, claim: &Claim, alive: usize) -> bool {
    !target.is_churned() && alive >= claim.target.div_ceil(2)
}

/// What is wrong with an answer.
fn verdict(data: &Data, claim: &Claim, answer: &Result<Option<Held>, Failure>) -> Option<&'static str> {
    match answer {
        Err(_) => Some("no_answer"),
        Ok(None) => Some("absent"),
        Ok(Some(held)) => compare(data, claim, held),
    }
}

/// A higher sequence number is a later write of this run; the same one must be this very value.
fn compare(data: &Data, claim: &Claim, held: &Held) -> Option<&'static str> {
    if held.seq < claim.seq {
        return Some("older");
    }
    let right =
        if held.seq == claim.seq { held.value == data.value(claim.item) } else { data.wrote(&held.value) };
    (!right).then_some("other_value")
}

#[cfg(test)]
mod tests;
