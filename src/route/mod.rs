//! Paths through other nodes, decided: what is signed, which way comes next, what is remembered.
//!
//! A request that cannot go to its node directly travels in an envelope ([`crate::wire::Route`]) from
//! relay to relay, each time to the connected node that is nearest to its destination. The origin signs
//! the request and the destination signs the answer, so relays can lose both but change neither
//! ([`envelope`]); it opens no request twice ([`numbers`], [`seen`]) and gives its answer again to whom the
//! first way back has failed ([`answers`]). Each relay handles an envelope once and on its own account:
//! it tries the next best way when one fails, within the hops and the time that it was given ([`way`]),
//! and tells the node before it when there is none. So no envelope is passed on more than a bounded number of times,
//! whatever the nodes on its way believe.
//!
//! Everything here is a value that is told the time.

pub mod answers;
pub mod envelope;
pub mod numbers;
pub mod passed;
pub mod relays;
pub mod seen;
pub mod strategy;
pub mod way;
