//! The limits of the transport, and the quinn configuration that they become.
//!
//! quinn's defaults allow one connection to buffer about 260 MB. Every figure here is finite, and the
//! product of windows and connections is the bound of the whole node (RFC 9000, section 4; the
//! windows are raised only after HELLO has been accepted).

use std::sync::Arc;
use std::time::Duration;

use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig as QuinnConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;

use super::reset_key::ResetKey;

/// Streams that a peer may open before its HELLO was accepted.
const STREAMS_BEFORE_HELLO: u32 = 8;
/// Bytes that a peer may send before its HELLO was accepted.
const WINDOW_BEFORE_HELLO: u32 = 64 << 10;
/// Attempts that may wait for the accept loop; beyond it quinn drops them without work.
const INCOMING_MAX: usize = 1_024;
/// Bytes buffered for one attempt that waits for the accept loop, and for all of them.
const INCOMING_BUFFER: u64 = 64 << 10;
const INCOMING_BUFFER_TOTAL: u64 = 8 << 20;

/// What one node allows its connections. Every default is a constant of this module.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TransportConfig {
    /// Largest UDP payload that path discovery may reach, bytes; default [`Self::MTU_MAX`], at most
    /// [`Self::MTU_CEILING`]. Raise it on loopback and jumbo networks only.
    pub mtu_max: u16,
    /// Bytes that a peer may have in flight to us on one connection; default [`Self::CONNECTION_WINDOW`].
    /// One stream may use a sixteenth of it. Times the connections, this bounds the node's buffers.
    pub connection_window: u32,
    /// Streams that a peer may have open at a time; default [`Self::STREAMS`]. Memory per connection grows
    /// with this limit, used or not.
    pub streams: u16,
    /// A connection that hears nothing for so long is gone; default [`Self::IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// The dialer sends a keep-alive after so much silence; default [`Self::KEEP_ALIVE`].
    pub keep_alive: Duration,
    /// How long a handshake may take; default [`Self::HANDSHAKE_TIMEOUT`].
    pub handshake_timeout: Duration,
    /// How long HELLO and its answer may take; default [`Self::HELLO_TIMEOUT`].
    pub hello_timeout: Duration,
    /// How long an opened stream may stay without its first frame; default [`Self::FIRST_BYTE_TIMEOUT`].
    pub first_byte_timeout: Duration,
    /// How long a frame that has begun may take to arrive whole; default [`Self::FRAME_TIMEOUT`].
    pub frame_timeout: Duration,
    /// Bytes asked of the kernel for each socket buffer; default [`Self::SOCKET_BUFFER`].
    pub socket_buffer: usize,
    /// Handshakes in progress that the acceptor allows; default [`Self::HANDSHAKES_MAX`].
    pub handshakes_max: usize,
    /// The same per IP address, loopback and private ranges exempt; default [`Self::HANDSHAKES_PER_IP`].
    pub handshakes_per_ip: usize,
    /// With more handshakes in progress than this, dialers must prove their address first (Retry);
    /// default [`Self::RETRY_ABOVE`].
    pub retry_above: usize,
}

impl TransportConfig {
    /// The default of [`Self::mtu_max`], bytes of UDP payload.
    pub const MTU_MAX: u16 = 1_452;
    /// The greatest [`Self::mtu_max`] that is accepted: ten GSO segments of it still fit one
    /// 65,507-byte datagram. Above it the kernel refuses each send and throughput collapses in silence.
    pub const MTU_CEILING: u16 = 6_500;
    /// The smallest [`Self::mtu_max`]: what every QUIC path carries.
    pub const MTU_FLOOR: u16 = 1_200;
    /// The default of [`Self::connection_window`], bytes.
    pub const CONNECTION_WINDOW: u32 = 8 << 20;
    /// The smallest [`Self::connection_window`].
    pub const CONNECTION_WINDOW_MIN: u32 = 64 << 10;
    /// The default of [`Self::streams`].
    pub const STREAMS: u16 = 64;
    /// The default of [`Self::idle_timeout`].
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
    /// The default of [`Self::keep_alive`].
    pub const KEEP_ALIVE: Duration = Duration::from_secs(3);
    /// The default of [`Self::handshake_timeout`].
    pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
    /// The default of [`Self::hello_timeout`].
    pub const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
    /// The default of [`Self::first_byte_timeout`].
    pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(2);
    /// The default of [`Self::frame_timeout`].
    pub const FRAME_TIMEOUT: Duration = Duration::from_secs(5);
    /// The default of [`Self::socket_buffer`], bytes.
    pub const SOCKET_BUFFER: usize = 4 << 20;
    /// The default of [`Self::handshakes_max`].
    pub const HANDSHAKES_MAX: usize = 128;
    /// The default of [`Self::handshakes_per_ip`].
    pub const HANDSHAKES_PER_IP: usize = 16;
    /// The default of [`Self::retry_above`].
    pub const RETRY_ABOVE: usize = 64;
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            mtu_max: Self::MTU_MAX,
            connection_window: Self::CONNECTION_WINDOW,
            streams: Self::STREAMS,
            idle_timeout: Self::IDLE_TIMEOUT,
            keep_alive: Self::KEEP_ALIVE,
            handshake_timeout: Self::HANDSHAKE_TIMEOUT,
            hello_timeout: Self::HELLO_TIMEOUT,
            first_byte_timeout: Self::FIRST_BYTE_TIMEOUT,
            frame_timeout: Self::FRAME_TIMEOUT,
            socket_buffer: Self::SOCKET_BUFFER,
            handshakes_max: Self::HANDSHAKES_MAX,
            handshakes_per_ip: Self::HANDSHAKES_PER_IP,
            retry_above: Self::RETRY_ABOVE,
        }
    }
}

