//! Operations: what a node has begun and waits for answers of.

use std::time::{Duration, Instant};

use foveola::id::NodeId;
use smallvec::SmallVec;

use super::super::clock::Micros;
use super::super::core::{Cx, Wake};
use super::super::message::{Answer, Ask};
use super::find::Finding;
use super::first::Hunting;
use super::search::{Searching, Surveying};
use super::store::Storing;
use super::tend::{Copying, Publishing};
use super::upkeep::Joining;
use super::{Node, Sent};

/// How long a peer has to answer a request, as in the library.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// One operation under way.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) calls: Calls,
    task: Task,
    /// When it will be woken next.
    wake: Option<Micros>,
}

/// The requests of an operation.
#[derive(Debug)]
pub(crate) struct Calls {
    id: u32,
    asked: SmallVec<[Asked; 4]>,
    /// Messages that it has cost, handshakes included.
    pub(crate) messages: u32,
}

/// A request that may still be answered.
#[derive(Debug, Clone, Copy)]
struct Asked {
    peer: u32,
    nonce: u32,
    until: Instant,
    /// It counts as failed; an answer that comes all the same is passed on.
    late: bool,
}

/// How a request got to its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Over a connection that was there.
    Warm,
    /// Over one that had to be made first.
    Cold,
}

/// What an operation does.
#[derive(Debug)]
pub(crate) enum Task {
    Ping(Pinging),
    Join(Joining),
    Search(Box<Searching>),
    Survey(Box<Surveying>),
    Store(Box<Storing>),
    Find(Box<Finding>),
    First(Box<Hunting>),
    /// Copies that are sent to a peer.
    Copy(Copying),
    /// An own publication that is sent again.
    Publish(Box<Publishing>),
}

/// A sign of life is wanted.
#[derive(Debug)]
pub(crate) struct Pinging {
    peer: NodeId,
    asked: u32,
    wanted: u32,
}

/// Pings in a row that a busy node may miss before it counts as gone, as in the library.
const PINGS: u32 = 2;

impl Pinging {
    pub(super) fn new(peer: NodeId) -> Self {
        Self { peer, asked: 0, wanted: 1 }
    }
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Reply {
    Answer(Answer),
    /// One that comes after it counted as failed.
    Late(Answer),
    /// None, and whether the peer may have done what it was asked.
    Failed {
        maybe_executed: bool,
    },
}

/// Whether an operation goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It goes on when a request has come to something, or at this instant.
    Until(Instant),
    /// It goes on when a request has come to something.
    Wait,
    Ended,
}

impl Calls {
    /// Whether no request is waited for.
    pub(crate) fn are_over(&self) -> bool {
        self.asked.iter().all(|asked| asked.late)
    }

    /// Waits for nothing any more: what is under way belongs to a step that is over.
    pub(crate) fn forget(&mut self) {
        self.asked.clear();
    }

    /// The numbers of the requests to `peer`.
    pub(crate) fn to(&self, peer: u32) -> impl Iterator<Item = u32> {
        self.asked.iter().filter(move |asked| asked.peer == peer).map(|asked| asked.nonce)
    }
}

impl Node {
    /// Begins an operation.
    pub(crate) fn start(&mut self, cx: &mut Cx<'_>, task: Task) {
        let id = self.next_op;
        self.next_op = id.wrapping_add(1);
        let calls = Calls { id, asked: SmallVec::new(), messages: 0 };
        self.go_on(cx, Op { calls, task, wake: None });
    }

    /// Asks `peer` on behalf of an operation; no answer within [`REQUEST_TIMEOUT`] is a failure.
    pub(super) fn ask(&mut self, cx: &mut Cx<'_>, calls: &mut Calls, peer: &NodeId, ask: Ask) -> Way {
        let peer = cx.core.directory.index(peer).expect("every id that is told of has a node");
        let Sent { nonce, messages, way } = self.send(cx, calls.id, peer, ask);
        calls.messages += messages;
        let until = cx.now + REQUEST_TIMEOUT;
        calls.asked.push(Asked { peer, nonce, until, late: false });
        way
    }

    /// An answer has come.
    pub(crate) fn answered(&mut self, cx: &mut Cx<'_>, from: u32, (id, nonce): (u32, u32), answer: Answer) {
        let Some(mut op) = self.ops.remove(&id) else { return };
        let asked = &mut op.calls.asked;
        if let Some(at) = asked.iter().position(|asked| asked.nonce == nonce && asked.peer == from) {
            let asked = asked.swap_remove(at);
            op.calls.messages += 1;
            let reply = if asked.late { Reply::Late(answer) } else { Reply::Answer(answer) };
            self.take(cx, &mut op, from, reply);
        }
        self.go_on(cx, op);
    }

