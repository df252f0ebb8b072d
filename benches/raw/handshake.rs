//! Bare handshakes: both sides verified, closed at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quinn::{ClientConfig, ConnectionError, Endpoint, VarInt};

use super::Settings;
use super::exchange::spread;
use super::node::{Node, star};

const WELCOME: VarInt = VarInt::from_u32(1);

/// A dialer and an acceptor.
#[derive(Debug)]
pub(crate) struct Rig {
    dialer: ClientConfig,
    hub: Node,
    peer: Node,
}

impl Rig {
    pub(crate) fn start(settings: &Settings) -> Self {
        let (hub, mut peers) = star(settings, 1);
        let peer = peers.pop().expect("one peer");
        tokio::spawn(accept(peer.endpoint.clone()));
        Self { dialer: hub.dialer(&peer.identity.spki), hub, peer }
    }

    /// Makes `iters` handshakes, `in_flight` at a time; also returns the longest.
    ///
    /// A dialer is through before the acceptor has judged its certificate, so a handshake counts
    /// when the acceptor, having judged, closes the connection.
    pub(crate) async fn run(&self, in_flight: u64, iters: u64) -> (Duration, Duration) {
        let longest = Arc::new(Mutex::new(Duration::ZERO));
        let start = Instant::now();
        spread(in_flight, iters, |_, share| {
            let (longest, addr) = (longest.clone(), self.peer.addr);
            let (endpoint, config) = (self.hub.endpoint.clone(), self.dialer.clone());
            async move {
                for _ in 0..share {
                    let start = Instant::now();
                    let dial = endpoint.connect_with(config.clone(), addr, "raw").expect("dial");
                    let closed = dial.await.expect("handshake").closed().await;
                    assert!(
                        matches!(&closed, ConnectionError::ApplicationClosed(close) if close.error_code == WELCOME),
                        "{closed}"
                    );
                    let mut longest = longest.lock().unwrap_or_else(PoisonError::into_inner);
                    *longest = start.elapsed().max(*longest);
                }
            }
        })
        .await;
        let longest = *longest.lock().unwrap_or_else(PoisonError::into_inner);
        (start.elapsed(), longest)
    }

    /// Whether a dial by, and to, a key that is not pinned is refused.
    pub(crate) async fn refuses_strangers(&self, settings: &Settings) -> bool {
        let (stranger, _) = star(settings, 0);
        let to_peer = stranger.dialer(&self.peer.identity.spki);
        let unwelcome =
            match stranger.endpoint.connect_with(to_peer, self.peer.addr, "raw").expect("dial").await {
                Ok(connection) => connection.closed().await,
                Err(error) => error,
            };
        let to_stranger = self.hub.dialer(&stranger.identity.spki);
        let wrong = self.hub.endpoint.connect_with(to_stranger, self.peer.addr, "raw").expect("dial").await;
        matches!(unwelcome, ConnectionError::ConnectionClosed(_)) && wrong.is_err()
    }
}

async fn accept(endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            if let Ok(connection) = incoming.await {
                connection.close(WELCOME, b"");
            }
        });
    }
}
