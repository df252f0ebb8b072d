//! A verified connection to one peer, and nothing of quinn outside.

use std::net::SocketAddr;
use std::ops::AddAssign;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn::VarInt;
use tokio::time::timeout;

use super::close::{CloseCode, Lost, lost};
use super::lane::{Lane, LaneError};
use crate::id::NodeId;
use crate::wire::{Decoder, Hello};

/// Who dialed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// This node.
    Us,
    /// The peer.
    Them,
}

/// A handle of a connection; clones are the same connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    inner: quinn::Connection,
    /// With which code this node closed it: quinn says only that it did.
    closed: Arc<OnceLock<CloseCode>>,
}

/// A peer that has proved its identity and said HELLO.
#[derive(Debug)]
pub(crate) struct Introduction {
    pub(crate) connection: Connection,
    /// The identity that TLS proved.
    pub(crate) peer: NodeId,
    pub(crate) dialer: Side,
    /// What the peer said about itself.
    pub(crate) hello: Hello,
    /// The dialer's sequence number of this dial.
    pub(crate) dial: u64,
}

/// A connection on which both sides have accepted HELLO.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) intro: Introduction,
    /// The dialer's control lane, on which HELLO went.
    pub(crate) control: Lane,
    /// What has already arrived on it.
    pub(crate) decoder: Decoder,
}

/// What one connection has moved, from quinn's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) datagrams_sent: u64,
    pub(crate) datagrams_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) send_calls: u64,
    pub(crate) lost_packets: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.datagrams_sent += other.datagrams_sent;
        self.datagrams_received += other.datagrams_received;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.send_calls += other.send_calls;
        self.lost_packets += other.lost_packets;
    }
}

impl Connection {
    pub(super) fn new(inner: quinn::Connection) -> Self {
        Self { inner, closed: Arc::default() }
    }

    pub(super) fn inner(&self) -> &quinn::Connection {
        &self.inner
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.inner.remote_address()
    }

    /// Opens a stream; waits at most `patience` when the peer's stream limit is reached.
    pub(crate) async fn open(&self, patience: Duration) -> Result<Lane, LaneError> {
        match timeout(patience, self.inner.open_bi()).await {
            Ok(Ok((send, recv))) => Ok(Lane::new(send, recv)),
            Ok(Err(error)) => Err(self.lost(&error).into()),
            Err(_) => Err(LaneError::Abandoned),
        }
    }

    /// Waits for the next stream that the peer opens. Cancel safe.
    pub(crate) async fn accept(&self) -> Result<Lane, Lost> {
        let accepted = self.inner.accept_bi().await;
        accepted.map(|(send, recv)| Lane::new(send, recv)).map_err(|error| self.lost(&error))
    }

    fn lost(&self, error: &quinn::ConnectionError) -> Lost {
        match (lost(error), self.closed.get()) {
            (Lost::LocalEndpoint, Some(code)) => Lost::ByUs(*code),
            (lost, _) => lost,
        }
    }

    /// Closes at once: what the peer has not read is lost to it.
    pub(crate) fn close(&self, code: CloseCode) {
        // The first code is the one that counts, for the peer as well.
        let code = *self.closed.get_or_init(|| code);
        self.inner.close(VarInt::from_u32(code.to_u32()), code.text().as_bytes());
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let stats = self.inner.stats();
        Traffic {
            datagrams_sent: stats.udp_tx.datagrams,
            datagrams_received: stats.udp_rx.datagrams,
            bytes_sent: stats.udp_tx.bytes,
            bytes_received: stats.udp_rx.bytes,
            send_calls: stats.udp_tx.ios,
            lost_packets: stats.path.lost_packets,
        }
    }
}
