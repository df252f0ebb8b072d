//! stub
pub mod addr;
#[cfg(feature = "baseline")]
pub mod baseline;
pub mod dht;
pub mod id;
pub mod identity;
#[cfg(feature = "test-util")]
pub mod mesh;
mod node;
mod pool;
mod runtime;
mod service;
mod transport;
pub mod wire;
