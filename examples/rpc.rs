//! Services in a mesh of eight nodes in one process: two nodes offer one, a third calls it, one of the two
//! dies, the other withdraws.
//!
//! Run with `cargo run --example rpc`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use foveola::mesh::LocalMesh;
use foveola::rpc::breaker::Breaker;
use foveola::{CallError, HandlerError, Selection};

/// Arguments and results are whatever serde knows; an error has a text and, if it helps, a number.
async fn divide((a, b): (i64, i64)) -> Result<i64, HandlerError> {
    a.checked_div(b).ok_or_else(|| HandlerError::new("cannot be divided").code(1))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut mesh = LocalMesh::builder().nodes(8).k(4).faults().spawn().await?;

    // Offered for as long as the guards live, and found in the DHT by the name.
    let mut offered = Vec::new();
    for seat in [1, 2] {
        let offer = mesh.node(seat).rpc().advertise("math.divide", divide).metadata("v1");
        offered.push((seat, offer.ttl(Duration::from_secs(60)).await?));
    }

    let caller = mesh.node(6).clone();
    for provider in caller.rpc().find_providers("math.divide").await? {
        println!("{:.8} offers it: {:?}", provider.id, String::from_utf8_lossy(&provider.metadata));
    }
    let (seventh, report) = caller.rpc().call::<_, i64>("math.divide", &(42, 6)).report().await;
    println!("42 / 6 = {}", seventh?);
    let report = report.ok_or("nothing was sent")?;
    println!("known from {:?}, reached {:?}, in {:?}", report.source, report.path(), report.total);

    // An error of the handler is an answer: nobody else is asked.
    match caller.rpc().call::<_, i64>("math.divide", &(1, 0)).await {
        Err(CallError::Handler { error, .. }) => println!("1 / 0: {error}"),
        other => println!("1 / 0: {other:?}"),
    }

    // A handle for many calls, which take the providers in turn. Dividing twice does no harm, so when one is
    // silent the other is asked as well. One dies without a word.
    let divide = caller.rpc().caller("math.divide")?.selection(Selection::RoundRobin).idempotent();
    let (dead, alive): (Vec<_>, Vec<_>) =
        offered.into_iter().partition(|(seat, _)| Some(mesh.node(*seat).id()) == report.provider());
    dead.iter().for_each(|(seat, _)| mesh.kill(*seat));
    for n in 1..=100 {
        let _: i64 = divide.call(&(1_000, n)).await?;
    }
    println!("one is dead, no call has failed, {} went to the other as well", caller.stats().failovers);
    for (provider, health) in divide.health() {
        let state = if health.breaker == Breaker::Closed { "trusted" } else { "left alone" };
        println!("{provider:.8}: {} calls, {} failed, {state}", health.calls, health.failures);
    }

    // What is withdrawn is run no more and found no more; the entry of the dead one ends with its ttl.
    for (_, offer) in alive {
        offer.withdraw().await?;
    }
    let found = caller.rpc().find_providers("math.divide").fresh().await?;
    println!("{} left, for a minute at most", found.len());
    Ok(())
}
