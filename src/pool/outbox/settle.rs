//! How requests end: by their reply, by their deadline, or with the lane.
//!
//! Requesters are told after the lock of the outbox is given up, so a [`Sink`](super::Sink) may queue
//! again.

use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use super::{Outbox, Pending, Stage, State, Waiting};
use crate::pool::inbound::{Outcome, RequestError, Violation};
use crate::wire::{self, Header, Kind, Ping, Status};

/// How long a lane may be silent while requests wait before the peer is asked whether it is there.
const PING_AFTER: Duration = Duration::from_millis(400);

/// Room that replies have freed, given back once for all that were read together.
#[derive(Debug, Default)]
pub(in crate::pool) struct Freed {
    bytes: u32,
    frames: u32,
}

/// What a reply did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) enum Replied {
    /// A requester was told.
    Settled,
    /// It came after its deadline, or nobody had asked.
    Late,
    /// The peer is there, which says nothing of the requests that it has not answered.
    Alive,
}

impl Waiting {
    fn fail(self, error: RequestError) -> usize {
        match self {
            Self::One(sink, tag) => {
                sink.settle(tag, Outcome::Failed(error));
                1
            }
            Self::Store(parts) => {
                for (sink, tag) in &parts {
                    sink.settle(*tag, Outcome::Failed(error));
                }
                parts.len()
            }
            Self::Nobody => 0,
        }
    }
}

impl Outbox {
    /// Takes a reply frame to the requester that waits for it; the room that it gives back is added to
    /// `freed`, for [`free`](Self::free).
    pub(in crate::pool) fn reply(
        &self,
        header: &Header,
        body: &[u8],
        now: Instant,
        freed: &mut Freed,
    ) -> Result<Replied, Violation> {
        let mut state = self.lock();
        let Some(pending) = state.pending.remove(&header.id) else {
            if state.ping.take_if(|ping| *ping == header.id).is_none() {
                return Ok(Replied::Late);
            }
            state.progress = Some(now);
            return Ok(Replied::Alive);
        };
        state.progress = Some(now);
        let ended = state.stage == Stage::Finishing && state.pending.is_empty();
        drop(state);
        freed.bytes = freed.bytes.saturating_add(pending.cost);
        freed.frames += 1;
        if ended {
            self.wake.notify_one();
        }
        deliver(pending, header, body)
    }

    /// Gives back what replies have freed.
    pub(in crate::pool) fn free(&self, freed: &Freed) {
        if freed.frames > 0 {
            self.give_back(freed.bytes);
            self.give_back_frames(freed.frames);
        }
    }

    /// Tells the requesters whose deadline has passed; their room stays taken, because the peer may
    /// still hold the requests. Returns how many, and since when nothing was heard, if anything is due.
    pub(in crate::pool) fn expire(&self, now: Instant) -> (usize, Option<Duration>) {
        let mut state = self.lock();
        // A writer that the peer holds up leaves the frame at the tail open.
        if state.batch.as_ref().is_some_and(|batch| batch.deadline <= now) {
            state.seal();
        }
        let silence = match (state.pending.is_empty(), state.progress) {
            (true, _) => {
                state.progress = None;
                state.rest();
                None
            }
            (false, None) => {
                state.progress = Some(now);
                None
            }
            (false, Some(since)) => Some(now.saturating_duration_since(since)),
        };
        if silence.is_some_and(|silence| silence > PING_AFTER) {
            state = self.ping(state);
        }
        if state.earliest.is_none_or(|earliest| earliest > now) {
            return (0, silence);
        }
        let mut late = Vec::new();
        let mut cancelled = Vec::new();
        let mut earliest = None;
        for (id, pending) in &mut state.pending {
            if matches!(pending.waiting, Waiting::Nobody) {
                continue;
            }
            if pending.deadline <= now {
                let waiting = std::mem::replace(&mut pending.waiting, Waiting::Nobody);
                // A store is answered as soon as it is read.
                if matches!(waiting, Waiting::One(..)) {
                    cancelled.push(*id);
                }
                late.push(waiting);
            } else {
                earliest = Some(earliest.map_or(pending.deadline, |e: Instant| e.min(pending.deadline)));
            }
        }
        state.earliest = earliest;
        self.cancel(state, cancelled);
        (late.into_iter().map(|waiting| waiting.fail(RequestError::Timeout)).sum(), silence)
    }

