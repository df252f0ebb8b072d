//! What the pool tells about itself.

use std::fmt;
use std::time::Duration;

use crate::id::NodeId;

use super::types::{CloseReason, DialFailure, Side};

/// Counts since the node started, and what there is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Connections that take new work, now.
    pub residents: usize,
    /// Of the residents, those that the peer dialed.
    pub inbound: usize,
    /// Connections with at least one lease, now.
    pub leased: usize,
    /// Leases, now.
    pub leases: usize,
    /// Dials under way, now.
    pub dialing: usize,
    /// Connections that are being drained, now.
    pub retiring: usize,
    /// Requests for a connection that found one.
    pub hits: u64,
    /// Dials started.
    pub dials: u64,
    /// Requests for a connection that joined a dial under way.
    pub coalesced: u64,
    /// Requests for a connection that were turned away because the last dials had failed.
    pub backed_off: u64,
    /// Requests for a connection that gave up waiting for room.
    pub exhausted: u64,
    /// Dials that led to no connection.
    pub dial_failures: u64,
    /// Connections of peers that were turned away.
    pub refused: u64,
    /// Of the refused ones, those of a process that a newer one with the same identity had replaced. When
    /// this rises steadily, two nodes share one key.
    pub stale: u64,
    /// Connections that became ready, those turned away afterwards included.
    pub handshakes: u64,
    /// Application messages sent and received.
    pub messages: u64,
    /// Connections closed or being drained, by reason.
    pub closes: Closes,
}

impl PoolStats {
    /// Handshakes for each 1,000 messages; `None` before the first message.
    pub fn handshakes_per_1000(&self) -> Option<f64> {
        (self.messages > 0).then(|| self.handshakes as f64 * 1000.0 / self.messages as f64)
    }
}

/// Connections closed or being drained, by [`CloseReason`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closes {
    /// See [`CloseReason::Capacity`].
    pub capacity: u64,
    /// See [`CloseReason::Idle`].
    pub idle: u64,
    /// See [`CloseReason::Duplicate`].
    pub duplicate: u64,
    /// See [`CloseReason::Superseded`].
    pub superseded: u64,
    /// See [`CloseReason::Shutdown`].
    pub shutdown: u64,
    /// See [`CloseReason::Remote`].
    pub remote: u64,
    /// See [`CloseReason::Error`].
    pub error: u64,
}

impl Closes {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Self { capacity, idle, duplicate, superseded, shutdown, remote, error } = *self;
        capacity + idle + duplicate + superseded + shutdown + remote + error
    }

    pub(super) fn of(&mut self, reason: CloseReason) -> &mut u64 {
        match reason {
            CloseReason::Capacity => &mut self.capacity,
            CloseReason::Idle => &mut self.idle,
            CloseReason::Duplicate => &mut self.duplicate,
            CloseReason::Superseded => &mut self.superseded,
            CloseReason::Shutdown => &mut self.shutdown,
            CloseReason::Remote => &mut self.remote,
            CloseReason::Error => &mut self.error,
        }
    }
}

/// Why there is a connection to a peer, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explain {
    /// The peer.
    pub peer: NodeId,
    /// The connection that takes new work.
    pub open: Option<OpenConnection>,
    /// For how long a dial has been under way.
    pub dialing: Option<Duration>,
    /// Connections to the peer that are being drained.
    pub retiring: usize,
    /// Two timeouts in a row or no progress, and no answer since.
    pub suspect: bool,
    /// How long the peer will not be dialed.
    pub back_off: Option<Duration>,
    /// Failed dials and early losses since a connection that lasted.
    pub failures: u32,
    /// How the last failed dial failed, and how long ago.
    pub last_failure: Option<(DialFailure, Duration)>,
    /// The last closed connections, latest first.
    pub closed: Vec<ClosedConnection>,
}

/// A connection that takes new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenConnection {
    /// Who dialed it.
    pub dialed_by: Side,
    /// The dialer's number for the dial. With [`dialed_by`](Self::dialed_by) it names the connection alike
    /// at both ends.
    pub dial: u64,
    /// How long ago it became ready.
    pub age: Duration,
    /// Uses that forbid to close it.
    pub leases: u32,
    /// How long ago it was last released or carried an application frame from the peer.
    pub idle: Duration,
    /// After how long it goes if nobody uses it; `None` while it is leased.
    pub goes_in: Option<Duration>,
}

/// A connection that is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClosedConnection {
    /// Why it was closed.
    pub reason: CloseReason,
    /// Who dialed it.
    pub dialed_by: Side,
    /// How long it had been ready.
    pub lived: Duration,
    /// How long ago it was closed.
    pub ago: Duration,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Us => "us",
            Self::Them => "them",
        })
    }
}

impl fmt::Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.8}: ", self.peer)?;
        match (&self.open, self.dialing) {
            (Some(open), _) => {
                write!(f, "open for {:.1?}, dialed by {}, ", open.age, open.dialed_by)?;
                match open.goes_in {
                    None => write!(f, "leased {} times", open.leases)?,
                    Some(left) => write!(f, "idle for {:.1?}, goes in {left:.1?}", open.idle)?,
                }
            }
            (None, Some(since)) => write!(f, "dialing for {since:.1?}")?,
            (None, None) => f.write_str("no connection")?,
        }
        if self.retiring > 0 {
            write!(f, "; {} draining", self.retiring)?;
        }
        if self.suspect {
            f.write_str("; suspect")?;
        }
        if let Some((failure, ago)) = &self.last_failure {
            write!(f, "; {} failures, last dial {failure} {ago:.1?} ago", self.failures)?;
        }
        if let Some(left) = self.back_off {
            write!(f, "; not dialed for {left:.1?}")?;
        }
        for closed in &self.closed {
            let ClosedConnection { reason, dialed_by, lived, ago } = closed;
            write!(f, "; closed {ago:.1?} ago after {lived:.1?}: {reason} (dialed by {dialed_by})")?;
        }
        Ok(())
    }
}
