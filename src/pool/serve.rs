//! The peer's lanes: each is read by one task that answers on the spot, or later what was promised.
//!
//! The reply is written on the same stream, by the task that reads it and by nobody else. The requester
//! never has more in flight than this node granted it, so its replies always find room, and a reader
//! that writes a reply waits for nobody but the requester whose lane it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::time::timeout_at;

use super::inbound::{Inbound, Violation};
use super::lane::LANE_BODY_MAX;
use super::later::Later;
use super::peer::{Peer, SILENCE_MAX};
use crate::runtime;
use crate::transport::{CloseCode, Lane, LaneRecv, LaneSend, TransportConfig};
use crate::wire::{self, BODY_MAX, Class, Decoder, Failed, Frame, GoAway, Grant, Kind, Ping, Pong};

/// Replies gathered before they are written, bytes.
const REPLIES_MAX: usize = 64 << 10;
/// Streams that a peer may open in a second.
const STREAMS_PER_SECOND: u32 = 4_000;

/// What serving needs besides the peer.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) inbound: Arc<dyn Inbound>,
    /// What the peer may have in flight on each of its lanes.
    pub(super) grants: [Grant; Class::LANES],
    pub(super) first_byte: Duration,
    pub(super) frame: Duration,
}

impl Service {
    pub(super) fn new(
        inbound: Arc<dyn Inbound>,
        grants: [Grant; Class::LANES],
        config: &TransportConfig,
    ) -> Self {
        Self { inbound, grants, first_byte: config.first_byte_timeout, frame: config.frame_timeout }
    }
}

/// Accepts the peer's streams until the connection is gone; each is served by a task of its own.
///
/// The peer's stream limit bounds the tasks.
pub(super) async fn accept(peer: Arc<Peer>, service: Service) -> crate::transport::Lost {
    let mut window = (runtime::now(), 0);
    loop {
        let lane = match peer.connection.accept().await {
            Ok(lane) => lane,
            Err(lost) => return lost,
        };
        if too_fast(&mut window, runtime::now()) {
            peer.connection.close(CloseCode::ExcessiveLoad);
        }
        serve(&peer, &service, lane, Decoder::new(LANE_BODY_MAX), None);
    }
}

fn too_fast(window: &mut (Instant, u32), now: Instant) -> bool {
    if now.saturating_duration_since(window.0) > Duration::from_secs(1) {
        *window = (now, 0);
    }
    window.1 += 1;
    window.1 > STREAMS_PER_SECOND
}

/// Serves one stream of the peer; `class` is known when HELLO opened it.
pub(super) fn serve(peer: &Arc<Peer>, service: &Service, lane: Lane, decoder: Decoder, class: Option<Class>) {
    let reader = Reader {
        peer: Arc::clone(peer),
        service: service.clone(),
        class: None,
        out: BytesMut::new(),
        usual: 0,
        later: Later::new(SINGLE, BODY_MAX),
    };
    peer.tasks.spawn(async move {
        let peer = Arc::clone(&reader.peer);
        if reader.run(lane, decoder, class).await.is_err() {
            peer.connection.close(CloseCode::Protocol);
        }
    });
}

/// Counts a lane of the peer while it is served.
struct Open(Arc<Peer>);

impl Open {
    fn new(peer: &Arc<Peer>) -> Self {
        peer.ending.lanes_in.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(peer))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.ending.lanes_in.fetch_sub(1, Ordering::AcqRel);
        self.0.ending.changed.notify_waiters();
    }
}

struct Reader {
    peer: Arc<Peer>,
    service: Service,
    class: Option<Class>,
    out: BytesMut,
    /// Bytes of the replies that were last written together: there is room for as many at once.
    usual: usize,
    later: Later,
}

/// What a stream of its own carries.
const SINGLE: Grant = Grant { requests: 1, bytes: BODY_MAX };

