//! Datagrams that wait for their time: ordered by it, bounded in number.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use quinn::udp::{EcnCodepoint, Transmit};

/// An owned outgoing datagram.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) to: SocketAddr,
    ecn: Option<EcnCodepoint>,
    from: Option<IpAddr>,
    contents: Box<[u8]>,
}

impl Packet {
    pub(super) fn copy(transmit: &Transmit<'_>) -> Self {
        Self {
            to: transmit.destination,
            ecn: transmit.ecn,
            from: transmit.src_ip,
            contents: transmit.contents.into(),
        }
    }

    pub(super) fn transmit(&self) -> Transmit<'_> {
        Transmit {
            destination: self.to,
            ecn: self.ecn,
            contents: &self.contents,
            segment_size: None,
            src_ip: self.from,
        }
    }
}

/// Packets by due time; those due together leave in the order they came.
#[derive(Debug)]
pub(super) struct Queue {
    held: BTreeMap<(Instant, u64), Packet>,
    next: u64,
    limit: usize,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { held: BTreeMap::new(), next: 0, limit }
    }

    /// Holds `packet` until `at`. Returns false, and forgets it, when the queue is full.
    pub(super) fn push(&mut self, at: Instant, packet: Packet) -> bool {
        if self.held.len() >= self.limit {
            return false;
        }
        self.held.insert((at, self.next), packet);
        self.next += 1;
        true
    }

    /// When the first packet is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.first_key_value().map(|((at, _), _)| *at)
    }

    /// The first packet, when it is due at `now`.
    pub(super) fn peek(&self, now: Instant) -> Option<&Packet> {
        self.held.first_key_value().filter(|((at, _), _)| *at <= now).map(|(_, packet)| packet)
    }

    /// Forgets the first packet.
    pub(super) fn pop(&mut self) {
        self.held.pop_first();
    }
}
