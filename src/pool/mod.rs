//! stub
pub(crate) mod policy;
