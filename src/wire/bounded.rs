//! How the fields of maps are read: no text, list or byte string longer than permitted is ever kept.
//!
//! serde hands the announced length of a list on as a hint for what to reserve; these readers refuse a
//! hint above the limit and reserve nothing until elements have arrived.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serializer};

use super::control::{ENDPOINT_MAX, ENDPOINTS_MAX, HELLO_PROOF_LEN, REALM_MAX};
use super::provider::METADATA_MAX;

/// Reads a text of at most `MAX` bytes.
struct Text<const MAX: usize>(String);

struct TextVisitor<const MAX: usize>;

impl<const MAX: usize> Visitor<'_> for TextVisitor<MAX> {
    type Value = Text<MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text of at most {MAX} bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if text.len() > MAX {
            return Err(E::invalid_length(text.len(), &self));
        }
        Ok(Text(text.to_owned()))
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Reads a list of at most `max` elements.
struct List<T> {
    max: usize,
    element: PhantomData<T>,
}

impl<T> List<T> {
    const fn of(max: usize) -> Self {
        Self { max, element: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} elements", self.max)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
        if let Some(count) = elements.size_hint()
            && count > self.max
        {
            return Err(A::Error::invalid_length(count, &self));
        }
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            if list.len() == self.max {
                return Err(A::Error::invalid_length(list.len() + 1, &self));
            }
            list.push(element);
        }
        Ok(list)
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for List<T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

/// Reads a byte string of exactly `N` bytes.
struct Fixed<const N: usize>([u8; N]);

struct FixedVisitor<const N: usize>;

impl<const N: usize> Visitor<'_> for FixedVisitor<N> {
    type Value = Fixed<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a byte string of {N} bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        bytes.try_into().map(Fixed).map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Fixed<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(FixedVisitor)
    }
}

/// Reads a byte string of at most `MAX` bytes.
struct Bytes<const MAX: usize>(Vec<u8>);

struct BytesVisitor<const MAX: usize>;

impl<const MAX: usize> Visitor<'_> for BytesVisitor<MAX> {
    type Value = Bytes<MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a byte string of at most {MAX} bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        if bytes.len() > MAX {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(Bytes(bytes.to_vec()))
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Bytes<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

pub(super) fn realm<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Text::<REALM_MAX>::deserialize(deserializer).map(|text| text.0)
}

pub(super) fn observed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<Text<ENDPOINT_MAX>>::deserialize(deserializer)?;
    Ok(text.map(|text| text.0))
}

pub(super) fn endpoints<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = List::<Text<ENDPOINT_MAX>>::of(ENDPOINTS_MAX).deserialize(deserializer)?;
    Ok(texts.into_iter().map(|text| text.0).collect())
}

/// What a provider says of itself, as a byte string.
pub(super) mod metadata {
    use super::{Bytes, Deserialize, Deserializer, METADATA_MAX, Serializer};

    pub(in crate::wire) fn serialize<S: Serializer>(
        metadata: &[u8],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(metadata)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        Bytes::<METADATA_MAX>::deserialize(deserializer).map(|bytes| bytes.0)
    }
}

/// An optional signature as a byte string.
pub(super) mod proof {
    use super::{Deserialize, Deserializer, Fixed, HELLO_PROOF_LEN, Serializer};

    pub(in crate::wire) fn serialize<S: Serializer>(
        proof: &Option<[u8; HELLO_PROOF_LEN]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match proof {
            Some(proof) => serializer.serialize_bytes(proof),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<[u8; HELLO_PROOF_LEN]>, D::Error> {
        let proof = Option::<Fixed<HELLO_PROOF_LEN>>::deserialize(deserializer)?;
        Ok(proof.map(|proof| proof.0))
    }
}
