//! Peers that break every rule, and what it costs the node: the stream or the connection that broke it.
//!
//! The victim is a mesh of honest nodes in a child process ([`victim`]); the attackers are raw quinn
//! clients in this one ([`raw`]). After every attack the victim must live, its own traffic must have gone
//! on, and its tasks, streams and connections must be back where they were.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::fn_params_excessive_bools,
    reason = "the helpers of tests may do what tests may"
)]

mod acceptor;
mod before;
pub(crate) mod raw;
mod slow;
mod storms;
mod victim;
mod violations;

use std::time::{Duration, Instant};

use foveola::CloseCode;
use victim::{Figures, Victim};

/// How soon after an attack nothing of it may be left.
const BACK_TO_BASE: Duration = Duration::from_secs(5);
/// Memory that the attacks of one test may cost.
const GROWTH_MAX: u64 = 32 << 20;

/// What an attack came to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The node closed the connection with this code, and the attacker was told.
    Closed(CloseCode),
    /// The node gave the stream up and serves the connection.
    StreamOnly,
    /// The node answers as if nothing had happened.
    Served,
    /// Anything else.
    Else(String),
}

impl Verdict {
    fn closed(code: Option<u64>) -> Self {
        match code.and_then(|code| u32::try_from(code).ok()) {
            Some(code) => Self::Closed(CloseCode::from_u32(code)),
            None => Self::Else("the node did not close the connection".to_owned()),
        }
    }

    fn stream_only(given_up: bool, served: bool) -> Self {
        match (given_up, served) {
            (true, true) => Self::StreamOnly,
            _ => Self::Else(format!("stream given up: {given_up}, connection served: {served}")),
        }
    }

    fn served(served: bool) -> Self {
        if served { Self::Served } else { Self::Else("the node does not answer".to_owned()) }
    }
}

/// A victim, and how it was before anybody attacked it.
struct Watch {
    victim: Victim,
    base: Figures,
    memory: u64,
    begun: Instant,
}

impl Watch {
    /// Starts a victim and watches it at rest: what it needs then is not the attackers' doing.
    async fn start() -> Self {
        let mut victim = Victim::start().await;
        let deadline = Instant::now() + Duration::from_secs(30);
        // Every key is written once and all lanes are warm.
        while victim.figures().await.ok < 3_200 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let base = victim.figures().await;
        let memory = victim.memory.take_peak();
        println!("at rest: {base:?}, {} KiB resident", memory >> 10);
        Self { victim, base, memory, begun: Instant::now() }
    }

    /// Waits until nothing is left of the attack `name`.
    async fn settled(&mut self, name: &str) {
        let deadline = Instant::now() + BACK_TO_BASE;
        loop {
            let now = self.victim.figures().await;
            let base = &self.base;
            if now.tasks <= base.tasks && now.streams <= base.streams && now.connections <= base.connections {
                return;
            }
            assert!(Instant::now() < deadline, "{name}: something is left: {now:?}, at rest {base:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Checks what all attacks together have cost.
    async fn finish(mut self) {
        // However short the attacks were, the traffic goes on after them.
        let deadline = Instant::now() + BACK_TO_BASE;
        while self.victim.figures().await.ok < self.base.ok + 300 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let now = self.victim.figures().await;
        let (ok, failed) = (now.ok - self.base.ok, now.failed - self.base.failed);
        let growth = self.victim.memory.take_peak().saturating_sub(self.memory);
        println!(
            "honest operations in {:.1?}: {ok} well, {failed} failed; memory grew by {} KiB at most, {} KiB now",
            self.begun.elapsed(),
            growth >> 10,
            self.victim.memory.now().saturating_sub(self.memory) >> 10
        );
        assert!(ok >= 300, "the honest traffic stood still");
        assert!(ok >= 99 * failed, "{failed} of {} honest operations failed", ok + failed);
        assert!(growth < GROWTH_MAX, "memory grew by {growth} bytes");
    }
}
