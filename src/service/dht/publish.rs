//! A record on its way into the publication log and onto the wire.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::store::StoreError;
use super::{DhtService, RECORD_KINDS};
use crate::dht::ack::Ack;
use crate::dht::log::{Draft, LogFull, PublicationLog};
use crate::dht::record::{self, TTL_MAX, VALUE_BYTES_MAX};
use crate::id::Key;
use crate::wire::{self, RecordKind, TOMBSTONE};

/// How a record is to be stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreOptions {
    pub(crate) ttl: Duration,
    pub(crate) ack: Ack,
    pub(crate) timeout: Duration,
    /// Whether the replicas are looked up although all nodes around the key are known.
    pub(crate) fresh: bool,
    pub(crate) kind: RecordKind,
    /// Whether a value carries a proof; entries always do.
    pub(crate) signed: bool,
    /// Whether it removes what was stored before.
    pub(crate) removes: bool,
}

impl StoreOptions {
    fn is_plain(&self) -> bool {
        self.kind == RecordKind::VALUE && !self.signed && !self.removes
    }
}

/// Finds what no replica would take.
pub(super) fn check(value: &Bytes, options: &StoreOptions) -> Result<u32, StoreError> {
    let ttl = options.ttl;
    if !RECORD_KINDS.contains(&options.kind) {
        return Err(StoreError::Kind(options.kind));
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(StoreError::TooLarge { bytes: value.len() });
    }
    let ttl_ms = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX);
    if ttl_ms == 0 || ttl > TTL_MAX { Err(StoreError::Ttl(ttl)) } else { Ok(ttl_ms) }
}

impl DhtService {
    /// Logs a record and appends it as it travels, or does neither. What follows a signed record or a removal
    /// is signed as well, because replicas and readers that have missed it believe only a later signature.
    #[expect(clippy::too_many_arguments, reason = "what becomes of a record under the lock of its shard")]
    pub(super) fn enter(
        &self,
        log: &mut PublicationLog,
        now: Instant,
        (key, value): (Key, Bytes),
        options: StoreOptions,
        ttl_ms: u32,
        seq: u64,
        out: &mut BytesMut,
    ) -> Result<(), LogFull> {
        if options.is_plain() {
            let before = out.len();
            encode(key, seq, ttl_ms, &value, out);
            let follows_signed = log.publish(now, key, Draft::value(value, options.ttl, seq));
            if follows_signed == Ok(false) {
                return Ok(());
            }
            out.truncate(before);
            follows_signed?;
            let own = log.find(now, &key, options.kind).expect("it was published right now");
            let value = own.value.clone();
            let options = StoreOptions { signed: true, ..options };
            return self.enter(log, now, (key, value), options, ttl_ms, seq, out);
        }
        let StoreOptions { kind, ttl, signed, removes, .. } = options;
        let flags = if removes { TOMBSTONE } else { 0 };
        let mut record = wire::Record { key, seq, ttl_ms, kind, flags, proof: &[], value: &value };
        // Readers believe what is signed before what is not: a removal must not lose to a signed record.
        let proof = (signed || removes || kind != RecordKind::VALUE)
            .then(|| Box::new(record::sign(&self.config.identity, &self.config.realm, &record)));
        log.publish(now, key, Draft { kind, flags, seq, ttl, proof: proof.clone(), value: value.clone() })?;
        // A tombstone outlives what it removes, so it may live longer than was asked for.
        if let Some(own) = log.find(now, &key, kind).filter(|own| own.seq == seq) {
            record.ttl_ms = u32::try_from(own.ttl.as_millis()).unwrap_or(u32::MAX);
        }
        record.proof = proof.as_ref().map_or(&[], |proof| proof.as_slice());
        wire::encode_record(&record, out).expect("the value was checked against its limit");
        Ok(())
    }
}

/// Says that nothing more fits `log`, or the file behind it.
pub(super) fn full(log: &PublicationLog) -> LogFull {
    LogFull { records: log.len(), bytes: log.bytes() }
}

/// Appends one value record.
fn encode(key: Key, seq: u64, ttl_ms: u32, value: &[u8], out: &mut BytesMut) {
    let record = wire::Record { key, seq, ttl_ms, kind: RecordKind::VALUE, flags: 0, proof: &[], value };
    wire::encode_record(&record, out).expect("the value was checked against its limit");
}
