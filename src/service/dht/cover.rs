//! Which nodes should hold a key: from what is known of its region, else by a lookup.
//!
//! A key in a region that is known costs no lookup. Around any other the network is searched, and what is
//! around it is surveyed in the background, so that the next key there needs no search.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::{DhtService, lock};
use crate::dht::lookup::{Looks, Outcome};
use crate::dht::members::{Cover, ReplicaSet};
use crate::dht::region::Survey;
use crate::id::{Key, NodeId};
use crate::runtime;

/// Surveys of a node at a time.
pub(super) const SURVEYS_MAX: usize = 2;
/// Lookups for replicas of a node at a time, and keys of one call that wait for theirs.
pub(super) const LOOKUPS_AT_ONCE: usize = 64;

/// Who should hold a key, and what the search for them has come to if there was one.
pub(super) type Replicas = (ReplicaSet, Option<Outcome>);

/// Half of the time until `deadline`: those who are to be asked must not be searched for until nothing is left
/// to ask them in.
pub(super) fn half_way(deadline: Instant) -> Instant {
    let now = runtime::now();
    now + deadline.saturating_duration_since(now) / 2
}

impl DhtService {
    /// The replicas of `key`, if its region is known; one that ages is looked at again meanwhile.
    pub(super) fn known(self: &Arc<Self>, now: Instant, key: &Key) -> Option<ReplicaSet> {
        let cover = lock(&self.members).replicas(now, key);
        match cover {
            Cover::Known { set, stale } => {
                if stale {
                    self.survey(*key, None);
                }
                Some(set)
            }
            Cover::Unknown => None,
        }
    }

    /// The replicas of `key` as they are found now, at most until `deadline`. Cancel safe.
    pub(super) async fn looked_up(self: &Arc<Self>, key: Key, deadline: Instant) -> (ReplicaSet, Outcome) {
        let outcome = self.look_closely(key, deadline).await;
        let set = lock(&self.members).found(runtime::now(), &outcome);
        (set, outcome)
    }

    /// The replicas of `key`, looked up until `deadline` if its region is not known; nothing if no lookup
    /// could begin before that. Cancel safe.
    pub(super) async fn replicas(self: &Arc<Self>, key: Key, deadline: Instant) -> Option<Replicas> {
        match self.known(runtime::now(), &key) {
            Some(set) => Some((set, None)),
            // On the heap: what needs no search keeps no room for one in its own future.
            None => Box::pin(self.searched_replicas(key, deadline)).await,
        }
    }

    /// As [`replicas`](Self::replicas) of a key whose region was not known a moment ago.
    async fn searched_replicas(self: &Arc<Self>, key: Key, deadline: Instant) -> Option<Replicas> {
        // Many callers may find a region unknown at once. Those who wait here find it surveyed.
        let turn = tokio::time::timeout_at(deadline.into(), self.turns.acquire()).await.ok()?;
        let now = runtime::now();
        if let Some(set) = self.known(now, &key) {
            return Some((set, None));
        }
        if now >= deadline {
            return None;
        }
        let (set, outcome) = self.looked_up(key, deadline).await;
        drop(turn);
        self.survey(key, Some(outcome.clone()));
        Some((set, Some(outcome)))
    }

    /// The members closest to `key`, for want of anything better.
    pub(super) fn nearest(&self, key: &Key) -> Vec<NodeId> {
        let mut near = Vec::new();
        lock(&self.members).closest_answering(key, self.config.k, &mut near);
        near
    }

    /// Whether a search has surely found the nodes that should hold its target: where there are fewer than k,
    /// one that did not answer is missed.
    pub(super) fn is_certain(&self, outcome: &Outcome) -> bool {
        outcome.complete && (outcome.failed == 0 || outcome.nodes.len() >= self.config.k)
    }

    /// What [`replicas`](Self::replicas) says of many keys, each with the place of its key, in any order.
    pub(super) fn replicas_of(
        self: &Arc<Self>,
        keys: Vec<Key>,
        deadline: Instant,
    ) -> mpsc::Receiver<(usize, Option<Replicas>)> {
        self.each(keys, move |service, key| async move { service.replicas(key, deadline).await })
    }

    /// What `work` comes to for each of many keys, with the place of its key, in any order; as long as
    /// somebody takes it, [`LOOKUPS_AT_ONCE`] keys are worked on at a time.
    pub(super) fn each<T, F>(
        self: &Arc<Self>,
        keys: Vec<Key>,
        work: impl Fn(Arc<Self>, Key) -> F + Clone + Send + 'static,
    ) -> mpsc::Receiver<(usize, T)>
    where
        F: Future<Output = T> + Send,
        T: Send + 'static,
    {
        let workers = keys.len().min(LOOKUPS_AT_ONCE);
        let (found, receiver) = mpsc::channel(LOOKUPS_AT_ONCE);
        let next = Arc::new(std::sync::Mutex::new(keys.into_iter().enumerate()));
        for _ in 0..workers {
            let (service, work) = (Arc::clone(self), work.clone());
            let (next, found) = (Arc::clone(&next), found.clone());
            self.tasks.spawn(async move {
                loop {
                    let Some((place, key)) = lock(&next).next() else { return };
                    let result = tokio::select! {
                        result = work(Arc::clone(&service), key) => result,
                        () = found.closed() => return,
                    };
                    if found.send((place, result)).await.is_err() {
                        return;
                    }
                }
            });
        }
        receiver
    }

    /// When a lookup ends that begins now.
    pub(super) fn lookup_deadline(&self) -> Instant {
        runtime::after(self.config.query_timeout)
    }

    /// Looks at what is around `key`, in the background, unless enough of that is going on; `first` is what
    /// a lookup of it has just come to.
    pub(super) fn survey(self: &Arc<Self>, key: Key, first: Option<Outcome>) {
        let Ok(permit) = Arc::clone(&self.surveys).try_acquire_owned() else { return };
        let service = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut survey = Survey::new(key, service.local, service.config.k);
            let mut first = first.filter(|outcome| outcome.complete && outcome.failed == 0);
            while let Some(target) = survey.next() {
                let mut outcome = match first.take() {
                    Some(outcome) => outcome,
                    None => service.look_closely(target, service.lookup_deadline()).await,
                };
                outcome.nodes.sort_by_cached_key(|node| node.distance(&target));
                survey.learn(&outcome);
            }
            let now = runtime::now();
            if let Some(region) = survey.finish(now) {
                lock(&service.members).learn(now, region);
            }
            drop(permit);
        });
    }

    /// Looks up `target` where nobody should be missing.
    async fn look_closely(self: &Arc<Self>, target: Key, deadline: Instant) -> Outcome {
        let deadline = deadline.min(self.lookup_deadline());
        let mut looks = Looks::new(self.lookup(target, deadline).await, self.config.k);
        while looks.may_lack() && runtime::now() < deadline {
            let outcome = self.look_again(target, looks.nodes(), deadline).await;
            looks.take(outcome);
        }
        lock(&self.members).filled(looks.outcome())
    }
}