/// Why a stream is not read on.
enum Stop {
    /// It ended, stalled or was abandoned: only its own requests are concerned.
    Stream,
    /// A reply could not be written whole: the stream is reset, so that the part is not taken for it.
    Unread,
    /// The peer broke the protocol.
    Violation(Violation),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl Reader {
    async fn run(mut self, lane: Lane, mut decoder: Decoder, class: Option<Class>) -> Result<(), Violation> {
        let _open = Open::new(&self.peer);
        let Lane { mut send, mut recv } = lane;
        let stop = match self.first(&mut recv, &mut decoder, class).await {
            Ok(Class::Single) => self.single(&mut recv, &mut send, decoder).await,
            Ok(class) => {
                self.begin(class, &send)?;
                self.lane(&mut recv, &mut send, decoder).await
            }
            Err(stop) => stop,
        };
        match stop {
            Stop::Stream => {
                send.finish();
                Ok(())
            }
            Stop::Unread => Ok(()),
            Stop::Violation(violation) => {
                tracing::debug!(peer = %format_args!("{:.8}", self.peer.id), %violation, "closing");
                Err(violation)
            }
        }
    }

    /// Learns the class of the stream from its first frame.
    async fn first(
        &self,
        recv: &mut LaneRecv,
        decoder: &mut Decoder,
        class: Option<Class>,
    ) -> Result<Class, Stop> {
        if let Some(class) = class {
            return Ok(class);
        }
        let deadline = runtime::after(self.service.first_byte);
        loop {
            if let Some(frame) = decoder.next().map_err(|_| Violation::Malformed)? {
                let known = frame.header.kind == Kind::Open as u8 && frame.body.is_empty();
                let class = known.then(|| Class::from_u8(frame.header.flags)).flatten();
                return class.ok_or_else(|| Violation::Misplaced.into());
            }
            self.fill(recv, decoder, Some(deadline)).await?;
        }
    }

    /// One lane per class: a second one is a violation.
    fn begin(&mut self, class: Class, send: &LaneSend) -> Result<(), Violation> {
        let bit = 1 << class.index();
        if self.peer.ending.classes_in.fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            return Err(Violation::Misplaced);
        }
        send.prioritise(class);
        self.class = Some(class);
        self.later = Later::new(self.service.grants[class.index()], LANE_BODY_MAX);
        Ok(())
    }

    async fn lane(&mut self, recv: &mut LaneRecv, send: &mut LaneSend, mut decoder: Decoder) -> Stop {
        decoder.set_body_max(LANE_BODY_MAX);
        let mut stalled: Option<Instant> = None;
        loop {
            loop {
                match self.answer_some(&mut decoder) {
                    Ok(0) => break,
                    Ok(_) => stalled = None,
                    Err(violation) => return violation.into(),
                }
                if !self.out.is_empty()
                    && let Err(stop) = self.reply(send).await
                {
                    return stop;
                }
            }
            if self.out.capacity() > 0 {
                self.out = BytesMut::new();
            }
            stalled =
                decoder.is_partial().then(|| stalled.unwrap_or_else(|| runtime::after(self.service.frame)));
            let more = if self.later.is_empty() {
                self.fill(recv, &mut decoder, stalled).await
            } else {
                self.fill_or_answer(recv, send, &mut decoder, stalled).await
            };
            match more {
                Ok(()) => {}
                // What was promised is still waited for.
                Err(Stop::Stream) => return self.keep_promises(send).await.err().unwrap_or(Stop::Stream),
                Err(stop) => return stop,
            }
        }
    }

    /// As [`fill`](Self::fill), unless promised replies are ready before more has arrived: then it
    /// writes those.
    async fn fill_or_answer(
        &mut self,
        recv: &mut LaneRecv,
        send: &mut LaneSend,
        decoder: &mut Decoder,
        deadline: Option<Instant>,
    ) -> Result<(), Stop> {
        tokio::select! {
            biased;
            () = self.later.ready() => {}
            filled = self.fill(recv, decoder, deadline) => return filled,
        }
        self.later.take(&mut self.out);
        if self.out.is_empty() { Ok(()) } else { self.reply(send).await }
    }

    /// Writes the promised replies as they come, until none is left.
    async fn keep_promises(&mut self, send: &mut LaneSend) -> Result<(), Stop> {
        while !self.later.is_empty() {
            tokio::select! {
                biased;
                () = self.later.ready() => {}
                () = send.stopped() => return Err(Stop::Unread),
            }
            self.later.take(&mut self.out);
            if !self.out.is_empty() {
                self.reply(send).await?;
            }
        }
        Ok(())
    }

