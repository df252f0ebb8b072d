//! The gate before the handshake: how many may be half open, in all and from one address.
//!
//! Pure but for its lock; the accept loop asks it about each attempt and never waits. Attempts from
//! loopback and private ranges are exempt from the limit per address, because a whole container
//! network or a NAT shares them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::addr::is_private;

/// What to do with one attempt.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Let it in; the permit is held until the handshake and HELLO have ended.
    Enter(Permit),
    /// Ask it to prove its address first (RFC 9000, section 8.1.2).
    Retry,
    /// Say nothing: an answer would cost more than the attempt.
    Ignore,
}

#[derive(Debug)]
pub(super) struct Gate {
    open: Mutex<Open>,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) total: usize,
    pub(super) per_ip: usize,
    pub(super) retry_above: usize,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_ip: BTreeMap<IpAddr, usize>,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), limits })
    }

    /// Judges an attempt from `ip`, whose address is `validated` or may be forged.
    pub(super) fn judge(self: &Arc<Self>, ip: IpAddr, validated: bool) -> Verdict {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.limits.total {
            return Verdict::Ignore;
        }
        if open.total >= self.limits.retry_above && !validated {
            return Verdict::Retry;
        }
        let exempt = is_private(ip);
        if !exempt {
            let count = open.by_ip.get(&ip).copied().unwrap_or(0);
            if count >= self.limits.per_ip {
                return Verdict::Ignore;
            }
            open.by_ip.insert(ip, count + 1);
        }
        open.total += 1;
        Verdict::Enter(Permit { gate: Arc::clone(self), ip: (!exempt).then_some(ip) })
    }
}

/// A place among the half-open attempts, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    ip: Option<IpAddr>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Some(ip) = self.ip {
            match open.by_ip.get_mut(&ip) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(open.by_ip.remove(&ip)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Arc<Gate> {
        Gate::new(Limits { total: 4, per_ip: 2, retry_above: 3 })
    }

    #[test]
    fn one_address_cannot_fill_the_gate_but_a_private_one_may() {
        let gate = gate();
        let public = IpAddr::from([8, 8, 8, 8]);
        let held: Vec<_> = (0..2).map(|_| gate.judge(public, true)).collect();
        assert!(held.iter().all(|verdict| matches!(verdict, Verdict::Enter(_))));
        assert!(matches!(gate.judge(public, true), Verdict::Ignore));
        let private = IpAddr::from([127, 0, 0, 1]);
        let third = gate.judge(private, true);
        assert!(matches!(third, Verdict::Enter(_)));
        assert!(matches!(gate.judge(private, false), Verdict::Retry));
        let fourth = gate.judge(private, true);
        assert!(matches!(fourth, Verdict::Enter(_)));
        assert!(matches!(gate.judge(private, true), Verdict::Ignore));
    }

    #[test]
    fn a_dropped_permit_gives_its_place_back() {
        let gate = gate();
        let public = IpAddr::from([8, 8, 8, 8]);
        for _ in 0..10 {
            assert!(matches!(gate.judge(public, true), Verdict::Enter(_)));
        }
        assert_eq!(gate.open.lock().map(|open| open.by_ip.len()).ok(), Some(0));
    }
}
