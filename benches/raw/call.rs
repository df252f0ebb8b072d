//! `raw_call`: one record a call, each with its own acknowledgement.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::Settings;
use super::exchange::{self, Done, Encode, Request};
use super::node::{Node, star, stream};
use super::record::{Map, Source};

/// The n-th record, encoded by the writer.
#[derive(Debug)]
struct Store {
    source: Source,
    seq: u64,
}

impl Encode for Store {
    fn encode(&self, out: &mut Vec<u8>) {
        self.source.encode(self.seq, out);
    }
}

impl Done for oneshot::Sender<()> {
    type Reply = ();

    fn keep(_: &[u8]) {}

    fn done(self, (): ()) {
        // The caller may have gone.
        let _ = self.send(());
    }
}

/// A warm stream to a receiver that acknowledges each record by its id.
#[derive(Debug)]
pub(crate) struct Rig {
    source: Source,
    queue: mpsc::Sender<Request<Store, oneshot::Sender<()>>>,
    _nodes: (Node, Vec<Node>),
}

impl Rig {
    pub(crate) async fn start(settings: &Settings) -> Self {
        let (hub, peers) = star(settings, 1);
        let (near, far) = hub.dial(&peers[0]).await;
        let ((send, recv), (far_send, far_recv)) = stream(&near, &far).await;
        let mut map = Map::default();
        tokio::spawn(exchange::serve(far_send, far_recv, move |body, _| map.insert(body)));
        Self { source: Source::new(), queue: exchange::client(send, recv), _nodes: (hub, peers) }
    }

    /// Makes `iters` calls, `in_flight` at a time.
    pub(crate) async fn run(&self, in_flight: u64, iters: u64) -> Duration {
        let start = Instant::now();
        exchange::spread(in_flight, iters, |task, share| {
            let (queue, source) = (self.queue.clone(), self.source.clone());
            async move {
                for call in 0..share {
                    let (done, acked) = oneshot::channel();
                    let body = Store { source: source.clone(), seq: call * in_flight + task };
                    queue.send(Request { body, done }).await.expect("writer");
                    acked.await.expect("acknowledgement");
                }
            }
        })
        .await;
        start.elapsed()
    }
}
