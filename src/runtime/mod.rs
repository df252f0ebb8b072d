//! The clock, the entropy and the tasks: the three things that only a running process has.
//!
//! Everything above takes time from [`now`], randomness from [`entropy`], and starts work through
//! [`Tasks`], so that nothing outlives the node that started it and nothing below needs the world.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::TryRng;
use rand::rngs::SysRng;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The current instant of tokio's clock, which a paused runtime controls.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Milliseconds since 1970, by the clock that the operator sets. It jumps: never for measuring time.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// No deadline lies further ahead, so that no duration a user chooses overflows the clock.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The instant `patience` from now.
pub(crate) fn after(patience: Duration) -> Instant {
    later(now(), patience)
}

/// The instant `patience` after `start`.
pub(crate) fn later(start: Instant, patience: Duration) -> Instant {
    start + patience.min(FOREVER)
}

/// 64 bits from the operating system, for ids that must not repeat after a restart and for seeds.
///
/// Falls back to the address-space and clock entropy of a fresh hasher when the system source fails,
/// because these ids are not secrets.
pub(crate) fn entropy() -> u64 {
    SysRng.try_next_u64().unwrap_or_else(|_| {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(now())
    })
}

/// Runs `work`, which blocks, on a thread of its own, whose end its owner sees to.
#[cfg(feature = "persist")]
pub(crate) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// The tasks of one node: counted, and cancelled together.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self { tracker: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Runs `work` until it ends or the node stops; after [`abort`](Self::abort) it is dropped unrun.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if self.stop.is_cancelled() {
            return;
        }
        let stop = self.stop.clone();
        // A future that is moved into others is laid out once in each: boxed, a task that does nothing
        // but wait, as those of an idle connection, takes a third of the memory.
        let work: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(work);
        self.tracker.spawn(async move {
            stop.run_until_cancelled_owned(work).await;
        });
    }

    /// How many tasks are alive.
    pub(crate) fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Cancels every task at its next await point.
    pub(crate) fn abort(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Returns once every task has ended; only after [`abort`](Self::abort).
    pub(crate) async fn ended(&self) {
        self.tracker.wait().await;
    }
}
