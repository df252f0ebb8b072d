//! stub
pub mod addr;
pub mod dht;
pub mod id;
pub mod identity;
pub mod wire;
#[cfg(feature = "baseline")]
pub mod baseline;
#[cfg(feature = "test-util")]
pub mod mesh;
mod node;
mod pool;
mod runtime;
mod service;
mod transport;
