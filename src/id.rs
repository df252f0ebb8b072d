//! The identifier space: 256-bit node ids and keys under the XOR metric.
//!
//! A [`NodeId`] names a node by its public key, a [`Key`] names what is stored; both live in the same
//! space, so "the nodes closest to a key" is well defined (Maymounkov and Mazières, *Kademlia*, 2002,
//! section 2.1). [`Distance`] orders as the unsigned 256-bit integer `a XOR b`.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Bytes in a [`NodeId`], a [`Key`] and a [`Distance`].
pub const ID_LEN: usize = 32;

/// The identity of a node: SHA-256 of the DER-encoded public key (SPKI) that its certificate carries.
///
/// Prints as 64 hexadecimal digits; a precision shortens it, as in `{id:.8}`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; ID_LEN]);

/// A place in the identifier space under which records are stored.
///
/// Prints as 64 hexadecimal digits; a precision shortens it, as in `{key:.8}`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; ID_LEN]);

/// The XOR distance between two points, ordered as an unsigned big-endian integer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance([u8; ID_LEN]);

impl NodeId {
    /// The id whose bytes are `bytes`.
    pub const fn from_bytes(bytes: [u8; ID_LEN]) -> Self {
        Self(bytes)
    }

    /// The id of the node that owns the public key in `spki`, a DER `SubjectPublicKeyInfo`.
    pub fn of_spki(spki: &[u8]) -> Self {
        Self(Sha256::digest(spki).into())
    }

    /// The bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; ID_LEN] {
        &self.0
    }

    /// This id as a point that can be looked up.
    pub const fn to_key(self) -> Key {
        Key(self.0)
    }

    /// The distance from this node to `key`.
    pub fn distance(&self, key: &Key) -> Distance {
        xor(&self.0, &key.0)
    }
}

impl Key {
    /// The key whose bytes are `bytes`.
    pub const fn from_bytes(bytes: [u8; ID_LEN]) -> Self {
        Self(bytes)
    }

    /// The key of a name: its SHA-256.
    pub fn of_name(name: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(name.as_ref()).into())
    }

    /// The bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; ID_LEN] {
        &self.0
    }

    /// The distance from this key to `other`.
    pub fn distance(&self, other: &Self) -> Distance {
        xor(&self.0, &other.0)
    }
}

impl Distance {
    /// The greatest distance there is.
    pub const MAX: Self = Self([0xff; ID_LEN]);

    /// The bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; ID_LEN] {
        &self.0
    }

    /// How many leading bits two points at this distance share: 0 to 256, 256 for the same point.
    pub fn leading_zeros(&self) -> u32 {
        let mut zeros = 0;
        for byte in self.0 {
            zeros += byte.leading_zeros();
            if byte != 0 {
                break;
            }
        }
        zeros
    }
}

fn xor(a: &[u8; ID_LEN], b: &[u8; ID_LEN]) -> Distance {
    let mut out = [0; ID_LEN];
    for (out, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
        *out = a ^ b;
    }
    Distance(out)
}

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// The text does not have 64 characters.
    #[error("an id has 64 hexadecimal digits, not {0} characters")]
    Length(usize),
    /// A character is not a hexadecimal digit.
    #[error("character {0} of an id is not a hexadecimal digit")]
    Digit(usize),
}

fn parse_hex(text: &str) -> Result<[u8; ID_LEN], ParseIdError> {
    let digits = text.as_bytes();
    if digits.len() != 2 * ID_LEN {
        return Err(ParseIdError::Length(text.chars().count()));
    }
    let mut out = [0; ID_LEN];
    for (i, digit) in digits.iter().enumerate() {
        let value = char::from(*digit).to_digit(16).ok_or(ParseIdError::Digit(i))?;
        let value = u8::try_from(value).map_err(|_| ParseIdError::Digit(i))?;
        out[i / 2] = out[i / 2] << 4 | value;
    }
    Ok(out)
}

fn fmt_hex(bytes: &[u8; ID_LEN], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let digits = f.precision().unwrap_or(2 * ID_LEN).min(2 * ID_LEN);
    for i in 0..digits {
        let nibble = if i % 2 == 0 { bytes[i / 2] >> 4 } else { bytes[i / 2] & 0xf };
        write!(f, "{nibble:x}")?;
    }
    Ok(())
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0, f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self:.8})")
    }
}

impl FromStr for NodeId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_hex(&self.0, f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self:.8})")
    }
}

impl FromStr for Key {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Debug for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Distance(2^{})", 256 - self.leading_zeros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_is_a_metric_on_an_example() {
        let a = NodeId::from_bytes([1; ID_LEN]);
        let b = Key::from_bytes([3; ID_LEN]);
        assert_eq!(a.distance(&a.to_key()).leading_zeros(), 256);
        assert_eq!(a.distance(&b), b.distance(&a.to_key()));
        assert_eq!(a.distance(&b).leading_zeros(), 6);
    }

    #[test]
    fn text_round_trips_and_bad_text_is_refused() {
        let id = NodeId::of_spki(b"key");
        assert_eq!(id.to_string().parse::<NodeId>(), Ok(id));
        assert_eq!(format!("{id:.8}").len(), 8);
        assert_eq!("ab".parse::<NodeId>(), Err(ParseIdError::Length(2)));
        let bad = "0".repeat(63) + "g";
        assert_eq!(bad.parse::<Key>(), Err(ParseIdError::Digit(63)));
    }
}
