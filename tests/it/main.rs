//! Real nodes, real QUIC, real TLS, on loopback.

#![allow(clippy::disallowed_methods, reason = "tests read the clock and start tasks")]

mod store;
