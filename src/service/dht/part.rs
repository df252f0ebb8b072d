//! Records for one replica that has to be waited for: for its connection, for room, or for a route.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::DhtService;
use crate::id::NodeId;
use crate::pool::{LANE_FRAME_MAX, Lease, Outcome, Promise, Refusal, RequestError, Sink, Tag, deliver};
use crate::service::path::{Access, Answer};
use crate::wire::{self, Class, StoreBatch};

/// Connections that are tried before a replica counts as unreachable: one may be retired under way.
pub(super) const CONNECTIONS_TRIED: usize = 3;

/// Encoded records of one publisher, and who is told what became of them.
pub(super) struct Part {
    pub(super) service: Arc<DhtService>,
    pub(super) node: NodeId,
    pub(super) publisher: NodeId,
    pub(super) records: Bytes,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) tag: Tag,
    pub(super) deadline: Instant,
    pub(super) class: Class,
}

impl Part {
    /// Sends the records. The sink is told exactly once, also when the future is dropped.
    pub(super) fn carried(self) -> impl Future<Output = ()> + Send + 'static {
        let (promise, count) = (Promise::new(Arc::clone(&self.sink), self.tag), self.tag.count);
        async move {
            match self.send().await {
                Ok(None) => promise.hand_over(),
                Ok(Some(answer)) => deliver(promise, count, &answer.header, &answer.body),
                Err(error) => promise.settle(Outcome::Failed(error)),
            }
        }
    }

    /// Tries again while connections come and go: what was not sent may be sent on the next one, and what
    /// has no route directly. Returns the answer if it came by a route.
    async fn send(self) -> Result<Option<Answer>, RequestError> {
        let (path, size) = (&self.service.path, self.records.len() + wire::STORE_PREFIX);
        let mut last = RequestError::NotSent;
        for _ in 0..CONNECTIONS_TRIED {
            let access = path.reach(&self.node, size, self.deadline).await;
            let sent = match access.map_err(|_| RequestError::Unreachable)? {
                Access::Direct(lease) => self.push(&lease).await.map(|()| None),
                Access::Routed => path.routed(&self.node, &self.frame(), self.deadline).await.map(Some),
            };
            match sent {
                Err(error @ (RequestError::NotSent | RequestError::Unreachable | RequestError::TooFar)) => {
                    last = error
                }
                sent => return sent,
            }
        }
        Err(last)
    }

    /// The records as a frame of their own.
    fn frame(&self) -> BytesMut {
        let mut frame = BytesMut::with_capacity(self.records.len() + wire::STORE_PREFIX);
        let mut batch = StoreBatch::open(0, &self.publisher, &mut frame);
        let count = u16::try_from(self.tag.count).unwrap_or(u16::MAX);
        // They were measured when they were encoded.
        let _ = batch.push_many(&self.records, count, &mut frame);
        frame
    }

    async fn push(&self, lease: &Lease) -> Result<(), RequestError> {
        let publisher = self.publisher;
        if self.records.len() + wire::STORE_PREFIX > LANE_FRAME_MAX {
            let (records, count) = (self.records.clone(), self.tag.count);
            lease.single(self.deadline, Arc::clone(&self.sink), self.tag, move |id, out| {
                let mut batch = StoreBatch::open(id, &publisher, out);
                let count = u16::try_from(count).unwrap_or(u16::MAX);
                let _ = batch.push_many(&records, count, out);
            });
            return Ok(());
        }
        loop {
            let size = self.records.len();
            let waiting = (&self.sink, self.tag);
            match lease.try_store(self.class, &publisher, &self.records, self.deadline, waiting, None) {
                Ok(()) => return Ok(()),
                Err(Refusal::NoRoom) => lease.room_for(self.class, size, self.deadline).await?,
                Err(Refusal::Closed) => return Err(RequestError::NotSent),
                Err(Refusal::TooLarge) => return Err(RequestError::TooLarge),
            }
        }
    }
}
