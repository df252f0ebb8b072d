//! The distributed hash table as plain values: who is near, what is held, what was published, what an
//! acknowledgement means.
//!
//! Nothing here waits, reads a clock or knows a network: every call takes the present as an [`Instant`] and
//! returns what must be done; a driver joins the parts to peers.
//!
//! - [`table`]: the Kademlia routing table, which answers "the nodes closest to a key".
//! - [`members`]: the table with what is known beyond it: who fails to answer, which nodes hold a key.
//! - [`region`]: parts of the id space of which every node is known.
//! - [`upkeep`]: when to look up, to ask for a sign of life, to begin anew.
//! - [`store`]: the replica store, which holds the records of other nodes.
//! - [`log`]: the publication log, which holds what this node has published.
//! - [`lookup`]: one iterative search of the network for the nodes closest to a key.
//! - [`rtt`]: how long to wait for an answer.
//! - [`ack`]: how many replicas must answer before a store counts.
//! - [`record`]: which records a replica takes, and which of two copies stays.
//! - [`read`]: what the answers of several replicas come to.
//! - [`tally`]: what is known of the replicas of one record while it is stored.
//! - [`replication`]: who sends a copy to whom when a node comes or goes.
//! - [`pace`]: a limit on bytes per second.
//! - [`planted`]: bugs for a simulator to find.
//!
//! [`Instant`]: std::time::Instant

pub mod ack;
mod hash;
pub mod log;
pub mod lookup;
mod map;
pub mod members;
mod nearest;
pub mod pace;
pub mod planted;
pub mod read;
pub mod record;
pub mod region;
pub mod replication;
pub mod rtt;
pub mod store;
pub mod table;
pub mod tally;
pub mod upkeep;
mod wheel;

/// Replicas per record, entries per bucket, contacts per reply: the k of Kademlia.
pub const K: usize = 20;
