//! Offering a service: its handler here, its entry in the DHT.
//!
//! The entry is stored again before it ends, for as long as its guard lives. Whoever withdraws it holds
//! the offer's turn, so that no refresh that is under way outlasts the removal.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::error::AdvertiseRefusal;
use super::registry::{Handler, Offer};
use super::{RpcService, lock};
use crate::dht::ack::Ack;
use crate::dht::record::TTL_MAX;
use crate::rpc::name::NameError;
use crate::rpc::refresh::Refresh;
use crate::runtime;
use crate::service::dht::{Receipt, StoreError, StoreOptions};
use crate::wire::{METADATA_MAX, ProviderEntry, RecordKind};

/// How long each replica has to take an entry.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// How much longer than an entry its removal is remembered.
const REMOVAL_FACTOR: u32 = 2;

/// How a service is offered.
#[derive(Debug, Clone)]
pub(crate) struct AdvertiseOptions {
    pub(crate) ttl: Duration,
    pub(crate) metadata: Vec<u8>,
    /// Handlers that may run at a time.
    pub(crate) running: usize,
}

/// Why a service cannot be offered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdvertiseError {
    /// This cannot be the name of a service.
    #[error(transparent)]
    Name(#[from] NameError),
    /// This node offers a service of this name already.
    #[error("the node offers a service of this name already")]
    Taken,
    /// This node offers as many services as it may.
    #[error("the node offers as many services as it may")]
    Full,
    /// The metadata is larger than [`METADATA_MAX`].
    #[error("metadata of {0} bytes is larger than {METADATA_MAX}")]
    Metadata(usize),
    /// The time to live is less than a second or more than [`TTL_MAX`].
    #[error("a time to live of {0:?} is not between 1 s and {TTL_MAX:?}")]
    Ttl(Duration),
    /// This node is shutting down.
    #[error("this node is shutting down")]
    Shutdown,
}

impl From<AdvertiseRefusal> for AdvertiseError {
    fn from(refusal: AdvertiseRefusal) -> Self {
        match refusal {
            AdvertiseRefusal::Taken => Self::Taken,
            AdvertiseRefusal::Full => Self::Full,
        }
    }
}

/// What the last store of an entry has come to.
type Published = Mutex<Option<Result<Receipt, StoreError>>>;

/// A service that this node offers, until this is dropped or [withdrawn](Self::withdraw).
///
/// Its entry in the DHT is refreshed meanwhile; a refresh that fails is repeated until one succeeds.
#[derive(Debug)]
#[must_use = "a service is withdrawn when its guard is dropped"]
pub struct Advertisement {
    rpc: Weak<RpcService>,
    offer: Arc<Offer>,
    published: Arc<Published>,
}

impl Advertisement {
    /// The name of the service.
    pub fn name(&self) -> &str {
        &self.offer.name
    }

    /// Which replicas took the entry when it was last stored, or why too few did. Without an entry the
    /// service can be called by those who know this node, and is not found by others.
    ///
    /// # Errors
    ///
    /// The [`StoreError`] of the last store; the next one is under way or due.
    pub fn published(&self) -> Result<Receipt, StoreError> {
        lock(&self.published).clone().unwrap_or(Err(StoreError::Shutdown))
    }

    /// Takes the service away: from now on nothing is run, and when this returns without an error the
    /// entry is removed from a quorum of its replicas.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when too few replicas know of the removal; the entry then ends with its ttl.
    ///
    /// # Cancel safety
    ///
    /// The service is taken away at once; the removal goes on.
    pub async fn withdraw(self) -> Result<(), StoreError> {
        let Some(rpc) = self.rpc.upgrade() else { return Ok(()) };
        let (told, heard) = tokio::sync::oneshot::channel();
        let offer = Arc::clone(&self.offer);
        rpc.take_back(&offer);
        let tasks = rpc.tasks.clone();
        tasks.spawn(async move {
            let _ = told.send(rpc.remove_entry(&offer).await);
        });
        heard.await.unwrap_or(Err(StoreError::Shutdown))
    }
}

impl Drop for Advertisement {
    fn drop(&mut self) {
        let Some(rpc) = self.rpc.upgrade() else { return };
        if self.offer.ended.is_cancelled() {
            return;
        }
        rpc.take_back(&self.offer);
        let offer = Arc::clone(&self.offer);
        let tasks = rpc.tasks.clone();
        tasks.spawn(async move { drop(rpc.remove_entry(&offer).await) });
    }
}

