//! What bare quinn can do with the work of this crate: the ceilings that its benches stand beside.
//!
//! Nothing here uses the crate. Each module is one job on warm connections with mutual TLS 1.3 and
//! pinned Ed25519 keys, written as directly as quinn allows; a rig is started once and its `run`
//! moves `iters` units of work and returns the time they took.

// Each bench target uses its own part.
#![allow(dead_code)]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock and starts tasks")]

pub(crate) mod call;
pub(crate) mod ceiling;
pub(crate) mod echo;
pub(crate) mod exchange;
pub(crate) mod fanout;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod memory;
pub(crate) mod node;
pub(crate) mod record;
pub(crate) mod tls;

use std::sync::Arc;
use std::time::Duration;

use quinn::{MtuDiscoveryConfig, TransportConfig, VarInt};

/// Transport settings, to be set to the same numbers as whatever is compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Bytes a peer may have in flight on one stream.
    pub(crate) stream_window: u32,
    /// Bytes a peer may have in flight on one connection.
    pub(crate) connection_window: u32,
    /// Bytes that may be sent and not yet acknowledged on one connection.
    pub(crate) send_window: u64,
    /// Bidirectional streams a peer may have open.
    pub(crate) bidi_streams: u32,
    /// Unidirectional streams a peer may have open.
    pub(crate) uni_streams: u32,
    /// Bytes of the first packets.
    pub(crate) initial_mtu: u16,
    /// Most bytes of a packet that discovery tries.
    pub(crate) mtu_max: u16,
    /// Bytes of socket buffer in each direction.
    pub(crate) socket_buffer: usize,
    /// Silence after which a connection is dead.
    pub(crate) idle: Duration,
    /// How often the dialer says that it lives.
    pub(crate) keep_alive: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stream_window: 1 << 20,
            connection_window: 8 << 20,
            send_window: 8 << 20,
            bidi_streams: 64,
            uni_streams: 0,
            initial_mtu: 1_200,
            mtu_max: 1_452,
            socket_buffer: 1 << 20,
            idle: Duration::from_secs(10),
            keep_alive: Some(Duration::from_secs(3)),
        }
    }
}

impl Settings {
    /// quinn's form of these settings, for the accepting side or the dialing side.
    pub(crate) fn transport(&self, dialer: bool) -> Arc<TransportConfig> {
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(self.mtu_max);
        let mut transport = TransportConfig::default();
        transport
            .stream_receive_window(self.stream_window.into())
            .receive_window(self.connection_window.into())
            .send_window(self.send_window)
            .max_concurrent_bidi_streams(VarInt::from_u32(self.bidi_streams))
            .max_concurrent_uni_streams(VarInt::from_u32(self.uni_streams))
            .initial_mtu(self.initial_mtu)
            .mtu_discovery_config(Some(discovery))
            .datagram_receive_buffer_size(None)
            .allow_spin(false)
            .keep_alive_interval(self.keep_alive.filter(|_| dialer))
            .max_idle_timeout(Some(self.idle.try_into().expect("an idle timeout of seconds")));
        Arc::new(transport)
    }
}
