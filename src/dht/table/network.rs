//! The network that an address belongs to, as far as diversity is concerned.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A /24 of IPv4 or a /48 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Network {
    V4([u8; 3]),
    V6([u8; 6]),
}

impl Network {
    /// The network of `ip`; none where an address is no evidence of who is behind it: loopback, private and
    /// link-local ranges. An IPv4 address mapped into IPv6 is what it maps.
    pub(super) fn of(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => (!is_local_v4(ip)).then(|| {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }),
            IpAddr::V6(ip) => (!is_local_v6(ip)).then(|| {
                let [a, b, c, d, e, f, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f])
            }),
        }
    }
}

fn is_local_v4(ip: Ipv4Addr) -> bool {
    ip.is_loopback() || ip.is_private() || ip.is_link_local()
}

fn is_local_v6(ip: Ipv6Addr) -> bool {
    ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
}