    /// A single frame over the lane limit, its reply, and the end.
    async fn single(&mut self, recv: &mut LaneRecv, send: &mut LaneSend, mut decoder: Decoder) -> Stop {
        let peer = Arc::clone(&self.peer);
        decoder.set_body_max(BODY_MAX);
        // The peer counts an exchange as over when it has its reply, which may be before we do.
        let until = runtime::after(self.service.first_byte);
        let turn = timeout_at(until.into(), peer.singles_in.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Stop::Stream };
        let deadline = runtime::after(self.service.frame);
        self.class = Some(Class::Single);
        loop {
            match self.answer_some(&mut decoder) {
                Ok(0) => {}
                Ok(_) => {
                    let replied = if self.out.is_empty() { Ok(()) } else { self.reply(send).await };
                    let replied = replied.and(self.keep_promises(send).await);
                    return replied.err().unwrap_or(Stop::Stream);
                }
                Err(violation) => return violation.into(),
            }
            if let Err(stop) = self.fill(recv, &mut decoder, Some(deadline)).await {
                return stop;
            }
        }
    }

    /// Writes the replies gathered so far. A peer that does not read them loses the stream, because they
    /// were asked for and have room in what it granted.
    async fn reply(&mut self, send: &mut LaneSend) -> Result<(), Stop> {
        let until = runtime::now() + SILENCE_MAX;
        self.usual = self.out.len();
        match timeout_at(until.into(), send.write(self.out.split().freeze())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Stop::Unread),
        }
    }

    async fn fill(
        &self,
        recv: &mut LaneRecv,
        decoder: &mut Decoder,
        deadline: Option<Instant>,
    ) -> Result<(), Stop> {
        let filled = match deadline {
            Some(deadline) => timeout_at(deadline.into(), recv.fill(decoder)).await,
            None => Ok(recv.fill(decoder).await),
        };
        match filled {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false) | Err(_)) | Err(_) => Err(Stop::Stream),
        }
    }

    /// Answers the frames that have arrived until the replies should be written; returns how many.
    fn answer_some(&mut self, decoder: &mut Decoder) -> Result<usize, Violation> {
        let mut answered = 0;
        let now = runtime::now();
        while self.out.len() < REPLIES_MAX {
            let Some(frame) = decoder.next().map_err(|_| Violation::Malformed)? else { break };
            if self.out.is_empty() {
                self.out.reserve(self.usual);
            }
            answer(
                &self.peer,
                &*self.service.inbound,
                self.class,
                (now, frame),
                &mut self.out,
                &mut self.later,
            )?;
            answered += 1;
        }
        if answered > 0 {
            self.peer.used.store(true, Ordering::Relaxed);
        }
        Ok(answered)
    }
}

fn answer(
    peer: &Arc<Peer>,
    inbound: &dyn Inbound,
    class: Option<Class>,
    (now, frame): (Instant, Frame<'_>),
    out: &mut BytesMut,
    later: &mut Later,
) -> Result<(), Violation> {
    let id = frame.header.id;
    if let Some(class) = class.filter(|class| *class != Class::Single) {
        let lane = class.index();
        if !peer.ending.accept(lane, id)? {
            return Failed { code: Failed::GOING_AWAY }.encode(id, out).map_err(|_| Violation::Malformed);
        }
    }
    match Kind::from_u8(frame.header.kind) {
        Some(Kind::Ping) => {
            let ping = Ping::decode(frame.body).map_err(|_| Violation::Malformed)?;
            Pong { nonce: ping.nonce }.encode(id, out).map_err(|_| Violation::Malformed)
        }
        Some(Kind::GoAway) => {
            let goaway = GoAway::decode(frame.body).map_err(|_| Violation::Malformed)?;
            peer.told_goodbye(CloseCode::from_u32(u32::from(goaway.code)));
            Ok(())
        }
        Some(Kind::Cancel) => {
            later.cancel(id);
            Ok(())
        }
        Some(Kind::FindNode | Kind::FindValue | Kind::Store | Kind::Call | Kind::Publish | Kind::Route) => {
            later.begin(now, &frame.header);
            inbound.request(&peer.id, &frame.header, frame.body, out, later)?;
            if later.is_overdrawn() { Err(Violation::Excess) } else { Ok(()) }
        }
        None => {
            wire::encode_unsupported(id, out);
            Ok(())
        }
        Some(_) => Err(Violation::Misplaced),
    }
}

/// How many streams of peers are being served, for the metrics.
pub(super) fn served<'a>(peers: impl Iterator<Item = &'a Arc<Peer>>) -> u32 {
    peers.map(|peer| AtomicU32::load(&peer.ending.lanes_in, Ordering::Relaxed)).sum()
}
