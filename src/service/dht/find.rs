//! Finding the records under one key.
//!
//! Where the replicas are known the closest is asked, and another when that is slow or has nothing.
//! Elsewhere the network is searched for them, and everybody on the way is asked for the records as well.
//! The first that has anything answers for all. Only when each of the k closest nodes has said that it has
//! nothing is there nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::DhtService;
use super::find_op::{Answers, FindOp, by_publisher, merge};
use super::receipt::Record;
use crate::dht::lookup::ALPHA_MAX;
use crate::dht::record::is_tombstone;
use crate::id::{Key, NodeId};
use crate::pool::RequestError;
use crate::runtime;
use crate::wire::RecordKind;

/// Searches of one find: each gives those who do not answer more time than the one before.
const SEARCHES_MAX: usize = 3;

/// Why a find has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// No other node is known, so nobody could be asked.
    #[error("no other node is known")]
    NoPeers,
    /// Nobody who answered has anything, and some did not answer: there may be records.
    #[error("{failed} of {asked} nodes did not answer; the last: {last}")]
    Incomplete {
        /// Nodes that were asked.
        asked: usize,
        /// Nodes that did not answer.
        failed: usize,
        /// Why the last of them did not.
        last: RequestError,
    },
    /// This node is shutting down.
    #[error("this node is shutting down")]
    Shutdown,
}

impl FindError {
    /// Whether the same find may succeed later.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Shutdown)
    }

    /// Whether an answer did not come in time.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Incomplete { last: RequestError::Timeout, .. })
    }
}

impl DhtService {
    /// All live records under `key`, or the one of the publisher `from`; none is an answer, not an
    /// error. Cancel safe.
    pub(crate) async fn find_value(
        self: &Arc<Self>,
        key: Key,
        from: Option<NodeId>,
        timeout: Duration,
    ) -> Result<Vec<Record>, FindError> {
        if self.is_closing() {
            return Err(FindError::Shutdown);
        }
        let now = runtime::now();
        let wanted = |record: &Record| from.is_none_or(|from| from == record.publisher);
        let mut records = self.own(now, &key);
        // Nobody knows better than this node what it has published.
        let knows_own = !records.is_empty();
        records.retain(wanted);
        if knows_own && from == Some(self.local) {
            return Ok(records);
        }
        let mut held = self.held_here(now, &key);
        held.retain(wanted);
        if !held.is_empty() {
            merge(&mut records, held);
            by_publisher(&mut records);
            return Ok(records);
        }
        let found = self.find_elsewhere(key, from, runtime::after(timeout)).await;
        if let Ok(mut found) = found {
            found.retain(|record| !knows_own || record.publisher != self.local);
            merge(&mut records, found);
        } else if records.is_empty() {
            return found;
        }
        by_publisher(&mut records);
        Ok(records)
    }

    /// This node's own publication under `key`.
    pub(super) fn own(&self, now: Instant, key: &Key) -> Vec<Record> {
        let log = self.log(key);
        let own =
            log.find(now, key, RecordKind::VALUE).filter(|own| !is_tombstone(own.flags)).map(|own| Record {
                key: *key,
                publisher: self.local,
                seq: own.seq,
                ttl: own.ttl,
                kind: own.kind,
                value: own.value.clone(),
            });
        own.into_iter().collect()
    }

    /// What this node holds for others under `key`.
    pub(super) fn held_here(&self, now: Instant, key: &Key) -> Vec<Record> {
        let mut records = Vec::new();
        self.shard(key).find(now, key, RecordKind::VALUE, None, |found| {
            if is_tombstone(found.flags) {
                return std::ops::ControlFlow::Continue(());
            }
            records.push(Record {
                key: *key,
                publisher: found.publisher,
                seq: found.seq,
                ttl: Duration::from_millis(u64::from(found.ttl_ms)),
                kind: found.kind,
                value: bytes::Bytes::copy_from_slice(found.value),
            });
            std::ops::ControlFlow::Continue(())
        });
        records
    }

    /// What others hold under `key`.
    async fn find_elsewhere(
        self: &Arc<Self>,
        key: Key,
        from: Option<NodeId>,
        deadline: Instant,
    ) -> Result<Vec<Record>, FindError> {
        if let Some(set) = self.known(runtime::now(), &key) {
            let found = self.ask_around(set.nodes.to_vec(), key, from, deadline).await;
            // Who does not answer may have been replaced by nodes that are not known yet.
            if !matches!(found, Err(FindError::Incomplete { .. })) || runtime::now() >= deadline {
                return found;
            }
        }
        let mut tries = 1;
        loop {
            let found = self.search_around(key, from, deadline).await;
            let late = found.as_ref().is_err_and(FindError::is_timeout);
            if !late || tries == SEARCHES_MAX || runtime::now() >= deadline {
                return found;
            }
            tries += 1;
        }
    }

