//! What nodes say to each other: the messages of the wire, as values.

use std::sync::Arc;

use bytes::Bytes;
use foveola::id::{Key, NodeId};
use foveola::wire::{RecordKind, Status};

/// One message.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// The first flight of a handshake, and its answer.
    Dial,
    Accepted,
    /// The second exchange of a handshake, after which both sides know each other.
    Hello,
    Welcome,
    /// The process that was spoken to is no more.
    Gone,
    /// A request of an operation of the sender. The number tells apart the requests of a node.
    Ask {
        op: u32,
        nonce: u32,
        ask: Ask,
    },
    Answer {
        op: u32,
        nonce: u32,
        answer: Answer,
    },
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Ping,
    FindNode {
        target: Key,
        count: usize,
    },
    FindValue {
        key: Key,
        kind: RecordKind,
    },
    /// Both at once, as a search does that looks for records.
    Both {
        key: Key,
        count: usize,
        kind: RecordKind,
    },
    /// Records of one publisher.
    Store {
        publisher: NodeId,
        records: Arc<[Copied]>,
    },
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Pong,
    Nodes(Vec<NodeId>),
    Found(Vec<Copied>),
    Both(Vec<NodeId>, Vec<Copied>),
    Stored(Vec<Status>),
}

/// A copy of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) key: Key,
    pub(crate) publisher: NodeId,
    pub(crate) seq: u64,
    pub(crate) ttl_ms: u32,
    pub(crate) kind: RecordKind,
    pub(crate) flags: u8,
    pub(crate) proof: Bytes,
    pub(crate) value: Bytes,
}

impl Message {
    /// A word that tells messages apart in a trace.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Accepted => "accepted",
            Self::Hello => "hello",
            Self::Welcome => "welcome",
            Self::Gone => "gone",
            Self::Ask { ask, .. } => match ask {
                Ask::Ping => "ping",
                Ask::FindNode { .. } => "find node",
                Ask::FindValue { .. } => "find value",
                Ask::Both { .. } => "find both",
                Ask::Store { .. } => "store",
            },
            Self::Answer { answer, .. } => match answer {
                Answer::Pong => "pong",
                Answer::Nodes(_) => "nodes",
                Answer::Found(_) => "found",
                Answer::Both(..) => "both",
                Answer::Stored(_) => "stored",
            },
        }
    }

    /// A number that differs where messages do, for the hash of a run.
    pub(crate) fn digest(&self) -> u64 {
        let head = |bytes: &[u8; 32]| bytes.iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte));
        let fold = |word: u64, next: u64| word.rotate_left(7) ^ next;
        let contacts = |nodes: &[NodeId]| nodes.iter().fold(2, |w, node| fold(w, head(node.as_bytes())));
        let copies = |copies: &[Copied]| {
            copies.iter().fold(copies.len() as u64, |word, copy| {
                fold(fold(word, head(copy.key.as_bytes())), copy.seq ^ u64::from(copy.flags) << 60)
            })
        };
        match self {
            Self::Dial | Self::Accepted | Self::Hello | Self::Welcome | Self::Gone => {
                self.name().len() as u64
            }
            Self::Ask { nonce, ask, .. } => fold(
                u64::from(*nonce),
                match ask {
                    Ask::Ping => 1,
                    Ask::FindNode { target, .. } => head(target.as_bytes()),
                    Ask::FindValue { key, .. } => !head(key.as_bytes()),
                    Ask::Both { key, .. } => !head(key.as_bytes()) - 1,
                    Ask::Store { records, .. } => copies(records),
                },
            ),
            Self::Answer { nonce, answer, .. } => fold(
                !u64::from(*nonce),
                match answer {
                    Answer::Pong => 1,
                    Answer::Nodes(nodes) => contacts(nodes),
                    Answer::Both(nodes, found) => fold(contacts(nodes), copies(found)),
                    Answer::Found(found) => copies(found),
                    Answer::Stored(statuses) => statuses.iter().fold(3, |word, status| {
                        fold(
                            word,
                            match status {
                                Status::Applied => 1,
                                Status::AlreadyHave => 2,
                                Status::Superseded { seq } => 3 + seq,
                                Status::StorageFull => 4,
                                _ => 5,
                            },
                        )
                    }),
                },
            ),
        }
    }
}
