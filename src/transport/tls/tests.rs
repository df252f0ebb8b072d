//! Real handshakes on loopback.
