//! What a pool may hold, and for how long: every limit in one struct, with its default beside it.

use std::time::Duration;

/// Limits of the connection pool.
///
/// Start from [`PoolConfig::default`] and change what differs.
///
/// Connections that peers dialed (*inbound*) and those that this node dialed (*outbound*) are counted
/// apart. With the defaults, inbound ones never take more than 60 % of the ceiling and outbound ones
/// never more than 80 %: 40 % always remains for dials, and 20 % for peers who dial.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolConfig {
    /// Connections above which the least recently used one without a lease is closed for each new one.
    /// Leases may carry the pool above it, up to [`hard_limit`](Self::hard_limit). Default [`Self::SOFT_LIMIT`].
    pub soft_limit: usize,
    /// Connections that exist at most, those under way and those being drained included. A request that
    /// finds them all leased waits for [`wait`](Self::wait). Default [`Self::HARD_LIMIT`].
    pub hard_limit: usize,
    /// Percent of either limit that inbound connections may take, rounded up. Default [`Self::INBOUND_PERCENT`].
    pub inbound_percent: u8,
    /// Percent of either limit that outbound connections may take, rounded up. Default
    /// [`Self::OUTBOUND_PERCENT`].
    pub outbound_percent: u8,
    /// How long a connection without a lease and without application frames stays open; each one takes a
    /// random part of it between three quarters and the whole. Default [`Self::IDLE_TTL`].
    pub idle_ttl: Duration,
    /// How long a dial may take, HELLO included. Default [`Self::DIAL_TIMEOUT`].
    pub dial_timeout: Duration,
    /// How long a request waits for room in a full pool. Default [`Self::WAIT`].
    pub wait: Duration,
    /// Bound of the random pause after a first failed dial; it doubles with each further failure.
    /// Default [`Self::BACK_OFF_MIN`].
    pub back_off_min: Duration,
    /// Bound of the random pause after any number of failed dials. Default [`Self::BACK_OFF_MAX`].
    pub back_off_max: Duration,
    /// How long a connection must have lived to make the failures before it forgotten, and to be no
    /// failure itself when it is lost. Default [`Self::LASTING`].
    pub lasting: Duration,
    /// Closed connections remembered per peer. Default [`Self::HISTORY`].
    pub history: usize,
    /// Peers whose failures and closed connections are remembered; beyond them the peer that was heard of
    /// longest ago is forgotten. Default [`Self::REMEMBERED`].
    pub remembered: usize,
}

impl PoolConfig {
    /// Default of [`Self::soft_limit`].
    pub const SOFT_LIMIT: usize = 100;
    /// Default of [`Self::hard_limit`].
    pub const HARD_LIMIT: usize = 1024;
    /// Default of [`Self::inbound_percent`].
    pub const INBOUND_PERCENT: u8 = 60;
    /// Default of [`Self::outbound_percent`].
    pub const OUTBOUND_PERCENT: u8 = 80;
    /// Default of [`Self::idle_ttl`].
    pub const IDLE_TTL: Duration = Duration::from_secs(60);
    /// Default of [`Self::dial_timeout`].
    pub const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
    /// Default of [`Self::wait`].
    pub const WAIT: Duration = Duration::from_millis(250);
    /// Default of [`Self::back_off_min`].
    pub const BACK_OFF_MIN: Duration = Duration::from_millis(100);
    /// Default of [`Self::back_off_max`].
    pub const BACK_OFF_MAX: Duration = Duration::from_secs(30);
    /// Default of [`Self::lasting`].
    pub const LASTING: Duration = Duration::from_secs(15);
    /// Default of [`Self::history`].
    pub const HISTORY: usize = 8;
    /// Default of [`Self::remembered`].
    pub const REMEMBERED: usize = 4096;
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            soft_limit: Self::SOFT_LIMIT,
            hard_limit: Self::HARD_LIMIT,
            inbound_percent: Self::INBOUND_PERCENT,
            outbound_percent: Self::OUTBOUND_PERCENT,
            idle_ttl: Self::IDLE_TTL,
            dial_timeout: Self::DIAL_TIMEOUT,
            wait: Self::WAIT,
            back_off_min: Self::BACK_OFF_MIN,
            back_off_max: Self::BACK_OFF_MAX,
            lasting: Self::LASTING,
            history: Self::HISTORY,
            remembered: Self::REMEMBERED,
        }
    }
}

/// Why a [`PoolConfig`] makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolConfigError {
    /// The soft limit is zero or above the hard limit.
    #[error("the pool's soft limit must be between 1 and the hard limit")]
    Limits,
    /// A percentage is outside 1 to 100, or the two leave part of the pool to nobody.
    #[error("inbound and outbound percent of the pool must each be 1 to 100 and together at least 100")]
    Percent,
    /// The idle time to live or the dial timeout is zero.
    #[error("the pool's idle ttl and dial timeout must not be zero")]
    Zero,
    /// The least back-off is zero or above the greatest.
    #[error("the pool's least back-off must be above zero and not above the greatest")]
    BackOff,
}

impl PoolConfig {
    /// Checks that the limits agree with each other.
    ///
    /// # Errors
    ///
    /// The first rule that does not hold.
    pub fn check(&self) -> Result<(), PoolConfigError> {
        let percent = 1..=100;
        if self.soft_limit == 0 || self.soft_limit > self.hard_limit {
            Err(PoolConfigError::Limits)
        } else if !percent.contains(&self.inbound_percent)
            || !percent.contains(&self.outbound_percent)
            || u16::from(self.inbound_percent) + u16::from(self.outbound_percent) < 100
        {
            Err(PoolConfigError::Percent)
        } else if self.idle_ttl.is_zero() || self.dial_timeout.is_zero() {
            Err(PoolConfigError::Zero)
        } else if self.back_off_min.is_zero() || self.back_off_min > self.back_off_max {
            Err(PoolConfigError::BackOff)
        } else {
            Ok(())
        }
    }
}
