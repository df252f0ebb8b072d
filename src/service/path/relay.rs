//! What arrives in envelopes: requests for this node, and requests that it passes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::{Answer, PathService};
use crate::id::NodeId;
use crate::identity::node_id_of;
use crate::pool::{Inbound, Later, Violation};
use crate::route::answers::{Answer as Before, Asked};
use crate::route::envelope;
use crate::route::way::{LEFT_MAX, Way};
use crate::runtime;
use crate::wire::{self, HEADER_LEN, Header, Kind, Route, RouteError, RouteReply, Routed};

/// How long a request whose way back is gone waits for its envelope to come another way.
const GRACE: Duration = Duration::from_millis(500);

/// Where the reply to a request is told.
pub(super) type Told = Arc<watch::Sender<Option<Bytes>>>;

/// A request that is being passed on, counted until it is dropped.
struct Turn {
    service: Arc<PathService>,
    previous: NodeId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.service.lock().relays.done(&self.previous);
    }
}

impl PathService {
    /// Handles a ROUTE frame of `from`: a request for this node is given to `inbound` as if its origin
    /// had sent it, any other is passed on.
    pub(crate) fn received(
        self: &Arc<Self>,
        inbound: &dyn Inbound,
        from: &NodeId,
        id: u64,
        body: &[u8],
        out: &mut BytesMut,
        later: &mut Later,
    ) -> Result<(), Violation> {
        let route = Route::decode(body).map_err(|_| Violation::Malformed)?;
        let taken = if route.destination == self.local {
            self.arrived(inbound, &route, id, out, later)
        } else {
            self.pass_on(from, &route, body, later).inspect_err(|_| {
                self.counts.relay_refused.fetch_add(1, Ordering::Relaxed);
            })
        };
        match taken {
            Ok(()) => Ok(()),
            Err(error) => {
                RouteReply { hops: 0, result: Err(error) }.encode(id, out).map_err(|_| Violation::Malformed)
            }
        }
    }

    fn arrived(
        self: &Arc<Self>,
        inbound: &dyn Inbound,
        route: &Route<'_>,
        id: u64,
        out: &mut BytesMut,
        later: &mut Later,
    ) -> Result<(), RouteError> {
        let origin = envelope::origin(&self.realm, route).map_err(|_| RouteError::Refused)?;
        if origin == self.local {
            return Err(RouteError::Refused);
        }
        if route.left_ms == 0 {
            return Err(RouteError::Expired);
        }
        let asked = (origin, route.nonce);
        let before = {
            let mut state = self.lock();
            let open = state.seen.open(runtime::unix_ms(), origin, route.nonce, route.issued_ms);
            if open { None } else { Some(state.answers.get(&asked)) }
        };
        match before {
            None => {}
            // Another way has failed it: what came of it goes by this one.
            Some(Some(Before::Given(frame))) => {
                self.wrap(&asked, id, &frame, out);
                return Ok(());
            }
            Some(Some(Before::Open(told))) => {
                self.forward(asked, told.subscribe(), later);
                return Ok(());
            }
            Some(None) => return Err(RouteError::Refused),
        }
        self.counts.routed_received.fetch_add(1, Ordering::Relaxed);
        let body_len = u32::try_from(route.body.len()).unwrap_or(u32::MAX);
        let header = Header { kind: route.kind, flags: route.flags, body_len, id };
        let mut reply = BytesMut::new();
        // For how long the origin waits is said by the request. What is left by this way may be half of
        // that or less, because there are others.
        let mut promised = Later::alone(&header, route.passed.len());
        if is_request(route.kind) {
            // A relay is not to blame for what an origin says.
            let asked = inbound.request(&origin, &header, route.body, &mut reply, &mut promised);
            asked.map_err(|_| RouteError::Refused)?;
        } else {
            wire::encode_unsupported(id, &mut reply);
        }
        if promised.is_empty() {
            self.wrap(&asked, id, &reply, out);
            self.lock().answers.given(runtime::now(), asked, reply.freeze());
        } else {
            let (told, heard) = watch::channel(None);
            let told = Arc::new(told);
            self.lock().answers.open(runtime::now(), asked, Arc::clone(&told));
            self.forward(asked, heard, later);
            self.work(asked, promised, told);
        }
        Ok(())
    }

