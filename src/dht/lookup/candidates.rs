//! The nodes that a search has heard of, in the order of their distance, and who told of them.

use std::cmp::Ordering;

use crate::id::{ID_LEN, Key, NodeId};

/// Nodes that a search remembers, for each of the k that it looks for: as many as 16 answers tell. Beyond
/// it the farthest that was not asked is forgotten.
const CANDIDATES_PER_K: usize = 16;
/// Sources that are told apart. The first is this node itself; all after the last share its place.
const SOURCES: usize = 128;
/// How many more contacts of a source may fail than answer before it is doubtful.
const DOUBT: u16 = 2;

/// What has become of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Unasked,
    Asked,
    /// Asked, and longer ago than answers take.
    Slow,
    Answered,
    Failed,
}

impl State {
    /// Whether the node speaks for those who told of it, against them, or neither yet.
    fn verdict(self) -> Option<bool> {
        match self {
            Self::Unasked | Self::Asked => None,
            Self::Slow | Self::Failed => Some(false),
            Self::Answered => Some(true),
        }
    }
}

#[derive(Debug, Clone)]
struct Candidate {
    id: NodeId,
    /// The first bits of its distance, which nearly always decide.
    head: u64,
    /// Bit i: source i has told of it.
    told_by: u128,
    /// In how many steps it was learnt.
    depth: u8,
    state: State,
}

/// How a source has proved.
#[derive(Debug, Clone, Copy, Default)]
struct Source {
    good: u16,
    bad: u16,
}

/// The node whose contacts are being taken.
#[derive(Debug)]
pub(super) struct Answer {
    source: usize,
    depth: u8,
}

/// What is left to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Survey {
    /// The node to ask next.
    pub(super) next: Option<usize>,
    /// Whether somebody is left to be asked, now or after those who are.
    pub(super) left: bool,
    /// Whether a query is under way that the result depends on.
    pub(super) waiting: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Candidates {
    target: Key,
    max: usize,
    /// Closest first.
    list: Vec<Candidate>,
    sources: Vec<Source>,
    /// Bit i: source i is doubtful.
    doubtful: u128,
}

impl Candidates {
    pub(super) fn new(target: Key, k: usize) -> Self {
        let max = CANDIDATES_PER_K * k;
        Self { target, max, list: Vec::with_capacity(2 * k), sources: vec![Source::default()], doubtful: 0 }
    }

    pub(super) fn target(&self) -> Key {
        self.target
    }

    /// Adds a node that this node knows itself.
    pub(super) fn seed(&mut self, id: NodeId) {
        self.told(&Answer { source: 0, depth: 0 }, id);
    }

    /// Notes that a node has answered: the beginning of its answer, if it was asked and had not answered.
    pub(super) fn answered(&mut self, id: &NodeId) -> Option<Answer> {
        let at = self.place(id).ok()?;
        if matches!(self.list[at].state, State::Unasked | State::Answered) {
            return None;
        }
        self.turn(at, State::Answered);
        let source = self.sources.len().min(SOURCES - 1);
        if source == self.sources.len() {
            self.sources.push(Source::default());
        }
        Some(Answer { source, depth: self.list[at].depth })
    }

    /// Adds a node that the sender of an answer has told of.
    pub(super) fn told(&mut self, answer: &Answer, id: NodeId) {
        let bit = 1_u128 << answer.source;
        match self.place(&id) {
            Ok(at) => {
                let known = &mut self.list[at];
                if known.told_by & bit == 0 {
                    known.told_by |= bit;
                    let verdict = known.state.verdict();
                    self.judge(bit, None, verdict);
                }
            }
            Err(at) => {
                let Some(at) = self.make_room(at) else { return };
                let depth = answer.depth.saturating_add(1);
                let head = self.head(&id);
                self.list.insert(at, Candidate { id, head, told_by: bit, depth, state: State::Unasked });
            }
        }
    }

    /// Notes that a node was asked.
    pub(super) fn ask(&mut self, at: usize) -> NodeId {
        self.turn(at, State::Asked);
        self.list[at].id
    }

    /// Notes that the answer of a node is late.
    pub(super) fn slow(&mut self, id: &NodeId) {
        if let Ok(at) = self.place(id) {
            self.turn(at, State::Slow);
        }
    }

    /// Notes that a node that was asked does not answer.
    pub(super) fn failed(&mut self, id: &NodeId) {
        if let Ok(at) = self.place(id) {
            self.turn(at, State::Failed);
        }
    }

