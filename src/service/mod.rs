//! The services: drivers between the pure parts below and the peers in the pool.

pub(crate) mod dht;
pub(crate) mod path;
mod request;
mod router;
pub(crate) mod rpc;

pub(crate) use request::ping;
pub(crate) use router::Router;
