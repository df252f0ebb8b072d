//! What a store returned, whichever way it went.

use foveola::{Key, NodeId, Receipt, baseline};

/// Who published a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publisher {
    Writer,
    /// An identity of the baseline.
    Client(NodeId),
}

/// A receipt.
#[derive(Debug)]
pub enum Proof {
    Pooled(Receipt),
    Baseline(Key, baseline::Receipt),
    #[cfg(test)]
    Fake(Key, u64, Vec<NodeId>),
}

impl Proof {
    pub fn key(&self) -> Key {
        match self {
            Self::Pooled(receipt) => receipt.key(),
            Self::Baseline(key, _) => *key,
            #[cfg(test)]
            Self::Fake(key, ..) => *key,
        }
    }

    pub fn seq(&self) -> u64 {
        match self {
            Self::Pooled(receipt) => receipt.seq(),
            Self::Baseline(_, receipt) => receipt.seq,
            #[cfg(test)]
            Self::Fake(_, seq, _) => *seq,
        }
    }

    /// Who published the record.
    pub fn publisher(&self) -> Publisher {
        match self {
            Self::Baseline(_, receipt) => Publisher::Client(receipt.publisher),
            _ => Publisher::Writer,
        }
    }

    /// The replicas that acknowledged; of the legacy arm, which does not listen, those it wrote to.
    pub fn replicas(&self) -> Vec<NodeId> {
        match self {
            Self::Pooled(receipt) => receipt.acked().collect(),
            Self::Baseline(_, receipt) => receipt.replicas.clone(),
            #[cfg(test)]
            Self::Fake(_, _, replicas) => replicas.clone(),
        }
    }

    /// Connections that were opened for this operation alone.
    pub fn handshakes(&self) -> u64 {
        match self {
            Self::Baseline(_, receipt) => u64::from(receipt.handshakes),
            _ => 0,
        }
    }
}