/// Why a [`TransportConfig`] cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportConfigError {
    /// `mtu_max` is out of range.
    #[error("mtu_max {0} is not between {min} and {max}", min = TransportConfig::MTU_FLOOR, max = TransportConfig::MTU_CEILING)]
    Mtu(u16),
    /// `connection_window` is out of range.
    #[error("connection_window {0} is not between 64 KiB and 32 MiB")]
    Window(u32),
    /// `streams` is out of range.
    #[error("streams {0} is not between 16 and 1024")]
    Streams(u16),
    /// `idle_timeout` is not longer than `keep_alive`, or out of range.
    #[error("idle_timeout must be longer than keep_alive and at most an hour")]
    IdleTimeout,
    /// A timeout or a limit is zero.
    #[error("{0} must be above zero")]
    Zero(&'static str),
}

impl TransportConfig {
    /// Finds the first value that cannot work.
    pub(crate) fn check(&self) -> Result<(), TransportConfigError> {
        if !(Self::MTU_FLOOR..=Self::MTU_CEILING).contains(&self.mtu_max) {
            return Err(TransportConfigError::Mtu(self.mtu_max));
        }
        if !(Self::CONNECTION_WINDOW_MIN..=32 << 20).contains(&self.connection_window) {
            return Err(TransportConfigError::Window(self.connection_window));
        }
        if !(16..=1024).contains(&self.streams) {
            return Err(TransportConfigError::Streams(self.streams));
        }
        if self.idle_timeout <= self.keep_alive || self.idle_timeout > Duration::from_secs(3_600) {
            return Err(TransportConfigError::IdleTimeout);
        }
        let zeroes = [
            ("keep_alive", self.keep_alive.is_zero()),
            ("handshake_timeout", self.handshake_timeout.is_zero()),
            ("hello_timeout", self.hello_timeout.is_zero()),
            ("first_byte_timeout", self.first_byte_timeout.is_zero()),
            ("frame_timeout", self.frame_timeout.is_zero()),
            ("handshakes_max", self.handshakes_max == 0),
            ("handshakes_per_ip", self.handshakes_per_ip == 0),
        ];
        match zeroes.iter().find(|(_, zero)| *zero) {
            Some((name, _)) => Err(TransportConfigError::Zero(name)),
            None => Ok(()),
        }
    }

    /// One sixteenth of the connection window: eight lanes that nobody reads never fill the connection, so
    /// replies always get through. A frame may be larger than it, because lanes are read as bytes come.
    fn stream_window(&self) -> u32 {
        self.connection_window / 16
    }

    /// The configuration of a connection until HELLO is accepted; `dialer` sends keep-alives.
    pub(super) fn quinn(&self, dialer: bool) -> Arc<QuinnConfig> {
        let mut config = QuinnConfig::default();
        let discovery = (self.mtu_max > Self::MTU_FLOOR).then(|| {
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(self.mtu_max);
            discovery
        });
        let idle = IdleTimeout::try_from(self.idle_timeout).ok();
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_BEFORE_HELLO))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(self.stream_window()))
            .receive_window(VarInt::from_u32(WINDOW_BEFORE_HELLO))
            .send_window(u64::from(self.connection_window))
            .max_idle_timeout(idle)
            .keep_alive_interval(dialer.then_some(self.keep_alive))
            .initial_mtu(Self::MTU_FLOOR)
            .mtu_discovery_config(discovery)
            .datagram_receive_buffer_size(None)
            .allow_spin(false);
        Arc::new(config)
    }

    /// Gives a peer whose HELLO was accepted its full share.
    pub(super) fn raise(&self, connection: &quinn::Connection) {
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(u32::from(self.streams)));
        connection.set_receive_window(VarInt::from_u32(self.connection_window));
    }

    pub(super) fn server(&self, crypto: Arc<dyn quinn::crypto::ServerConfig>) -> quinn::ServerConfig {
        let mut config = quinn::ServerConfig::with_crypto(crypto);
        config
            .transport_config(self.quinn(false))
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL)
            .migration(true);
        config
    }

    /// The endpoint's configuration; `reset_key` comes from the node key, so that a restarted node
    /// can tell its peers at once that it no longer knows their connections (RFC 9000, section 10.3).
    pub(super) fn endpoint(&self, reset_key: Arc<ResetKey>) -> Result<EndpointConfig, TransportConfigError> {
        let ids = reset_key.connection_id_key();
        let mut config = EndpointConfig::new(reset_key);
        config.supported_versions(vec![1]);
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
        config
            .max_udp_payload_size(self.mtu_max.max(Self::MTU_MAX))
            .map_err(|_| TransportConfigError::Mtu(self.mtu_max))?;
        Ok(config)
    }
}
