//! The handle of RPC: offering services, calling them, and finding out who offers them.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Inner;
use crate::rpc::select::Selection;
use crate::service::rpc::{
    AdvertiseError, AdvertiseOptions, Advertisement, CallError, CallOptions, Handler, HandlerError, Provider,
    Request, RpcService, Service, raw, typed,
};
use crate::wire;

mod call;

pub use call::{Call, CallRaw, Caller};

type Operation<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Offers and calls services.
#[derive(Debug, Clone, Copy)]
pub struct Rpc<'a> {
    inner: &'a Inner,
}

impl<'a> Rpc<'a> {
    pub(super) fn new(inner: &'a Inner) -> Self {
        Self { inner }
    }

    /// Offers the service `name`: `handler` is run for each call with the arguments that it was sent, as
    /// MessagePack.
    ///
    /// The handler is there at once. It is polled first on the task that reads from the caller's connection,
    /// so it must not block; one that waits goes on in a task of its own. It is dropped when its caller
    /// gives up or the deadline of the call has passed. Its panic is an error for the caller alone.
    ///
    /// # Errors
    ///
    /// [`AdvertiseError`] when the service cannot be offered. That too few replicas took its entry in the DHT
    /// is no error: it is tried again, and [`Advertisement::published`] tells.
    ///
    /// # Cancel safety
    ///
    /// A dropped future withdraws the service.
    pub fn advertise<F, W, A, R, E>(&self, name: impl Into<String>, handler: F) -> Advertise
    where
        F: Fn(A) -> W + Send + Sync + 'static,
        W: Future<Output = Result<R, E>> + Send + 'static,
        A: DeserializeOwned,
        R: Serialize,
        E: Into<HandlerError>,
    {
        self.offer(name.into(), typed(handler))
    }

    /// As [`advertise`](Self::advertise), with a handler that sees the arguments as they came, and who has
    /// sent them.
    ///
    /// # Errors
    ///
    /// As of [`advertise`](Self::advertise).
    ///
    /// # Cancel safety
    ///
    /// A dropped future withdraws the service.
    pub fn advertise_raw<F, W, B, E>(&self, name: impl Into<String>, handler: F) -> Advertise
    where
        F: Fn(Request) -> W + Send + Sync + 'static,
        W: Future<Output = Result<B, E>> + Send + 'static,
        B: Into<Bytes>,
        E: Into<HandlerError>,
    {
        self.offer(name.into(), raw(handler))
    }

    fn offer(&self, name: String, handler: Handler) -> Advertise {
        let config = &self.inner.config.rpc;
        let options =
            AdvertiseOptions { ttl: config.ttl, metadata: Vec::new(), running: config.running_each };
        Advertise { rpc: Arc::clone(&self.inner.rpc), name, handler, options }
    }

    /// Calls the service `name` with `args` and reads its result, both as MessagePack.
    ///
    /// This node's own service comes first, then the providers that it remembers, then those that the DHT
    /// knows. A provider that cannot be reached directly is reached through others.
    ///
    /// # Errors
    ///
    /// [`CallError`], which tells whether the handler may have run.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the handler; it may have run to its end.
    pub fn call<A: Serialize + ?Sized, R: DeserializeOwned>(&self, name: &str, args: &A) -> Call<R> {
        Call { raw: self.prepare(name, wire::pack(args).map(Bytes::from)), result: PhantomData }
    }

    /// As [`call`](Self::call), with arguments and result as they are.
    ///
    /// # Errors
    ///
    /// As of [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As of [`call`](Self::call).
    pub fn call_raw(&self, name: &str, args: impl Into<Bytes>) -> CallRaw {
        self.prepare(name, Ok(args.into()))
    }

    fn prepare(&self, name: &str, args: Result<Bytes, wire::ValueError>) -> CallRaw {
        let rpc = Arc::clone(&self.inner.rpc);
        let ready = args.map_err(CallError::Encode).and_then(|args| Ok((rpc.service(name)?, args)));
        CallRaw { rpc, ready, options: self.options() }
    }

    /// A handle for many calls of the service `name`: it is looked up once.
    ///
    /// # Errors
    ///
    /// [`CallError::Name`] when this cannot be the name of a service.
    pub fn caller(&self, name: &str) -> Result<Caller, CallError> {
        let rpc = Arc::clone(&self.inner.rpc);
        let service = rpc.service(name)?;
        Ok(Caller { rpc, service, options: self.options() })
    }

    /// Who offers the service `name`, this node included: those it remembers, or those that the DHT knows.
    /// Nobody is an answer.
    ///
    /// # Errors
    ///
    /// [`CallError::Name`], [`CallError::Discovery`] and [`CallError::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn find_providers(&self, name: &str) -> FindProviders {
        let rpc = Arc::clone(&self.inner.rpc);
        let service = rpc.service(name);
        FindProviders { rpc, service, fresh: false, timeout: self.inner.config.query_timeout }
    }

    /// Forgets who offers what.
    pub fn clear(&self) {
        self.inner.rpc.clear();
    }

    /// Forgets who offers what where that is too old to be used. Without it that happens when room is needed,
    /// and after ten minutes without a call.
    pub fn prune(&self) {
        self.inner.rpc.prune();
    }

    fn options(&self) -> CallOptions {
        CallOptions {
            timeout: self.inner.config.rpc.timeout,
            selection: Selection::default(),
            idempotent: false,
            hedged: false,
            alone: false,
            cast: false,
            node: None,
        }
    }
}

/// A service that is about to be offered; await it.
#[must_use = "nothing is offered until it is awaited"]
pub struct Advertise {
    rpc: Arc<RpcService>,
    name: String,
    handler: Handler,
    options: AdvertiseOptions,
}

impl std::fmt::Debug for Advertise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Advertise").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Advertise {
    /// How long its entry lives unless it is refreshed, at least a second; by default
    /// [`RpcConfig::ttl`](crate::rpc::config::RpcConfig::ttl). After a crash others find it for so long.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.options.ttl = ttl;
        self
    }

    /// What others learn of it with its entry, at most [`METADATA_MAX`](wire::METADATA_MAX) bytes.
    pub fn metadata(mut self, metadata: impl Into<Vec<u8>>) -> Self {
        self.options.metadata = metadata.into();
        self
    }

    /// How many of its handlers may run at a time; more calls are answered with
    /// [`CallError::Overloaded`]. By default
    /// [`RpcConfig::running_each`](crate::rpc::config::RpcConfig::running_each).
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.options.running = handlers;
        self
    }
}

impl IntoFuture for Advertise {
    type Output = Result<Advertisement, AdvertiseError>;
    type IntoFuture = Operation<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.rpc.advertise(&self.name, self.handler, self.options).await })
    }
}

/// A search for the providers of a service; await it.
#[derive(Debug)]
#[must_use = "nothing is searched for until it is awaited"]
pub struct FindProviders {
    rpc: Arc<RpcService>,
    service: Result<Arc<Service>, CallError>,
    fresh: bool,
    timeout: Duration,
}

impl FindProviders {
    /// Asks the DHT although providers are remembered; those that are found are remembered instead.
    pub fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// How long it may take; by default [`Config::query_timeout`](super::Config::query_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl IntoFuture for FindProviders {
    type Output = Result<Vec<Provider>, CallError>;
    type IntoFuture = Operation<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.rpc.find_providers(&self.service?, self.fresh, self.timeout).await })
    }
}
