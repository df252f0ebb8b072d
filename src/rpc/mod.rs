//! What a call needs to know, as plain values: which provider to ask, whether to ask another, what a
//! discovery is worth.
//!
//! Nothing here waits, reads a clock or draws a number: every call takes the present as an [`Instant`] and
//! chance as a `draw`, any 64 bits; a driver joins the parts to peers.
//!
//! - [`name`]: what a service may be called.
//! - [`standing`]: one provider as this node sees it: its latency, its calls in flight, its breaker.
//! - [`breaker`]: when a provider that fails is left alone, and when it is tried again.
//! - [`select`]: which of several providers is called.
//! - [`attempts`]: whether a call that has failed goes to another provider.
//! - [`budget`]: how many retries all calls together may cause.
//! - [`latencies`]: how long nearly all answers take.
//! - [`freshness`]: what a remembered answer of discovery is worth.
//! - [`refresh`]: when an advertisement is stored again.
//! - [`config`]: the settings of services and of calls.
//!
//! [`Instant`]: std::time::Instant

pub mod attempts;
pub mod breaker;
pub mod budget;
pub mod config;
mod draws;
pub mod freshness;
pub mod latencies;
pub mod name;
pub mod refresh;
pub mod select;
pub mod standing;
