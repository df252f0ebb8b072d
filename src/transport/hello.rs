//! HELLO: what makes a connection Ready.
//!
//! In TLS 1.3 the dialer finishes before the acceptor has judged it, so a finished handshake proves
//! nothing to the dialer (RFC 8446, section 4.4.4). The dialer opens the control lane with HELLO, the
//! acceptor answers HELLO_ACK, and only then may either side count the other as connected.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use super::close::{CloseCode, Lost};
use super::connection::Connection;
use super::lane::{Lane, LaneError, LaneRecv};
use crate::wire::{Decoder, Hello, Kind};

/// The protocol versions that this node speaks, oldest and newest.
pub(crate) const VERSIONS: (u16, u16) = (1, 1);

/// The largest body of a HELLO that is read, bytes. Its known fields take less than a fifth of it; whoever
/// has not been judged yet may not make us hold more.
const HELLO_BODY_MAX: u32 = 16 << 10;

/// Why HELLO failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HelloError {
    #[error("no HELLO in time")]
    Timeout,
    #[error("HELLO refused: {0}")]
    Refused(CloseCode),
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl From<LaneError> for HelloError {
    fn from(error: LaneError) -> Self {
        match error {
            LaneError::Abandoned => Self::Refused(CloseCode::Protocol),
            LaneError::Lost(lost) => Self::Lost(lost),
        }
    }
}

/// Waits for the acceptor's answer to `hello`, which was sent.
///
/// Returns the answer and what followed it on the lane.
pub(super) async fn greet(
    lane: &mut Lane,
    hello: &Hello,
    patience: Duration,
) -> Result<(Hello, Decoder), HelloError> {
    let mut decoder = Decoder::new(HELLO_BODY_MAX);
    let answer = receive(&mut lane.recv, Kind::HelloAck, &mut decoder);
    let answer = timeout(patience, answer).await.map_err(|_| HelloError::Timeout)??;
    judge(&answer, &hello.realm)?;
    Ok((answer, decoder))
}

/// Waits for the dialer's control lane and for HELLO on it, `patience` for both together; returns the
/// lane, HELLO, and what followed it.
pub(super) async fn await_greeting(
    connection: &Connection,
    realm: &str,
    patience: Duration,
) -> Result<(Lane, Hello, Decoder), HelloError> {
    let mut decoder = Decoder::new(HELLO_BODY_MAX);
    let greeting = async {
        let mut lane = connection.accept().await?;
        let hello = receive(&mut lane.recv, Kind::Hello, &mut decoder).await?;
        Ok::<_, HelloError>((lane, hello))
    };
    let (lane, hello) = timeout(patience, greeting).await.map_err(|_| HelloError::Timeout)??;
    judge(&hello, realm)?;
    Ok((lane, hello, decoder))
}

/// Writes one HELLO or HELLO_ACK.
pub(super) async fn send(lane: &mut Lane, kind: Kind, hello: &Hello) -> Result<(), HelloError> {
    let mut out = BytesMut::new();
    let encoded = match kind {
        Kind::HelloAck => hello.encode_ack(0, &mut out),
        _ => hello.encode(0, &mut out),
    };
    encoded.map_err(|_| HelloError::Refused(CloseCode::Protocol))?;
    let bytes: Bytes = out.freeze();
    Ok(lane.send.write(bytes).await?)
}

async fn receive(recv: &mut LaneRecv, kind: Kind, decoder: &mut Decoder) -> Result<Hello, HelloError> {
    loop {
        if let Some(frame) = decoder.next().map_err(|_| HelloError::Refused(CloseCode::Protocol))? {
            if frame.header.kind != kind as u8 {
                return Err(HelloError::Refused(CloseCode::Protocol));
            }
            return Hello::decode(frame.body).map_err(|_| HelloError::Refused(CloseCode::Protocol));
        }
        if !recv.fill(decoder).await? {
            return Err(HelloError::Refused(CloseCode::Protocol));
        }
    }
}

/// Version, realm and grants, judged by each side about the other. A lane without a grant would let
/// every request on it wait for ever.
fn judge(hello: &Hello, realm: &str) -> Result<(), HelloError> {
    if hello.version_min > VERSIONS.1 || hello.version_max < VERSIONS.0 {
        return Err(HelloError::Refused(CloseCode::Version));
    }
    if hello.realm != realm {
        return Err(HelloError::Refused(CloseCode::Realm));
    }
    if hello.grants.iter().any(|grant| grant.bytes == 0 || grant.requests == 0) {
        return Err(HelloError::Refused(CloseCode::Protocol));
    }
    Ok(())
}
