//! Room: the part of a peer's grant that is free.
//!
//! A request takes room when it is queued and gives it back when its reply has come. Whoever finds none
//! may wait for it, or have it kept.

use super::{Outbox, Refusal};

impl Outbox {
    /// What a request of `bytes` takes of the grant; never more than all of it.
    pub(super) fn cost(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).max(self.unit).min(self.capacity)
    }

    /// What STORE records of `bytes` take of the grant; they share a frame, so only their bytes count.
    pub(super) fn store_cost(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.capacity)
    }

    /// Takes the room of STORE records, from `kept` as far as that goes.
    pub(super) fn take_store_room(&self, cost: u32, kept: Option<&mut u32>) -> Result<(), Refusal> {
        match kept {
            Some(kept) if *kept >= cost => {
                *kept -= cost;
                Ok(())
            }
            _ => self.take_room(cost),
        }
    }

    /// Waits for the room of STORE records of `bytes` and takes it; returns what was taken, which the
    /// caller spends in [`push_store`](Self::push_store) or gives back. Cancel safe.
    pub(in crate::pool) async fn keep_room(&self, bytes: usize) -> Result<u32, Refusal> {
        let cost = self.store_cost(bytes);
        let permit = self.room.acquire_many(cost).await.map_err(|_| Refusal::Closed)?;
        permit.forget();
        Ok(cost)
    }

    pub(super) fn take_room(&self, cost: u32) -> Result<(), Refusal> {
        match self.room.try_acquire_many(cost) {
            Ok(permit) => {
                permit.forget();
                Ok(())
            }
            Err(tokio::sync::TryAcquireError::NoPermits) => Err(Refusal::NoRoom),
            Err(tokio::sync::TryAcquireError::Closed) => Err(Refusal::Closed),
        }
    }

    pub(in crate::pool) fn give_back(&self, cost: u32) {
        self.room.add_permits(usize::try_from(cost).unwrap_or(0));
    }

    /// Waits until a request of `bytes` would have had room; the room is not kept. Cancel safe.
    ///
    /// Whoever asks for the room without waiting again finds it: others who wait are not given it
    /// meanwhile, because only one of them at a time looks for it.
    pub(in crate::pool) async fn room_for(&self, bytes: usize) -> Result<(), Refusal> {
        let _turn = self.turn.acquire().await.map_err(|_| Refusal::Closed)?;
        let permit = self.room.acquire_many(self.cost(bytes)).await;
        permit.map(drop).map_err(|_| Refusal::Closed)
    }
}
