//! Waiting for what must happen, never longer than a test can bear.

use std::time::{Duration, Instant};

/// No wait of a test is longer; on an idle machine all end at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `met` says so; fails the test when `patience` is over first.
pub(crate) async fn until(patience: Duration, what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !met() {
        assert!(Instant::now() < deadline, "not in {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What `work` comes to; fails the test when that takes longer than [`PATIENCE`].
pub(crate) async fn in_time<T>(work: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work.into_future()).await.expect("an outcome in time")
}
