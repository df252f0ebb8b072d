//! Bugs that are made on purpose, so that it can be seen whether a simulator finds them.
//!
//! They can be planted with the feature `test-util` only, one at a time in each thread. Without it there is
//! nothing to ask: the answer is known to the compiler, and no trace of a bug is left.

/// A bug that others have made before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bug {
    /// A replica acknowledges what it has yet to apply. The order of the two is up to the driver of the
    /// store, so it is a driver under test that asks for this one.
    AckBeforeApply,
    /// A quorum is taken of the nodes that are known at the moment, however many there were before.
    QuorumOfFound,
    /// A tombstone does not outlive what it removes.
    TombstoneDroppedEarly,
}

#[cfg(feature = "test-util")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Makes this thread behave as with `bug`, or well again.
#[cfg(feature = "test-util")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this thread behaves as with `bug`.
#[cfg(feature = "test-util")]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether this thread behaves as with a bug: never.
#[cfg(not(feature = "test-util"))]
pub const fn is_planted(_: Bug) -> bool {
    false
}
