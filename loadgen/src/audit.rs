//! Proof that "acknowledged" was true: after a run, records are asked for from each replica that their
//! receipts name.
//!
//! The sample is the records with the smallest hashes of `(seed, item)`: uniform over the run, the same
//! for the same run, and mergeable from worker-local parts.

use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foveola::id::{Key, NodeId};
use serde::Serialize;

use crate::target::{Held, Proof, Publisher, Target};
use crate::workload::{Data, mix};

/// Acknowledged records that are checked, when there are as many.
pub const SAMPLE: usize = 1536;
/// Losses that are described one by one.
const SHOWN: usize = 20;
/// Questions in flight.
const CONCURRENCY: usize = 32;
/// Questions to one replica before its silence counts as a loss.
const TRIES: usize = 3;

/// A bounded sample of acknowledged records.
#[derive(Debug, Default)]
pub struct Sample {
    seed: u64,
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
    pub fn new(seed: u64) -> Self {
        Self { seed: mix(seed, 0x61_7564_6974), seen: 0, kept: BinaryHeap::new() }
    }

    /// Considers an acknowledged record.
    pub fn offer(&mut self, item: u64, proof: Proof) {
        self.seen += 1;
        let rank = mix(self.seed, item);
        if self.kept.len() < SAMPLE {
            self.kept.push(Entry { rank, item, proof });
        } else if let Some(mut top) = self.kept.peek_mut()
            && rank < top.rank
        {
            *top = Entry { rank, item, proof };
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.seen += other.seen;
        for entry in other.kept {
            self.kept.push(entry);
            if self.kept.len() > SAMPLE {
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
        };
        self.kept.into_iter().map(claim).collect()
    }
}

/// A receipt said: these replicas hold this sequence number, or a higher one, under this key.
#[derive(Clone, Debug)]
pub struct Claim {
    pub item: u64,
    pub key: Key,
    pub publisher: Publisher,
    pub seq: u64,
    pub replicas: Vec<NodeId>,
}

impl Claim {
    /// A claim about a record that nobody stored, so that a test can see a loss being found.
    pub fn planted(number: usize, replica: NodeId) -> Self {
        let key = Key::of_name(format!("loadgen/planted/{number}"));
        Self { item: u64::MAX, key, publisher: Publisher::Writer, seq: 1, replicas: vec![replica] }
    }
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Acknowledged records of the run.
    pub acknowledged: u64,
    /// Records asked for.
    pub sampled: u64,
    /// Answers asked for: one for each record and replica.
    pub asked: u64,
    /// Answers that do not bear out the receipt.
    pub missing: u64,
    /// The first of them.
    pub losses: Vec<Loss>,
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Loss {
    pub key: String,
    pub replica: String,
    pub seq: u64,
    /// `absent`, `older`, `other_value` or `no_answer`.
    pub reason: &'static str,
}

impl Findings {
    fn merge(&mut self, other: Self) {
        self.asked += other.asked;
        self.missing += other.missing;
        self.losses.extend(other.losses);
    }
}

/// Asks for every claim from every replica that it names.
pub async fn audit(target: &Target, data: &Arc<Data>, acknowledged: u64, claims: Vec<Claim>) -> Findings {
    let mut findings = Findings { acknowledged, sampled: claims.len() as u64, ..Findings::default() };
    let claims = Arc::new(claims);
    let next = Arc::new(AtomicUsize::new(0));
    let askers: Vec<_> = (0..CONCURRENCY)
        .map(|_| {
            let (target, data) = (target.clone(), data.clone());
            let (claims, next) = (claims.clone(), next.clone());
            tokio::spawn(async move {
                let mut found = Findings::default();
                while let Some(claim) = claims.get(next.fetch_add(1, Ordering::Relaxed)) {
                    check(&target, &data, claim, &mut found).await;
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

async fn check(target: &Target, data: &Data, claim: &Claim, found: &mut Findings) {
    for replica in &claim.replicas {
        found.asked += 1;
        let mut answer = target.held(*replica, claim.key, claim.publisher).await;
        for _ in 1..TRIES {
            if answer.is_err() {
                answer = target.held(*replica, claim.key, claim.publisher).await;
            }
        }
        let reason = match &answer {
            Err(_) => Some("no_answer"),
            Ok(None) => Some("absent"),
            Ok(Some(held)) => verdict(data, claim, held),
        };
        if let Some(reason) = reason {
            found.missing += 1;
            if found.losses.len() < SHOWN {
                let (key, replica) = (claim.key.to_string(), replica.to_string());
                found.losses.push(Loss { key, replica, seq: claim.seq, reason });
            }
        }
    }
}

/// A higher sequence number is a later write of this run; the same one must be this very value.
fn verdict(data: &Data, claim: &Claim, held: &Held) -> Option<&'static str> {
    if held.seq < claim.seq {
        return Some("older");
    }
    let right =
        if held.seq == claim.seq { held.value == data.value(claim.item) } else { data.wrote(&held.value) };
    (!right).then_some("other_value")
}

#[cfg(test)]
mod tests;
