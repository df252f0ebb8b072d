//! Where a node can be reached, and how it must prove itself there.
//!
//! An [`Endpoint`] is `host:port`; a [`PeerAddr`] adds what the dialer expects to find: a certain node
//! (`<node-id>@host:port`), any node of the realm (`host:port`), or a host with a certificate of a public
//! authority (`public:host:port`). Every value prints as the text it is read from.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::id::{NodeId, ParseIdError};

/// The longest DNS name, in characters (RFC 1035, section 2.3.4, without the root label).
pub const MAX_NAME_LEN: usize = 253;
/// The longest label of a DNS name, in characters.
const MAX_LABEL_LEN: usize = 63;
/// What precedes the endpoint of a host that is known by its name alone.
const PUBLIC: &str = "public:";

/// The host part of an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    Ip(IpAddr),
    /// Valid, in lower case.
    Name(String),
}

/// A host and a UDP port, written `192.0.2.1:9443`, `[2001:db8::1]:9443` or `node.example:9443`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    host: Host,
    port: u16,
}

impl Endpoint {
    /// The endpoint at `host`: an IPv4 address, an IPv6 address with or without brackets, or a DNS name
    /// of at most [`MAX_NAME_LEN`] characters. Names are kept in lower case.
    ///
    /// # Errors
    ///
    /// [`AddrError`] when `host` is none of these.
    pub fn new(host: &str, port: u16) -> Result<Self, AddrError> {
        let bracketed = host.strip_prefix('[').map(|rest| rest.strip_suffix(']').unwrap_or(""));
        let host = if let Some(inner) = bracketed {
            Host::Ip(inner.parse::<Ipv6Addr>().map_err(|_| AddrError::Ip)?.into())
        } else if let Ok(ip) = host.parse() {
            Host::Ip(ip)
        } else {
            check_name(host)?;
            Host::Name(host.to_ascii_lowercase())
        };
        Ok(Self { host, port })
    }

    /// The host as text: an IP address without brackets, or a DNS name in lower case.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.clone(),
        }
    }

    /// The DNS name, or `None` when the host is an IP address.
    pub fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Ip(_) => None,
            Host::Name(name) => Some(name),
        }
    }

    /// The UDP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The socket address, or `None` when the host is a name that must be looked up first.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }

    /// Whether nobody can be reached here: the address is `0.0.0.0` or `::`, or the port is 0. Such an
    /// endpoint says where to listen, and must be neither dialed nor advertised.
    pub fn is_unspecified(&self) -> bool {
        self.port == 0 || matches!(self.host, Host::Ip(ip) if ip.to_canonical().is_unspecified())
    }
}

/// The address alone; the flow label and the scope of an IPv6 socket address are local and are dropped.
impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self { host: Host::Ip(addr.ip()), port: addr.port() }
    }
}

impl FromStr for Endpoint {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddrError::NoPort)?;
        // `parse` alone would take a sign.
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or(AddrError::Port)?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(AddrError::NoBrackets);
        }
        Self::new(host, port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(ip) => write!(f, "{ip}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

/// How the node at an address proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// By a certificate that carries its node key.
    Mesh,
    /// By a certificate of a public authority for the name of its host; its node id is proved afterwards.
    Public,
}

/// An [`Endpoint`] and what the dialer expects there.
///
/// | text | expects | dialed with |
/// | --- | --- | --- |
/// | `<node-id>@host:port` | this node | any trust |
/// | `host:port` | any node of the realm | realm trust only: there the certificate authority vouches |
/// | `public:name:port` | whoever a public authority certified for `name` | any trust |
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddr {
    id: Option<NodeId>,
    endpoint: Endpoint,
    mode: Mode,
}

impl PeerAddr {
    /// The node `id` at `endpoint`.
    pub fn node(id: NodeId, endpoint: impl Into<Endpoint>) -> Self {
        Self { id: Some(id), endpoint: endpoint.into(), mode: Mode::Mesh }
    }

    /// Whichever node of the realm is at `endpoint`.
    pub fn any(endpoint: impl Into<Endpoint>) -> Self {
        Self { id: None, endpoint: endpoint.into(), mode: Mode::Mesh }
    }

    /// The node at `endpoint` behind a certificate of a public authority.
    ///
    /// # Errors
    ///
    /// [`AddrError::PublicIp`] when the host is an IP address: the acceptor chooses its public
    /// certificate by the name that is asked for.
    pub fn public(endpoint: Endpoint) -> Result<Self, AddrError> {
        match endpoint.host {
            Host::Name(_) => Ok(Self { id: None, endpoint, mode: Mode::Public }),
            Host::Ip(_) => Err(AddrError::PublicIp),
        }
    }

    /// The node that must answer, when the address says so.
    pub fn id(&self) -> Option<NodeId> {
        self.id
    }

    /// Where to dial.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// How the node there proves who it is.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

/// As [`PeerAddr::any`].
impl From<SocketAddr> for PeerAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::any(addr)
    }
}

