//! Finding many keys: one frame per peer and pass.
//!
//! In each pass every key that is still open asks its next closest replica. A key is closed when a
//! replica has something, or when all k closest have been asked. Keys whose answer did not fit the
//! reply are asked for again. Those under which nothing was found although not everybody has answered
//! are searched for one by one, and so is what one replica alone cannot answer.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use super::DhtService;
use super::cover::half_way;
use super::find::FindError;
use super::find_op::{Answers, FindOp, Reading, Step, by_publisher, live, merge};
use super::read::FindOptions;
use super::receipt::Record;
use crate::dht::read::Level;
use crate::id::{Key, NodeId};
use crate::pool::RequestError;
use crate::runtime;
use crate::wire::RecordKind;

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
    failed: usize,
    /// How far the replica that is asked has been read.
    reading: Reading,
    /// Whether `nodes` are surely those that should hold the key.
    certain: bool,
    /// Whether this node has a publication of its own under the key, of which nobody knows better.
    knows_own: bool,
}

impl Open {
    /// Goes on to the next replica.
    fn turn(mut self, failed: bool) -> Self {
        self.asked += 1;
        self.failed += usize::from(failed);
        self.reading = Reading::default();
        self
    }
}

/// What a window has come to so far.
struct Search {
    results: Vec<Vec<Record>>,
    /// Why a replica did not answer.
    last: RequestError,
    /// Peers that failed in this window: asked again only when nobody else is left to ask.
    failed: BTreeSet<NodeId>,
    /// Keys of which too few replicas have answered, and how that would be said.
    missed: Vec<(usize, FindError)>,
    kind: RecordKind,
    deadline: Instant,
}

impl Search {
    /// Nobody is left to ask for a key, or no time: it is missed unless there is something under it or all
    /// have answered.
    fn close(&mut self, key: &Open, last: RequestError) {
        let unasked = key.asked < key.nodes.len();
        if self.results[key.place].is_empty() && (key.failed > 0 || unasked || !key.certain) {
            let (asked, failed) = (key.asked.max(1), key.failed.max(1));
            self.missed.push((key.place, FindError::Incomplete { asked, failed, last }));
        }
    }
}

impl DhtService {
    /// All live records under each of `keys`, in their order. Cancel safe.
    ///
    /// Fails as a whole when nothing was found under a key and not all of its replicas answered.
    pub(crate) async fn find_many(
        self: &Arc<Self>,
        keys: Vec<Key>,
        options: FindOptions,
    ) -> Result<Vec<Vec<Record>>, FindError> {
        let mut results = Vec::with_capacity(keys.len());
        for window in keys.chunks(WINDOW) {
            if self.is_closing() {
                return Err(FindError::Shutdown);
            }
            let deadline = runtime::after(options.timeout);
            if options.level() == Level::First {
                results.extend(self.find_window(window, options.kind, deadline).await?);
            } else {
                let read =
                    move |service: Arc<Self>, key| async move { service.read(key, options, deadline).await };
                results.extend(self.find_each(window.to_vec(), read).await?);
            }
        }
        Ok(results)
    }

    /// What `find` finds under each of `keys`, in their order.
    async fn find_each<F>(
        self: &Arc<Self>,
        keys: Vec<Key>,
        find: impl Fn(Arc<Self>, Key) -> F + Clone + Send + 'static,
    ) -> Result<Vec<Vec<Record>>, FindError>
    where
        F: Future<Output = Result<Vec<Record>, FindError>> + Send,
    {
        let mut results = vec![Vec::new(); keys.len()];
        let mut found = self.each(keys, find);
        for _ in 0..results.len() {
            let (place, records) = found.recv().await.ok_or(FindError::Shutdown)?;
            results[place] = records?;
        }
        Ok(results)
    }

    async fn find_window(
        self: &Arc<Self>,
        keys: &[Key],
        kind: RecordKind,
        deadline: Instant,
    ) -> Result<Vec<Vec<Record>>, FindError> {
        let now = runtime::now();
        let results: Vec<Vec<Record>> =
            keys.iter().map(|key| self.own(now, key, kind).into_iter().collect()).collect();
        let (last, failed, missed) = (RequestError::Unreachable, BTreeSet::new(), Vec::new());
        let mut search = Search { results, last, failed, missed, kind, deadline };
        let (mut open, mut unknown) = (Vec::new(), Vec::new());
        for (place, key) in keys.iter().enumerate() {
            let held = self.held_here(now, key, kind);
            let found = held.iter().any(|record| !record.is_tombstone());
            merge(&mut search.results[place], held);
            if found {
                continue;
            }
            match self.known(now, key) {
                Some(set) => open.push(self.open(&search, place, *key, set.nodes.to_vec(), true)?),
                None => unknown.push(place),
            }
        }
        let looked_for = unknown.iter().map(|place| keys[*place]).collect();
        let mut found = self.replicas_of(looked_for, half_way(deadline));
        for _ in 0..unknown.len() {
            let (which, replicas) = found.recv().await.ok_or(FindError::Shutdown)?;
            let place = unknown[which];
            let (nodes, certain) = match replicas {
                Some((set, outcome)) => {
                    (set.nodes.to_vec(), outcome.is_none_or(|outcome| self.is_certain(&outcome)))
                }
                None => (self.nearest(&keys[place]), false),
            };
            open.push(self.open(&search, place, keys[place], nodes, certain)?);
        }
        while !open.is_empty() {
            if runtime::now() >= deadline {
                open.iter().for_each(|key| search.close(key, RequestError::Timeout));
                break;
            }
            open = self.find_pass(open, &mut search).await;
        }
        self.search_on_for(keys, &mut search).await?;
        search.results.iter_mut().for_each(|records| by_publisher(records));
        Ok(search.results.into_iter().map(live).collect())
    }

