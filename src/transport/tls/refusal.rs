//! Why a handshake was refused, read from the TLS alert that both sides see.

use quinn::ConnectionError;

/// QUIC reports the TLS alert `a` as the transport error `0x100 + a` (RFC 9001, section 4.8).
const CRYPTO_ERRORS: u64 = 0x100;

/// Which side refused the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum By {
    /// This node refused its peer.
    Us,
    /// The peer refused this node.
    Them,
}

/// Why a TLS handshake was refused. Each reason is an alert of its own, so both sides name the same one;
/// nothing else that the refusing side says is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The acceptor proved to be another node, or another host, than the dialer expected.
    #[error("another node answers at this address")]
    WrongIdentity,
    /// The node is who it says, but is not admitted.
    #[error("the node is not admitted")]
    NotAdmitted,
    /// No authority that the refusing side believes has issued the certificate.
    #[error("the certificate is not issued by a trusted authority")]
    UnknownIssuer,
    /// The certificate is not valid at this time: it has expired, or is not valid yet.
    #[error("the certificate has expired or is not valid yet")]
    Expired,
    /// The handshake was not signed by the key in the certificate.
    #[error("the handshake is not signed by the key in the certificate")]
    BadSignature,
    /// Not a certificate of the kind that nodes show: another key than Ed25519, another purpose, or a
    /// chain where one certificate belongs.
    #[error("not the kind of certificate that nodes show")]
    UnsupportedCertificate,
    /// The dialer showed no certificate that the acceptor had asked for.
    #[error("the dialer showed no certificate")]
    NoCertificate,
    /// The other side does not speak this protocol.
    #[error("no common application protocol")]
    NoCommonAlpn,
    /// The two sides have no cipher, key exchange or signature in common.
    #[error("no common cryptography")]
    NoCommonCrypto,
    /// A certificate or a handshake message breaks the rules of its format.
    #[error("a malformed certificate or handshake message")]
    Malformed,
    /// Another TLS alert, by its number (RFC 8446, section 6).
    #[error("tls alert {0}")]
    Other(u8),
}

impl Refusal {
    fn from_alert(alert: u8) -> Self {
        match alert {
            40 => Self::NoCommonCrypto,
            // unexpected_message, bad_certificate, illegal_parameter, decode_error
            10 | 42 | 47 | 50 => Self::Malformed,
            43 => Self::UnsupportedCertificate,
            45 => Self::Expired,
            // certificate_unknown: the only alert for reasons of one's own
            46 => Self::WrongIdentity,
            48 => Self::UnknownIssuer,
            49 => Self::NotAdmitted,
            51 => Self::BadSignature,
            116 => Self::NoCertificate,
            120 => Self::NoCommonAlpn,
            other => Self::Other(other),
        }
    }
}

/// The reason, when a connection ended because its TLS handshake was refused.
pub(crate) fn refusal(error: &ConnectionError) -> Option<(By, Refusal)> {
    let (by, code) = match error {
        ConnectionError::TransportError(error) => (By::Us, error.code),
        ConnectionError::ConnectionClosed(close) => (By::Them, close.error_code),
        _ => return None,
    };
    let alert = u64::from(code).checked_sub(CRYPTO_ERRORS)?;
    Some((by, Refusal::from_alert(u8::try_from(alert).ok()?)))
}
