//! Which records a replica takes, who has written them, and which of two copies of a record stays.
//!
//! A record is a *register*: what one publisher has under one key of one kind. Nobody overwrites a register
//! of another publisher. A copy is *authentic* when the publisher itself has brought it (first-hand) or has
//! signed it ([`verify`]); any other copy is only vouched for by the peer that brings it.
//!
//! Two copies of a register are ordered by authentic before vouched, then by sequence, then by
//! [`digest`] ([`Rank`]). The order is total, so replicas that have met the same copies hold the same record,
//! in whatever order the copies came: to merge is commutative, associative and idempotent. One thing is beside
//! that order: what is signed is not replaced by what is not, because readers, who cannot tell who has brought
//! a copy, would go on believing the signed one where they meet it. A publisher that signs everything under a
//! key or nothing never meets that rule, one that has forgotten what it signed is told, and signs. Removing is
//! writing as well: a *tombstone* is a record with the flag [`TOMBSTONE`] and without value. It is kept at
//! least [`TOMBSTONE_MARGIN`] longer than any copy that it was seen to beat, so that none comes back.
//!
//! A signature covers the realm, the key, the kind, the sequence, the flags and the value, but not the time
//! to live, which shrinks as the record travels: whoever holds a signed record can make it live longer, up to
//! [`TTL_MAX`] at a time, but can neither change it nor make it stand against a later one.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::dht::planted::{Bug, is_planted};
use crate::id::NodeId;
use crate::identity::{self, Identity, PUBLIC_KEY_LEN, node_id_of};
use crate::wire::{PROOF_LEN, Record, RecordKind, Reject, TOMBSTONE};

/// The longest value of a record, in bytes: 64 KiB.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// The longest time to live of a record: 24 hours. A longer one is cut to this.
pub const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How much longer than what it beats a tombstone is kept: 5 minutes. Copies on their way from replica to
/// replica live a little longer than their publisher meant.
pub const TOMBSTONE_MARGIN: Duration = Duration::from_secs(5 * 60);

/// What stands before everything that is signed for a record, so that the signature serves nothing else.
const DOMAIN: &[u8; 17] = b"foveola record v1";

/// Domain, realm, key, kind, sequence, digest.
const SIGNED_LEN: usize = DOMAIN.len() + 32 + 32 + 1 + 8 + 32;

/// A realm in signatures: the SHA-256 of its name. A record that was signed for one realm is worth nothing
/// in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RealmId([u8; 32]);

impl RealmId {
    /// The id of the realm `name`.
    pub fn of(name: &str) -> Self {
        Self(Sha256::digest(name).into())
    }
}

/// What a record says, in 32 bytes: SHA-256 of the flags byte and the value.
pub fn digest(flags: u8, value: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix([flags]).chain_update(value).finalize().into()
}

/// The place of a copy in the order of all copies of its register: of two, the greater one stays.
///
/// Copies of equal rank are the same record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Whether the publisher itself has brought the copy or has signed it.
    pub authentic: bool,
    /// The sequence.
    pub seq: u64,
    /// The [`digest`].
    pub digest: [u8; 32],
}

impl Rank {
    /// The rank of a copy of `record`.
    pub fn of(authentic: bool, record: &Record<'_>) -> Self {
        Self { authentic, seq: record.seq, digest: digest(record.flags, record.value) }
    }
}

/// Whether the record removes what its publisher had under the key.
pub fn is_tombstone(flags: u8) -> bool {
    flags & TOMBSTONE != 0
}

/// How long a record with these flags and this time to live may live: no more than [`TTL_MAX`], and
/// [`TOMBSTONE_MARGIN`] on top if it is a tombstone.
pub fn life(flags: u8, ttl: Duration) -> Duration {
    if is_tombstone(flags) && is_planted(Bug::TombstoneDroppedEarly) {
        return ttl.min(TOMBSTONE_MARGIN / 10);
    }
    ttl.min(if is_tombstone(flags) { TTL_MAX + TOMBSTONE_MARGIN } else { TTL_MAX })
}

/// Whether a replica takes a record like this at all, its proof not looked into: of a known kind, with a
/// proof if it is an entry, without flags but [`TOMBSTONE`], of at most [`VALUE_BYTES_MAX`] bytes, none if
/// it is a tombstone, and with a life before it.
///
/// # Errors
///
/// The first reason against it.
pub fn check(record: &Record<'_>) -> Result<(), Reject> {
    let signed = record.proof.len() == PROOF_LEN;
    let bare = record.proof.is_empty();
    match record.kind {
        RecordKind::VALUE if signed || bare => {}
        RecordKind::PROVIDER | RecordKind::SUBSCRIPTION if signed => {}
        RecordKind::VALUE | RecordKind::PROVIDER | RecordKind::SUBSCRIPTION => return Err(Reject::Proof),
        _ => return Err(Reject::Kind),
    }
    let removes = is_tombstone(record.flags);
    if record.flags & !TOMBSTONE != 0 || removes && !record.value.is_empty() {
        return Err(Reject::Flags);
    }
    if record.value.len() > VALUE_BYTES_MAX {
        return Err(Reject::TooLarge);
    }
    if record.ttl_ms == 0 {
        return Err(Reject::Ttl);
    }
    Ok(())
}

/// The proof of `record` in the realm: the public key of `identity`, then its Ed25519 signature.
///
/// The time to live and the proof that `record` has already do not matter.
pub fn sign(identity: &Identity, realm: &RealmId, record: &Record<'_>) -> [u8; PROOF_LEN] {
    let mut proof = [0; PROOF_LEN];
    let (key, signature) = proof.split_at_mut(PUBLIC_KEY_LEN);
    key.copy_from_slice(&identity.public_key());
    signature.copy_from_slice(&identity.sign(&signed(realm, record)));
    proof
}

/// Checks that the proof of `record` is one by `publisher` in the realm, by the strict rules of
/// [`identity::verify`]: weak keys and malleable signatures are refused.
///
/// # Errors
///
/// [`Reject::Proof`] when it is not, or there is none.
pub fn verify(realm: &RealmId, publisher: &NodeId, record: &Record<'_>) -> Result<(), Reject> {
    let (key, signature) = record.proof.split_first_chunk().ok_or(Reject::Proof)?;
    let signature = signature.try_into().map_err(|_| Reject::Proof)?;
    if node_id_of(key) != *publisher {
        return Err(Reject::Proof);
    }
    identity::verify(key, &signed(realm, record), signature).map_err(|_| Reject::Proof)
}

/// What is signed: [`DOMAIN`], realm, key, kind, sequence (big-endian), digest of flags and value. Every part
/// has a fixed length.
fn signed(realm: &RealmId, record: &Record<'_>) -> [u8; SIGNED_LEN] {
    let parts: [&[u8]; 6] = [
        DOMAIN,
        &realm.0,
        record.key.as_bytes(),
        &[record.kind.0],
        &record.seq.to_be_bytes(),
        &digest(record.flags, record.value),
    ];
    let mut out = [0; SIGNED_LEN];
    let mut rest = &mut out[..];
    for part in parts {
        let (head, tail) = rest.split_at_mut(part.len());
        head.copy_from_slice(part);
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests;
