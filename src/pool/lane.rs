//! The tasks of our own lanes: one writes what the outbox gathers, one reads the replies.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::outbox::{Freed, Next, Outbox, Replied};
use super::peer::Peer;
use crate::runtime;
use crate::transport::{CloseCode, Lane, LaneError, LaneRecv, LaneSend, Lost};
use crate::wire::{Class, Decoder};

/// How long opening a lane may wait for the peer's stream limit.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest reply body that is accepted on a lane, bytes: a full FIND page with its overhead.
pub(super) const LANE_BODY_MAX: u32 = 128 << 10;

/// Opens the lane of `class` and sets it running.
pub(super) fn open(peer: &Arc<Peer>, class: Class) {
    let peer = Arc::clone(peer);
    let tasks = peer.tasks.clone();
    tasks.spawn(async move {
        match peer.connection.open(OPEN_TIMEOUT).await {
            Ok(lane) => run(peer, class, lane, Decoder::new(LANE_BODY_MAX)).await,
            Err(error) => give_up(&peer, class, error),
        }
    });
}

/// Sets the dialer's control lane running, on which HELLO has passed already.
pub(super) fn adopt(peer: &Arc<Peer>, lane: Lane, decoder: Decoder) {
    let peer = Arc::clone(peer);
    let tasks = peer.tasks.clone();
    tasks.spawn(run(peer, Class::Control, lane, decoder));
}

async fn run(peer: Arc<Peer>, class: Class, lane: Lane, decoder: Decoder) {
    lane.send.prioritise(class);
    let reader = Arc::clone(&peer);
    peer.tasks.spawn(read(reader, class, lane.recv, decoder));
    write(&peer, class, lane.send).await;
    peer.ending.changed.notify_waiters();
}

/// The lane can carry nothing more: whoever waits on it is told, and if the connection is still there it
/// is replaced.
fn give_up(peer: &Arc<Peer>, class: Class, error: LaneError) {
    peer.outbox(class).die();
    peer.ending.changed.notify_waiters();
    if error == LaneError::Abandoned {
        peer.lost_lane();
    }
}

async fn write(peer: &Arc<Peer>, class: Class, mut send: LaneSend) {
    let outbox = peer.outbox(class);
    loop {
        match outbox.next().await {
            Next::Write(bytes) => {
                if let Err(error) = send.write(bytes).await {
                    return give_up(peer, class, error);
                }
            }
            Next::Finish => {
                send.finish();
                return;
            }
        }
    }
}

/// Takes replies to their requesters; never waits for anything but the peer.
async fn read(peer: Arc<Peer>, class: Class, mut recv: LaneRecv, mut decoder: Decoder) {
    decoder.set_body_max(LANE_BODY_MAX);
    let ended = loop {
        if !settle_all(&peer, class, &mut decoder) {
            peer.connection.close(CloseCode::Protocol);
            break LaneError::Lost(Lost::ByUs(CloseCode::Protocol));
        }
        match recv.fill(&mut decoder).await {
            Ok(true) => {}
            Ok(false) => break LaneError::Abandoned,
            Err(error) => break error,
        }
    };
    give_up(&peer, class, ended);
}

fn settle_all(peer: &Peer, class: Class, decoder: &mut Decoder) -> bool {
    let (outbox, mut freed) = (peer.outbox(class), Freed::default());
    let settled = settle(peer, outbox, decoder, &mut freed);
    outbox.free(&freed);
    settled
}

fn settle(peer: &Peer, outbox: &Outbox, decoder: &mut Decoder, freed: &mut Freed) -> bool {
    let now = runtime::now();
    loop {
        match decoder.next() {
            Ok(Some(frame)) => match outbox.reply(&frame.header, frame.body, now, freed) {
                Ok(Replied::Settled) => peer.answered.store(true, Ordering::Relaxed),
                Ok(Replied::Late) => {
                    peer.late.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Replied::Alive) => {}
                Err(_) => return false,
            },
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}
