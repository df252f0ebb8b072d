//! The settings of services and of calls.

use std::time::Duration;

/// The default of [`RpcConfig::timeout`].
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time that a call may take; a caller that asks for more gets this.
pub const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);
/// The default of [`RpcConfig::ttl`].
pub const ADVERTISE_TTL: Duration = Duration::from_secs(300);
/// The default of [`RpcConfig::services`].
pub const SERVICES: usize = 4_096;
/// The default of [`RpcConfig::running`].
pub const RUNNING: usize = 4_096;
/// The default of [`RpcConfig::running_each`].
pub const RUNNING_EACH: usize = 1_024;
/// The default of [`RpcConfig::remembered`].
pub const REMEMBERED: usize = 16_384;

/// The settings of services and of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RpcConfig {
    /// How long a call may take when it does not say; default [`CALL_TIMEOUT`].
    pub timeout: Duration,
    /// How long an entry in the DHT lives unless it is refreshed; default [`ADVERTISE_TTL`].
    pub ttl: Duration,
    /// Services that the node may offer at a time; default [`SERVICES`].
    pub services: usize,
    /// Handlers that may wait for something at a time; default [`RUNNING`].
    pub running: usize,
    /// The same for one service that does not say; default [`RUNNING_EACH`].
    pub running_each: usize,
    /// Services of others whose providers are remembered; default [`REMEMBERED`].
    pub remembered: usize,
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            timeout: CALL_TIMEOUT,
            ttl: ADVERTISE_TTL,
            services: SERVICES,
            running: RUNNING,
            running_each: RUNNING_EACH,
            remembered: REMEMBERED,
        }
    }
}
