//! The routing table alone: peers that come, and the closest ones to a key.
//!
//! `cargo bench --bench routing`; what each arm is stands in `benches/README.md`.

#![allow(clippy::disallowed_methods, reason = "benches read the clock")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use foveola::dht::K;
use foveola::dht::table::Table;
use foveola::{Key, NodeId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const PEERS: usize = 10_000;
const KEYS: usize = 1_024;
const SEED: u64 = 1;
/// Private, so that the limits on networks do not apply.
const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fn table(now: Instant, k: usize, peers: &[NodeId]) -> Table<()> {
    let mut table = Table::new(NodeId::from_bytes([0; 32]), k);
    for peer in peers {
        black_box(table.insert(now, *peer, IP, ()));
    }
    table
}

fn routing(criterion: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let peers: Vec<_> = (0..PEERS).map(|_| NodeId::from_bytes(rng.random())).collect();
    let keys: Vec<_> = (0..KEYS).map(|_| Key::from_bytes(rng.random())).collect();
    let now = Instant::now();
    let usual = table(now, K, &peers);
    let whole = table(now, PEERS, &peers);
    assert_eq!(whole.len(), PEERS);

    let mut group = criterion.benchmark_group("routing");
    group.throughput(Throughput::Elements(PEERS as u64));
    group.bench_function("insert/10000", |bencher| bencher.iter(|| table(now, K, &peers)));
    let members: Vec<_> = usual.iter().map(|contact| contact.id).collect();
    group.throughput(Throughput::Elements(members.len() as u64));
    group.bench_function("insert/known", |bencher| {
        let again = |mut table: Table<()>| {
            for peer in &members {
                black_box(table.insert(now, *peer, IP, ()));
            }
            table
        };
        bencher.iter_batched(|| usual.clone(), again, BatchSize::SmallInput);
    });
    group.throughput(Throughput::Elements(1));
    for (name, table) in [("closest/10000", &whole), ("closest/usual", &usual)] {
        group.bench_function(name, |bencher| {
            let (mut out, mut next) = (Vec::new(), keys.iter().cycle());
            bencher.iter(|| {
                let key = next.next().expect("a cycle");
                table.closest(key, K, &mut out);
                black_box(&out);
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots();
    targets = routing
}
criterion_main!(benches);
