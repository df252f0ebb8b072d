//! What a replica store may hold, for a whole node and for one of its shards.

use crate::dht::record::VALUE_BYTES_MAX;

/// Default of [`StoreLimits::records`]: 65,536.
pub const RECORDS_MAX: usize = 65_536;

/// Default of [`StoreLimits::bytes`]: 64 MiB.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Default of [`StoreLimits::key_records`]: 1,024.
pub const KEY_RECORDS_MAX: usize = 1_024;

/// A shard may hold this part more than its even share (a quarter), because keys do not fall evenly.
pub const SHARD_SLACK: usize = 4;

/// What the replica store of a node may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Records of all publishers. Default [`RECORDS_MAX`].
    pub records: usize,
    /// Bytes of values of all publishers. Default [`BYTES_MAX`].
    pub bytes: usize,
    /// Records of one publisher; half as many may one peer bring in the name of others. Default half of
    /// [`RECORDS_MAX`].
    pub publisher_records: usize,
    /// Bytes of values of one publisher, likewise. Default half of [`BYTES_MAX`].
    pub publisher_bytes: usize,
    /// Records under one key, each by another publisher. Default [`KEY_RECORDS_MAX`].
    pub key_records: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            records: RECORDS_MAX,
            bytes: BYTES_MAX,
            publisher_records: RECORDS_MAX / 2,
            publisher_bytes: BYTES_MAX / 2,
            key_records: KEY_RECORDS_MAX,
        }
    }
}

impl StoreLimits {
    /// The limits of one of `shards` shards (0 counts as 1).
    ///
    /// One shard has the limits of the node. Several have an even share and [`SHARD_SLACK`] on top, so the
    /// node may come to hold that much more than its limits, and room for one value of the longest kind.
    pub fn per_shard(&self, shards: usize) -> ShardLimits {
        ShardLimits {
            records: share(self.records, shards),
            bytes: share(self.bytes, shards).max(self.bytes.min(VALUE_BYTES_MAX)),
            publisher_records: share(self.publisher_records, shards),
            publisher_bytes: share(self.publisher_bytes, shards)
                .max(self.publisher_bytes.min(VALUE_BYTES_MAX)),
            key_records: self.key_records,
        }
    }
}

/// What one shard may hold; the fields are those of [`StoreLimits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardLimits {
    /// Records of all publishers.
    pub records: usize,
    /// Bytes of values of all publishers.
    pub bytes: usize,
    /// Records of one publisher.
    pub publisher_records: usize,
    /// Bytes of values of one publisher.
    pub publisher_bytes: usize,
    /// Records under one key.
    pub key_records: usize,
}

impl ShardLimits {
    /// Records, and bytes of values, that one peer may bring in the name of others: half of what it may publish,
    /// so that under whatever names it comes, one peer cannot fill the shard.
    pub(super) fn brought(&self) -> (usize, usize) {
        let one = self.publisher_bytes.min(VALUE_BYTES_MAX);
        (self.publisher_records.div_ceil(2), (self.publisher_bytes / 2).max(one))
    }
}

/// The part of `total` that falls to one of `shards` shards, slack included.
pub(in crate::dht) fn share(total: usize, shards: usize) -> usize {
    if shards <= 1 {
        return total;
    }
    let even = total.div_ceil(shards);
    total.min(even.saturating_add(even.div_ceil(SHARD_SLACK)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_has_its_share_and_a_quarter_more() {
        let node = StoreLimits::default();
        assert_eq!(node.per_shard(1).records, 65_536);
        assert_eq!(node.per_shard(0), node.per_shard(1));
        let shard = node.per_shard(16);
        assert_eq!(shard.records, 5_120);
        assert_eq!(shard.bytes, 5 * 1024 * 1024);
        assert_eq!(shard.publisher_records, 2_560);
        assert_eq!(shard.key_records, 1_024);
    }

    #[test]
    fn a_small_limit_never_grows_and_still_fits_one_value() {
        let node = StoreLimits { records: 1, bytes: VALUE_BYTES_MAX, ..StoreLimits::default() };
        let shard = node.per_shard(16);
        assert_eq!(shard.records, 1);
        assert_eq!(shard.bytes, VALUE_BYTES_MAX);
        assert_eq!(StoreLimits { bytes: 9, ..node }.per_shard(16).bytes, 9);
    }
}
