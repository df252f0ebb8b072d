//! How many retries all calls together may cause.
//!
//! When providers fail because they have too much to do, retries give them more of it. A budget in
//! proportion to the calls bounds that: in the long run retries add a tenth, however many calls fail and
//! however often each would be tried again.

/// Retries that may be saved up.
pub const RETRIES_SAVED_MAX: u32 = 100;
/// Retries that there are before the first call: a caller that calls rarely may fail over as well.
pub const RETRIES_AT_FIRST: u32 = 10;
/// Calls that earn one retry.
pub const CALLS_PER_RETRY: u32 = 10;

/// The retries that may be caused, earned by calls.
#[derive(Debug, Clone, Copy)]
pub struct RetryBudget {
    /// In parts of a retry, [`CALLS_PER_RETRY`] of which are one.
    parts: u32,
}

impl RetryBudget {
    /// A budget of [`RETRIES_AT_FIRST`].
    pub const fn new() -> Self {
        Self { parts: RETRIES_AT_FIRST * CALLS_PER_RETRY }
    }

    /// Notes a call. Retries are no calls.
    pub fn earn(&mut self) {
        self.parts = (self.parts + 1).min(RETRIES_SAVED_MAX * CALLS_PER_RETRY);
    }

    /// Takes a retry out of the budget, if it holds one.
    #[must_use]
    pub fn spend(&mut self) -> bool {
        let left = self.parts.checked_sub(CALLS_PER_RETRY);
        self.parts = left.unwrap_or(self.parts);
        left.is_some()
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often `budget` can be spent.
    fn spent(budget: &mut RetryBudget) -> u32 {
        (0..u32::MAX).take_while(|_| budget.spend()).count().try_into().expect("a bounded budget")
    }

    #[test]
    fn retries_are_a_tenth_of_the_calls() {
        let mut budget = RetryBudget::new();
        assert_eq!(spent(&mut budget), RETRIES_AT_FIRST);
        (0..99).for_each(|_| budget.earn());
        assert_eq!(spent(&mut budget), 9);
        budget.earn();
        assert_eq!(spent(&mut budget), 1, "what was earned is not lost by asking");
    }

    #[test]
    fn a_quiet_hour_does_not_pay_for_a_storm() {
        let mut budget = RetryBudget::default();
        (0..1_000_000).for_each(|_| budget.earn());
        assert_eq!(spent(&mut budget), RETRIES_SAVED_MAX);
    }
}
