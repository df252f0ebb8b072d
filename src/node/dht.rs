//! The handle of the DHT and its operations, which take their options before they are awaited.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Inner;
use crate::dht::ack::Ack;
use crate::dht::read::Level;
use crate::dht::record::TTL_MAX;
use crate::id::{Key, NodeId};
use crate::service::dht::{
    DhtService, FindError, FindOptions, QueryError, Receipt, Record, StoreError, StoreOptions,
};
use crate::wire::RecordKind;

type Operation<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Stores and finds records.
#[derive(Debug, Clone, Copy)]
pub struct Dht<'a> {
    inner: &'a Inner,
}

impl<'a> Dht<'a> {
    pub(super) fn new(inner: &'a Inner) -> Self {
        Self { inner }
    }

    /// Stores `value` under `key` on the k nodes of the mesh that are closest to it.
    ///
    /// Each node has one record under a key: a later store replaces it, also at the replicas. Nobody
    /// else's record is touched.
    ///
    /// # Errors
    ///
    /// [`StoreError`], whose receipt tells what is known of each replica. A timeout is not a failure: the
    /// record may be stored.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have stored the record.
    pub fn store(&self, key: Key, value: impl Into<Bytes>) -> Store {
        Store { dht: Arc::clone(&self.inner.dht), key, value: value.into(), options: self.options() }
    }

    /// Removes this node's record under `key`, at the replicas as well: an older copy of it that some replica
    /// missed does not come back. Records of others stay.
    ///
    /// What it removes may be of an earlier process, or have been replaced by what ended sooner, so the removal
    /// is remembered for [`TTL_MAX`] unless a shorter [`ttl`](Remove::ttl) is chosen.
    ///
    /// # Errors
    ///
    /// As of [`store`](Self::store).
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have removed the record.
    pub fn remove(&self, key: Key) -> Remove {
        let options = StoreOptions { ttl: TTL_MAX, removes: true, ..self.options() };
        Remove { dht: Arc::clone(&self.inner.dht), key, options }
    }

    /// Stores many records with one frame per peer; one receipt per record, in their order.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when nothing could be sent. Whether a record reached its level is said by its
    /// receipt ([`Receipt::is_met`]).
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have stored some of the records.
    pub fn store_many<V: Into<Bytes>>(&self, items: impl IntoIterator<Item = (Key, V)>) -> StoreMany {
        let items = items.into_iter().map(|(key, value)| (key, value.into())).collect();
        StoreMany { dht: Arc::clone(&self.inner.dht), items, options: self.options() }
    }

    /// All live records under `key`, one per publisher, in the order of the publishers' ids.
    ///
    /// None is an answer: every one of the k closest nodes that are alive has said that it holds nothing.
    ///
    /// # Errors
    ///
    /// [`FindError`] when nothing was found and not everybody could be asked.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn find_value(&self, key: Key) -> FindValue {
        FindValue { dht: Arc::clone(&self.inner.dht), key, options: self.find_options() }
    }

    /// All live records under each of `keys`, in their order, as [`find_value`](Self::find_value) finds them.
    /// Values are asked for with one frame per peer, entries and quorums key by key.
    ///
    /// # Errors
    ///
    /// [`FindError`] when nothing was found under a key and not everybody could be asked for it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn find_many(&self, keys: impl IntoIterator<Item = Key>) -> FindMany {
        let keys = keys.into_iter().collect();
        FindMany { dht: Arc::clone(&self.inner.dht), keys, options: self.find_options() }
    }

    /// What `peer` itself holds under `key`: one peer, one question, whatever this node holds.
    ///
    /// # Errors
    ///
    /// [`QueryError`] when the peer could not be reached or did not answer in time.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn query_peer(&self, peer: NodeId, key: Key) -> QueryPeer {
        let timeout = self.inner.config.request_timeout;
        QueryPeer { dht: Arc::clone(&self.inner.dht), peer, key, kind: RecordKind::VALUE, timeout }
    }

    fn find_options(&self) -> FindOptions {
        let timeout = self.inner.config.query_timeout;
        FindOptions { kind: RecordKind::VALUE, from: None, level: None, timeout }
    }

    fn options(&self) -> StoreOptions {
        let config = &self.inner.config;
        StoreOptions {
            ttl: config.ttl,
            ack: Ack::default(),
            timeout: config.request_timeout,
            fresh: false,
            kind: RecordKind::VALUE,
            signed: false,
            removes: false,
        }
    }
}

macro_rules! store_options {
    () => {
        /// How long the record lives, 1 ms to [`TTL_MAX`](crate::dht::record::TTL_MAX); by default
        /// [`Config::ttl`](super::Config::ttl).
        pub fn ttl(mut self, ttl: Duration) -> Self {
            self.options.ttl = ttl;
            self
        }

        /// What is stored; by default a value. There is one record of each kind per publisher under a key.
        /// Entries ([`PROVIDER`](RecordKind::PROVIDER), [`SUBSCRIPTION`](RecordKind::SUBSCRIPTION)) are
        /// always signed.
        pub fn kind(mut self, kind: RecordKind) -> Self {
            self.options.kind = kind;
            self
        }

        /// Signs the record, so that whoever reads it can verify who wrote it, and whoever holds it can pass
        /// it on. A publisher that has signed under a key goes on signing: a copy with a proof stands
        /// against one without.
        pub fn signed(mut self) -> Self {
            self.options.signed = true;
            self
        }

        /// How many replicas must acknowledge; by default [`Ack::Quorum`].
        pub fn ack(mut self, ack: Ack) -> Self {
            self.options.ack = ack;
            self
        }

        /// How long each replica has to answer; by default
        /// [`Config::request_timeout`](super::Config::request_timeout). A search for the replicas of a key has
        /// [`Config::query_timeout`](super::Config::query_timeout) besides.
        pub fn timeout(mut self, timeout: Duration) -> Self {
            self.options.timeout = timeout;
            self
        }
    };
}

