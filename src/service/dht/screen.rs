//! Which records of a STORE a replica lets in, decided before it takes the lock of any shard.
//!
//! What the publisher brings itself and has not signed, as nearly all records are, is let in without a look
//! at each. A proof is verified whoever brings it, because it will be handed on. An unsigned copy from
//! anybody else counts only if that peer could be a replica of the key itself, and no copy of anybody else is
//! taken by a node that could not.

use std::time::Instant;

use super::{DhtService, lock};
use crate::dht::record::{check, verify};
use crate::dht::store::Origin;
use crate::id::NodeId;
use crate::wire::{Record, Reject, Status, StoreFrame};

/// Proofs that are verified for one frame, about 40 ms of work for the task that reads the lane; records
/// beyond it are answered as overload. A frame of a lane has room for fewer.
const PROOFS_MAX: usize = 1_024;

/// What may go into the store.
pub(super) enum Screened {
    /// Every record.
    All(Origin),
    /// The records at the places `admitted`; what becomes of the others is in `statuses`.
    Some { admitted: Vec<usize>, origin: Origin, statuses: Vec<Status> },
}

/// What is taken of a record, if it is as it should be.
#[derive(Clone, Copy)]
enum Taken {
    /// It, signed or not.
    All,
    /// It, if it is signed.
    Signed,
    Nothing,
}

impl DhtService {
    /// Decides what `from` may store of its batch.
    pub(super) fn screen(&self, now: Instant, from: &NodeId, batch: &StoreFrame<'_>) -> Screened {
        let own = batch.publisher == *from;
        if own && batch.records.iter().all(|record| record.proof.is_empty()) {
            return Screened::All(Origin::FirstHand);
        }
        let origin = if own { Origin::FirstHand } else { Origin::Vouched(Some(*from)) };
        let taken = if own { vec![Taken::All; batch.records.len()] } else { self.taken(now, from, batch) };
        let mut statuses = vec![Status::Overloaded; batch.records.len()];
        let mut admitted = Vec::with_capacity(batch.records.len());
        let mut proofs = 0;
        for (place, (record, taken)) in batch.records.iter().zip(taken).enumerate() {
            proofs += usize::from(!record.proof.is_empty());
            if proofs > PROOFS_MAX && !record.proof.is_empty() {
                continue;
            }
            match self.admit(taken, &batch.publisher, record) {
                Ok(()) => admitted.push(place),
                Err(reason) => statuses[place] = Status::Rejected(reason),
            }
        }
        Screened::Some { admitted, origin, statuses }
    }

    /// What this node takes of each record that `from` brings in the name of another: nothing that it should not
    /// hold itself, and unsigned only what that peer could hold as well, which serves and is close enough.
    ///
    /// The peer need not be in the routing table, whose buckets may be full of others.
    fn taken(&self, now: Instant, from: &NodeId, batch: &StoreFrame<'_>) -> Vec<Taken> {
        let is_here = lock(&self.changes).is_here(from);
        let mut members = lock(&self.members);
        let serves = is_here || members.table().contains(from);
        let mut taken = |record: &Record<'_>| {
            if !members.may_vouch(now, &record.key, &self.local) {
                Taken::Nothing
            } else if serves && members.may_vouch(now, &record.key, from) {
                Taken::All
            } else {
                Taken::Signed
            }
        };
        batch.records.iter().map(&mut taken).collect()
    }

    fn admit(&self, taken: Taken, publisher: &NodeId, record: &Record<'_>) -> Result<(), Reject> {
        // What this node has published is in its own log; nobody else knows better.
        if *publisher == self.local {
            return Err(Reject::Publisher);
        }
        check(record)?;
        match taken {
            Taken::All if record.proof.is_empty() => Ok(()),
            Taken::All | Taken::Signed if !record.proof.is_empty() => {
                verify(&self.config.realm, publisher, record)
            }
            _ => Err(Reject::Publisher),
        }
    }
}
