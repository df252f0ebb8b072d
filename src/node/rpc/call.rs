//! Calls, which take their options before they are awaited, and the handle for many.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Operation;
use crate::id::NodeId;
use crate::rpc::select::Selection;
use crate::rpc::standing::ProviderHealth;
use crate::runtime;
use crate::service::rpc::{CallError, CallOptions, CallReport, RpcService, Service};
use crate::wire;

macro_rules! call_options {
    ($($path:ident).+) => {
        /// How long it may take in all, failover included; by default
        /// [`RpcConfig::timeout`](crate::rpc::config::RpcConfig::timeout), at most
        /// [`CALL_TIMEOUT_MAX`](crate::rpc::config::CALL_TIMEOUT_MAX). The handler is stopped after it.
        pub fn timeout(mut self, timeout: Duration) -> Self {
            self.$($path).+.timeout = timeout;
            self
        }

        /// Says that the handler may run twice: the call then also goes to another provider when one that may
        /// have begun is lost, or takes longer than it usually does. The first answer counts.
        pub fn idempotent(mut self) -> Self {
            self.$($path).+.idempotent = true;
            self
        }

        /// Asks another provider as soon as the first takes longer than 95 of 100 calls did; implies
        /// [`idempotent`](Self::idempotent).
        pub fn hedged(mut self) -> Self {
            self.$($path).+.idempotent = true;
            self.$($path).+.hedged = true;
            self
        }

        /// Which provider is asked first; by default the better of two that chance picks.
        pub fn selection(mut self, selection: Selection) -> Self {
            self.$($path).+.selection = selection;
            self
        }

        /// Calls this node and no other, whether or not it is known to offer the service.
        pub fn node(mut self, node: NodeId) -> Self {
            self.$($path).+.node = Some(node);
            self
        }

        /// Expects a result of up to a mebibyte: the call travels on a stream of its own. Without it, results
        /// over about 120 KiB are refused ([`CallError::ResultTooLarge`]).
        pub fn large_result(mut self) -> Self {
            self.$($path).+.alone = true;
            self
        }
    };
}

/// A call of bytes; await it.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct CallRaw {
    pub(super) rpc: Arc<RpcService>,
    pub(super) ready: Result<(Arc<Service>, Bytes), CallError>,
    pub(super) options: CallOptions,
}

impl CallRaw {
    call_options!(options);

    /// Makes the call and tells what it went through.
    ///
    /// # Cancel safety
    ///
    /// As of [`Rpc::call`](super::Rpc::call).
    pub async fn report(self) -> (Result<Bytes, CallError>, Option<CallReport>) {
        match self.ready {
            Ok((service, args)) => {
                let (result, report) = self.rpc.call_reported(&service, args, &self.options).await;
                (result, Some(report))
            }
            Err(error) => (Err(error), None),
        }
    }

    /// Makes the call without waiting for its result: returns when a provider has taken it. Dropping the
    /// future after that does not stop the handler.
    ///
    /// # Errors
    ///
    /// [`CallError`] when nobody has taken it, or nobody is known to have.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have made the call.
    pub async fn cast(mut self) -> Result<(), CallError> {
        self.options.cast = true;
        self.await.map(drop)
    }
}

impl IntoFuture for CallRaw {
    type Output = Result<Bytes, CallError>;
    type IntoFuture = Operation<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (service, args) = self.ready?;
            self.rpc.call(&service, args, &self.options).await
        })
    }
}

/// A call whose result is an `R`; await it.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct Call<R> {
    pub(super) raw: CallRaw,
    pub(super) result: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> Call<R> {
    call_options!(raw.options);

    /// Makes the call and tells what it went through.
    ///
    /// # Cancel safety
    ///
    /// As of [`Rpc::call`](super::Rpc::call).
    pub async fn report(self) -> (Result<R, CallError>, Option<CallReport>) {
        let (result, report) = self.raw.report().await;
        (result.and_then(|result| read(&result)), report)
    }

    /// As [`CallRaw::cast`].
    ///
    /// # Errors
    ///
    /// As of [`CallRaw::cast`].
    ///
    /// # Cancel safety
    ///
    /// As of [`CallRaw::cast`].
    pub async fn cast(self) -> Result<(), CallError> {
        self.raw.cast().await
    }
}

impl<R: DeserializeOwned + 'static> IntoFuture for Call<R> {
    type Output = Result<R, CallError>;
    type IntoFuture = Operation<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let raw = self.raw.into_future();
        Box::pin(async move { read(&raw.await?) })
    }
}

fn read<R: DeserializeOwned>(result: &[u8]) -> Result<R, CallError> {
    wire::unpack(result).map_err(CallError::Decode)
}

/// A service that is called often. Its options hold for every call; clones share what is known of the
/// service.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(super) rpc: Arc<RpcService>,
    pub(super) service: Arc<Service>,
    pub(super) options: CallOptions,
}

impl Caller {
    call_options!(options);

    /// As [`Rpc::call`](super::Rpc::call).
    ///
    /// # Errors
    ///
    /// As of [`Rpc::call`](super::Rpc::call).
    ///
    /// # Cancel safety
    ///
    /// As of [`Rpc::call`](super::Rpc::call).
    pub async fn call<A: Serialize + ?Sized, R: DeserializeOwned>(&self, args: &A) -> Result<R, CallError> {
        let args = wire::pack(args).map_err(CallError::Encode)?;
        read(&self.rpc.call(&self.service, args.into(), &self.options).await?)
    }

    /// As [`Rpc::call_raw`](super::Rpc::call_raw).
    ///
    /// # Errors
    ///
    /// As of [`Rpc::call`](super::Rpc::call).
    ///
    /// # Cancel safety
    ///
    /// As of [`Rpc::call`](super::Rpc::call).
    pub async fn call_raw(&self, args: impl Into<Bytes>) -> Result<Bytes, CallError> {
        self.rpc.call(&self.service, args.into(), &self.options).await
    }

    /// As [`call_raw`](Self::call_raw), and tells what the call went through.
    ///
    /// # Cancel safety
    ///
    /// As of [`Rpc::call`](super::Rpc::call).
    pub async fn report(&self, args: impl Into<Bytes>) -> (Result<Bytes, CallError>, CallReport) {
        self.rpc.call_reported(&self.service, args.into(), &self.options).await
    }

    /// As [`CallRaw::cast`].
    ///
    /// # Errors
    ///
    /// As of [`CallRaw::cast`].
    ///
    /// # Cancel safety
    ///
    /// As of [`CallRaw::cast`].
    pub async fn cast(&self, args: impl Into<Bytes>) -> Result<(), CallError> {
        let options = CallOptions { cast: true, ..self.options };
        self.rpc.call(&self.service, args.into(), &options).await.map(drop)
    }

    /// The providers that are remembered, and how calls to them have gone.
    pub fn health(&self) -> Vec<(NodeId, ProviderHealth)> {
        self.service.health(runtime::now())
    }
}