macro_rules! find_options {
    ($timeout:literal) => {
        #[doc = $timeout]
        /// [`Config::query_timeout`](super::Config::query_timeout). At most half of it goes to the search for
        /// the replicas, where more than one of them is to answer.
        pub fn timeout(mut self, timeout: Duration) -> Self {
            self.options.timeout = timeout;
            self
        }

        /// What is looked for; by default values. Of entries, the answers of at least
        /// [`MERGED`](crate::dht::read::MERGED) replicas are merged, where there are as many.
        pub fn kind(mut self, kind: RecordKind) -> Self {
            self.options.kind = kind;
            self
        }

        /// Asks as many replicas as a quorum takes, returns the newest record of each publisher, and mends
        /// replicas that have an older one or none. What was stored with [`Ack::Quorum`] is found, and what was
        /// removed with it is not, as long as more than half of the replicas live.
        ///
        /// A replica takes a copy without proof only from its publisher or from a node close to the key, so
        /// other readers mend signed records only.
        pub fn quorum(mut self) -> Self {
            self.options.level = Some(Level::Quorum);
            self
        }
    };
}

/// A store of one record; await it.
#[derive(Debug)]
#[must_use = "a store does nothing until it is awaited"]
pub struct Store {
    dht: Arc<DhtService>,
    key: Key,
    value: Bytes,
    options: StoreOptions,
}

impl Store {
    store_options!();

    /// Searches for the replicas although all nodes around the key are known.
    pub fn fresh(mut self) -> Self {
        self.options.fresh = true;
        self
    }
}

impl IntoFuture for Store {
    type Output = Result<Receipt, StoreError>;
    type IntoFuture = Operation<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.dht.store(self.key, self.value, self.options).await })
    }
}

/// The removal of a record; await it.
#[derive(Debug)]
#[must_use = "a removal does nothing until it is awaited"]
pub struct Remove {
    dht: Arc<DhtService>,
    key: Key,
    options: StoreOptions,
}

impl Remove {
    store_options!();
}

impl IntoFuture for Remove {
    type Output = Result<Receipt, StoreError>;
    type IntoFuture = Operation<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.dht.store(self.key, Bytes::new(), self.options).await })
    }
}

/// A store of many records; await it.
#[derive(Debug)]
#[must_use = "a store does nothing until it is awaited"]
pub struct StoreMany {
    dht: Arc<DhtService>,
    items: Vec<(Key, Bytes)>,
    options: StoreOptions,
}

impl StoreMany {
    store_options!();
}

impl IntoFuture for StoreMany {
    type Output = Result<Vec<Receipt>, StoreError>;
    type IntoFuture = Operation<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.dht.store_many(self.items, self.options).await })
    }
}

/// A find of the records under one key; await it.
#[derive(Debug)]
#[must_use = "a find does nothing until it is awaited"]
pub struct FindValue {
    dht: Arc<DhtService>,
    key: Key,
    options: FindOptions,
}

impl FindValue {
    find_options!("How long it may take in all; by default");

    /// Only the record of this publisher.
    pub fn from(mut self, publisher: NodeId) -> Self {
        self.options.from = Some(publisher);
        self
    }
}

impl IntoFuture for FindValue {
    type Output = Result<Vec<Record>, FindError>;
    type IntoFuture = Operation<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.dht.find_value(self.key, self.options).await })
    }
}

/// A find of the records under many keys; await it.
#[derive(Debug)]
#[must_use = "a find does nothing until it is awaited"]
pub struct FindMany {
    dht: Arc<DhtService>,
    keys: Vec<Key>,
    options: FindOptions,
}

impl FindMany {
    find_options!("How long each few thousand keys may take; by default");
}

impl IntoFuture for FindMany {
    type Output = Result<Vec<Vec<Record>>, FindError>;
    type IntoFuture = Operation<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.dht.find_many(self.keys, self.options).await })
    }
}

/// A question to one peer; await it.
#[derive(Debug)]
#[must_use = "a query does nothing until it is awaited"]
pub struct QueryPeer {
    dht: Arc<DhtService>,
    peer: NodeId,
    key: Key,
    kind: RecordKind,
    timeout: Duration,
}

impl QueryPeer {
    /// How long the peer has to answer; by default [`Config::request_timeout`](super::Config::request_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What is asked for; by default values.
    pub fn kind(mut self, kind: RecordKind) -> Self {
        self.kind = kind;
        self
    }
}

impl IntoFuture for QueryPeer {
    type Output = Result<Vec<Record>, QueryError>;
    type IntoFuture = Operation<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.dht.query_peer(self.peer, self.key, self.kind, self.timeout).await })
    }
}
