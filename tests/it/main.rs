//! Real nodes, real QUIC, real TLS, on loopback.

#![allow(clippy::disallowed_methods, reason = "tests read the clock and start tasks")]
#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised, helpers of tests included")]

mod baseline;
mod busy;
mod duel;
mod ending;
mod find;
mod flood;
mod hello;
mod hostile;
mod join;
mod lookup;
mod nodes;
mod persist;
mod pool;
mod reads;
mod records;
mod replication;
mod restart;
mod route;
mod rpc;
mod shutdown;
mod store;
mod store_more;
mod tls;
mod upkeep;
mod util;
