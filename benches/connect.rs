//! Verified dials of the engine, HELLO included, beside bare handshakes of quinn with the same settings.
//!
//! `cargo bench --bench connect -- [rounds]`; rounds are interleaved, rates are medians.
//!
//! An engine dial is [`Client::dial`]: TLS and HELLO, both judged by both sides, closed at once. On the
//! other side stands a whole node, which takes the connection into its pool and loses it again. A bare
//! handshake ends when the acceptor, having judged the dialer's certificate, closes: the same knowledge.
//!
//! `join` is what a user of the engine sees: a node that connects through its pool to nodes which it has
//! not met, each time with a FIND_NODE on a second lane behind HELLO. Those connections stay.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, reads the clock and starts tasks"
)]

mod engine;
mod raw;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foveola::Node;
use foveola::baseline::{Arm, Client};
use foveola::mesh::LocalMesh;
use raw::exchange::spread;
use raw::handshake;

const ROUNDS: usize = 5;
/// Dials in flight and in all, of one round.
const RUNS: [(u64, u64); 2] = [(1, 1_000), (32, 2_000)];
/// Nodes that are joined through, fewer than a pool has room for.
const STRANGERS: usize = 100;
/// How much is dialed before it is measured, as a share of what is measured.
const WARM_UP: u64 = 10;

fn main() {
    let runtime = engine::runtime();
    let rounds = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(ROUNDS);
    runtime.block_on(async {
        let raw = handshake::Rig::start(&engine::settings());
        let mesh = LocalMesh::builder().nodes(2).config(engine::config()).spawn().await.expect("a mesh");
        let client = Arc::new(Client::new(mesh.node(0), Arm::Fresh).expect("a client"));
        for (in_flight, dials) in RUNS {
            let mut figures = ["raw_handshake", "dial"].map(Figures::new);
            raw.run(in_flight, dials / WARM_UP).await;
            dial(&client, &mesh, in_flight, dials / WARM_UP).await;
            for _ in 0..rounds {
                figures[0].add(dials, raw.run(in_flight, dials).await);
                figures[1].add(dials, dial(&client, &mesh, in_flight, dials).await);
            }
            let [raw, engine] = figures.map(|figures| figures.print(in_flight));
            println!("{in_flight:2} in flight: engine / raw {:.1} %", engine / raw * 100.0);
        }
        let mut figures = Figures::new("join");
        let strangers = strangers().await;
        for _ in 0..rounds {
            figures.add(STRANGERS as u64, join(&strangers).await);
        }
        figures.print(1);
    });
}

/// Nodes that know nobody and enter nobody's table: whoever joins through one learns of no other.
async fn strangers() -> Vec<Node> {
    let mut strangers = Vec::new();
    while strangers.len() < STRANGERS {
        strangers.push(Node::builder().serves(false).spawn().await.expect("a node"));
    }
    strangers
}

/// A new node joins through one after the other; also returns the longest.
async fn join(strangers: &[Node]) -> (Duration, Duration) {
    let node = Node::builder().config(engine::config()).serves(false).spawn().await.expect("a node");
    let mut longest = Duration::ZERO;
    let start = Instant::now();
    for stranger in strangers {
        let start = Instant::now();
        node.join(&stranger.peer_addr()).await.expect("a verified connection");
        longest = longest.max(start.elapsed());
    }
    let took = start.elapsed();
    node.shutdown().await;
    (took, longest)
}

/// What the rounds of an arm showed.
#[derive(Debug)]
struct Figures {
    name: &'static str,
    rates: Vec<f64>,
    longest: Duration,
}

impl Figures {
    fn new(name: &'static str) -> Self {
        Self { name, rates: Vec::new(), longest: Duration::ZERO }
    }

    fn add(&mut self, dials: u64, (took, longest): (Duration, Duration)) {
        self.rates.push(dials as f64 / took.as_secs_f64());
        self.longest = self.longest.max(longest);
    }

    /// Returns the rate in the middle.
    fn print(mut self, in_flight: u64) -> f64 {
        self.rates.sort_unstable_by(f64::total_cmp);
        let rate = self.rates[self.rates.len() / 2];
        let (low, high) = (self.rates[0], self.rates[self.rates.len() - 1]);
        let name = format!("{}/{in_flight}", self.name);
        println!("{name:16} {rate:>8.1} /s ({low:.1} - {high:.1}), longest {:.1?}", self.longest);
        rate
    }
}

/// Makes `dials` dials, `in_flight` at a time; also returns the longest.
async fn dial(client: &Arc<Client>, mesh: &LocalMesh, in_flight: u64, dials: u64) -> (Duration, Duration) {
    let longest = Arc::new(Mutex::new(Duration::ZERO));
    let peer = mesh.node(1).id();
    let start = Instant::now();
    spread(in_flight, dials, |_, share| {
        let (client, longest) = (Arc::clone(client), Arc::clone(&longest));
        async move {
            for _ in 0..share {
                let start = Instant::now();
                client.dial(peer).await.expect("a verified connection");
                let mut longest = longest.lock().unwrap_or_else(PoisonError::into_inner);
                *longest = start.elapsed().max(*longest);
            }
        }
    })
    .await;
    let longest = *longest.lock().unwrap_or_else(PoisonError::into_inner);
    (start.elapsed(), longest)
}
