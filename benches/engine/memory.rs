//! What a connection costs the node that holds it: a hub here, its peers in a child process.
//!
//! Each peer joins through the hub, pings it and stores one record on it; the hub then pings the peer
//! and asks it for a record. That leaves four lanes on each connection, two opened by each side (control
//! and request), all of them open and idle while the hub reads its own resident size.

use std::io::{self, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use foveola::addr::PeerAddr;
use foveola::{Ack, Config, Key, Node, NodeId, QueryError, RequestError};
use tokio::task::JoinSet;

use crate::raw::memory::{Streams, line, resident};
use crate::raw::record::VALUE;

/// The argument that makes the same program the peers' process.
pub(crate) const PEERS: &str = "--peers";
/// The lanes that are open when memory is read.
pub(crate) const LANES: Streams = Streams { by_hub: 2, by_peer: 2 };

const IN_FLIGHT: usize = 32;
/// Nothing is to be closed for being idle before the end.
const IDLE_TTL: Duration = Duration::from_secs(3_600);

/// The hub and the process of its peers.
#[derive(Debug)]
pub(crate) struct Hub {
    node: Node,
    count: usize,
    peers: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Hub {
    /// Starts the hub, with room for `most` peers, and this program again, with [`PEERS`], for them.
    pub(crate) async fn start(most: usize) -> io::Result<Self> {
        let mut config = Config::default();
        config.pool.soft_limit = most;
        config.pool.hard_limit = most;
        config.pool.inbound_percent = 100;
        config.pool.idle_ttl = IDLE_TTL;
        let node = Node::builder().config(config).spawn().await.expect("a node");
        let mut peers = Command::new(std::env::current_exe()?)
            .arg(PEERS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut orders = peers.stdin.take().expect("piped");
        let answers = BufReader::new(peers.stdout.take().expect("piped"));
        writeln!(orders, "{}", node.peer_addr())?;
        Ok(Self { node, count: 0, peers, orders, answers })
    }

    /// Raises the number of connections to `count` and returns the resident bytes then.
    pub(crate) async fn grow(&mut self, count: usize) -> io::Result<u64> {
        writeln!(self.orders, "{}", count - self.count)?;
        let mut ids = Vec::new();
        while self.count + ids.len() < count {
            let id: NodeId = line(&mut self.answers)?.parse().expect("a node id");
            ids.push(id);
        }
        self.count = count;
        let mut tasks = JoinSet::new();
        for id in ids {
            if tasks.len() == IN_FLIGHT {
                tasks.join_next().await.expect("some").expect("a peer that answers");
            }
            let node = self.node.clone();
            tasks.spawn(async move {
                node.ping(id).await.expect("an answer");
                // The peers hold nothing for others and say so, which opens the lane all the same.
                let answer = node.dht().query_peer(id, Key::from_bytes([0; 32])).await;
                assert_eq!(answer, Err(QueryError::Request(RequestError::Unsupported)));
            });
        }
        tasks.join_all().await;
        let stats = self.node.stats();
        assert_eq!((stats.connections, stats.handshakes), (count, count as u64), "each dialed once");
        resident()
    }

    /// Ends the peers' process.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        drop(self.orders);
        self.peers.wait().map(drop)
    }
}

/// The peers' process: starts as many nodes as each line of its standard input says, until it ends.
pub(crate) async fn peers() -> io::Result<()> {
    let mut orders = BufReader::new(io::stdin());
    let mut answers = io::stdout();
    let hub: PeerAddr = line(&mut orders)?.parse().expect("an address");
    let mut held = Vec::new();
    loop {
        let order = line(&mut orders)?;
        if order.is_empty() {
            return Ok(());
        }
        let mut left: usize = order.parse().expect("a number");
        let mut tasks = JoinSet::new();
        while left > 0 || !tasks.is_empty() {
            while left > 0 && tasks.len() < IN_FLIGHT {
                tasks.spawn(peer(hub.clone()));
                left -= 1;
            }
            if let Some(node) = tasks.join_next().await {
                let node = node.expect("a node");
                writeln!(answers, "{}", node.id())?;
                held.push(node);
            }
        }
    }
}

/// A node that knows nobody but the hub. It serves nobody, so that the hub tells nobody of it.
async fn peer(hub: PeerAddr) -> Node {
    let mut config = Config::default();
    config.pool.idle_ttl = IDLE_TTL;
    let node = Node::builder().config(config).serves(false).bootstrap([hub.clone()]).spawn().await;
    let node = node.expect("a node");
    let id = hub.id().expect("the address of a node names it");
    node.ping(id).await.expect("an answer");
    let key = Key::from_bytes(*node.id().as_bytes());
    let receipt = node.dht().store(key, vec![0; VALUE]).ack(Ack::All).await.expect("the hub has it");
    assert_eq!(receipt.acks(), 1, "{receipt:?}");
    node
}
