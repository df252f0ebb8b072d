//! What a node counts.

use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Copies that they refused, or that did not arrive; those included that a node which leaves has not got
    /// rid of within its [`drain`](super::Config::drain).
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
    /// Services that this node offers now.
    pub services: usize,
    /// Services of others whose providers are remembered now, about.
    pub services_remembered: usize,
    /// Handlers that are running now.
    pub handlers: usize,
    /// Calls that this node has made.
    pub calls: u64,
    /// How many of [`calls`](Self::calls) ended in an error.
    pub calls_failed: u64,
    /// How many of [`calls`](Self::calls) it has served itself.
    pub calls_local: u64,
    /// Attempts of calls that took a route through others.
    pub calls_routed: u64,
    /// Attempts beyond the first of a call.
    pub failovers: u64,
    /// How many of [`failovers`](Self::failovers) began while an earlier attempt was still under way.
    pub overlaps: u64,
    /// Calls whose providers were remembered.
    pub discovery_hits: u64,
    /// Times that the DHT was asked who offers a service.
    pub discoveries: u64,
    /// Calls that used what was remembered because the DHT could not be asked.
    pub discovery_stale: u64,
    /// Calls that arrived.
    pub calls_served: u64,
    /// Calls of others that were turned away: no such service, no room, or the node shuts down.
    pub calls_refused: u64,
    /// Handlers that panicked.
    pub handler_panics: u64,
    /// Handlers that were stopped because their caller had given up.
    pub handlers_cancelled: u64,
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

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl NodeStats {
    pub(super) fn of(inner: &Inner) -> Self {
        let activity = inner.pool.activity();
        let traffic = activity.traffic;
        let paths = inner.path.counts();
        let calls = inner.rpc.counts();
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
            relayed: count(&paths.relayed),
            relay_refused: count(&paths.relay_refused),
            routed_sent: count(&paths.routed_sent),
            routed_received: count(&paths.routed_received),
            direct_probes: count(&paths.direct_probes),
            lookups: lookups.lookups,
            lookup_queries: lookups.queries,
            lookup_failures: lookups.failed,
            lookup_hops: lookups.hops,
            services: inner.rpc.offered(),
            services_remembered: inner.rpc.remembered(),
            handlers: inner.rpc.running(),
            calls: count(&calls.calls),
            calls_failed: count(&calls.failed),
            calls_local: count(&calls.local),
            calls_routed: count(&calls.routed),
            failovers: count(&calls.failovers),
            overlaps: count(&calls.overlaps),
            discovery_hits: calls.hits(),
            discoveries: count(&calls.discoveries),
            discovery_stale: count(&calls.stale),
            calls_served: count(&calls.served),
            calls_refused: count(&calls.refused),
            handler_panics: count(&calls.panics),
            handlers_cancelled: count(&calls.cancelled),
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
