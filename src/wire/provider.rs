//! The value of a provider record: where one node offers a service, and what it says of it.
//!
//! It is not a frame: it lies in the DHT under the key of the service, as the value of a record of kind
//! [`PROVIDER`](super::RecordKind::PROVIDER). It is a map, as all messages that are rare.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::bounded;
use super::control::{decode_map, endpoints_fit, put_map};
use super::error::{BodyError, EncodeError};

/// The most bytes that a provider may say of itself.
pub const METADATA_MAX: usize = 1024;

/// What a provider publishes. Who it is stands in the record, whose proof covers this.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProviderEntry {
    /// Where the provider can be reached: at most [`ENDPOINTS_MAX`](super::ENDPOINTS_MAX) texts of
    /// [`ENDPOINT_MAX`](super::ENDPOINT_MAX) bytes. None when only other nodes reach it.
    #[serde(deserialize_with = "bounded::endpoints")]
    pub endpoints: Vec<String>,
    /// What the provider says of the service, for its callers to read: at most [`METADATA_MAX`] bytes.
    #[serde(default, with = "bounded::metadata")]
    pub metadata: Vec<u8>,
}

impl ProviderEntry {
    /// The bytes of this entry.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLarge`] when a text, the list or the metadata is longer than permitted.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        if !endpoints_fit(&self.endpoints) || self.metadata.len() > METADATA_MAX {
            return Err(EncodeError::TooLarge);
        }
        let mut out = BytesMut::new();
        put_map(self, &mut out)?;
        Ok(out.into())
    }

    /// Reads the value of a provider record.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when `value` is anything but one whole, permitted entry.
    pub fn decode(value: &[u8]) -> Result<Self, BodyError> {
        decode_map(value)
    }
}
