//! A subtree of the id space: all points that begin with the same bits.

use crate::id::{ID_LEN, Key, NodeId};

/// Bits of a point.
pub(super) const BITS: u16 = 8 * ID_LEN as u16;

/// All points that share the first bits of one.
///
/// Two subtrees are disjoint or one covers the other. They are ordered by their first point and, where that
/// is the same, the larger one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subtree {
    /// The first point: all bits behind the shared ones are zero.
    start: Key,
    /// How many bits are shared, 0 to 256.
    bits: u16,
}

impl Subtree {
    /// The whole space.
    pub const WHOLE: Self = Self { start: Key::from_bytes([0; ID_LEN]), bits: 0 };

    /// The points that share at least `bits` leading bits with `key`; more than 256 count as 256.
    pub fn around(key: &Key, bits: u16) -> Self {
        let bits = bits.min(BITS);
        Self { start: splice(key, &Key::from_bytes([0; ID_LEN]), bits), bits }
    }

    /// How many leading bits its points share.
    pub fn bits(&self) -> u16 {
        self.bits
    }

    /// Whether `key` lies in it.
    pub fn contains(&self, key: &Key) -> bool {
        self.shared(key) >= self.bits
    }

    /// Whether every point of `other` lies in it.
    pub fn covers(&self, other: &Self) -> bool {
        self.bits <= other.bits && self.contains(&other.start)
    }

    /// How many leading bits its first point shares with `key`.
    pub(super) fn shared(&self, key: &Key) -> u16 {
        u16::try_from(self.start.distance(key).leading_zeros()).unwrap_or(BITS)
    }

    /// Its last point.
    pub(super) fn last(&self) -> Key {
        splice(&self.start, &Key::from_bytes([0xff; ID_LEN]), self.bits)
    }

    /// Its point that equals `key` behind the shared bits.
    pub(super) fn nearest_to(&self, key: &Key) -> Key {
        splice(&self.start, key, self.bits)
    }

    /// The subtree that is one bit larger, and the half of it that this one is not. None for the whole
    /// space.
    pub(super) fn parent(&self) -> Option<(Self, Self)> {
        let shorter = self.bits.checked_sub(1)?;
        let sibling = Self { start: flip(&self.start, shorter), bits: self.bits };
        Some((Self::around(&self.start, shorter), sibling))
    }

    /// Its halves, the lower one first. None for a single point.
    pub(super) fn halves(&self) -> Option<(Self, Self)> {
        if self.bits == BITS {
            return None;
        }
        let bits = self.bits + 1;
        Some((Self { bits, ..*self }, Self { start: flip(&self.start, self.bits), bits }))
    }

    /// The part of `ascending` ids that lies in it.
    pub(super) fn of<'a>(&self, ascending: &'a [NodeId]) -> &'a [NodeId] {
        let last = self.last();
        let first = ascending.partition_point(|id| id.as_bytes() < self.start.as_bytes());
        let end = first + ascending[first..].partition_point(|id| id.as_bytes() <= last.as_bytes());
        &ascending[first..end]
    }
}

/// The first `bits` bits of `head`, then those of `tail`.
fn splice(head: &Key, tail: &Key, bits: u16) -> Key {
    let mut out = *tail.as_bytes();
    let (whole, rest) = (usize::from(bits / 8), bits % 8);
    out[..whole].copy_from_slice(&head.as_bytes()[..whole]);
    if rest > 0 {
        let mask = 0xff_u8 << (8 - rest);
        out[whole] = head.as_bytes()[whole] & mask | out[whole] & !mask;
    }
    Key::from_bytes(out)
}

/// `key` with one bit changed.
fn flip(key: &Key, bit: u16) -> Key {
    let mut out = *key.as_bytes();
    out[usize::from(bit / 8)] ^= 0x80 >> (bit % 8);
    Key::from_bytes(out)
}
