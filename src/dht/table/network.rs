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

#[cfg(test)]
mod tests {
    use super::*;

    fn network(ip: &str) -> Option<Network> {
        Network::of(ip.parse().expect("an address"))
    }

    #[test]
    fn addresses_of_one_network_are_together() {
        assert_eq!(network("192.0.2.1"), network("192.0.2.255"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.9"));
        assert_eq!(network("2001:db8:1::1"), network("2001:db8:1:ffff::1"));
        assert_ne!(network("2001:db8:1::1"), network("2001:db8:2::1"));
    }

    #[test]
    fn local_ranges_are_exempt() {
        for ip in ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "::1", "fd00::1"] {
            assert_eq!(network(ip), None, "{ip}");
        }
        for ip in ["fe80::1", "::ffff:10.0.0.1"] {
            assert_eq!(network(ip), None, "{ip}");
        }
        for ip in ["172.32.0.1", "11.0.0.1", "2001:db8::1"] {
            assert!(network(ip).is_some(), "{ip}");
        }
    }
}
