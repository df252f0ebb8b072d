//! foveola: the pooled, verified, batched transport engine of a Kademlia mesh.
//!
//! A [`Node`] keeps one warm, mutually verified QUIC connection to each of its peers, stores records on
//! the nodes closest to a key, and returns a [`Receipt`] that says which of them hold it.
//!
//! The modules below [`Node`] are the parts it is made of. They are pure: they take time as an argument,
//! and touch neither clock nor socket.

pub mod addr;
pub mod dht;
pub mod id;
pub mod identity;
pub mod route;
pub mod rpc;
pub mod wire;

#[cfg(feature = "baseline")]
pub mod baseline;
#[cfg(feature = "test-util")]
pub mod mesh;
mod node;
#[cfg(feature = "persist")]
mod persist;
mod pool;
mod runtime;
mod service;
mod transport;

pub use dht::ack::Ack;
pub use dht::upkeep::UpkeepConfig;
pub use id::{Key, NodeId};
pub use identity::Identity;
pub use node::{
    ALPHA, Advertise, Builder, Call, CallRaw, Caller, Config, ConfigError, DRAIN, Dht, FindMany,
    FindProviders, FindValue, JOIN_TIMEOUT, K_MAX, Node, NodeStats, PeerLease, Peers, QUERY_TIMEOUT,
    QueryPeer, REQUEST_TIMEOUT, Remove, Rpc, SpawnError, Store, StoreMany, TTL,
};
#[cfg(feature = "persist")]
pub use persist::{DATA_BYTES_MAX, Damage, PersistError};
pub use pool::{
    AcquireError, CloseReason, ClosedConnection, Closes, DialError, DialFailure, Explain, OpenConnection,
    PoolConfig, PoolConfigError, PoolStats, RequestError,
};
pub use rpc::config::RpcConfig;
pub use rpc::select::Selection;
pub use service::dht::{Durability, FindError, LookupStats, QueryError, Receipt, Record, StoreError};
pub use service::rpc::{
    AdvertiseError, Advertisement, Attempt, CallError, CallReport, HandlerError, Path, Provider, Request,
    Source,
};
pub use transport::{
    Admit, AttemptError, BindError, CloseCode, ExpectError, Lost, PemError, PublicCertificate, Refusal, Side,
    SocketError, TlsError, TransportConfig, TransportConfigError, Trust, certificates_from_pem,
};

/// The example of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
