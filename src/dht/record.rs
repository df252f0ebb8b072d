//! What a record is to a replica, and what a replica answers to one.
//!
//! A record is a *register*: one publisher's value under one key. Two copies of a register are ordered by
//! first-hand before vouched, then by sequence, then by the SHA-256 of the value. The order is total, so
//! replicas that have seen the same copies hold the same record, in whatever order the copies came.

use std::time::Duration;

use crate::id::{Key, NodeId};

/// The longest value of a record, in bytes: 64 KiB.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// The longest time to live of a record: 24 hours. A longer one is cut to this.
pub const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The kind of a record that carries a plain value.
pub const KIND_VALUE: u8 = 0;

/// A record on its way in: one element of a STORE batch. The publisher belongs to the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming<'a> {
    /// The key that the record is stored under.
    pub key: Key,
    /// The publisher's counter; the higher one wins.
    pub seq: u64,
    /// How much longer the record lives, cut to [`TTL_MAX`].
    pub ttl: Duration,
    /// The kind of the record; only [`KIND_VALUE`] is taken.
    pub kind: u8,
    /// Flag bits; none is defined.
    pub flags: u8,
    /// The proof of the publisher; empty for a plain value.
    pub proof: &'a [u8],
    /// The value, at most [`VALUE_BYTES_MAX`] bytes.
    pub value: &'a [u8],
}

impl Incoming<'_> {
    /// Whether a replica takes such a record at all.
    ///
    /// # Errors
    ///
    /// The first reason against it.
    pub fn check(&self) -> Result<(), Reject> {
        if self.kind != KIND_VALUE {
            return Err(Reject::Kind);
        }
        if self.flags != 0 {
            return Err(Reject::Flags);
        }
        if !self.proof.is_empty() {
            return Err(Reject::Proof);
        }
        if self.value.len() > VALUE_BYTES_MAX {
            return Err(Reject::TooLarge);
        }
        if self.ttl.is_zero() {
            return Err(Reject::Ttl);
        }
        Ok(())
    }
}

/// A record on its way out, as a replica holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// The node that published the record.
    pub publisher: &'a NodeId,
    /// The publisher's counter.
    pub seq: u64,
    /// How much longer the record lives; never zero.
    pub ttl: Duration,
    /// The kind of the record.
    pub kind: u8,
    /// Flag bits.
    pub flags: u8,
    /// The proof of the publisher; empty for a plain value.
    pub proof: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Whether the publisher itself brought the record, rather than a peer that vouches for it.
    pub first_hand: bool,
}

/// What became of one record at one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The record is in the store.
    Applied,
    /// The same record was there already; its time to live may have grown.
    AlreadyHave,
    /// The store holds a copy that wins.
    Superseded {
        /// The sequence of the copy that is held.
        seq: u64,
    },
    /// The record is not acceptable.
    Rejected(Reject),
    /// The record does not fit the limits of the store; what is held stays.
    StorageFull,
}

/// Why a record is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reject {
    /// The record carries a proof that its kind does not take.
    Proof,
    /// The kind is not known.
    Kind,
    /// A flag is set that is not known.
    Flags,
    /// The value is longer than [`VALUE_BYTES_MAX`].
    TooLarge,
    /// The time to live is zero.
    Ttl,
}
