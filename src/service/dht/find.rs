//! Finding the records under one key.
//!
//! Where the replicas are known the closest is asked, and another when that is slow or has nothing.
//! Elsewhere the network is searched for them, and everybody on the way is asked for the records as well.
//! The first that has anything answers for all. Only when each of the k closest nodes has said that it has
//! nothing is there nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::DhtService;
use super::find_op::{Answers, FindOp, by_publisher, live, merge};
use super::read::FindOptions;
use super::receipt::Record;
use crate::dht::lookup::ALPHA_MAX;
use crate::dht::read::Level;
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
    /// This node has more searches under way than it can do, and no turn was left in time: nobody was asked.
    #[error("no search could begin in time")]
    Overloaded,
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
        matches!(self, Self::Incomplete { last: RequestError::Timeout, .. } | Self::Overloaded)
    }
}

impl DhtService {
    /// All live records under `key`, or the one of one publisher; none is an answer, not an error. Cancel
    /// safe.
    pub(crate) async fn find_value(
        self: &Arc<Self>,
        key: Key,
        options: FindOptions,
    ) -> Result<Vec<Record>, FindError> {
        if self.is_closing() {
            return Err(FindError::Shutdown);
        }
        if options.level() != Level::First {
            return Box::pin(self.read(key, options, runtime::after(options.timeout))).await;
        }
        let FindOptions { kind, from, timeout, .. } = options;
        let now = runtime::now();
        let wanted = |record: &Record| from.is_none_or(|from| from == record.publisher);
        // Nobody knows better than this node what it has published.
        let own = self.own(now, &key, kind);
        let knows_own = own.is_some();
        let mut records: Vec<_> = own.into_iter().filter(wanted).collect();
        if knows_own && from == Some(self.local) {
            return Ok(live(records));
        }
        merge(&mut records, self.held_here(now, &key, kind).into_iter().filter(wanted));
        if !records.iter().any(|record| !record.is_tombstone() && record.publisher != self.local) {
            let found = self.find_elsewhere(key, kind, from, runtime::after(timeout)).await;
            if let Ok(mut found) = found {
                found.retain(|record| !knows_own || record.publisher != self.local);
                merge(&mut records, found);
            } else if records.is_empty() {
                return found;
            }
        }
        by_publisher(&mut records);
        Ok(live(records))
    }

    /// What others hold under `key`.
    async fn find_elsewhere(
        self: &Arc<Self>,
        key: Key,
        kind: RecordKind,
        from: Option<NodeId>,
        deadline: Instant,
    ) -> Result<Vec<Record>, FindError> {
        if let Some(set) = self.known(runtime::now(), &key) {
            let found = self.ask_around(set.nodes.to_vec(), key, kind, from, deadline).await;
            // Who does not answer may have been replaced by nodes that are not known yet.
            if !matches!(found, Err(FindError::Incomplete { .. })) || runtime::now() >= deadline {
                return found;
            }
        }
        // On the heap: a find that needs no search keeps no room for one in its own future.
        Box::pin(self.search_on(key, kind, from, deadline)).await
    }

    /// What the network holds under `key`: searches until everybody has answered who should, a few times.
    pub(super) async fn search_on(
        self: &Arc<Self>,
        key: Key,
        kind: RecordKind,
        from: Option<NodeId>,
        deadline: Instant,
    ) -> Result<Vec<Record>, FindError> {
        let mut tries = 1;
        loop {
            let found = self.search_around(key, kind, from, deadline).await;
            // Who answers wrongly once does so again.
            let missed =
                matches!(found, Err(FindError::Incomplete { last, .. }) if last != RequestError::Malformed);
            if !missed || tries == SEARCHES_MAX || runtime::now() >= deadline {
                return found;
            }
            tries += 1;
        }
    }

    /// Searches for the nodes closest to `key` until one has something or all of them have answered.
    async fn search_around(
        self: &Arc<Self>,
        key: Key,
        kind: RecordKind,
        from: Option<NodeId>,
        deadline: Instant,
    ) -> Result<Vec<Record>, FindError> {
        let mut hit: Option<(NodeId, Answers)> = None;
        let mut without = BTreeSet::new();
        let mut last = RequestError::Timeout;
        let search = self.search(key, deadline, kind, |node, values| {
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
        let certain = self.is_certain(&outcome);
        if asked == 0 {
            return Err(FindError::NoPeers);
        }
        self.survey(key, Some(outcome));
        if let Some((node, answers)) = hit {
            if let Ok(found) = self.complete(node, key, kind, answers, deadline).await {
                let found = wanted(found, from);
                if found.iter().any(|record| !record.is_tombstone()) {
                    return Ok(found);
                }
            }
            // It held less than it seemed: the others are asked one by one.
            let (set, _) = self.looked_up(key, deadline).await;
            return self.ask_around(set.nodes.to_vec(), key, kind, from, deadline).await;
        }
        if certain && everybody { Ok(Vec::new()) } else { Err(FindError::Incomplete { asked, failed, last }) }
    }

    /// Asks `nodes` until one has something or all have answered: one, another whenever nobody has
    /// answered for longer than usual, and alpha at a time once one has nothing.
    async fn ask_around(
        self: &Arc<Self>,
        mut nodes: Vec<NodeId>,
        key: Key,
        kind: RecordKind,
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
        // What was removed, as far as somebody has said so: an older copy of it does not count.
        let mut known = Vec::new();
        loop {
            while under_way < width
                && let Some((node, i)) = waiting.next()
            {
                let until = deadline.min(runtime::after(self.config.request_timeout));
                self.ask(&op, *node, i, kind, vec![(key, None)], until);
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
                    self.complete(peer, key, kind, answers, deadline).await
                }
                Err(error) => Err(error),
            };
            match found {
                Ok(found) => {
                    merge(&mut known, wanted(found, from));
                    if known.iter().any(|record| !record.is_tombstone()) {
                        return Ok(known);
                    }
                }
                Err(error) => failures = (failures.0 + 1, error),
            }
        }
        match failures {
            (0, _) => Ok(known),
            (failed, last) => Err(FindError::Incomplete { asked: nodes.len(), failed, last }),
        }
    }
}

/// The records of the publisher `from`, or all.
fn wanted(mut records: Vec<Record>, from: Option<NodeId>) -> Vec<Record> {
    records.retain(|record| from.is_none_or(|from| from == record.publisher));
    records
}
