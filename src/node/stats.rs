//! What a node counts.

use std::sync::atomic::Ordering;

use super::Inner;
use crate::pool::PoolStats;

/// Counters (since the start) and gauges (now) of one node.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NodeStats {
    /// Connections made Ready, dialed and accepted.
    pub handshakes: u64,
    /// Connections that exist now, draining ones included.
    pub connections: usize,
    /// Streams of peers that are being served now.
    pub streams_served: u32,
    /// Tasks of the node that are alive now.
    pub tasks: usize,
    /// Nodes in the routing table now.
    pub table_nodes: usize,
    /// Records held for others now, and the bytes of their values.
    pub held_records: usize,
    /// Bytes of the values of [`held_records`](Self::held_records).
    pub held_bytes: usize,
    /// Own publications now.
    pub published_records: usize,
    /// Bytes of the values of [`published_records`](Self::published_records).
    pub published_bytes: usize,
    /// Copies of records that others have taken over from this node, beyond its own stores.
    pub replicated: u64,
    /// Copies that they refused, or that did not arrive.
    pub not_replicated: u64,
    /// Requests that were passed on for others.
    pub relayed: u64,
    /// Requests for others that were not passed on: forged, seen before, or too many.
    pub relay_refused: u64,
    /// Own requests that took a route through others.
    pub routed_sent: u64,
    /// Requests for this node that came by a route.
    pub routed_received: u64,
    /// Times that the direct way to a peer with a route was tried in the background.
    pub direct_probes: u64,
    /// Searches of the network so far.
    pub lookups: u64,
    /// Nodes that were asked in [`lookups`](Self::lookups).
    pub lookup_queries: u64,
    /// How many of [`lookup_queries`](Self::lookup_queries) had no answer in time.
    pub lookup_failures: u64,
    /// The sum of the hops of [`lookups`](Self::lookups): 1 for each where this node knew the closest node
    /// itself, 2 where one of those did, and so on.
    pub lookup_hops: u64,
    /// Replies that came after their requester had given up.
    pub late_replies: u64,
    /// UDP datagrams sent.
    pub datagrams_sent: u64,
    /// UDP datagrams received.
    pub datagrams_received: u64,
    /// Bytes of UDP payload sent.
    pub bytes_sent: u64,
    /// Bytes of UDP payload received.
    pub bytes_received: u64,
    /// Calls to the kernel for sending.
    pub send_calls: u64,
    /// Packets that QUIC found lost.
    pub lost_packets: u64,
    /// The pool.
    pub pool: PoolStats,
}

impl NodeStats {
    pub(super) fn of(inner: &Inner) -> Self {
        let activity = inner.pool.activity();
        let traffic = activity.traffic;
        let paths = inner.path.counts();
        let lookups = inner.dht.lookups();
        let (held_records, held_bytes) = inner.dht.held();
        let (replicated, not_replicated) = inner.dht.replicated();
        let (published_records, published_bytes) = inner.dht.published();
        Self {
            handshakes: activity.handshakes,
            connections: activity.connections,
            streams_served: activity.streams_served,
            tasks: inner.tasks.len(),
            table_nodes: inner.dht.table_len(),
            held_records,
            held_bytes,
            published_records,
            published_bytes,
            replicated,
            not_replicated,
            relayed: paths.relayed.load(Ordering::Relaxed),
            relay_refused: paths.relay_refused.load(Ordering::Relaxed),
            routed_sent: paths.routed_sent.load(Ordering::Relaxed),
            routed_received: paths.routed_received.load(Ordering::Relaxed),
            direct_probes: paths.direct_probes.load(Ordering::Relaxed),
            lookups: lookups.lookups,
            lookup_queries: lookups.queries,
            lookup_failures: lookups.failed,
            lookup_hops: lookups.hops,
            late_replies: activity.late_replies,
            datagrams_sent: traffic.datagrams_sent,
            datagrams_received: traffic.datagrams_received,
            bytes_sent: traffic.bytes_sent,
            bytes_received: traffic.bytes_received,
            send_calls: traffic.send_calls,
            lost_packets: traffic.lost_packets,
            pool: inner.pool.stats(),
        }
    }
}