    /// The closest node that has not failed.
    pub(super) fn closest(&self) -> Option<NodeId> {
        self.list.iter().find(|node| node.state != State::Failed).map(|node| node.id)
    }

    /// The closest nodes that have answered, at most `k`, and the depth of the first.
    pub(super) fn found(&self, k: usize) -> (Vec<NodeId>, u32) {
        let answered = || self.list.iter().filter(|node| node.state == State::Answered);
        let hops = answered().next().map_or(0, |node| node.depth.into());
        (answered().map(|node| node.id).take(k).collect(), hops)
    }

    /// How many nodes are in `state`.
    pub(super) fn count(&self, state: State) -> u32 {
        let count = self.list.iter().filter(|node| node.state == state).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// What is left to be done until the `k` closest have answered.
    ///
    /// Two windows count: the `k` closest of all, and the `k` closest that somebody trusted has told of.
    /// Whoever is in the second is asked first. A slow node has its place in the first, because it may be
    /// one of the `k`, and leaves it to a substitute in the second.
    pub(super) fn survey(&self, k: usize) -> Survey {
        let (mut all, mut trusted) = (0, 0);
        let (mut first, mut doubted) = (None, None);
        let (mut waiting, mut busy) = (false, false);
        for (at, node) in self.list.iter().enumerate() {
            if node.state == State::Failed {
                continue;
            }
            if all >= k && trusted >= k {
                break;
            }
            let trust = node.told_by & !self.doubtful != 0 && trusted < k;
            if !trust && all >= k {
                continue;
            }
            match node.state {
                State::Unasked if trust => first = first.or(Some(at)),
                State::Unasked => doubted = doubted.or(Some(at)),
                State::Asked => {
                    waiting = true;
                    busy |= trust;
                }
                State::Slow => waiting = true,
                State::Answered | State::Failed => {}
            }
            all += 1;
            trusted += usize::from(trust && node.state != State::Slow);
        }
        let left = first.or(doubted).is_some();
        let next = first.or_else(|| doubted.filter(|_| !busy));
        Survey { next, left, waiting }
    }

    /// Where a node is, or where it belongs.
    fn place(&self, id: &NodeId) -> Result<usize, usize> {
        let head = self.head(id);
        self.list.binary_search_by(|other| {
            other.head.cmp(&head).then_with(|| {
                if other.id == *id {
                    Ordering::Equal
                } else {
                    other.id.distance(&self.target).cmp(&id.distance(&self.target))
                }
            })
        })
    }

    fn head(&self, id: &NodeId) -> u64 {
        head(id.as_bytes()) ^ head(self.target.as_bytes())
    }

    /// Makes room for a node that belongs at `at`, if it is worth it: where it belongs then.
    fn make_room(&mut self, at: usize) -> Option<usize> {
        if self.list.len() < self.max {
            return Some(at);
        }
        let last = self.list.iter().rposition(|node| node.state == State::Unasked)?;
        if last < at {
            return None;
        }
        self.list.remove(last);
        Some(at)
    }

    fn turn(&mut self, at: usize, state: State) {
        let node = &mut self.list[at];
        let before = std::mem::replace(&mut node.state, state).verdict();
        let told_by = node.told_by;
        self.judge(told_by, before, state.verdict());
    }

    /// Notes for some sources that a node they told of counts differently.
    fn judge(&mut self, sources: u128, before: Option<bool>, after: Option<bool>) {
        if before == after {
            return;
        }
        let mut rest = sources;
        while rest != 0 {
            let i = rest.trailing_zeros() as usize;
            let bit = 1 << i;
            rest &= !bit;
            let Some(source) = self.sources.get_mut(i) else { return };
            match before {
                Some(true) => source.good = source.good.saturating_sub(1),
                Some(false) => source.bad = source.bad.saturating_sub(1),
                None => {}
            }
            match after {
                Some(true) => source.good = source.good.saturating_add(1),
                Some(false) => source.bad = source.bad.saturating_add(1),
                None => {}
            }
            // What this node knows itself was proved by a handshake, and is where every search begins.
            if i != 0 && source.bad > source.good.saturating_add(DOUBT) {
                self.doubtful |= bit;
            } else {
                self.doubtful &= !bit;
            }
        }
    }
}

fn head(bytes: &[u8; ID_LEN]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *bytes;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
