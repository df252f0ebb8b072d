//! The address book: where peers were last known to listen.
//!
//! Bounded and pure: the peer that was asked for longest ago is forgotten first. An address at which
//! somebody else answered, or nobody, goes to the end of its peer's list.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::addr::Endpoint;
use crate::id::NodeId;

/// Addresses kept for one peer.
pub(crate) const ADDRESSES_MAX: usize = 8;
/// Peers remembered.
const PEERS_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("a literal above zero");

#[derive(Debug)]
pub(super) struct AddressBook {
    peers: LruCache<NodeId, Vec<Endpoint>>,
}

impl AddressBook {
    pub(super) fn new() -> Self {
        Self { peers: LruCache::new(PEERS_MAX) }
    }

    /// Adds addresses of `peer`, newest first; the oldest ones beyond [`ADDRESSES_MAX`] are forgotten.
    pub(super) fn learn(&mut self, peer: NodeId, endpoints: impl IntoIterator<Item = Endpoint>) {
        let known = self.peers.get_or_insert_mut(peer, Vec::new);
        let mut placed = 0;
        for endpoint in endpoints.into_iter().take(ADDRESSES_MAX) {
            if known[..placed].contains(&endpoint) {
                continue;
            }
            known.retain(|other| *other != endpoint);
            known.insert(placed, endpoint);
            placed += 1;
        }
        known.truncate(ADDRESSES_MAX);
    }

    /// Adds addresses of `peer` that somebody else told, behind those that are known, as far as there are
    /// places left: hearsay displaces nothing.
    pub(super) fn hear(&mut self, peer: NodeId, endpoints: impl IntoIterator<Item = Endpoint>) {
        let known = self.peers.get_or_insert_mut(peer, Vec::new);
        for endpoint in endpoints.into_iter().take(ADDRESSES_MAX) {
            if known.len() < ADDRESSES_MAX && !known.contains(&endpoint) {
                known.push(endpoint);
            }
        }
    }

    /// The addresses of `peer`, best first.
    pub(super) fn addresses(&mut self, peer: &NodeId) -> Vec<Endpoint> {
        self.peers.get(peer).cloned().unwrap_or_default()
    }

    /// Puts an address that failed behind the others.
    pub(super) fn demote(&mut self, peer: &NodeId, endpoint: &Endpoint) {
        if let Some(known) = self.peers.peek_mut(peer)
            && let Some(place) = known.iter().position(|other| other == endpoint)
        {
            let endpoint = known.remove(place);
            known.push(endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16) -> Endpoint {
        format!("10.0.0.1:{port}").parse().unwrap()
    }

    #[test]
    fn newest_first_bounded_and_failures_last() {
        let mut book = AddressBook::new();
        let peer = NodeId::from_bytes([1; 32]);
        for port in 1..=10 {
            book.learn(peer, [endpoint(port)]);
        }
        let known = book.addresses(&peer);
        assert_eq!(known.len(), ADDRESSES_MAX);
        assert_eq!(known[0], endpoint(10));
        book.demote(&peer, &endpoint(10));
        assert_eq!(book.addresses(&peer)[0], endpoint(9));
        assert_eq!(book.addresses(&peer).last(), Some(&endpoint(10)));
        book.learn(peer, [endpoint(3)]);
        assert_eq!(book.addresses(&peer).len(), ADDRESSES_MAX);
    }

    #[test]
    fn an_address_that_is_told_twice_keeps_its_first_place() {
        let mut book = AddressBook::new();
        let peer = NodeId::from_bytes([1; 32]);
        book.learn(peer, [endpoint(1)]);
        book.learn(peer, [endpoint(2), endpoint(2), endpoint(3)]);
        assert_eq!(book.addresses(&peer), [endpoint(2), endpoint(3), endpoint(1)]);
    }

    #[test]
    fn hearsay_goes_behind_what_is_known_and_displaces_nothing() {
        let mut book = AddressBook::new();
        let peer = NodeId::from_bytes([1; 32]);
        book.learn(peer, [endpoint(1), endpoint(2)]);
        book.hear(peer, (10..30).map(endpoint));
        let known = book.addresses(&peer);
        assert_eq!(known[..3], [endpoint(1), endpoint(2), endpoint(10)]);
        assert_eq!(known.len(), ADDRESSES_MAX);
        book.hear(peer, [endpoint(40)]);
        assert_eq!(book.addresses(&peer), known);
        // What the peer itself says later has its place all the same.
        book.learn(peer, [endpoint(3)]);
        assert_eq!(book.addresses(&peer)[..3], [endpoint(3), endpoint(1), endpoint(2)]);
    }
}
