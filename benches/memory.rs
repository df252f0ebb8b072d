//! Resident memory per connection of a node, beside bare quinn with the same limits and as many streams.
//!
//! `cargo bench --bench memory -- [few] [many]`; each hub and its peers are processes of their own. What
//! passes on a connection before memory is read stands in `engine/memory.rs`.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, reads the clock and starts tasks"
)]

mod engine;
mod raw;

use std::io;
use std::process::{Command, Stdio};

use engine::memory::LANES;

const FEW: usize = 100;
const MANY: usize = 1_000;
/// The arguments that make this program one of the hubs.
const RAW: &str = "--raw";
const ENGINE: &str = "--engine";

fn main() -> io::Result<()> {
    let runtime = engine::runtime();
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let role = args.iter().find(|arg| arg.starts_with("--")).map(String::as_str);
    let mut counts = args.iter().filter_map(|arg| arg.parse().ok());
    let (few, many) = (counts.next().unwrap_or(FEW), counts.next().unwrap_or(MANY));
    match role {
        Some(raw::memory::PEERS) => return runtime.block_on(raw::memory::peers(&engine::settings())),
        Some(engine::memory::PEERS) => return runtime.block_on(engine::memory::peers()),
        Some(RAW) => return runtime.block_on(raw_hub(few, many)),
        Some(ENGINE) => return runtime.block_on(engine_hub(few, many)),
        _ => {}
    }
    println!("{few} to {many} connections, on each {LANES:?}");
    let raw = measure(RAW, few, many)?;
    let engine = measure(ENGINE, few, many)?;
    println!("engine / raw: {:.2}", engine / raw);
    Ok(())
}

async fn raw_hub(few: usize, many: usize) -> io::Result<()> {
    let mut hub = raw::memory::Hub::start(&engine::settings(), LANES)?;
    println!("{} {}", hub.grow(few).await?, hub.grow(many).await?);
    hub.stop()
}

async fn engine_hub(few: usize, many: usize) -> io::Result<()> {
    let mut hub = engine::memory::Hub::start(many).await?;
    println!("{} {}", hub.grow(few).await?, hub.grow(many).await?);
    hub.stop()
}

/// Runs one of the hubs and returns its bytes per connection.
fn measure(role: &str, few: usize, many: usize) -> io::Result<f64> {
    let hub = Command::new(std::env::current_exe()?)
        .args([role, &few.to_string(), &many.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    assert!(hub.status.success(), "{role}: {}", hub.status);
    let text = String::from_utf8_lossy(&hub.stdout);
    let resident: Vec<u64> = text.split_whitespace().filter_map(|bytes| bytes.parse().ok()).collect();
    let [low, high] = resident[..] else { return Err(io::ErrorKind::InvalidData.into()) };
    let each = high.saturating_sub(low) as f64 / (many - few) as f64;
    let name = role.trim_start_matches('-');
    println!("{name:8} {:>8} KiB {:>8} KiB {:>8.1} KiB each", low >> 10, high >> 10, each / 1024.0);
    Ok(each)
}