    /// Searches for the nodes closest to `key` until one has something or all of them have answered.
    async fn search_around(
        self: &Arc<Self>,
        key: Key,
        from: Option<NodeId>,
        deadline: Instant,
    ) -> Result<Vec<Record>, FindError> {
        let mut hit: Option<(NodeId, Answers)> = None;
        let mut without = BTreeSet::new();
        let mut last = RequestError::Timeout;
        let search = self.search(key, deadline, RecordKind::VALUE, |node, values| {
            match values {
                Ok(answers) if answers.iter().any(|page| page.may_hold(from)) => hit = Some((node, answers)),
                Ok(_) => drop(without.insert(node)),
                Err(error) => last = error,
            }
            hit.is_some()
        });
        let outcome = search.await;
        let everybody = !outcome.nodes.is_empty() && outcome.nodes.iter().all(|node| without.contains(node));
        let (asked, failed) = (outcome.queries as usize, (outcome.failed as usize).max(1));
        // Where there are fewer than k, one that did not answer is missed.
        let certain = outcome.complete && (outcome.failed == 0 || outcome.nodes.len() >= self.config.k);
        if asked == 0 {
            return Err(FindError::NoPeers);
        }
        self.survey(key, Some(outcome));
        if let Some((node, answers)) = hit {
            if let Ok(found) = self.complete(node, key, answers, deadline).await {
                let found = wanted(found, from);
                if !found.is_empty() {
                    return Ok(found);
                }
            }
            // It held less than it seemed: the others are asked one by one.
            let (set, _) = self.looked_up(key).await;
            return self.ask_around(set.nodes.to_vec(), key, from, deadline).await;
        }
        if certain && everybody { Ok(Vec::new()) } else { Err(FindError::Incomplete { asked, failed, last }) }
    }

    /// Asks `nodes` until one has something or all have answered: one, another whenever nobody has
    /// answered for longer than usual, and alpha at a time once one has nothing.
    async fn ask_around(
        self: &Arc<Self>,
        mut nodes: Vec<NodeId>,
        key: Key,
        from: Option<NodeId>,
        deadline: Instant,
    ) -> Result<Vec<Record>, FindError> {
        if nodes.is_empty() {
            return Err(FindError::NoPeers);
        }
        self.pool.suspects_last(&mut nodes);
        let slow = self.slow();
        let op = FindOp::new();
        let mut waiting = nodes.iter().zip(0_u16..).peekable();
        let (mut width, mut under_way) = (1, 0);
        let mut failures = (0, RequestError::Unreachable);
        loop {
            while under_way < width
                && let Some((node, i)) = waiting.next()
            {
                let until = deadline.min(runtime::after(self.config.request_timeout));
                self.ask(&op, *node, i, vec![(key, None)], until);
                under_way += 1;
            }
            if under_way == 0 {
                break;
            }
            let next = if waiting.peek().is_some() && under_way < ALPHA_MAX {
                tokio::time::timeout_at(runtime::after(slow).into(), op.next()).await.ok()
            } else {
                Some(op.next().await)
            };
            let Some(answered) = next else {
                width = under_way + 1;
                continue;
            };
            under_way -= 1;
            width = self.config.alpha;
            let found = match answered.result {
                Ok(answers) => {
                    let peer = nodes[usize::from(answered.peer)];
                    self.complete(peer, key, answers, deadline).await
                }
                Err(error) => Err(error),
            };
            match found.map(|found| wanted(found, from)) {
                Ok(found) if found.is_empty() => {}
                Ok(found) => return Ok(found),
                Err(error) => failures = (failures.0 + 1, error),
            }
        }
        match failures {
            (0, _) => Ok(Vec::new()),
            (failed, last) => Err(FindError::Incomplete { asked: nodes.len(), failed, last }),
        }
    }
}

/// The records of the publisher `from`, or all.
fn wanted(mut records: Vec<Record>, from: Option<NodeId>) -> Vec<Record> {
    records.retain(|record| from.is_none_or(|from| from == record.publisher));
    records
}

/// Fills in the key that the records were asked for under.
pub(super) fn named(key: Key, mut records: Vec<Record>) -> Vec<Record> {
    for record in &mut records {
        record.key = key;
    }
    records
}