    /// Searches the network for the keys of which too few replicas have answered, while there is time.
    async fn search_on_for(self: &Arc<Self>, keys: &[Key], search: &mut Search) -> Result<(), FindError> {
        let missed = std::mem::take(&mut search.missed);
        let (kind, deadline) = (search.kind, search.deadline);
        let over = runtime::now() >= deadline;
        // Who answers wrongly once does so again.
        let is_final = |error: &FindError| {
            over || matches!(error, FindError::Incomplete { last: RequestError::Malformed, .. })
        };
        if let Some((_, error)) = missed.iter().find(|(_, error)| is_final(error)) {
            return Err(error.clone());
        }
        let find =
            move |service: Arc<Self>, key| async move { service.search_on(key, kind, None, deadline).await };
        let found = self.find_each(missed.iter().map(|(place, _)| keys[*place]).collect(), find).await?;
        for ((place, _), records) in missed.into_iter().zip(found) {
            search.results[place] = records;
        }
        Ok(())
    }

    /// A key that its replicas are to be asked for.
    fn open(
        &self,
        search: &Search,
        place: usize,
        key: Key,
        mut nodes: Vec<NodeId>,
        certain: bool,
    ) -> Result<Open, FindError> {
        let knows_own = search.results[place].iter().any(|record| record.publisher == self.local);
        if nodes.is_empty() && !knows_own {
            return Err(FindError::NoPeers);
        }
        self.pool.suspects_last(&mut nodes);
        Ok(Open { place, key, nodes, asked: 0, failed: 0, reading: Reading::default(), certain, knows_own })
    }

    /// Asks the next replica of every open key; returns the keys that are still open.
    async fn find_pass(self: &Arc<Self>, open: Vec<Open>, search: &mut Search) -> Vec<Open> {
        let mut still = Vec::new();
        let mut by_peer: BTreeMap<NodeId, Vec<Open>> = BTreeMap::new();
        for mut key in open {
            if !search.failed.is_empty() {
                key.nodes[key.asked..].sort_by_key(|node| search.failed.contains(node));
            }
            match key.nodes.get(key.asked) {
                Some(node) => by_peer.entry(*node).or_default().push(key),
                None => search.close(&key, search.last),
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
                return still;
            }
            self.fly(flight, search, &mut still).await;
        }
    }

    async fn fly(
        self: &Arc<Self>,
        mut flight: Vec<(NodeId, Vec<Open>)>,
        search: &mut Search,
        still: &mut Vec<Open>,
    ) {
        let op = FindOp::new();
        for ((peer, keys), i) in flight.iter().zip(0_u16..) {
            let asks = keys.iter().map(|open| (open.key, open.reading.cursor)).collect();
            // Half of the time is kept for the next replica.
            let until = search.deadline.min(runtime::after(self.config.request_timeout / 2));
            self.ask(&op, *peer, i, search.kind, asks, until);
        }
        for _ in 0..flight.len() {
            let answered = op.next().await;
            let (peer, keys) = &mut flight[usize::from(answered.peer)];
            let keys = std::mem::take(keys);
            match answered.result {
                Ok(answers) => self.take(keys, answers, search, still),
                Err(error) => {
                    search.last = error;
                    search.failed.insert(*peer);
                    still.extend(keys.into_iter().map(|open| open.turn(true)));
                }
            }
        }
    }

    /// Takes the answers of one frame. A key without room is asked for again only if the frame has
    /// brought another one on, so that every frame leaves less to ask for.
    fn take(&self, keys: Vec<Open>, answers: Answers, search: &mut Search, still: &mut Vec<Open>) {
        let mut no_room = Vec::new();
        let mut progress = false;
        for (mut open, mut page) in keys.into_iter().zip(answers) {
            self.keep_proven(open.key, search.kind, &mut page.records);
            let step = open.reading.turn(&mut page);
            page.records.retain(|record| !open.knows_own || record.publisher != self.local);
            merge(&mut search.results[open.place], page.records);
            progress |= matches!(step, Step::Done | Step::More);
            match step {
                Step::Done if open.reading.found => {}
                Step::Done => still.push(open.turn(false)),
                Step::More => still.push(open),
                Step::NoRoom => no_room.push(open),
                Step::Wrong => {
                    search.last = RequestError::Malformed;
                    still.push(open.turn(true));
                }
            }
        }
        if progress {
            still.append(&mut no_room);
        } else if !no_room.is_empty() {
            search.last = RequestError::Malformed;
            still.extend(no_room.into_iter().map(|open| open.turn(true)));
        }
    }
}
