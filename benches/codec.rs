//! The hot messages alone: writing and reading records, statuses and what was found.
//!
//! `cargo bench --bench codec`; what each arm is stands in `benches/README.md`.

use std::hint::black_box;
use std::time::Duration;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foveola::wire::{
    CONTACTS_MAX, FindNodeReply, FindReply, Found, HEADER_LEN, Record, RecordKind, Rest, Status, StoreBatch,
    StoreReply, decode_find_node_reply, decode_find_reply, decode_store, decode_store_reply, encode_contact,
    encode_record,
};
use foveola::{Key, NodeId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Records in a message, as in `store_many/256`.
const BATCH: u64 = 256;
/// Bytes of a value.
const VALUE: usize = 100;
const TTL_MS: u32 = 3_600_000;
const SEED: u64 = 1;

/// The material of a batch.
struct Records {
    publisher: NodeId,
    keys: Vec<Key>,
    value: [u8; VALUE],
}

impl Records {
    fn new() -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let keys = (0..BATCH).map(|_| Key::from_bytes(rng.random())).collect();
        Self { publisher: NodeId::from_bytes(rng.random()), keys, value: rng.random() }
    }

    fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.keys.iter().zip(1 << 40..).map(|(key, seq)| Record {
            key: *key,
            seq,
            ttl_ms: TTL_MS,
            kind: RecordKind::VALUE,
            flags: 0,
            proof: &[],
            value: &self.value,
        })
    }

    /// Appends all records, one behind the other.
    fn encode(&self, out: &mut BytesMut) {
        for record in self.iter() {
            encode_record(&record, out).expect("a small record");
        }
    }

    /// Appends a STORE of all records, which were encoded before.
    fn store(&self, encoded: &[u8], out: &mut BytesMut) {
        let mut batch = StoreBatch::open(1, &self.publisher, out);
        batch.push_many(encoded, self.keys.len() as u16, out).expect("a small batch");
    }

    /// Appends the reply to a FIND_VALUE of all keys, one record under each.
    fn found(&self, out: &mut BytesMut) {
        let mut reply = FindReply::open(1, out);
        for Record { seq, ttl_ms, kind, flags, proof, value, .. } in self.iter() {
            let found = Found { publisher: self.publisher, seq, ttl_ms, kind, flags, proof, value };
            let mut answer = reply.answer(out).expect("room");
            answer.push(&found).expect("a small record");
            answer.end(Rest::Nothing).expect("a small reply");
        }
    }
}

/// Appends the reply to a STORE, all records applied.
fn statuses(out: &mut BytesMut) {
    let mut reply = StoreReply::open(1, false, out);
    for _ in 0..BATCH {
        reply.push(black_box(Status::Applied), out).expect("a small reply");
    }
}

/// Appends the reply to a FIND_NODE, of contacts that were encoded before.
fn contacts(contact: &[u8], out: &mut BytesMut) {
    let mut reply = FindNodeReply::open(1, out);
    for _ in 0..CONTACTS_MAX {
        reply.push_encoded(black_box(contact), out).expect("a small reply");
    }
}

/// What `write` appends to an empty buffer.
fn written(write: impl Fn(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    write(&mut out);
    out
}

fn codec(criterion: &mut Criterion) {
    let records = Records::new();
    let encoded = written(|out| records.encode(out));
    let store = written(|out| records.store(&encoded, out));
    let reply = written(statuses);
    let found = written(|out| records.found(out));
    let contact = written(|out| {
        encode_contact(&records.publisher, ["192.0.2.1:9443"], out).expect("a small contact");
    });
    let known = written(|out| contacts(&contact, out));
    let body = |frame: &BytesMut| frame.clone().split_off(HEADER_LEN);
    let (store_body, reply_body, found_body, known_body) =
        (body(&store), body(&reply), body(&found), body(&known));

    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(BATCH));
    let mut out = BytesMut::with_capacity(1 << 20);
    let mut encode = |name: &str, write: &dyn Fn(&mut BytesMut)| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                write(&mut out);
                black_box(&out);
            });
        });
    };
    encode("encode_record/256", &|out| records.encode(out));
    encode("encode_store/256", &|out| records.store(&encoded, out));
    encode("encode_statuses/256", &statuses);
    encode("encode_found/256", &|out| records.found(out));
    encode("encode_contacts/20", &|out| contacts(&contact, out));
    group.bench_function("decode_store/256", |bencher| {
        bencher.iter(|| black_box(decode_store(black_box(&store_body)).expect("a store")).records.len());
    });
    group.bench_function("decode_statuses/256", |bencher| {
        bencher.iter(|| decode_store_reply(black_box(&reply_body)).expect("statuses"));
    });
    group.bench_function("decode_found/256", |bencher| {
        bencher.iter(|| {
            black_box(decode_find_reply(black_box(&found_body)).expect("what was found")).answers().len()
        });
    });
    group.bench_function("decode_contacts/20", |bencher| {
        bencher.iter(|| decode_find_node_reply(black_box(&known_body)).expect("contacts").len());
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots();
    targets = codec
}
criterion_main!(benches);