impl RpcService {
    /// Offers a service and stores its entry. The service is there at once; when the entry could not be
    /// stored, the guard says so, and it is tried again.
    ///
    /// Dropped, the service is withdrawn.
    pub(crate) async fn advertise(
        self: &Arc<Self>,
        name: &str,
        handler: Handler,
        options: AdvertiseOptions,
    ) -> Result<Advertisement, AdvertiseError> {
        crate::rpc::name::check(name)?;
        let AdvertiseOptions { ttl, metadata, running } = options;
        if metadata.len() > METADATA_MAX {
            return Err(AdvertiseError::Metadata(metadata.len()));
        }
        if ttl < Duration::from_secs(1) || ttl > TTL_MAX / REMOVAL_FACTOR {
            return Err(AdvertiseError::Ttl(ttl));
        }
        if self.is_closing() {
            return Err(AdvertiseError::Shutdown);
        }
        let offer = Arc::new(Offer::new(name, handler, metadata, ttl, running, self.registry.turn(name)));
        self.registry.add(&offer, self.config.services)?;
        if self.is_closing() {
            // The shutdown may have looked before it was there.
            self.registry.remove(&offer);
            self.registry.left(&offer);
            return Err(AdvertiseError::Shutdown);
        }
        let published = Arc::new(Published::default());
        let advertisement = Advertisement {
            rpc: Arc::downgrade(self),
            offer: Arc::clone(&offer),
            published: Arc::clone(&published),
        };
        let mut refresh = Refresh::new(ttl);
        let next = self.publish(&offer, &published, &mut refresh).await;
        self.tasks.spawn(keep(Arc::downgrade(self), offer, published, refresh, next));
        Ok(advertisement)
    }

    /// Stores the entry; returns when it is to be stored again.
    async fn publish(
        self: &Arc<Self>,
        offer: &Offer,
        published: &Published,
        refresh: &mut Refresh,
    ) -> Instant {
        let result = self.store_entry(offer).await;
        let draw = self.draw();
        let now = runtime::now();
        let next = match &result {
            Ok(_) => refresh.after_success(now, draw),
            Err(error) => {
                tracing::debug!(service = ?offer.name, %error, "the entry was not stored");
                refresh.after_failure(now, draw)
            }
        };
        *lock(published) = Some(result);
        next
    }

    async fn store_entry(self: &Arc<Self>, offer: &Offer) -> Result<Receipt, StoreError> {
        let _turn = offer.turn.lock().await;
        if offer.ended.is_cancelled() {
            return Err(StoreError::Shutdown);
        }
        let entry = ProviderEntry { endpoints: self.endpoints.clone(), metadata: offer.metadata.clone() };
        let value = entry.encode().map_err(|_| StoreError::TooLarge { bytes: offer.metadata.len() })?;
        self.dht.store(offer.key, Bytes::from(value), entry_options(offer.ttl, false)).await
    }

    /// Runs nothing more for `offer`, and stores its entry no more.
    fn take_back(&self, offer: &Arc<Offer>) {
        offer.ended.cancel();
        self.registry.remove(offer);
    }

    async fn remove_entry(self: &Arc<Self>, offer: &Arc<Offer>) -> Result<(), StoreError> {
        let removed = self.store_removal(offer).await;
        if !matches!(removed, Err(StoreError::Shutdown)) {
            self.registry.left(offer);
        }
        removed
    }

    async fn store_removal(self: &Arc<Self>, offer: &Offer) -> Result<(), StoreError> {
        let _turn = offer.turn.lock().await;
        if self.registry.get(&offer.name).is_some() {
            // Who offers the name by now stores another entry over this one.
            return Ok(());
        }
        let options = entry_options(offer.ttl * REMOVAL_FACTOR, true);
        self.dht.store(offer.key, Bytes::new(), options).await.map(drop)
    }

    /// Takes no more calls, makes none, and withdraws what this node offers, for at most `patience`.
    pub(crate) async fn shutdown(self: &Arc<Self>, patience: Duration) {
        self.close();
        let mut by_ttl: BTreeMap<Duration, Vec<Arc<Offer>>> = BTreeMap::new();
        for offer in self.registry.clear() {
            offer.ended.cancel();
            by_ttl.entry(offer.ttl).or_default().push(offer);
        }
        let withdrawn = async {
            for (ttl, offers) in by_ttl {
                let mut turns = Vec::new();
                for offer in &offers {
                    turns.push(offer.turn.lock().await);
                }
                let items = offers.iter().map(|offer| (offer.key, Bytes::new())).collect();
                let options = entry_options(ttl * REMOVAL_FACTOR, true);
                if let Err(error) = self.dht.store_many(items, options).await {
                    tracing::debug!(%error, "the entries were not removed");
                }
            }
        };
        let _ = tokio::time::timeout(patience, withdrawn).await;
    }
}

fn entry_options(ttl: Duration, removes: bool) -> StoreOptions {
    StoreOptions {
        ttl,
        ack: Ack::Quorum,
        timeout: STORE_TIMEOUT,
        fresh: false,
        kind: RecordKind::PROVIDER,
        signed: true,
        removes,
    }
}

/// Stores the entry of `offer` again and again, until it is withdrawn or the node is gone.
async fn keep(
    rpc: Weak<RpcService>,
    offer: Arc<Offer>,
    published: Arc<Published>,
    mut refresh: Refresh,
    mut next: Instant,
) {
    loop {
        tokio::select! {
            biased;
            () = offer.ended.cancelled() => return,
            () = tokio::time::sleep_until(next.into()) => {}
        }
        let Some(rpc) = rpc.upgrade() else { return };
        if offer.ended.is_cancelled() {
            return;
        }
        next = rpc.publish(&offer, &published, &mut refresh).await;
    }
}
