//! The handle of the DHT and its operations, which take their options before they are awaited.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Inner;
use crate::dht::ack::Ack;
use crate::id::{Key, NodeId};
use crate::service::dht::{DhtService, FindError, QueryError, Receipt, Record, StoreError, StoreOptions};

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
        let timeout = self.inner.config.query_timeout;
        FindValue { dht: Arc::clone(&self.inner.dht), key, from: None, timeout }
    }

    /// All live records under each of `keys`, in their order.
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
        FindMany { dht: Arc::clone(&self.inner.dht), keys, timeout: self.inner.config.query_timeout }
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
        QueryPeer { dht: Arc::clone(&self.inner.dht), peer, key, timeout }
    }

    fn options(&self) -> StoreOptions {
        let config = &self.inner.config;
        StoreOptions { ttl: config.ttl, ack: Ack::default(), timeout: config.request_timeout, fresh: false }
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

        /// How many replicas must acknowledge; by default [`Ack::Quorum`].
        pub fn ack(mut self, ack: Ack) -> Self {
            self.options.ack = ack;
            self
        }

        /// How long each replica has to answer; by default
        /// [`Config::request_timeout`](super::Config::request_timeout).
        pub fn timeout(mut self, timeout: Duration) -> Self {
            self.options.timeout = timeout;
            self
        }
    };
}

macro_rules! find_options {
    ($what:literal, $default:ident) => {
        #[doc = $what]
        #[doc = concat!("[`Config::", stringify!($default), "`](super::Config::", stringify!($default), ").")]
        pub fn timeout(mut self, timeout: Duration) -> Self {
            self.timeout = timeout;
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
    from: Option<NodeId>,
    timeout: Duration,
}

impl FindValue {
    find_options!("How long it may take in all; by default", query_timeout);

    /// Only the record of this publisher.
    pub fn from(mut self, publisher: NodeId) -> Self {
        self.from = Some(publisher);
        self
    }
}

impl IntoFuture for FindValue {
    type Output = Result<Vec<Record>, FindError>;
    type IntoFuture = Operation<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.dht.find_value(self.key, self.from, self.timeout).await })
    }
}

/// A find of the records under many keys; await it.
#[derive(Debug)]
#[must_use = "a find does nothing until it is awaited"]
pub struct FindMany {
    dht: Arc<DhtService>,
    keys: Vec<Key>,
    timeout: Duration,
}

impl FindMany {
    find_options!("How long each few thousand keys may take; by default", query_timeout);
}

impl IntoFuture for FindMany {
    type Output = Result<Vec<Vec<Record>>, FindError>;
    type IntoFuture = Operation<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.dht.find_many(self.keys, self.timeout).await })
    }
}

/// A question to one peer; await it.
#[derive(Debug)]
#[must_use = "a query does nothing until it is awaited"]
pub struct QueryPeer {
    dht: Arc<DhtService>,
    peer: NodeId,
    key: Key,
    timeout: Duration,
}

impl QueryPeer {
    find_options!("How long the peer has to answer; by default", request_timeout);
}

impl IntoFuture for QueryPeer {
    type Output = Result<Vec<Record>, QueryError>;
    type IntoFuture = Operation<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.dht.query_peer(self.peer, self.key, self.timeout).await })
    }
}