impl FromStr for PeerAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        match text.strip_prefix(PUBLIC) {
            // `public:9443` is a host of that name.
            Some(rest) if rest.contains(':') => return Self::public(rest.parse()?),
            _ => {}
        }
        match text.split_once('@') {
            Some((id, endpoint)) => Ok(Self::node(id.parse()?, endpoint.parse::<Endpoint>()?)),
            None => text.parse().map(|endpoint: Endpoint| Self::any(endpoint)),
        }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.mode, self.id) {
            (Mode::Public, _) => write!(f, "{PUBLIC}{}", self.endpoint),
            (Mode::Mesh, Some(id)) => write!(f, "{id}@{}", self.endpoint),
            (Mode::Mesh, None) => write!(f, "{}", self.endpoint),
        }
    }
}

impl fmt::Debug for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerAddr({self})")
    }
}

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddrError {
    /// The part before the `@` is not a node id.
    #[error("the part before the @ is not a node id: {0}")]
    Id(#[from] ParseIdError),
    /// There is no port.
    #[error("an address ends with a colon and a port")]
    NoPort,
    /// The port is not a number from 0 to 65535.
    #[error("a port is a number from 0 to 65535")]
    Port,
    /// An IPv6 address stands without brackets, so that its end is not clear.
    #[error("an ipv6 address stands in brackets")]
    NoBrackets,
    /// What is in the brackets is not an IPv6 address.
    #[error("the brackets do not hold an ipv6 address")]
    Ip,
    /// The host is neither an IP address nor a DNS name: labels of 1 to 63 letters, digits, `-` and `_`,
    /// separated by dots, the last of them not a number.
    #[error("the host is neither an ip address nor a dns name")]
    Name,
    /// The DNS name is longer than [`MAX_NAME_LEN`].
    #[error("a dns name has at most {MAX_NAME_LEN} characters, not {0}")]
    NameLength(usize),
    /// A public address needs a name that a certificate can carry, not an IP address.
    #[error("a public address needs a dns name, not an ip address")]
    PublicIp,
}

/// Underscores are allowed because container networks put them into names.
fn check_name(name: &str) -> Result<(), AddrError> {
    if name.len() > MAX_NAME_LEN {
        return Err(AddrError::NameLength(name.len()));
    }
    let valid = name.split('.').all(|label| {
        (1..=MAX_LABEL_LEN).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    });
    // A name that ends in a number is a mistyped IPv4 address (WHATWG URL, section 3.5).
    let last = name.rsplit('.').next().unwrap_or("");
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit());
    if valid && !numeric { Ok(()) } else { Err(AddrError::Name) }
}

/// Whether `ip` belongs to a range that is not routed on the internet: loopback, private (RFC 1918),
/// link-local, or unique local (RFC 4193), also when it is an IPv4 address mapped into IPv6.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}
