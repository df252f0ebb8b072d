//! `loadgen node`: one node as a process of its own, for tests that need to kill or measure one.
//!
//! Prints one line of JSON when it is ready and lives until its standard input closes or a signal comes.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::stop::Stop;
use crate::target::Single;

#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// The key file; it is made when missing.
    #[arg(long, conflicts_with = "seed")]
    pub identity: Option<PathBuf>,
    /// Derive the key from this number instead. Anyone can: for tests only.
    #[arg(long)]
    pub seed: Option<u64>,
    /// A node to join through, as `<node-id>@<host>:<port>`; may be repeated.
    #[arg(long)]
    pub bootstrap: Vec<String>,
    /// Replicas of a record.
    #[arg(short, long, default_value_t = 4)]
    pub k: usize,
}

/// The line that says a node is ready.
#[derive(Debug, Serialize)]
struct Ready {
    kind: &'static str,
    id: String,
    addr: SocketAddr,
    pid: u32,
}

/// Runs a node until it is told to end.
pub async fn run(args: &NodeArgs, stop: &mut Stop) -> Result<()> {
    let node = Single::start(args).await?;
    let ready = Ready { kind: "loadgen.node", id: node.id(), addr: node.addr(), pid: std::process::id() };
    crate::output::print(&(serde_json::to_string(&ready)? + "\n"))?;
    let (closed, mut parent) = oneshot::channel();
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        // An unreadable standard input has no one at its other end either.
        let _ = std::io::copy(&mut std::io::stdin().lock().by_ref(), &mut std::io::sink());
        let _ = closed.send(());
    })?;
    tokio::select! {
        _ = &mut parent => {}
        _ = stop.wait() => {}
    }
    node.shutdown().await;
    Ok(())
}
