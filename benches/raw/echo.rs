//! The raw echo: 32 bytes there and back, a task a caller.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::Settings;
use super::exchange::{self, Done, Encode, Request};
use super::node::{Node, star, stream};

type Payload = [u8; 32];

impl Encode for Payload {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl Done for oneshot::Sender<Payload> {
    type Reply = Payload;

    fn keep(body: &[u8]) -> Payload {
        body.try_into().expect("32 bytes")
    }

    fn done(self, reply: Payload) {
        // The caller may have gone.
        let _ = self.send(reply);
    }
}

/// A warm stream to a peer that returns what it gets.
#[derive(Debug)]
pub(crate) struct Rig {
    queue: mpsc::Sender<Request<Payload, oneshot::Sender<Payload>>>,
    _nodes: (Node, Vec<Node>),
}

impl Rig {
    pub(crate) async fn start(settings: &Settings) -> Self {
        let (hub, peers) = star(settings, 1);
        let (near, far) = hub.dial(&peers[0]).await;
        let ((send, recv), (far_send, far_recv)) = stream(&near, &far).await;
        tokio::spawn(exchange::serve(far_send, far_recv, |body, out| out.extend_from_slice(body)));
        Self { queue: exchange::client(send, recv), _nodes: (hub, peers) }
    }

    /// Makes `iters` calls, `in_flight` at a time.
    pub(crate) async fn run(&self, in_flight: u64, iters: u64) -> Duration {
        let start = Instant::now();
        exchange::spread(in_flight, iters, |task, share| {
            let queue = self.queue.clone();
            async move {
                for call in 0..share {
                    echo(&queue, task, call).await;
                }
            }
        })
        .await;
        start.elapsed()
    }

    /// How long each of `iters` calls took, one at a time, in ascending order.
    pub(crate) async fn latencies(&self, iters: u64) -> Vec<Duration> {
        let queue = self.queue.clone();
        let caller = tokio::spawn(async move {
            let mut took = Vec::new();
            for call in 0..iters {
                let start = Instant::now();
                echo(&queue, 0, call).await;
                took.push(start.elapsed());
            }
            took.sort_unstable();
            took
        });
        caller.await.expect("caller")
    }
}

async fn echo(queue: &mpsc::Sender<Request<Payload, oneshot::Sender<Payload>>>, task: u64, call: u64) {
    let (done, reply) = oneshot::channel();
    let mut body = [0; 32];
    body[..8].copy_from_slice(&call.to_be_bytes());
    body[8..16].copy_from_slice(&task.to_be_bytes());
    queue.send(Request { body, done }).await.expect("writer");
    assert_eq!(reply.await.expect("reply"), body);
}
