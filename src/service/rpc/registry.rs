//! What this node offers to others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::error::{AdvertiseRefusal, Fault};
use crate::id::{Key, NodeId};
use crate::runtime;

/// A call as its handler sees it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request {
    /// The node that calls, as its certificate or the signature of its envelope proves.
    pub caller: NodeId,
    /// What it has sent.
    pub args: Bytes,
    pub(super) deadline: Instant,
}

impl Request {
    /// How long the caller still waits; after that the handler is stopped.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(runtime::now())
    }
}

/// A handler at work.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<Bytes, Fault>> + Send>>;
/// What is run for a call.
pub(crate) type Handler = Box<dyn Fn(Request) -> Work + Send + Sync>;

/// A service of this node.
pub(super) struct Offer {
    pub(super) name: Box<str>,
    pub(super) key: Key,
    pub(super) handler: Handler,
    pub(super) metadata: Vec<u8>,
    pub(super) ttl: Duration,
    /// Handlers that may run at a time, and those that do.
    limit: usize,
    running: AtomicUsize,
    /// Held while its entry is stored or removed, also by whoever offered this name before it.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    /// Whether its entry may not be stored any more.
    pub(super) ended: CancellationToken,
}

/// The room of one handler, as long as it ends where it began.
#[derive(Debug)]
pub(super) struct Entered<'a> {
    offer: &'a Arc<Offer>,
    total: &'a Arc<AtomicUsize>,
}

/// The room of one handler that goes on elsewhere.
#[derive(Debug)]
pub(super) struct Turn {
    offer: Arc<Offer>,
    total: Arc<AtomicUsize>,
}

impl Entered<'_> {
    pub(super) fn stay(self) -> Turn {
        let turn = Turn { offer: Arc::clone(self.offer), total: Arc::clone(self.total) };
        // It is given back by the other.
        std::mem::forget(self);
        turn
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        leave(self.offer, self.total);
    }
}

fn leave(offer: &Offer, total: &AtomicUsize) {
    offer.running.fetch_sub(1, Ordering::AcqRel);
    total.fetch_sub(1, Ordering::AcqRel);
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        leave(&self.offer, &self.total);
    }
}

impl Offer {
    pub(super) fn new(
        name: &str,
        handler: Handler,
        metadata: Vec<u8>,
        ttl: Duration,
        limit: usize,
        turn: Arc<tokio::sync::Mutex<()>>,
    ) -> Self {
        Self {
            name: name.into(),
            key: Key::of_name(name),
            handler,
            metadata,
            ttl,
            limit,
            running: AtomicUsize::new(0),
            turn,
            ended: CancellationToken::new(),
        }
    }
}

/// The services of this node, by name.
#[derive(Debug, Default)]
pub(super) struct Registry {
    offers: RwLock<HashMap<Box<str>, Arc<Offer>>>,
    /// Changes with every change of `offers`.
    version: AtomicU64,
    running: Arc<AtomicUsize>,
    /// Those taken away whose entry is yet to be removed.
    leaving: Mutex<Vec<Arc<Offer>>>,
    /// Who may store or remove the entry of a name, by the names whose entries somebody cares for.
    turns: Mutex<HashMap<Box<str>, Weak<tokio::sync::Mutex<()>>>>,
}

/// Names for which nobody cares any more are forgotten when there are so many names, twice, four times and
/// so on as many.
const TURNS_SWEPT: usize = 64;

impl Registry {
    /// The turn of `name`, which those who offer it one after another share.
    pub(super) fn turn(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = super::lock(&self.turns);
        if let Some(turn) = turns.get(name).and_then(Weak::upgrade) {
            return turn;
        }
        if turns.len() >= TURNS_SWEPT && turns.len().is_power_of_two() {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::default();
        turns.insert(name.into(), Arc::downgrade(&turn));
        turn
    }

    pub(super) fn len(&self) -> usize {
        self.offers.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    /// Changes whenever a service is added or taken away.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Offer>> {
        self.offers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Adds `offer`, unless its name is taken or there are `max` already.
    pub(super) fn add(&self, offer: &Arc<Offer>, max: usize) -> Result<(), AdvertiseRefusal> {
        let mut offers = self.offers.write().unwrap_or_else(PoisonError::into_inner);
        if offers.len() >= max {
            return Err(AdvertiseRefusal::Full);
        }
        match offers.entry(offer.name.clone()) {
            Entry::Occupied(_) => return Err(AdvertiseRefusal::Taken),
            Entry::Vacant(place) => place.insert(Arc::clone(offer)),
        };
        drop(offers);
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Takes `offer` away, and not another one of its name; until [`left`](Self::left) it is remembered that
    /// its entry is there.
    pub(super) fn remove(&self, offer: &Arc<Offer>) {
        super::lock(&self.leaving).push(Arc::clone(offer));
        let mut offers = self.offers.write().unwrap_or_else(PoisonError::into_inner);
        if offers.get(&offer.name).is_some_and(|known| Arc::ptr_eq(known, offer)) {
            offers.remove(&offer.name);
        }
        drop(offers);
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// The entry of `offer` is there no more, or nothing more can be done about it.
    pub(super) fn left(&self, offer: &Arc<Offer>) {
        super::lock(&self.leaving).retain(|leaving| !Arc::ptr_eq(leaving, offer));
    }

    /// Takes everything away; returns it with what was taken away before and has an entry still, one of each
    /// name.
    pub(super) fn clear(&self) -> Vec<Arc<Offer>> {
        let mut offers = std::mem::take(&mut *self.offers.write().unwrap_or_else(PoisonError::into_inner));
        self.version.fetch_add(1, Ordering::AcqRel);
        for offer in super::lock(&self.leaving).drain(..) {
            offers.entry(offer.name.clone()).or_insert(offer);
        }
        offers.into_values().collect()
    }

    /// Room for a handler of `offer`, of `max` that all services have together.
    pub(super) fn enter<'a>(&'a self, offer: &'a Arc<Offer>, max: usize) -> Option<Entered<'a>> {
        let total = self.running.fetch_add(1, Ordering::AcqRel);
        let mine = offer.running.fetch_add(1, Ordering::AcqRel);
        let entered = Entered { offer, total: &self.running };
        (total < max && mine < offer.limit).then_some(entered)
    }
}
