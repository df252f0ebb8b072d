//! Which nodes should hold a key: from what is known of its region, else by a lookup.
//!
//! A key in a region that is known costs no lookup. Around any other the network is searched, and what is
//! around it is surveyed in the background, so that the next key there needs no search.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::{DhtService, lock};
use crate::dht::lookup::{Looks, Outcome};
use crate::dht::members::{Cover, ReplicaSet};
use crate::dht::region::Survey;
use crate::id::Key;
use crate::runtime;

/// Surveys of a node at a time.
pub(super) const SURVEYS_MAX: usize = 2;
/// Lookups for replicas of a node at a time, and keys of one call that wait for theirs.
pub(super) const LOOKUPS_AT_ONCE: usize = 64;

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

    /// The replicas of `key` as they are found now. Cancel safe.
    pub(super) async fn looked_up(self: &Arc<Self>, key: Key) -> (ReplicaSet, Outcome) {
        let outcome = self.look_closely(key).await;
        let set = lock(&self.members).found(runtime::now(), &outcome);
        (set, outcome)
    }

    /// The replicas of `key`, looked up if its region is not known. Cancel safe.
    pub(super) async fn replicas(self: &Arc<Self>, key: Key) -> (ReplicaSet, Option<Outcome>) {
        if let Some(set) = self.known(runtime::now(), &key) {
            return (set, None);
        }
        // Many callers may find a region unknown at once. Those who wait here find it surveyed.
        let turn = self.turns.acquire().await;
        if let Some(set) = self.known(runtime::now(), &key) {
            return (set, None);
        }
        let (set, outcome) = self.looked_up(key).await;
        drop(turn);
        self.survey(key, Some(outcome.clone()));
        (set, Some(outcome))
    }

    /// The replicas of many keys, each with the place of its key, in any order; as long as somebody takes
    /// them, at most [`LOOKUPS_AT_ONCE`] keys are looked up at a time.
    pub(super) fn replicas_of(self: &Arc<Self>, keys: Vec<Key>) -> mpsc::Receiver<(usize, ReplicaSet)> {
        let workers = keys.len().min(LOOKUPS_AT_ONCE);
        let (found, receiver) = mpsc::channel(LOOKUPS_AT_ONCE);
        let next = Arc::new(std::sync::Mutex::new(keys.into_iter().enumerate()));
        for _ in 0..workers {
            let (service, next, found) = (Arc::clone(self), Arc::clone(&next), found.clone());
            self.tasks.spawn(async move {
                loop {
                    let Some((place, key)) = lock(&next).next() else { return };
                    let (set, _) = tokio::select! {
                        found = service.replicas(key) => found,
                        () = found.closed() => return,
                    };
                    if found.send((place, set)).await.is_err() {
                        return;
                    }
                }
            });
        }
        receiver
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
                    None => service.look_closely(target).await,
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
    async fn look_closely(self: &Arc<Self>, target: Key) -> Outcome {
        let deadline = runtime::after(self.config.query_timeout);
        let mut looks = Looks::new(self.lookup(target, deadline).await);
        while looks.may_lack() && runtime::now() < deadline {
            let outcome = self.look_again(target, looks.nodes(), deadline).await;
            looks.take(outcome);
        }
        lock(&self.members).filled(looks.outcome())
    }
}
