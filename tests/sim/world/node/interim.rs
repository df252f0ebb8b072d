//! Interim upkeep.
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use foveola::dht::members::Members;
use foveola::id::Key;
use foveola::id::NodeId;
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UpkeepConfig;
pub(crate) enum Duty { Lookup(Key), Ping(NodeId), Bootstrap }
#[derive(Debug)]
pub(crate) struct Upkeep { joined: bool, boot_at: Option<Instant>, todo: VecDeque<Key>, next: Instant, seed: u64, refresh: Instant, stage: u8, pings: VecDeque<NodeId> }
impl Upkeep {
    pub(crate) fn new(seed: u64, now: Instant, _c: UpkeepConfig) -> Self {
        Self { joined: false, boot_at: Some(now), todo: VecDeque::new(), next: now, seed, refresh: now, stage: 0, pings: VecDeque::new() }
    }
    pub(crate) fn due<T>(&mut self, now: Instant, m: &Members<T>) -> Option<Duty> {
        if !self.joined {
            return match self.boot_at { Some(at) if now >= at => { self.boot_at = None; Some(Duty::Bootstrap) } _ => { self.next = now + Duration::from_secs(1); None } };
        }
        if self.stage == 0 { self.stage = 1; self.refresh = now + Duration::from_secs(3600); return Some(Duty::Lookup(m.table().own().to_key())); }
        if (self.stage == 2) || now >= self.refresh {
            self.stage = 3;
            self.refresh = now + Duration::from_secs(3600);
            let own = *m.table().own();
            let near = m.table().iter().map(|c| c.id.distance(&own.to_key()).leading_zeros()).max().unwrap_or(0);
            for b in 0..near.min(24) {
                let mut x = *own.as_bytes();
                let mut s = self.seed.wrapping_mul(0x9e3779b97f4a7c15).wrapping_add(u64::from(b) * 77);
                for (i, byte) in x.iter_mut().enumerate() { s ^= s << 13; s ^= s >> 7; s ^= s << 17; let bit = (i as u32) * 8; if bit >= b + 8 { *byte = s as u8; } }
                x[(b / 8) as usize] ^= 0x80 >> (b % 8);
                self.todo.push_back(Key::from_bytes(x));
            }
        }
        if let Some(k) = self.todo.pop_front() { return Some(Duty::Lookup(k)); }
        if let Some(p) = self.pings.pop_front() { return Some(Duty::Ping(p)); }
        if now >= self.next {
            let own = *m.table().own();
            for id in m.closest(now, &own.to_key(), m.k()) { if m.table().get(&id).is_some_and(|c| now.saturating_duration_since(c.seen) > Duration::from_secs(30)) { self.pings.push_back(id); } }
            for id in m.silent_due(now) { self.pings.push_back(*id); }
            self.next = now + Duration::from_secs(5);
            if let Some(p) = self.pings.pop_front() { return Some(Duty::Ping(p)); }
        }
        None
    }
    pub(crate) fn next(&self) -> Instant { self.next }
    pub(crate) fn looked_up(&mut self, _now: Instant, _k: &Key) { if self.stage == 1 { self.stage = 2; } }
    pub(crate) fn bootstrapped(&mut self, now: Instant, ok: bool) { self.joined = ok; if !ok { self.boot_at = Some(now + Duration::from_secs(1)); } self.next = now; }
}
