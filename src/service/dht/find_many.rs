//! Finding many keys: one frame per peer and pass.
//!
//! In each pass every key that is still open asks its next closest replica. A key is closed when a
//! replica has something, or when all k closest have been asked. Keys whose answer did not fit the
//! reply are asked for again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::DhtService;
use super::find::{FindError, named};
use super::find_op::{FindOp, by_publisher, merge};
use super::receipt::Record;
use crate::id::{Key, NodeId};
use crate::pool::RequestError;
use crate::runtime;
use crate::wire::Rest;

/// Keys in one frame.
const FRAME_KEYS: usize = 512;
/// Frames of one pass in flight.
const FRAMES_IN_FLIGHT: usize = 16;
/// Keys that are looked for at a time.
const WINDOW: usize = 8_192;

/// A key that is still looked for.
struct Open {
    place: usize,
    key: Key,
    nodes: Vec<NodeId>,
    asked: usize,
    cursor: Option<NodeId>,
    failed: usize,
}

impl DhtService {
    /// All live records under each of `keys`, in their order. Cancel safe.
    ///
    /// Fails as a whole when nothing was found under a key and not all of its replicas answered.
    pub(crate) async fn find_many(
        self: &Arc<Self>,
        keys: Vec<Key>,
        timeout: Duration,
    ) -> Result<Vec<Vec<Record>>, FindError> {
        let mut results = Vec::with_capacity(keys.len());
        for window in keys.chunks(WINDOW) {
            if self.is_closing() {
                return Err(FindError::Shutdown);
            }
            results.extend(self.find_window(window, runtime::now() + timeout).await?);
        }
        Ok(results)
    }

    async fn find_window(
        self: &Arc<Self>,
        keys: &[Key],
        deadline: Instant,
    ) -> Result<Vec<Vec<Record>>, FindError> {
        let now = runtime::now();
        let mut results: Vec<Vec<Record>> = keys.iter().map(|key| self.own(now, key)).collect();
        let mut open = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            let held = self.held_here(now, key);
            if held.is_empty() {
                let nodes = self.closest(key, self.config.k);
                if nodes.is_empty() && results[place].is_empty() {
                    return Err(FindError::NoPeers);
                }
                open.push(Open { place, key: *key, nodes, asked: 0, cursor: None, failed: 0 });
            } else {
                merge(&mut results[place], held);
            }
        }
        let mut last = RequestError::Unreachable;
        while !open.is_empty() {
            open = self.find_pass(open, &mut results, &mut last, deadline).await?;
        }
        results.iter_mut().for_each(|records| by_publisher(records));
        Ok(results)
    }

    /// Asks the next replica of every open key; returns the keys that are still open.
    async fn find_pass(
        self: &Arc<Self>,
        mut open: Vec<Open>,
        results: &mut [Vec<Record>],
        last: &mut RequestError,
        deadline: Instant,
    ) -> Result<Vec<Open>, FindError> {
        let mut still = Vec::new();
        let mut by_peer: BTreeMap<NodeId, Vec<Open>> = BTreeMap::new();
        for key in open.drain(..) {
            match key.nodes.get(key.asked) {
                Some(node) => by_peer.entry(*node).or_default().push(key),
                None if key.failed > 0 && results[key.place].is_empty() => {
                    let (asked, failed) = (key.nodes.len(), key.failed);
                    return Err(FindError::Incomplete { asked, failed, last: *last });
                }
                None => {}
            }
        }
        let mut frames = Vec::new();
        for (peer, mut keys) in by_peer {
            while !keys.is_empty() {
                let rest = keys.split_off(keys.len().min(FRAME_KEYS));
                frames.push((peer, std::mem::replace(&mut keys, rest)));
            }
        }
        let mut frames = frames.into_iter();
        loop {
            let flight: Vec<_> = frames.by_ref().take(FRAMES_IN_FLIGHT).collect();
            if flight.is_empty() {
                return Ok(still);
            }
            self.fly(flight, results, &mut still, last, deadline).await;
        }
    }

    async fn fly(
        self: &Arc<Self>,
        flight: Vec<(NodeId, Vec<Open>)>,
        results: &mut [Vec<Record>],
        still: &mut Vec<Open>,
        last: &mut RequestError,
        deadline: Instant,
    ) {
        let op = FindOp::new();
        for ((peer, keys), i) in flight.iter().zip(0_u16..) {
            let asks = keys.iter().map(|open| (open.key, open.cursor)).collect();
            self.ask(&op, *peer, i, asks, deadline);
        }
        let mut flight: Vec<_> = flight.into_iter().map(|(_, keys)| keys).collect();
        for _ in 0..flight.len() {
            let answered = op.next().await;
            let keys = std::mem::take(&mut flight[usize::from(answered.peer)]);
            match answered.result {
                Ok(answers) => {
                    for (mut open, (found, rest)) in keys.into_iter().zip(answers) {
                        let nothing = found.is_empty();
                        merge(&mut results[open.place], named(open.key, found));
                        match rest {
                            Rest::Nothing if nothing && open.cursor.is_none() => open.asked += 1,
                            Rest::Nothing => continue,
                            Rest::Everything => open.cursor = None,
                            Rest::After(publisher) => open.cursor = Some(publisher),
                        }
                        still.push(open);
                    }
                }
                Err(error) => {
                    *last = error;
                    for mut open in keys {
                        open.asked += 1;
                        open.failed += 1;
                        still.push(open);
                    }
                }
            }
        }
    }
}
