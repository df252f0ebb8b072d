//! Resident memory per connection of bare quinn, in a process that holds one side only.
//!
//! `cargo bench --bench raw_memory -- [few] [many] [streams by the hub] [streams by the peer] [stream limit]`

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, reads the clock and starts tasks"
)]

mod raw;

use std::io;

use raw::Settings;
use raw::memory::{self, Hub, Streams};

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    // A peer has the limits of the hub only for what it accepts, so they need not be told.
    if args.first().is_some_and(|arg| arg == memory::PEERS) {
        return runtime.block_on(memory::peers(&Settings::default()));
    }
    args.resize(5, String::new());
    let number = |at: usize, default: usize| args[at].parse().unwrap_or(default);
    let (few, many) = (number(0, 100), number(1, 1_000));
    let streams = Streams { by_hub: number(2, 2), by_peer: number(3, 1) };
    let mut settings = Settings::default();
    settings.bidi_streams = args[4].parse().unwrap_or(settings.bidi_streams);

    runtime.block_on(async {
        let mut hub = Hub::start(&settings, streams)?;
        let low = hub.grow(few).await?;
        let high = hub.grow(many).await?;
        hub.stop()?;
        println!("settings: {settings:?}, {streams:?}");
        println!("resident: {} KiB at {few}, {} KiB at {many} connections", low / 1024, high / 1024);
        let each = (high.saturating_sub(low)) as f64 / (many - few) as f64 / 1024.0;
        println!("per connection: {each:.1} KiB");
        Ok(())
    })
}
