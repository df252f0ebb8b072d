//! Two nodes in one process: one stores a record, the other finds it.
//!
//! Run with `cargo run --example two_nodes`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use foveola::{Ack, Key, Node};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let first = Node::builder().realm("example.mesh").spawn().await?;
    let second = Node::builder().realm("example.mesh").bootstrap([first.peer_addr()]).spawn().await?;
    println!("{:.8} listens on {}", first.id(), first.local_addr());
    println!("{:.8} has joined; round trip {:?}", second.id(), second.ping(first.id()).await?);

    let key = Key::of_name("config/limits");
    let receipt = second.dht().store(key, "42").ttl(Duration::from_secs(60)).ack(Ack::All).await?;
    for replica in receipt.acked() {
        println!("{replica:.8} holds sequence {}", receipt.seq());
    }

    for record in first.dht().find_value(key).await? {
        println!("{:.8} published {:?}, gone in {:?}", record.publisher, record.value, record.ttl);
    }

    second.shutdown().await;
    first.shutdown().await;
    Ok(())
}
