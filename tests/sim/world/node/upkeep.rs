//! Keeping the table: joining, refreshing buckets, asking the neighbours for signs of life.

use foveola::dht::lookup::Outcome;
use foveola::dht::members::ReplicaSet;
use foveola::dht::upkeep::Duty;
use foveola::id::NodeId;

use super::super::core::{Cx, Wake};
use super::super::message::Ask;
use super::Node;
use super::op::{Calls, Flow, Task};
use super::search::Why;

/// A first contact with the mesh.
#[derive(Debug)]
pub(crate) struct Joining {
    /// Nodes that are to be asked, until they are.
    seeds: Vec<NodeId>,
    /// One has answered.
    pub(super) joined: bool,
}

impl Node {
    /// Does what is due.
    pub(super) fn keep_up(&mut self, cx: &mut Cx<'_>) {
        while let Some(duty) = self.upkeep.due(cx.now, &self.members) {
            match duty {
                Duty::Lookup(key) => self.look_up(cx, key, Why::Upkeep),
                Duty::Ping(peer) => self.ping(cx, peer),
                Duty::Bootstrap => {
                    let seeds = self.seeds.iter().map(|seed| cx.id(*seed)).collect();
                    self.start(cx, Task::Join(Joining { seeds, joined: false }));
                }
            }
        }
        let next = cx.global(self.upkeep.next());
        if self.woken_at.is_none_or(|at| next < at) {
            self.woken_at = Some(next);
            cx.wake(next, Wake::Upkeep);
        }
    }

    pub(super) fn step_joining(&mut self, cx: &mut Cx<'_>, calls: &mut Calls, joining: &mut Joining) -> Flow {
        for seed in std::mem::take(&mut joining.seeds) {
            self.ask(cx, calls, &seed, Ask::Ping);
        }
        if !joining.joined && !calls.are_over() {
            return Flow::Wait;
        }
        self.upkeep.bootstrapped(cx.now, joining.joined);
        self.keep_up(cx);
        Flow::Ended
    }

    /// The replica set that a lookup has found.
    pub(super) fn found(&mut self, cx: &mut Cx<'_>, outcome: &Outcome) -> ReplicaSet {
        self.survey(cx, outcome.target, Some(outcome));
        self.members.found(cx.now, outcome)
    }
}
