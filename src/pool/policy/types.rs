//! What the pool is asked and what it answers.

use std::fmt;
use std::time::Instant;

use crate::id::NodeId;

/// Names one connection for the life of the process; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnId(pub(crate) u64);

pub(crate) use crate::transport::Side;

/// Why a connection was closed or is being drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// It made room for another one: least recently used, and not leased.
    Capacity,
    /// It was not leased and carried no application frame for its time to live.
    Idle,
    /// Both nodes dialed, and the other connection stays.
    Duplicate,
    /// The peer restarted; its new process has a connection of its own.
    Superseded,
    /// This node shut down.
    Shutdown,
    /// The peer closed it in good order.
    Remote,
    /// It was lost: no sign of life, a reset, or a violation of the protocol.
    Error,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Capacity => "made room",
            Self::Idle => "idle",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded by a restart of the peer",
            Self::Shutdown => "shutdown",
            Self::Remote => "closed by the peer",
            Self::Error => "lost",
        })
    }
}

/// Why a dial did not lead to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DialFailure {
    /// No address answered, or there was none.
    Unreachable,
    /// The time for the dial ran out.
    TimedOut,
    /// Somebody else answered at the address.
    WrongIdentity,
    /// The peer answered and would not have us.
    Refused,
    /// The peer preferred a connection of its own making; no fault, so no back-off.
    Duplicate,
}

impl fmt::Display for DialFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed out",
            Self::WrongIdentity => "wrong identity",
            Self::Refused => "refused by the peer",
            Self::Duplicate => "duplicate",
        })
    }
}

/// A connection that takes no new work from now on: drain it, close it, then report it closed.
#[derive(Debug, Clone)]
#[must_use = "a retired connection must be drained and closed"]
pub(crate) struct Retire<C> {
    pub(crate) peer: NodeId,
    pub(crate) id: ConnId,
    pub(crate) handle: C,
    pub(crate) reason: CloseReason,
    /// Leases still out; at zero only the peer's own work may be left.
    pub(crate) leases: u32,
}

/// The answer to a request for a connection.
#[derive(Debug)]
#[must_use]
pub(crate) enum Acquire<C> {
    /// Here it is, with a lease that must be released by this id.
    Ready { id: ConnId, handle: C },
    /// A dial is under way: wait for its end and ask again.
    Dialing,
    /// Dial now, as dial number `seq`; a place is reserved until the dial is admitted, failed or aborted.
    Dial { seq: u64, evict: Option<Retire<C>> },
    /// No room. A connection in `evict` gives its place up once it is closed; wait for room, ask again.
    Full { evict: Option<Retire<C>> },
    /// The last dials failed: not before `until`.
    BackOff { until: Instant },
    /// The peer is this node.
    Own,
    /// The pool has shut down.
    Closed,
}

/// The answer to a request to dial an address whose owner is not known.
#[derive(Debug)]
#[must_use]
pub(crate) enum Join<C> {
    /// As [`Acquire::Dial`]; to be admitted, or ended by `join_ended`.
    Dial { seq: u64, evict: Option<Retire<C>> },
    /// As [`Acquire::Full`].
    Full { evict: Option<Retire<C>> },
    /// The pool has shut down.
    Closed,
}

/// A connection whose two ends have accepted each other's HELLO.
#[derive(Debug, Clone)]
pub(crate) struct Candidate<C> {
    pub(crate) peer: NodeId,
    pub(crate) id: ConnId,
    /// Who dialed.
    pub(crate) dialer: Side,
    /// The dialer's number for the dial, from HELLO: rises with each of its dials.
    pub(crate) dial_seq: u64,
    /// Names the peer's process, from HELLO.
    pub(crate) boot: u64,
    pub(crate) handle: C,
}

/// The answer to a candidate.
#[derive(Debug)]
#[must_use]
pub(crate) enum Admit<C> {
    /// It is the connection to this peer from now on; those in `retire` make way. One of them may have
    /// been retired before (for a milder reason): superseded ones need not be drained, their peer is gone.
    Kept { retire: Vec<Retire<C>> },
    /// Another one stays: drain the candidate, close it with code DUPLICATE, report it closed.
    Duplicate,
    /// No room now: once one of those in `retire`, or another one, is closed there may be. Ask again, or
    /// close the candidate. It is not known to the pool.
    Full { retire: Vec<Retire<C>> },
    /// Close it at once. The candidate is not known to the pool, nothing is to be reported.
    Refused(Refusal),
}

/// Why a candidate is closed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is a connection to this node itself.
    Own,
    /// The pool has shut down.
    Closed,
    /// A newer process of the same peer is connected. Two processes that share a key look like this, too.
    Stale,
    /// It lost against the resident one, and the pool is too full to drain it.
    Duplicate,
}

/// What a release changed.
#[derive(Debug)]
#[must_use]
pub(crate) enum Release<C> {
    /// Nothing to do.
    Done,
    /// The connection was retiring and this was its last lease: finish draining it.
    Drained { id: ConnId, handle: C },
    /// The pool was above its soft limit, and this one is now the first to go.
    Evict(Retire<C>),
}
