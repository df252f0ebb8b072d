//! Which records a replica takes, and which of two copies of a record stays.
//!
//! A record is a *register*: one publisher's value under one key. Two copies of a register are ordered by
//! first-hand (brought by the publisher itself) before vouched (brought by another peer), then by sequence,
//! then by the SHA-256 of the value. The order is total, so replicas that have met the same copies hold the
//! same record, in whatever order the copies came.

use std::time::Duration;

use crate::wire::{Record, RecordKind, Reject};

/// The longest value of a record, in bytes: 64 KiB.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// The longest time to live of a record: 24 hours. A longer one is cut to this.
pub const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether a replica takes a record like this at all: a plain value of at most [`VALUE_BYTES_MAX`] bytes,
/// without proof and flags, that lives for a while.
///
/// # Errors
///
/// The first reason against it.
pub fn check(record: &Record<'_>) -> Result<(), Reject> {
    if record.kind != RecordKind::VALUE {
        return Err(Reject::Kind);
    }
    if record.flags != 0 {
        return Err(Reject::Flags);
    }
    if !record.proof.is_empty() {
        return Err(Reject::Proof);
    }
    if record.value.len() > VALUE_BYTES_MAX {
        return Err(Reject::TooLarge);
    }
    if record.ttl_ms == 0 {
        return Err(Reject::Ttl);
    }
    Ok(())
}
