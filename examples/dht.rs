//! A DHT of sixteen nodes in one process, each record on four of them: storing, finding, entries of several
//! publishers, removing, and a replica that dies.
//!
//! Run with `cargo run --example dht`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use foveola::mesh::LocalMesh;
use foveola::wire::RecordKind;
use foveola::{Ack, Key};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // In a program of its own a node is `Node::builder().bootstrap([..]).spawn()`; the calls are the same.
    let mut mesh = LocalMesh::builder().nodes(16).k(4).faults().spawn().await?;
    let (writer, reader) = (mesh.node(3).clone(), mesh.node(12).clone());

    let key = Key::of_name("sensor/7");
    let receipt = writer.dht().store(key, "21.5 C").ack(Ack::All).await?;
    for replica in receipt.acked() {
        println!("{replica:.8} holds sequence {}", receipt.seq());
    }
    if let Some(lookup) = receipt.lookup() {
        println!("found in {} hops, {} nodes asked", lookup.hops, lookup.queries);
    }
    for record in reader.dht().find_value(key).await? {
        println!("{:.8} published {:?}", record.publisher, record.value);
    }

    // One replica dies without a word. The next store asks for a quorum, which three of four can give.
    let dead = receipt.acked().find(|replica| *replica != reader.id()).ok_or("nobody has acknowledged")?;
    let seat = (0..mesh.len()).find(|i| mesh.node(*i).id() == dead).ok_or("no such node")?;
    mesh.kill(seat);
    let receipt = writer.dht().store(key, "21.7 C").await?;
    println!("{} of {} have acknowledged sequence {}", receipt.acks(), receipt.target(), receipt.seq());

    // The first answer may be an older record; a quorum of readers meets every quorum of writers.
    let newest = reader.dht().find_value(key).quorum().await?;
    println!("the newest is {:?}", newest[0].value);

    // Entries are signed; each publisher has its own under the key.
    let service = Key::of_name("clock");
    for clock in [&writer, &reader] {
        clock.dht().store(service, clock.local_addr().to_string()).kind(RecordKind::PROVIDER).await?;
    }
    writer.dht().remove(service).kind(RecordKind::PROVIDER).await?;
    for entry in reader.dht().find_value(service).kind(RecordKind::PROVIDER).await? {
        println!("a clock is at {}", String::from_utf8_lossy(&entry.value));
    }

    writer.dht().remove(key).await?;
    println!("removed: {} records left", reader.dht().find_value(key).quorum().await?.len());
    Ok(())
}