    /// A request has failed.
    pub(crate) fn failed(&mut self, cx: &mut Cx<'_>, id: u32, nonce: u32, maybe_executed: bool) {
        let Some(mut op) = self.ops.remove(&id) else { return };
        let asked = &mut op.calls.asked;
        if let Some(at) = asked.iter().position(|asked| asked.nonce == nonce) {
            let asked = asked.swap_remove(at);
            if !asked.late {
                self.take(cx, &mut op, asked.peer, Reply::Failed { maybe_executed });
            }
        }
        self.go_on(cx, op);
    }

    /// Time has come for an operation.
    pub(crate) fn wake_op(&mut self, cx: &mut Cx<'_>, id: u32) {
        let Some(mut op) = self.ops.remove(&id) else { return };
        if op.wake.is_some_and(|wake| wake <= cx.core.now) {
            op.wake = None;
        }
        for at in 0..op.calls.asked.len() {
            let asked = &mut op.calls.asked[at];
            if !asked.late && asked.until <= cx.now {
                asked.late = true;
                let peer = asked.peer;
                // A message that is lost stands for a connection that has died.
                self.links.lose(peer);
                self.take(cx, &mut op, peer, Reply::Failed { maybe_executed: true });
            }
        }
        self.go_on(cx, op);
    }

    /// Lets an operation do what it can, and keeps it if it is not over.
    fn go_on(&mut self, cx: &mut Cx<'_>, mut op: Op) {
        let until = match self.step(cx, &mut op) {
            Flow::Ended => return,
            Flow::Wait => None,
            Flow::Until(until) => Some(until),
        };
        let waiting = op.calls.asked.iter().filter(|asked| !asked.late).map(|asked| asked.until);
        if let Some(until) = waiting.chain(until).min() {
            let at = cx.global(until);
            if op.wake.is_none_or(|wake| at < wake) {
                op.wake = Some(at);
                cx.wake(at, Wake::Op(op.calls.id));
            }
        }
        self.ops.insert(op.calls.id, op);
    }

    /// Passes what came of a request to what the operation does.
    fn take(&mut self, cx: &mut Cx<'_>, op: &mut Op, from: u32, reply: Reply) {
        let (index, from, now) = (from, cx.id(from), cx.now);
        match &mut op.task {
            Task::Ping(pinging) => match reply {
                Reply::Answer(_) | Reply::Late(_) => drop(self.members.confirm(now, &from)),
                Reply::Failed { maybe_executed: true } if pinging.asked < PINGS => pinging.wanted += 1,
                Reply::Failed { .. } => self.lost(cx, index),
            },
            Task::Join(joining) => joining.joined |= !matches!(reply, Reply::Failed { .. }),
            Task::Search(searching) => drop(searching.search.take(self, now, &from, reply)),
            Task::Survey(surveying) => drop(surveying.search.take(self, now, &from, reply)),
            Task::Store(storing) => storing.take(self, now, &from, reply),
            Task::Find(finding) => finding.take(self, now, &from, reply),
            Task::First(hunting) => hunting.take(self, now, &from, reply),
            Task::Publish(publishing) => publishing.take(self, now, &from, reply),
            Task::Copy(_) => {}
        }
    }

    /// Lets an operation take its next steps.
    fn step(&mut self, cx: &mut Cx<'_>, op: &mut Op) -> Flow {
        let Op { calls, task, .. } = op;
        match task {
            Task::Ping(Pinging { peer, asked, wanted }) => {
                if asked < wanted {
                    *asked += 1;
                    self.ask(cx, calls, peer, Ask::Ping);
                }
                if calls.are_over() { Flow::Ended } else { Flow::Wait }
            }
            Task::Join(joining) => self.step_joining(cx, calls, joining),
            Task::Search(searching) => self.step_searching(cx, calls, searching),
            Task::Survey(surveying) => self.step_surveying(cx, calls, surveying),
            Task::Store(storing) => self.step_storing(cx, calls, storing),
            Task::Find(finding) => self.step_finding(cx, calls, finding),
            Task::First(hunting) => self.step_hunting(cx, calls, hunting),
            Task::Publish(publishing) => self.step_publishing(cx, calls, publishing),
            Task::Copy(copying) => self.step_copying(cx, calls, copying),
        }
    }
}
