//! Why connections end, in words that both sides share.
//!
//! A close code travels in CONNECTION_CLOSE, so that the other side learns the reason and not only
//! the fact; TLS refusals travel as alerts and are told apart by [`super::tls`].

use std::fmt;

use super::tls::{self, By, Refusal};

/// The application close codes of `foveola/1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCode {
    /// The node is shutting down.
    Shutdown,
    /// Another connection of the same pair won a simultaneous dial.
    Duplicate,
    /// Unused for longer than the idle time of the pool.
    Idle,
    /// Evicted to make room.
    Capacity,
    /// A newer process of the same node replaced it.
    Superseded,
    /// The other side broke the protocol.
    Protocol,
    /// HELLO did not come in time.
    HelloTimeout,
    /// HELLO offered no common protocol version.
    Version,
    /// HELLO named another realm.
    Realm,
    /// The acceptor has no room for another connection.
    Full,
    /// The other side opened or reset streams too fast.
    ExcessiveLoad,
    /// HELLO carried a missing or wrong identity proof.
    Proof,
    /// Both ends are the same node.
    SelfDial,
    /// The peer left every request unanswered for too long.
    Unresponsive,
    /// A code that this version does not know.
    Unknown(u32),
}

impl CloseCode {
    const TABLE: [(Self, u32, &'static str); 14] = [
        (Self::Shutdown, 0, "shutdown"),
        (Self::Duplicate, 1, "duplicate"),
        (Self::Idle, 2, "idle"),
        (Self::Capacity, 3, "capacity"),
        (Self::Superseded, 4, "superseded"),
        (Self::Protocol, 5, "protocol violation"),
        (Self::HelloTimeout, 6, "hello timeout"),
        (Self::Version, 7, "no common version"),
        (Self::Realm, 8, "other realm"),
        (Self::Full, 9, "full"),
        (Self::ExcessiveLoad, 10, "excessive load"),
        (Self::Proof, 11, "identity proof"),
        (Self::SelfDial, 12, "self dial"),
        (Self::Unresponsive, 13, "unresponsive"),
    ];

    /// The number on the wire.
    pub fn to_u32(self) -> u32 {
        match self {
            Self::Unknown(code) => code,
            known => Self::TABLE.iter().find(|row| row.0 == known).map_or(u32::MAX, |row| row.1),
        }
    }

    /// The code with this number; numbers that this version does not know become `Unknown`.
    pub fn from_u32(code: u32) -> Self {
        Self::TABLE.iter().find(|row| row.1 == code).map_or(Self::Unknown(code), |row| row.0)
    }

    pub(super) fn text(self) -> &'static str {
        Self::TABLE.iter().find(|row| row.0 == self).map_or("unknown", |row| row.2)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(code) => write!(f, "unknown close code {code}"),
            known => f.write_str(known.text()),
        }
    }
}

/// How a connection ended, or why it never began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// This node closed it.
    #[error("closed by this node: {0}")]
    ByUs(CloseCode),
    /// The peer closed it.
    #[error("closed by the peer: {0}")]
    ByPeer(CloseCode),
    /// This node refused the peer's identity during the handshake.
    #[error("this node refused the peer: {0}")]
    Refused(Refusal),
    /// The peer refused this node's identity during the handshake.
    #[error("the peer refused this node: {0}")]
    RefusedByPeer(Refusal),
    /// Nothing was heard for the idle timeout, or the handshake did not end in time.
    #[error("timed out")]
    TimedOut,
    /// The peer restarted and no longer knows the connection (stateless reset).
    #[error("reset by the peer")]
    Reset,
    /// The peer or the path broke the QUIC protocol.
    #[error("transport error 0x{0:x}")]
    Transport(u64),
    /// The peer refused the connection before the handshake.
    #[error("refused by the peer before the handshake")]
    Busy,
    /// The local endpoint is gone.
    #[error("the local endpoint is closed")]
    LocalEndpoint,
}

/// CONNECTION_REFUSED of RFC 9000, section 20.1.
const CONNECTION_REFUSED: u64 = 0x2;

pub(super) fn lost(error: &quinn::ConnectionError) -> Lost {
    use quinn::ConnectionError as E;
    if let Some((by, refusal)) = tls::refusal(error) {
        return match by {
            By::Us => Lost::Refused(refusal),
            By::Them => Lost::RefusedByPeer(refusal),
        };
    }
    match error {
        E::ApplicationClosed(close) => {
            let code = u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX);
            Lost::ByPeer(CloseCode::from_u32(code))
        }
        E::TimedOut => Lost::TimedOut,
        E::Reset => Lost::Reset,
        E::TransportError(error) => Lost::Transport(u64::from(error.code)),
        E::ConnectionClosed(close) if u64::from(close.error_code) == CONNECTION_REFUSED => Lost::Busy,
        E::ConnectionClosed(close) => Lost::Transport(u64::from(close.error_code)),
        E::VersionMismatch => Lost::ByPeer(CloseCode::Version),
        E::LocallyClosed | E::CidsExhausted => Lost::LocalEndpoint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for (code, number, _) in CloseCode::TABLE {
            assert_eq!(code.to_u32(), number);
            assert_eq!(CloseCode::from_u32(number), code);
        }
        assert_eq!(CloseCode::from_u32(999), CloseCode::Unknown(999));
    }
}
