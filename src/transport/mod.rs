//! stub
#[cfg(feature = "test-util")]
pub(crate) mod fault;
pub(crate) mod socket;
pub(crate) mod tls;
