//! What has to happen although nobody asks: deadlines, idle connections, suspicion.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::{Inner, Peer};
use crate::runtime;

/// How often the pool looks at its clock; the resolution of request timeouts.
const TICK: Duration = Duration::from_millis(50);
/// How long a retired connection may take to finish what it carries.
pub(super) const DRAIN: Duration = Duration::from_secs(10);
/// The same for one whose peer has ended a lane. Short, because its end begins the back-off that keeps a
/// peer who always does so from being dialed again and again.
pub(super) const DRAIN_FAILED: Duration = Duration::from_secs(2);
/// Timeouts of one tick that the policy hears of: more than make a peer suspect say nothing new.
const TIMEOUTS_TOLD: usize = 2;

/// Keeps house until the pool is gone.
pub(super) async fn run(pool: Weak<Inner>) {
    let mut peers = Vec::new();
    loop {
        tokio::time::sleep_until((runtime::now() + TICK).into()).await;
        let Some(pool) = pool.upgrade() else { return };
        tick(&pool, runtime::now(), &mut peers);
        peers.clear();
    }
}

fn tick(pool: &Arc<Inner>, now: Instant, peers: &mut Vec<Arc<Peer>>) {
    let mut state = pool.lock();
    for peer in state.live.values() {
        peers.push(Arc::clone(peer));
    }
    for peer in peers.iter() {
        if peer.was_used() {
            state.policy.touch(now, peer.id);
        }
    }
    let retired = state.policy.tick(now);
    drop(state);
    pool.retire(retired);
    for peer in peers.iter() {
        let (expired, stalled) = peer.expire(now);
        let answered = peer.answered.swap(false, Ordering::Relaxed);
        if !answered && !stalled && expired == 0 {
            continue;
        }
        let policy = &mut pool.lock().policy;
        if answered {
            policy.healthy(peer.id);
        }
        if stalled {
            policy.suspect(peer.id);
        }
        for _ in 0..expired.min(TIMEOUTS_TOLD) {
            policy.timed_out(peer.id);
        }
    }
}
