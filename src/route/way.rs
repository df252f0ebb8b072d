//! The way of one envelope out of one node: whom to try next, with how many hops and how much time.
//!
//! It goes to the connected node nearest to the destination by XOR that has not had it, which is the
//! destination itself when that is connected. The hops are a budget: what one attempt has used up, the
//! next one does not have, so an envelope is passed on at most [`HOPS_MAX`] times after it has left its
//! origin, whatever way it goes, unless nodes fall silent. Times nest: each node is given less time
//! than the node before it waits. When half of that is over and there is another way, it is tried as well:
//! whether a node is silent or the work takes long cannot be told from outside.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::id::NodeId;
use crate::wire::{HOPS_MAX, Route, RouteError};

/// With less time than this an envelope is not passed on.
pub const LEFT_MIN: Duration = Duration::from_millis(4);
/// No envelope is given more time than this.
pub const LEFT_MAX: Duration = Duration::from_secs(30);
/// The share of its time that a node keeps for the way back: one in so many.
pub const MARGIN: u32 = 8;

/// An envelope at one node, origin or relay, on its way to a destination.
#[derive(Debug, Clone)]
pub struct Way {
    destination: NodeId,
    /// Nodes that it must not go to: those that have had it, and those that were tried.
    avoided: BTreeSet<NodeId>,
    /// The nodes that have passed it on, as the next one is told.
    passed: Vec<NodeId>,
    deadline: Instant,
    /// How many more times it may be sent.
    budget: u8,
    /// How many of them the attempt under way may use besides itself.
    given: u8,
    spent: u8,
    silent: bool,
    last: Option<RouteError>,
}

/// The next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Whom to send it to.
    pub next: NodeId,
    /// How many more times that node may have it passed on.
    pub hops: u8,
    /// How much time that node has.
    pub left: Duration,
    /// When that node counts as silent, and another is tried.
    pub until: Instant,
    /// Until when its answer is of use all the same.
    pub last: Instant,
}

impl Way {
    /// The way of an envelope that `own` has made.
    pub fn of_origin(own: NodeId, destination: NodeId, deadline: Instant) -> Self {
        Self::new(destination, BTreeSet::from([own]), Vec::new(), HOPS_MAX + 1, deadline)
    }

    /// The way on of an envelope of `origin` that `own` has received from `previous` and passes on until
    /// `deadline`.
    ///
    /// # Errors
    ///
    /// [`RouteError::Refused`] when it has been here before or did not come the way it says,
    /// [`RouteError::MaxHops`] when it goes no further.
    pub fn of_relay(
        own: NodeId,
        previous: &NodeId,
        origin: NodeId,
        route: &Route<'_>,
        deadline: Instant,
    ) -> Result<Self, RouteError> {
        let mut avoided: BTreeSet<NodeId> = route.passed.iter().copied().collect();
        avoided.insert(origin);
        let came_from = route.passed.last().unwrap_or(&origin);
        if avoided.contains(&own) || came_from != previous {
            return Err(RouteError::Refused);
        }
        let budget = route.hops.min(HOPS_MAX);
        if budget == 0 || route.passed.len() >= usize::from(HOPS_MAX) {
            return Err(RouteError::MaxHops);
        }
        avoided.insert(own);
        let mut passed = route.passed.clone();
        passed.push(own);
        Ok(Self::new(route.destination, avoided, passed, budget, deadline))
    }

    fn new(
        destination: NodeId,
        avoided: BTreeSet<NodeId>,
        passed: Vec<NodeId>,
        budget: u8,
        deadline: Instant,
    ) -> Self {
        let (given, spent, silent, last) = (0, 0, false, None);
        Self { destination, avoided, passed, deadline, budget, given, spent, silent, last }
    }

    /// The nodes that have passed the envelope on, this one included unless it is the origin.
    pub fn passed(&self) -> &[NodeId] {
        &self.passed
    }

    /// How many times the envelope was sent on from here, as far as is known.
    pub fn spent(&self) -> u8 {
        self.spent
    }

    /// The next attempt, among the nodes that are `connected`.
    ///
    /// # Errors
    ///
    /// Why there is none: [`RouteError::Expired`] whenever somebody fell silent, because the envelope
    /// may have gone through.
    pub fn next(&mut self, now: Instant, connected: &[NodeId]) -> Result<Hop, RouteError> {
        let left = self.deadline.saturating_duration_since(now);
        if left < LEFT_MIN {
            return Err(RouteError::Expired);
        }
        if self.budget == 0 {
            return Err(if self.silent { RouteError::Expired } else { RouteError::MaxHops });
        }
        let target = self.destination.to_key();
        let open = || connected.iter().filter(|node| !self.avoided.contains(*node));
        let Some(next) = open().min_by_key(|node| node.distance(&target)).copied() else {
            return Err(match self.last {
                _ if self.silent => RouteError::Expired,
                Some(error) => error,
                None => RouteError::NoRoute,
            });
        };
        let another = self.budget > 1 && open().nth(1).is_some();
        let whole = left - left / MARGIN;
        let share = if another { left / 2 } else { whole };
        self.avoided.insert(next);
        self.given = self.budget - 1;
        let (until, last) = (now + share, now + whole);
        Ok(Hop { next, hops: self.given, left: whole - whole / MARGIN, until, last })
    }

    /// The attempt under way has ended with `error`, after `hops` further ones.
    pub fn failed(&mut self, error: RouteError, hops: u8) {
        self.silent |= error == RouteError::Expired;
        self.last = Some(error);
        self.spend(1 + hops.min(self.given));
    }

    /// The node that was to be tried could not be sent anything.
    pub fn unsent(&mut self) {
        self.given = 0;
    }

    /// The node under way has not answered in time.
    pub fn silent(&mut self) {
        self.silent = true;
        self.spend(1);
    }

    fn spend(&mut self, hops: u8) {
        self.budget = self.budget.saturating_sub(hops);
        self.spent = self.spent.saturating_add(hops);
        self.given = 0;
    }
}

#[cfg(test)]
mod tests;
