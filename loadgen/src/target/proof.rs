//! What a store returned, whichever way it went.

use foveola::{Key, NodeId, Receipt, baseline};

/// A receipt.
#[derive(Debug)]
pub enum Proof {
    /// Of the pool of this node.
    Pooled(NodeId, Receipt),
    Baseline(Key, baseline::Receipt),
    #[cfg(test)]
    Fake(Key, u64, Vec<NodeId>),
}

impl Proof {
    pub fn key(&self) -> Key {
        match self {
            Self::Pooled(_, receipt) => receipt.key(),
            Self::Baseline(key, _) => *key,
            #[cfg(test)]
            Self::Fake(key, ..) => *key,
        }
    }

    pub fn seq(&self) -> u64 {
        match self {
            Self::Pooled(_, receipt) => receipt.seq(),
            Self::Baseline(_, receipt) => receipt.seq,
            #[cfg(test)]
            Self::Fake(_, seq, _) => *seq,
        }
    }

    /// Who published the record.
    pub fn publisher(&self) -> NodeId {
        match self {
            Self::Pooled(publisher, _) => *publisher,
            Self::Baseline(_, receipt) => receipt.publisher,
            #[cfg(test)]
            Self::Fake(..) => NodeId::of_spki(b"the writer"),
        }
    }

    /// How many replicas acknowledged; see [`replicas`](Self::replicas).
    pub fn acks(&self) -> u64 {
        let acks = match self {
            Self::Pooled(_, receipt) => receipt.acks(),
            Self::Baseline(_, receipt) => receipt.replicas.len(),
            #[cfg(test)]
            Self::Fake(_, _, replicas) => replicas.len(),
        };
        acks as u64
    }

    /// The replicas that acknowledged; of the legacy arm, which does not listen, those it wrote to.
    pub fn replicas(&self) -> Vec<NodeId> {
        match self {
            Self::Pooled(_, receipt) => receipt.acked().collect(),
            Self::Baseline(_, receipt) => receipt.replicas.clone(),
            #[cfg(test)]
            Self::Fake(_, _, replicas) => replicas.clone(),
        }
    }

    /// How many replicas the record should have.
    pub fn target(&self) -> usize {
        match self {
            Self::Pooled(_, receipt) => receipt.target(),
            Self::Baseline(_, receipt) => receipt.replicas.len(),
            #[cfg(test)]
            Self::Fake(_, _, replicas) => replicas.len(),
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
