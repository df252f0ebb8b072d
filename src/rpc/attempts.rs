//! How often a call may go to another provider.
//!
//! Two questions decide: whether the handler may have run, since only who calls knows if it may run twice;
//! and whether trying again would add to what has made the call fail.

use super::budget::RetryBudget;

/// To so many other providers a call may go at most.
pub const FAILOVER_MAX: usize = 3;

/// Why a call has no answer of a handler, as far as trying another provider is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The handler surely did not begin, because it is not there or not reached: no connection, refused,
    /// going away, no such service. Asking elsewhere adds nothing to anybody's load, so the budget is not
    /// charged.
    NotExecuted,
    /// The handler surely did not begin, because the provider has too much to do. When all of them have,
    /// retries make it worse.
    Overloaded,
    /// The handler may have begun: the provider was lost or is silent.
    MaybeExecuted,
    /// There is an answer, or the caller's time is over: no other provider can do better.
    Final,
}

/// The tries of one call.
#[derive(Debug, Clone, Copy)]
pub struct Attempts {
    /// To how many others the call may still go.
    left: usize,
    idempotent: bool,
}

impl Attempts {
    /// Of a call to a service with so many `providers`, the first of which is asked first. `idempotent`:
    /// whether its caller permits that the handler runs more than once.
    pub fn new(providers: usize, idempotent: bool) -> Self {
        Self { left: providers.saturating_sub(1).min(FAILOVER_MAX), idempotent }
    }

    /// Whether the call may go to another provider at all.
    pub fn is_left(&self) -> bool {
        self.left > 0
    }

    /// Whether to try another provider after `failure`, and if so counts it and charges `budget`. An
    /// idempotent call whose first provider is slow asks with [`Failure::MaybeExecuted`].
    #[must_use]
    pub fn after(&mut self, failure: Failure, budget: &mut RetryBudget) -> bool {
        let permitted = self.left > 0
            && match failure {
                Failure::NotExecuted => true,
                Failure::Overloaded => budget.spend(),
                Failure::MaybeExecuted => self.idempotent && budget.spend(),
                Failure::Final => false,
            };
        self.left -= usize::from(permitted);
        permitted
    }
}

#[cfg(test)]
mod tests {
    use super::Failure::{Final, MaybeExecuted, NotExecuted, Overloaded};
    use super::*;
    use crate::rpc::budget::RETRIES_AT_FIRST;

    /// How often a call goes elsewhere that always fails like this.
    fn tries(providers: usize, idempotent: bool, failure: Failure, budget: &mut RetryBudget) -> usize {
        let mut attempts = Attempts::new(providers, idempotent);
        (0..10).filter(|_| attempts.after(failure, budget)).count()
    }

    #[test]
    fn a_call_goes_to_three_others_at_most_if_there_are_as_many() {
        for (providers, others) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3), (5, 3), (100, 3)] {
            for (failure, idempotent) in [(NotExecuted, false), (Overloaded, false), (MaybeExecuted, true)] {
                let budget = &mut RetryBudget::new();
                assert_eq!(tries(providers, idempotent, failure, budget), others, "{providers}, {failure:?}");
            }
        }
    }

    #[test]
    fn what_may_have_run_runs_again_only_with_leave() {
        let budget = &mut RetryBudget::new();
        assert_eq!(tries(5, false, MaybeExecuted, budget), 0);
        assert_eq!(tries(5, true, MaybeExecuted, budget), 3);
        assert_eq!(tries(5, true, Final, budget), 0);
        let mut attempts = Attempts::new(5, false);
        assert!(attempts.after(NotExecuted, budget) && attempts.after(Overloaded, budget));
        assert!(!attempts.after(MaybeExecuted, budget));
    }

    #[test]
    fn the_budget_pays_for_what_adds_load_and_for_nothing_else() {
        let budget = &mut RetryBudget::new();
        for _ in 0..100 {
            tries(5, true, NotExecuted, budget);
            tries(5, true, Final, budget);
            tries(5, false, MaybeExecuted, budget);
            tries(1, true, Overloaded, budget);
        }
        let first = RETRIES_AT_FIRST as usize;
        let all =
            (0..100).map(|_| tries(2, true, Overloaded, budget) + tries(2, true, MaybeExecuted, budget));
        assert_eq!(all.sum::<usize>(), first);
        assert_eq!(tries(5, true, NotExecuted, budget), 3, "the budget is empty");
    }
}
