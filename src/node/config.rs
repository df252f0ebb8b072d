//! The settings of a node, and their defaults.

use std::time::Duration;

use crate::dht::K;
use crate::dht::log::LogLimits;
use crate::dht::lookup::LOOKUP_TIMEOUT;
use crate::dht::record::TTL_MAX;
use crate::dht::replication::ReplicationConfig;
use crate::dht::store::StoreLimits;
use crate::dht::upkeep::UpkeepConfig;
use crate::pool::{PoolConfig, PoolConfigError};
use crate::route::relays::RelayConfig;
use crate::rpc::config::RpcConfig;
use crate::transport::{TransportConfig, TransportConfigError};
use crate::wire::{Class, Grant};

/// The default of [`Config::alpha`].
pub const ALPHA: usize = 3;
/// The default of [`Config::ttl`].
pub const TTL: Duration = Duration::from_secs(3_600);
/// The default of [`Config::request_timeout`].
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// The default of [`Config::query_timeout`].
pub const QUERY_TIMEOUT: Duration = LOOKUP_TIMEOUT;
/// The default of [`Config::join_timeout`].
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The default of [`Config::drain`].
pub const DRAIN: Duration = Duration::from_secs(10);
/// The greatest [`Config::k`].
pub const K_MAX: usize = 64;

/// What a peer may have in flight on each of its lanes to this node. Together they stay below the
/// send window, so room for the replies is always reserved.
pub(super) const GRANTS: [Grant; Class::LANES] = [
    Grant { requests: 256, bytes: 64 << 10 },
    Grant { requests: 4_096, bytes: 1 << 20 },
    Grant { requests: 1_024, bytes: 2 << 20 },
    Grant { requests: 4_096, bytes: 1 << 20 },
];

/// The settings of a node. All have defaults, which are constants of this module or of the part that
/// they configure.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Replicas of a record and size of a bucket, 1 to [`K_MAX`]; default [`K`]. The same in the whole
    /// mesh.
    pub k: usize,
    /// Nodes that a lookup or a find asks at a time, at least 1; default [`ALPHA`].
    pub alpha: usize,
    /// Time to live of a record when the store does not say; default [`TTL`].
    pub ttl: Duration,
    /// How long a peer has to answer one request; default [`REQUEST_TIMEOUT`].
    pub request_timeout: Duration,
    /// How long a find or a search for replicas may take in all; default [`QUERY_TIMEOUT`].
    pub query_timeout: Duration,
    /// How long joining through one bootstrap address may take; default [`JOIN_TIMEOUT`].
    pub join_timeout: Duration,
    /// How long a shutdown waits for work in flight; default [`DRAIN`].
    pub drain: Duration,
    /// What the node holds for others.
    pub store: StoreLimits,
    /// What the node may have published at a time.
    pub log: LogLimits,
    /// How it keeps records where they belong.
    pub replication: ReplicationConfig,
    /// What the node passes on for others that cannot reach each other.
    pub relay: RelayConfig,
    /// The services that it offers, and its calls.
    pub rpc: RpcConfig,
    /// How often the routing table is kept up.
    pub upkeep: UpkeepConfig,
    /// The connections that it keeps.
    pub pool: PoolConfig,
    /// The limits of each connection.
    pub transport: TransportConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            k: K,
            alpha: ALPHA,
            ttl: TTL,
            request_timeout: REQUEST_TIMEOUT,
            query_timeout: QUERY_TIMEOUT,
            join_timeout: JOIN_TIMEOUT,
            drain: DRAIN,
            store: StoreLimits::default(),
            log: LogLimits::default(),
            replication: ReplicationConfig::default(),
            relay: RelayConfig::default(),
            rpc: RpcConfig::default(),
            upkeep: UpkeepConfig::default(),
            pool: PoolConfig::default(),
            transport: TransportConfig::default(),
        }
    }
}