    /// Takes the reply to `asked` from `promised` to those who wait for it; without anybody, stops it.
    fn work(self: &Arc<Self>, asked: Asked, mut promised: Later, told: Told) {
        let service = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut reply = BytesMut::new();
            while reply.is_empty() {
                tokio::select! {
                    biased;
                    () = promised.ready() => promised.take(&mut reply),
                    () = deserted(&told) => {
                        service.lock().answers.abandoned(&asked);
                        return;
                    }
                }
            }
            let frame = reply.freeze();
            service.lock().answers.given(runtime::now(), asked, frame.clone());
            told.send_replace(Some(frame));
        });
    }

    /// Answers as soon as the reply to `asked` is heard.
    fn forward(self: &Arc<Self>, asked: Asked, mut heard: watch::Receiver<Option<Bytes>>, later: &mut Later) {
        let mut replier = later.promise();
        let service = Arc::clone(self);
        self.tasks.spawn(async move {
            let frame = tokio::select! {
                biased;
                () = replier.cancelled() => return,
                told = heard.wait_for(Option::is_some) => told.ok().and_then(|frame| frame.clone()),
            };
            if let Some(frame) = frame {
                replier.reply(|id, out| service.wrap(&asked, id, &frame, out));
            }
        });
    }

    /// Appends the reply to the envelope `id`, with the signed reply frame in it.
    fn wrap(&self, (origin, nonce): &Asked, id: u64, frame: &[u8], out: &mut BytesMut) {
        let result = match frame.split_first_chunk::<HEADER_LEN>() {
            Some((head, body)) => {
                let Header { kind, flags, .. } = Header::decode(head);
                let answer = (kind, flags, body);
                Ok(envelope::answer(&self.identity, &self.realm, (origin, *nonce), answer))
            }
            None => Err(RouteError::Refused),
        };
        if (RouteReply { hops: 0, result }).encode(id, out).is_err() {
            // It is larger than may be routed.
            let _ = RouteReply { hops: 0, result: Err(RouteError::Refused) }.encode(id, out);
        }
    }

    fn pass_on(
        self: &Arc<Self>,
        from: &NodeId,
        route: &Route<'_>,
        frame: &[u8],
        later: &mut Later,
    ) -> Result<(), RouteError> {
        let now = runtime::now();
        let left = Duration::from_millis(route.left_ms.into()).min(LEFT_MAX);
        let origin = node_id_of(&route.origin_key);
        let way = Way::of_relay(self.local, from, origin, route, now + left)?;
        envelope::origin(&self.realm, route).map_err(|_| RouteError::Refused)?;
        let turn = {
            let mut state = self.lock();
            // What was not admitted was not passed on, and may come again.
            if !state.relays.admit(now, *from, frame.len()) {
                return Err(RouteError::Overloaded);
            }
            if !state.passed.insert(now, &route.signature) {
                state.relays.done(from);
                // Who has sent it here before hears what came of it; by this way there is nothing more.
                return Err(RouteError::NoRoute);
            }
            Turn { service: Arc::clone(self), previous: *from }
        };
        self.counts.relayed.fetch_add(1, Ordering::Relaxed);
        let frame = Bytes::copy_from_slice(frame);
        let mut replier = later.promise();
        self.tasks.spawn(async move {
            let Ok(route) = Route::decode(&frame) else { return };
            let (hops, result) = tokio::select! {
                biased;
                () = replier.cancelled() => return,
                walked = turn.service.walk(way, &route, &origin) => walked,
            };
            let result = result.as_ref().map(Answer::as_routed).map_err(|error| *error);
            replier.reply(|id, out| {
                let _ = RouteReply { hops, result }.encode(id, out);
            });
        });
        Ok(())
    }
}

impl Answer {
    fn as_routed(&self) -> Routed<'_> {
        let Self { header: Header { kind, flags, .. }, ref body, key, signature, .. } = *self;
        Routed { kind, flags, body, key, signature }
    }
}

/// Returns when nobody has waited for what is told for a while.
async fn deserted(told: &Told) {
    loop {
        told.closed().await;
        tokio::time::sleep_until(runtime::after(GRACE).into()).await;
        if told.is_closed() {
            return;
        }
    }
}

/// Whether the request may travel in an envelope; an envelope may not.
fn is_request(kind: u8) -> bool {
    let kind = Kind::from_u8(kind);
    matches!(kind, Some(Kind::FindNode | Kind::FindValue | Kind::Store | Kind::Call | Kind::Publish))
}