    /// Asks whether the peer is there, on the lane that is silent: what it has promised may take long.
    fn ping<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.ping.is_some() || state.stage == Stage::Dead {
            return state;
        }
        state.seal();
        let nonce = state.id();
        // A number in a map is never too large for a frame.
        let _ = Ping { nonce }.encode(nonce, &mut state.queue);
        state.ping = Some(nonce);
        // The lane is open: requests were queued on it.
        let _ = self.gathered(state);
        self.lock()
    }

    /// The requester of `id` waits no more: the peer is told, and the reply dropped.
    pub(in crate::pool) fn give_up(&self, id: u64) {
        let mut state = self.lock();
        let Some(pending) = state.pending.get_mut(&id) else { return };
        let waiting = std::mem::replace(&mut pending.waiting, Waiting::Nobody);
        if !matches!(waiting, Waiting::Nobody) {
            self.cancel(state, vec![id]);
        }
    }

    /// Tells the peer that nobody waits for these requests any more. Its replies are awaited all the same,
    /// because they give back the room.
    fn cancel(&self, mut state: MutexGuard<'_, State>, ids: Vec<u64>) {
        if ids.is_empty() || state.stage == Stage::Dead {
            return;
        }
        state.seal();
        for id in ids {
            wire::encode_cancel(id, &mut state.queue);
        }
        // The lane is open: requests were queued on it.
        let _ = self.gathered(state);
    }

    /// The lane is gone: everyone who waits is told, what was still queued with `NotSent`.
    pub(in crate::pool) fn die(&self) {
        let mut state = self.lock();
        state.stage = Stage::Dead;
        let unsent = state.batch.take().map_or_else(Vec::new, |batch| batch.parts);
        let sent_below = if state.gathered > 0 { state.written_below } else { state.next_id };
        state.gathered = 0;
        state.queue = bytes::BytesMut::new();
        let pending = std::mem::take(&mut state.pending);
        drop(state);
        self.close_room();
        self.wake.notify_one();
        Waiting::Store(unsent).fail(RequestError::NotSent);
        for (id, pending) in pending {
            let error = if id < sent_below { RequestError::Lost } else { RequestError::NotSent };
            pending.waiting.fail(error);
        }
    }
}

fn deliver(pending: Pending, header: &Header, body: &[u8]) -> Result<Replied, Violation> {
    if matches!(pending.waiting, Waiting::Nobody) {
        return Ok(Replied::Late);
    }
    let failure = match Kind::from_u8(header.kind) {
        Some(Kind::Unsupported) => Some(RequestError::Unsupported),
        Some(Kind::Failed) => Some(RequestError::of_failed(body)),
        _ => None,
    };
    if let Some(error) = failure {
        pending.waiting.fail(error);
        return Ok(Replied::Settled);
    }
    match pending.waiting {
        Waiting::Nobody => Ok(Replied::Late),
        Waiting::One(sink, tag) => {
            sink.settle(tag, Outcome::Frame { kind: header.kind, body });
            Ok(Replied::Settled)
        }
        Waiting::Store(parts) => statuses(parts, header, body),
    }
}

type Parts = Vec<(std::sync::Arc<dyn super::Sink>, super::Tag)>;

fn statuses(parts: Parts, header: &Header, body: &[u8]) -> Result<Replied, Violation> {
    let expected: usize = parts.iter().map(|(_, tag)| usize::try_from(tag.count).unwrap_or(0)).sum();
    let statuses: Option<Vec<Status>> = (header.kind == Kind::StoreReply as u8)
        .then(|| wire::decode_store_reply(body).ok())
        .flatten()
        .filter(|statuses| statuses.len() == expected);
    let Some(statuses) = statuses else {
        Waiting::Store(parts).fail(RequestError::Malformed);
        return Err(Violation::Malformed);
    };
    let durable = header.flags & wire::DURABLE != 0;
    let mut rest = statuses.as_slice();
    for (sink, tag) in &parts {
        let count = usize::try_from(tag.count).unwrap_or(0).min(rest.len());
        let (mine, others) = rest.split_at(count);
        sink.settle(*tag, Outcome::Statuses { statuses: mine, durable });
        rest = others;
    }
    Ok(Replied::Settled)
}
