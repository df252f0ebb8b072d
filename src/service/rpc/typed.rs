//! Handlers as users write them: over bytes, or over values that serde knows.

use std::future::Future;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Fault, HandlerError};
use super::registry::{Handler, Request};
use crate::wire;

/// A handler of requests as they came.
pub(crate) fn raw<F, W, B, E>(handler: F) -> Handler
where
    F: Fn(Request) -> W + Send + Sync + 'static,
    W: Future<Output = Result<B, E>> + Send + 'static,
    B: Into<Bytes>,
    E: Into<HandlerError>,
{
    Box::new(move |request| {
        let work = handler(request);
        Box::pin(async move { work.await.map(Into::into).map_err(|error| Fault::Handler(error.into())) })
    })
}

/// A handler of arguments and results as MessagePack.
pub(crate) fn typed<F, W, A, R, E>(handler: F) -> Handler
where
    F: Fn(A) -> W + Send + Sync + 'static,
    W: Future<Output = Result<R, E>> + Send + 'static,
    A: DeserializeOwned,
    R: Serialize,
    E: Into<HandlerError>,
{
    Box::new(move |request| {
        let begun = wire::unpack(&request.args).map(&handler);
        Box::pin(async move {
            let work = begun.map_err(|error| Fault::BadArguments(error.to_string()))?;
            let result = work.await.map_err(|error| Fault::Handler(error.into()))?;
            let packed = wire::pack(&result);
            packed.map(Bytes::from).map_err(|error| Fault::Handler(HandlerError::from(error)))
        })
    })
}
