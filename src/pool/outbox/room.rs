//! Room: the part of a peer's grant that is free.
//!
//! A request takes room when it is queued and gives it back when its reply has come: bytes, and one frame
//! unless it shares that of others. Whoever finds none may wait for it, or have it kept.

use tokio::sync::{SemaphorePermit, TryAcquireError};

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

    /// Takes the right to one more frame.
    pub(super) fn take_frame(&self) -> Result<(), Refusal> {
        taken(self.frames.try_acquire())
    }

    pub(super) fn give_back_frames(&self, frames: u32) {
        self.frames.add_permits(usize::try_from(frames).unwrap_or(0));
    }

    /// Lets nobody take or await room any more.
    pub(super) fn close_room(&self) {
        self.frames.close();
        self.room.close();
    }

    pub(super) fn take_room(&self, cost: u32) -> Result<(), Refusal> {
        taken(self.room.try_acquire_many(cost))
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
        let _frame = self.frames.acquire().await.map_err(|_| Refusal::Closed)?;
        let permit = self.room.acquire_many(self.cost(bytes)).await;
        permit.map(drop).map_err(|_| Refusal::Closed)
    }
}

fn taken(permit: Result<SemaphorePermit<'_>, TryAcquireError>) -> Result<(), Refusal> {
    match permit {
        Ok(permit) => {
            permit.forget();
            Ok(())
        }
        Err(TryAcquireError::NoPermits) => Err(Refusal::NoRoom),
        Err(TryAcquireError::Closed) => Err(Refusal::Closed),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use bytes::BytesMut;

    use super::*;
    use crate::id::NodeId;
    use crate::pool::inbound::{Outcome, Sink, Tag};
    use crate::pool::outbox::Freed;
    use crate::runtime;
    use crate::wire::{Class, Grant, Header, Kind};

    struct Nobody;

    impl Sink for Nobody {
        fn settle(&self, _: Tag, _: Outcome<'_>) {}
    }

    /// A lane with room for two frames and far more bytes than they need.
    fn outbox() -> Outbox {
        Outbox::new(Class::Bulk, Grant { requests: 2, bytes: 1 << 20 }, true)
    }

    fn store(outbox: &Outbox) -> Result<bool, Refusal> {
        let sink: Arc<dyn Sink> = Arc::new(Nobody);
        let deadline = runtime::now() + Duration::from_secs(1);
        let tag = Tag { peer: 0, first: 0, count: 1 };
        outbox.push_store(&NodeId::from_bytes([1; 32]), &[0; 64], deadline, (&sink, tag), None)
    }

    fn request(outbox: &Outbox) -> Result<bool, Refusal> {
        let tag = Tag { peer: 0, first: 0, count: 1 };
        let encode = |_, out: &mut BytesMut| out.extend_from_slice(&[0; 64]);
        outbox
            .push(64, runtime::now() + Duration::from_secs(1), (Arc::new(Nobody), tag), encode)
            .map(|pushed| pushed.open)
    }

    #[test]
    fn who_finds_all_frames_in_flight_waits_for_a_reply() {
        for push in [store, request] {
            let outbox = outbox();
            for _ in 0..2 {
                assert_eq!(push(&outbox), Ok(false));
                assert!(outbox.take().is_some(), "it is in flight");
            }
            assert_eq!(push(&outbox), Err(Refusal::NoRoom));
            let mut waiting = pin!(outbox.room_for(64));
            let mut context = Context::from_waker(Waker::noop());
            assert!(waiting.as_mut().poll(&mut context).is_pending(), "it would spin");
            let header = Header { kind: Kind::Unsupported as u8, flags: 0, body_len: 0, id: 1 };
            let mut freed = Freed::default();
            outbox.reply(&header, &[], runtime::now(), &mut freed).unwrap();
            outbox.free(&freed);
            assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(Ok(())));
            assert_eq!(push(&outbox), Ok(false));
            assert_eq!(push(&outbox).is_ok(), outbox.lock().batch.is_some(), "stores share the last frame");
        }
    }

    #[test]
    fn who_waits_for_a_frame_is_told_that_the_lane_has_ended() {
        let outbox = outbox();
        for _ in 0..2 {
            request(&outbox).unwrap();
        }
        let mut waiting = pin!(outbox.room_for(64));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        outbox.die();
        assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(Err(Refusal::Closed)));
        assert_eq!(store(&outbox), Err(Refusal::Closed));
    }
}
