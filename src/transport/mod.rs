//! The transport: verified QUIC connections and the lanes on them.
//!
//! The only place that names quinn and rustls. A connection that leaves here is Ready: TLS has proved
//! both identities, and both sides have accepted each other's HELLO. What travels on its lanes is not
//! understood here, apart from HELLO.

mod accept;
mod close;
mod config;
mod connection;
mod endpoint;
#[cfg(feature = "test-util")]
pub(crate) mod fault;
mod gate;
mod hello;
mod lane;
mod reset_key;
pub(crate) mod socket;
pub(crate) mod tls;

pub use close::{CloseCode, Lost};
pub use config::{TransportConfig, TransportConfigError};
pub use connection::Side;
pub use endpoint::{AttemptError, BindError};
pub use socket::SocketError;
pub use tls::{
    Admit, ExpectError, PemError, PublicCertificate, Refusal, TlsError, Trust, certificates_from_pem,
};

pub(crate) use accept::Attempt;
pub(crate) use connection::{Connection, Introduction, Ready, Traffic};
pub(crate) use endpoint::{Bind, Endpoint};
pub(crate) use lane::{Lane, LaneError, LaneRecv, LaneSend};
pub(crate) use tls::Expect;
