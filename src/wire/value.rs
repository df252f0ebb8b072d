//! Arguments and results of services as MessagePack: structures as maps, so that fields may be added.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How deep the values of arguments and results may be nested.
pub const VALUE_DEPTH_MAX: usize = 64;

/// Why a value cannot be encoded, or bytes are not the value that is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .message.escape_debug())]
pub struct ValueError {
    message: String,
}

impl ValueError {
    fn new(error: &impl ToString) -> Self {
        Self { message: error.to_string() }
    }
}

/// `value` as MessagePack.
///
/// # Errors
///
/// [`ValueError`] when the type does not let itself be serialised.
pub fn pack<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, ValueError> {
    rmp_serde::to_vec_named(value).map_err(|error| ValueError::new(&error))
}

/// The value that all of `bytes` are; nested at most [`VALUE_DEPTH_MAX`] deep.
///
/// # Errors
///
/// [`ValueError`] when they are another one, or more than one.
pub fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ValueError> {
    let mut rest = bytes;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    deserializer.set_max_depth(VALUE_DEPTH_MAX);
    let value = T::deserialize(&mut deserializer).map_err(|error| ValueError::new(&error))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(ValueError { message: format!("{} bytes follow the value", rest.len()) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sum {
        a: i64,
        b: i64,
    }

    #[test]
    fn a_structure_comes_back_also_with_a_field_more() {
        let bytes = pack(&Sum { a: 1, b: -2 }).unwrap();
        assert_eq!(unpack::<Sum>(&bytes), Ok(Sum { a: 1, b: -2 }));
        let later = BTreeMap::from([("a", 1), ("b", 2), ("c", 3)]);
        assert_eq!(unpack::<Sum>(&pack(&later).unwrap()), Ok(Sum { a: 1, b: 2 }));
    }

    #[test]
    fn what_is_not_the_value_is_an_error() {
        let mut bytes = pack("text").unwrap();
        assert!(unpack::<u64>(&bytes).is_err());
        bytes.push(0);
        assert!(unpack::<String>(&bytes).is_err(), "a byte more");
        assert!(unpack::<String>(&[]).is_err());
        assert!(unpack::<Vec<u8>>(&[0xdd, 0xff, 0xff, 0xff, 0xff]).is_err(), "a claimed length");
    }

    #[test]
    fn what_is_nested_too_deep_is_an_error() {
        #[derive(Debug, Deserialize)]
        struct Nested(#[expect(dead_code, reason = "only read")] Vec<Self>);
        let mut bytes = vec![0x91; 100_000];
        bytes.push(0x90);
        assert!(unpack::<Nested>(&bytes).is_err());
    }
}
