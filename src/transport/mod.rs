//! stub
pub(crate) mod tls;
