//! What the pool tells about itself.

use std::sync::atomic::Ordering;

use super::{Explain, Pool, PoolStats, serve};
use crate::id::NodeId;
use crate::runtime;
use crate::transport::{Lost, Traffic};

/// What the connections of a pool have done and are doing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activity {
    pub(crate) handshakes: u64,
    pub(crate) connections: usize,
    pub(crate) streams_served: u32,
    pub(crate) late_replies: u64,
    pub(crate) traffic: Traffic,
}

impl Pool {
    pub(crate) fn stats(&self) -> PoolStats {
        let state = self.inner.lock();
        let messages = state.live.values().map(|peer| peer.messages()).sum::<u64>();
        PoolStats { messages: state.past.messages + messages, ..state.policy.stats() }
    }

    pub(crate) fn explain(&self, peer: &NodeId) -> Explain {
        self.inner.lock().policy.explain(runtime::now(), *peer)
    }

    /// How the last inbound attempts failed, oldest first.
    pub(crate) fn refusals(&self) -> Vec<Lost> {
        self.inner.lock().refusals.iter().copied().collect()
    }

    pub(crate) fn activity(&self) -> Activity {
        let state = self.inner.lock();
        let mut traffic = state.past.traffic;
        let late = state.live.values().map(|peer| peer.late.load(Ordering::Relaxed)).sum::<u64>();
        for peer in state.live.values() {
            traffic += peer.connection.traffic();
        }
        let [dialed, accepted] = &self.inner.handshakes;
        Activity {
            handshakes: dialed.load(Ordering::Relaxed) + accepted.load(Ordering::Relaxed),
            connections: state.live.len(),
            streams_served: serve::served(state.live.values()),
            late_replies: state.past.late_replies + late,
            traffic,
        }
    }
}
