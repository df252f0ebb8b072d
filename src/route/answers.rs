//! What a destination has answered lately, or is about to.
//!
//! An envelope is opened once. When the node that was to bring back its answer falls silent, the origin
//! sends the same envelope another way, and whoever sees it for the second time must neither do the work
//! again nor leave the origin without what came of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::way::LEFT_MAX;
use crate::id::NodeId;

/// Envelopes whose answers are remembered.
pub const ANSWERS_MAX: usize = 1_024;
/// Bytes of the answers that are remembered.
pub const ANSWERS_BYTES_MAX: usize = 1 << 20;
/// How long an answer is remembered: no origin waits longer.
pub const ANSWER_LIFE: Duration = LEFT_MAX;

/// An envelope: its origin and its number.
pub type Asked = (NodeId, u64);

/// The answers to envelopes. `W` is where those wait that are not there yet.
#[derive(Debug)]
pub struct Answers<W> {
    answers: BTreeMap<Asked, Answer<W>>,
    /// When each was begun, oldest first.
    order: VecDeque<(Instant, Asked)>,
    bytes: usize,
}

/// What is known of the answer to an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<W> {
    /// The work goes on.
    Open(W),
    /// It has ended with this frame.
    Given(Bytes),
}

impl<W: Clone> Answers<W> {
    /// Nothing was answered.
    pub fn new() -> Self {
        Self { answers: BTreeMap::new(), order: VecDeque::new(), bytes: 0 }
    }

    /// The answer to `asked`, if it is remembered.
    pub fn get(&self, asked: &Asked) -> Option<Answer<W>> {
        self.answers.get(asked).cloned()
    }

    /// The answer to `asked`, which was not answered before, is awaited at `wait`.
    pub fn open(&mut self, now: Instant, asked: Asked, wait: W) {
        self.insert(now, asked, Answer::Open(wait));
    }

    /// The answer to `asked` is `frame`.
    pub fn given(&mut self, now: Instant, asked: Asked, frame: Bytes) {
        match self.answers.get_mut(&asked) {
            Some(open @ Answer::Open(_)) => {
                self.bytes += frame.len();
                *open = Answer::Given(frame);
                self.shrink(now);
            }
            Some(Answer::Given(_)) => {}
            None => self.insert(now, asked, Answer::Given(frame)),
        }
    }

    /// There will be no answer to `asked`.
    pub fn abandoned(&mut self, asked: &Asked) {
        if matches!(self.answers.get(asked), Some(Answer::Open(_))) {
            self.answers.remove(asked);
        }
    }

    fn insert(&mut self, now: Instant, asked: Asked, answer: Answer<W>) {
        if let Answer::Given(frame) = &answer {
            self.bytes += frame.len();
        }
        self.answers.insert(asked, answer);
        self.order.push_back((now, asked));
        self.shrink(now);
    }

    /// Forgets what is too old or too much, oldest first.
    fn shrink(&mut self, now: Instant) {
        while let Some((at, asked)) = self.order.front() {
            let old = now.saturating_duration_since(*at) > ANSWER_LIFE;
            if !old && self.order.len() <= ANSWERS_MAX && self.bytes <= ANSWERS_BYTES_MAX {
                return;
            }
            if let Some(Answer::Given(frame)) = self.answers.remove(asked) {
                self.bytes -= frame.len();
            }
            self.order.pop_front();
        }
    }
}

impl<W: Clone> Default for Answers<W> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests read the clock")]

    use super::*;

    fn asked(nonce: u64) -> Asked {
        (NodeId::from_bytes([1; 32]), nonce)
    }

    fn frame(len: usize) -> Bytes {
        vec![7; len].into()
    }

    #[test]
    fn an_answer_is_awaited_then_remembered_then_forgotten() {
        let now = Instant::now();
        let mut answers = Answers::new();
        assert_eq!(answers.get(&asked(1)), None);
        answers.open(now, asked(1), "here");
        answers.open(now, asked(2), "there");
        assert_eq!(answers.get(&asked(1)), Some(Answer::Open("here")));
        answers.given(now, asked(1), frame(3));
        answers.given(now, asked(3), frame(4));
        assert_eq!(answers.get(&asked(1)), Some(Answer::Given(frame(3))));
        assert_eq!(answers.get(&asked(3)), Some(Answer::Given(frame(4))));
        for n in [1, 2] {
            answers.abandoned(&asked(n));
        }
        assert_eq!(answers.get(&asked(2)), None);
        assert_eq!(answers.get(&asked(1)), Some(Answer::Given(frame(3))), "it was answered");
        answers.open(now + ANSWER_LIFE + Duration::from_millis(1), asked(4), "late");
        assert_eq!((answers.get(&asked(1)), answers.answers.len(), answers.bytes), (None, 1, 0));
    }

    #[test]
    fn no_more_is_remembered_than_may_be() {
        let now = Instant::now();
        let mut answers = Answers::new();
        for n in 0..10_000 {
            answers.open(now, asked(n), ());
            if n % 3 == 0 {
                answers.abandoned(&asked(n));
            } else {
                answers.given(now, asked(n), frame(if n < 5_000 { 10 } else { 100_000 }));
            }
            assert!(answers.order.len() <= ANSWERS_MAX && answers.answers.len() <= answers.order.len());
            assert!(answers.bytes <= ANSWERS_BYTES_MAX);
        }
        assert_eq!(answers.get(&asked(9_998)), Some(Answer::Given(frame(100_000))));
        assert_eq!(answers.get(&asked(1)), None);
    }
}
