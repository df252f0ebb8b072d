//! Where a member of the mesh listens, as replies to FIND_NODE say it.

use std::net::IpAddr;

use bytes::BytesMut;

use crate::addr::Endpoint;
use crate::id::NodeId;
use crate::wire::{self, ENDPOINTS_MAX};

/// A contact, encoded once for all the replies that name it. A loopback address is told only to those who
/// are on the same host: on another one it would lead back to itself.
#[derive(Debug, Clone)]
pub(super) struct Listens {
    near: Box<[u8]>,
    far: Far,
}

/// What is told on other hosts.
#[derive(Debug, Clone)]
enum Far {
    Nothing,
    Same,
    Less(Box<[u8]>),
}

impl Listens {
    /// The contact of `node` with the first [`ENDPOINTS_MAX`] of its endpoints.
    pub(super) fn new(node: &NodeId, endpoints: &[Endpoint]) -> Self {
        let is_far = |endpoint: &Endpoint| endpoint.socket_addr().is_none_or(|addr| !is_loopback(addr.ip()));
        let distinct = || endpoints.iter().enumerate().filter(|(i, known)| !endpoints[..*i].contains(known));
        let encode = |near: bool| {
            let told = distinct().filter(|(_, endpoint)| near || is_far(endpoint)).take(ENDPOINTS_MAX);
            let told: Vec<String> = told.map(|(_, endpoint)| endpoint.to_string()).collect();
            let mut out = BytesMut::new();
            let encoded = wire::encode_contact(node, told.iter().map(String::as_str), &mut out);
            debug_assert_eq!(encoded, Ok(()), "an endpoint is never longer than its limit");
            Box::from(&out[..])
        };
        let far = endpoints.iter().filter(|endpoint| is_far(endpoint)).count();
        let far = match far {
            0 => Far::Nothing,
            _ if far == endpoints.len() => Far::Same,
            _ => Far::Less(encode(false)),
        };
        Self { near: encode(true), far }
    }

    /// The encoded contact for an asker on this host, or elsewhere.
    pub(super) fn told(&self, near: bool) -> Option<&[u8]> {
        match &self.far {
            _ if near => Some(&self.near),
            Far::Nothing => None,
            Far::Same => Some(&self.near),
            Far::Less(far) => Some(far),
        }
    }
}

pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(listens: &Listens, near: bool) -> Vec<String> {
        let mut out = BytesMut::new();
        let mut reply = wire::FindNodeReply::open(1, &mut out);
        if let Some(contact) = listens.told(near) {
            reply.push_encoded(contact, &mut out).unwrap();
        }
        let contacts = wire::decode_find_node_reply(&out[wire::HEADER_LEN..]).unwrap();
        contacts.into_iter().flat_map(|contact| contact.endpoints).map(str::to_owned).collect()
    }

    #[test]
    fn a_loopback_address_is_told_on_the_same_host_only() {
        let node = NodeId::from_bytes([1; 32]);
        let endpoints = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let both = Listens::new(&node, &endpoints(&["127.0.0.1:1", "10.0.0.1:1", "127.0.0.1:1"]));
        assert_eq!(told(&both, true), ["127.0.0.1:1", "10.0.0.1:1"]);
        assert_eq!(told(&both, false), ["10.0.0.1:1"]);
        let local = Listens::new(&node, &endpoints(&["[::1]:1"]));
        assert_eq!(told(&local, true), ["[::1]:1"]);
        assert!(local.told(false).is_none());
        let many: Vec<String> = (1..20).map(|port| format!("10.0.0.1:{port}")).collect();
        let many = Listens::new(&node, &endpoints(&many.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!(told(&many, false).len(), ENDPOINTS_MAX);
    }
}
