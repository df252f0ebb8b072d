//! What came of runs under faults.

use std::fmt;
use std::ops::AddAssign;

use super::ledger::Violation;
use super::network::Struck;

/// What happened in a run.
#[derive(Debug)]
pub(crate) struct Survived {
    pub(crate) violations: Vec<Violation>,
    pub(crate) hash: u64,
    pub(crate) counts: Counts,
}

/// How often what happened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) runs: u64,
    pub(crate) events: u64,
    pub(crate) struck: Struck,
    pub(crate) crashes: u64,
    pub(crate) for_good: u64,
    pub(crate) restarts: u64,
    pub(crate) cuts: u64,
    pub(crate) slowed: u64,
    pub(crate) skewed: u64,
    pub(crate) stores: u64,
    pub(crate) acknowledged: u64,
    pub(crate) removed: u64,
    pub(crate) reads: u64,
    pub(crate) read: u64,
    pub(crate) reckoned: u64,
    /// Acknowledged, but as many of its replicas as must acknowledge have died for good.
    pub(crate) died: u64,
    /// The same, where some of them have only lost their memory.
    pub(crate) forgotten: u64,
    /// Acknowledged, but replaced by what has ended since.
    pub(crate) outlived: u64,
    /// Acknowledged, but held out of reach.
    pub(crate) misplaced: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let pairs = [
            (&mut self.runs, other.runs),
            (&mut self.events, other.events),
            (&mut self.struck.lost, other.struck.lost),
            (&mut self.struck.duplicated, other.struck.duplicated),
            (&mut self.struck.reordered, other.struck.reordered),
            (&mut self.struck.slowed, other.struck.slowed),
            (&mut self.struck.cut_one_way, other.struck.cut_one_way),
            (&mut self.struck.cut_both_ways, other.struck.cut_both_ways),
            (&mut self.struck.to_nobody, other.struck.to_nobody),
            (&mut self.crashes, other.crashes),
            (&mut self.for_good, other.for_good),
            (&mut self.restarts, other.restarts),
            (&mut self.cuts, other.cuts),
            (&mut self.slowed, other.slowed),
            (&mut self.skewed, other.skewed),
            (&mut self.stores, other.stores),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.removed, other.removed),
            (&mut self.reads, other.reads),
            (&mut self.read, other.read),
            (&mut self.reckoned, other.reckoned),
            (&mut self.died, other.died),
            (&mut self.forgotten, other.forgotten),
            (&mut self.outlived, other.outlived),
            (&mut self.misplaced, other.misplaced),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, events, struck, .. } = self;
        writeln!(f, "{runs} runs, {events} events")?;
        writeln!(
            f,
            "messages lost {}, twice {}, overtaken {}, slow {}, cut one way {}, cut both ways {}, to nobody {}",
            struck.lost,
            struck.duplicated,
            struck.reordered,
            struck.slowed,
            struck.cut_one_way,
            struck.cut_both_ways,
            struck.to_nobody
        )?;
        writeln!(
            f,
            "crashes {}, of them for good {}, restarts {}, cuts {}, slow nodes {}, wrong clocks {}",
            self.crashes, self.for_good, self.restarts, self.cuts, self.slowed, self.skewed
        )?;
        writeln!(
            f,
            "stores {}, of them removals {}, acknowledged {}; quorum reads {}, complete {}",
            self.stores, self.removed, self.acknowledged, self.reads, self.read
        )?;
        write!(
            f,
            "called in at the end {}; not because of the replicas a quorum died for good {}, or lost their memory \
             {}; nor because what replaced them has ended {}, or they are out of reach {}",
            self.reckoned, self.died, self.forgotten, self.outlived, self.misplaced
        )
    }
}