/// Why a [`Config`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `k` is out of range.
    #[error("k must be between 1 and {K_MAX}, not {0}")]
    K(usize),
    /// `alpha` is zero.
    #[error("alpha must be at least 1")]
    Alpha,
    /// A timeout is zero.
    #[error("{0} must be longer than zero")]
    Zero(&'static str),
    /// `ttl` is less than a millisecond or more than [`TTL_MAX`].
    #[error("a ttl of {0:?} is not between 1 ms and {TTL_MAX:?}")]
    Ttl(Duration),
    /// The settings of the pool contradict each other.
    #[error(transparent)]
    Pool(#[from] PoolConfigError),
    /// The settings of the transport are out of range.
    #[error(transparent)]
    Transport(#[from] TransportConfigError),
}

impl Config {
    /// Settings of a process that may use `bytes` of memory: what all connections of a full pool may
    /// buffer together stays within a quarter of it, as far as
    /// [`CONNECTION_WINDOW_MIN`](TransportConfig::CONNECTION_WINDOW_MIN) allows, and no window is larger
    /// than [`CONNECTION_WINDOW`](TransportConfig::CONNECTION_WINDOW). 256 MiB and 1,024 connections give
    /// 64 KiB, 32 GiB give the default of 8 MiB.
    pub fn for_memory(bytes: u64) -> Self {
        let mut config = Self::default();
        let connections = u64::try_from(config.pool.hard_limit).unwrap_or(u64::MAX).max(1);
        let window = u32::try_from(bytes / 4 / connections).unwrap_or(u32::MAX);
        let (least, most) = (TransportConfig::CONNECTION_WINDOW_MIN, TransportConfig::CONNECTION_WINDOW);
        config.transport.connection_window = window.clamp(least, most);
        config
    }

    /// Checks that the settings can work together.
    ///
    /// # Errors
    ///
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.k == 0 || self.k > K_MAX {
            return Err(ConfigError::K(self.k));
        }
        if self.alpha == 0 {
            return Err(ConfigError::Alpha);
        }
        if self.ttl < Duration::from_millis(1) || self.ttl > TTL_MAX {
            return Err(ConfigError::Ttl(self.ttl));
        }
        let timeouts = [
            ("request_timeout", self.request_timeout),
            ("query_timeout", self.query_timeout),
            ("join_timeout", self.join_timeout),
            ("drain", self.drain),
            ("upkeep.refresh", self.upkeep.refresh),
            ("upkeep.neighbours", self.upkeep.neighbours),
            ("upkeep.ping", self.upkeep.ping),
            ("upkeep.rejoin_min", self.upkeep.rejoin_min),
            ("upkeep.rejoin_max", self.upkeep.rejoin_max),
            ("rpc.timeout", self.rpc.timeout),
            ("rpc.ttl", self.rpc.ttl),
            ("replication.every", self.replication.every),
            ("replication.settle", self.replication.settle),
        ];
        for (name, value) in timeouts {
            if value.is_zero() {
                return Err(ConfigError::Zero(name));
            }
        }
        self.pool.check()?;
        self.transport.check()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_could_never_work_are_refused() {
        let zero = Duration::ZERO;
        let changes: [fn(&mut Config, Duration); 18] = [
            |config, to| config.ttl = to,
            |config, to| config.request_timeout = to,
            |config, to| config.query_timeout = to,
            |config, to| config.join_timeout = to,
            |config, to| config.drain = to,
            |config, to| config.upkeep.refresh = to,
            |config, to| config.upkeep.neighbours = to,
            |config, to| config.upkeep.ping = to,
            |config, to| config.upkeep.rejoin_min = to,
            |config, to| config.upkeep.rejoin_max = to,
            |config, to| config.rpc.timeout = to,
            |config, to| config.rpc.ttl = to,
            |config, to| config.transport.keep_alive = to,
            |config, to| config.transport.handshake_timeout = to,
            |config, to| config.transport.hello_timeout = to,
            |config, to| config.transport.first_byte_timeout = to,
            |config, to| config.transport.frame_timeout = to,
            |config, to| config.pool.dial_timeout = to,
        ];
        assert_eq!(Config::default().check(), Ok(()));
        for (i, change) in changes.iter().enumerate() {
            let mut config = Config::default();
            change(&mut config, zero);
            assert!(config.check().is_err(), "number {i}");
        }
        let mut config = Config::default();
        config.transport.handshakes_max = 0;
        assert_eq!(config.check(), Err(TransportConfigError::Zero("handshakes_max").into()));
        let mut config = Config::default();
        config.transport.handshakes_per_ip = 0;
        assert_eq!(config.check(), Err(TransportConfigError::Zero("handshakes_per_ip").into()));
        let config = Config { ttl: TTL_MAX + Duration::from_millis(1), ..Config::default() };
        assert_eq!(config.check(), Err(ConfigError::Ttl(config.ttl)));
    }
}
