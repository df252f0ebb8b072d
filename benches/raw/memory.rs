//! What a connection costs the process that holds it: a hub here, its peers in a child process.
//!
//! The peers dial; then both sides open their streams and exchange a greeting on each. All of it
//! stays open while the hub reads its own resident size.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use quinn::{Connection, RecvStream, SendStream};
use tokio::task::JoinSet;

use super::Settings;
use super::node::{Node, greet};
use super::tls::{Identity, Spki};

/// The argument that makes the same program the peers' process.
pub(crate) const PEERS: &str = "--raw-peers";

const DIALS_IN_FLIGHT: usize = 32;

/// Streams on each connection, by who opens them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams {
    pub(crate) by_hub: usize,
    pub(crate) by_peer: usize,
}

/// A connection with its streams, held open.
type Open = (Connection, Vec<(SendStream, RecvStream)>);

async fn exchange(connection: Connection, open: usize, accept: usize) -> Open {
    let mut streams = Vec::with_capacity(open + accept);
    for _ in 0..open {
        let (mut send, mut recv) = connection.open_bi().await.expect("open");
        greet(&mut send, &mut recv).await;
        streams.push((send, recv));
    }
    for _ in 0..accept {
        let (mut send, mut recv) = connection.accept_bi().await.expect("accept");
        greet(&mut send, &mut recv).await;
        streams.push((send, recv));
    }
    (connection, streams)
}

/// The hub and the process of its peers.
#[derive(Debug)]
pub(crate) struct Hub {
    node: Node,
    streams: Streams,
    open: Vec<Open>,
    peers: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Hub {
    /// Starts the hub here and this program again, with [`PEERS`], for its peers.
    pub(crate) fn start(settings: &Settings, streams: Streams) -> io::Result<Self> {
        let mut peers = Command::new(std::env::current_exe()?)
            .arg(PEERS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut orders = peers.stdin.take().expect("piped");
        let mut answers = BufReader::new(peers.stdout.take().expect("piped"));
        let theirs = unhex(&line(&mut answers)?);
        let node = Node::start(settings, Identity::generate(), HashSet::from([theirs]));
        writeln!(orders, "{} {}", node.addr, hex(&node.identity.spki))?;
        writeln!(orders, "{} {}", streams.by_peer, streams.by_hub)?;
        Ok(Self { node, streams, open: Vec::new(), peers, orders, answers })
    }

    /// Raises the number of connections to `count` and returns the resident bytes then.
    pub(crate) async fn grow(&mut self, count: usize) -> io::Result<u64> {
        writeln!(self.orders, "{}", count - self.open.len())?;
        let mut tasks = JoinSet::new();
        for _ in self.open.len()..count {
            let incoming = self.node.endpoint.accept().await.expect("open endpoint");
            let Streams { by_hub, by_peer } = self.streams;
            tasks.spawn(async move {
                let connection = incoming.await.expect("handshake");
                // In the order opposite to the peer's, which opens first.
                let (connection, mut streams) = exchange(connection, 0, by_peer).await;
                let (connection, own) = exchange(connection, by_hub, 0).await;
                streams.extend(own);
                (connection, streams)
            });
        }
        while let Some(open) = tasks.join_next().await {
            self.open.push(open.expect("connection"));
        }
        line(&mut self.answers)?;
        resident()
    }

    /// Ends the peers' process.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        drop(self.orders);
        self.peers.wait().map(drop)
    }
}

/// The peers' process: dials as many as each line of its standard input says, until it ends.
pub(crate) async fn peers(settings: &Settings) -> io::Result<()> {
    let mut orders = BufReader::new(io::stdin());
    let mut answers = io::stdout();
    let node = Node::start(settings, Identity::generate(), HashSet::new());
    writeln!(answers, "{}", hex(&node.identity.spki))?;

    let hub = line(&mut orders)?;
    let (addr, spki) = hub.split_once(' ').expect("address and key");
    let addr: SocketAddr = addr.parse().expect("an address");
    let dialer = node.dialer(&unhex(spki));
    let streams = line(&mut orders)?;
    let (open, accept) = streams.split_once(' ').expect("two numbers");
    let (open, accept) = (open.parse().expect("a number"), accept.parse().expect("a number"));

    let mut held = Vec::new();
    loop {
        let order = line(&mut orders)?;
        if order.is_empty() {
            return Ok(());
        }
        let mut left: usize = order.parse().expect("a number");
        let mut tasks = JoinSet::new();
        while left > 0 || !tasks.is_empty() {
            while left > 0 && tasks.len() < DIALS_IN_FLIGHT {
                let dial = node.endpoint.connect_with(dialer.clone(), addr, "raw").expect("dial");
                tasks.spawn(async move { exchange(dial.await.expect("handshake"), open, accept).await });
                left -= 1;
            }
            if let Some(open) = tasks.join_next().await {
                held.push(open.expect("connection"));
            }
        }
        writeln!(answers, "done")?;
    }
}

/// Bytes of this process that are in memory.
pub(crate) fn resident() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    let kib: u64 = kib.and_then(|kib| kib.trim().parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(kib * 1024)
}

/// The next line without its end; empty when there is none.
pub(crate) fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("into memory");
        hex
    })
}

fn unhex(hex: &str) -> Spki {
    let digit = |i| u8::from_str_radix(&hex[i..i + 2], 16).expect("a hexadecimal digit");
    (0..hex.len()).step_by(2).map(digit).collect()
}
