//! `raw_fanout`: one record to 20 peers at once; a call is done when all of them have acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::Settings;
use super::exchange::{self, Done, Request};
use super::node::{Node, star, stream};
use super::record::{Map, Source};

/// Peers that get each record.
pub(crate) const PEERS: usize = 20;

/// A call that waits for its last acknowledgement.
#[derive(Debug)]
struct Call {
    left: AtomicUsize,
    done: Notify,
}

impl Done for Arc<Call> {
    type Reply = ();

    fn keep(_: &[u8]) {}

    fn done(self, (): ()) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }
}

type Queue = mpsc::Sender<Request<Bytes, Arc<Call>>>;

/// A hub with a warm stream and a queue to each of its peers.
#[derive(Debug)]
pub(crate) struct Rig {
    source: Source,
    queues: Arc<[Queue]>,
    _nodes: (Node, Vec<Node>),
}

impl Rig {
    pub(crate) async fn start(settings: &Settings) -> Self {
        let (hub, peers) = star(settings, PEERS);
        let mut queues = Vec::new();
        for peer in &peers {
            let (near, far) = hub.dial(peer).await;
            let ((send, recv), (far_send, far_recv)) = stream(&near, &far).await;
            let mut map = Map::default();
            tokio::spawn(exchange::serve(far_send, far_recv, move |body, _| map.insert(body)));
            queues.push(exchange::client(send, recv));
        }
        Self { source: Source::new(), queues: queues.into(), _nodes: (hub, peers) }
    }

    /// Makes `iters` calls, `in_flight` at a time.
    pub(crate) async fn run(&self, in_flight: u64, iters: u64) -> Duration {
        let start = Instant::now();
        exchange::spread(in_flight, iters, |task, share| {
            let (queues, source) = (self.queues.clone(), self.source.clone());
            async move {
                for call in 0..share {
                    store(&queues, &source, call * in_flight + task).await;
                }
            }
        })
        .await;
        start.elapsed()
    }
}

async fn store(queues: &[Queue], source: &Source, seq: u64) {
    let mut body = Vec::with_capacity(160);
    source.encode(seq, &mut body);
    let body = Bytes::from(body);
    let call = Arc::new(Call { left: AtomicUsize::new(queues.len()), done: Notify::new() });
    for queue in queues {
        let request = Request { body: body.clone(), done: call.clone() };
        queue.send(request).await.expect("writer");
    }
    call.done.notified().await;
}
