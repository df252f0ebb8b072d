//! `raw_ceiling`: batches of records over one stream, each decoded, kept and acknowledged.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{RecvStream, SendStream};

use super::Settings;
use super::frame::{self, CHUNKS, Splitter};
use super::node::{Node, star, stream};
use super::record::{Map, Source};

/// Records in a batch, which is one write of about 38 KiB.
pub(crate) const BATCH: u64 = 256;
/// Batches that may be unacknowledged.
pub(crate) const WINDOW: u64 = 16;

const BATCH_BYTES: usize = 40 * 1024;

/// A warm stream to a receiver of records.
#[derive(Debug)]
pub(crate) struct Rig {
    /// Here between runs.
    writer: Option<Writer>,
    _nodes: (Node, Vec<Node>),
}

impl Rig {
    pub(crate) async fn start(settings: &Settings) -> Self {
        let (hub, peers) = star(settings, 1);
        let (near, far) = hub.dial(&peers[0]).await;
        let ((send, recv), (far_send, far_recv)) = stream(&near, &far).await;
        tokio::spawn(receive(far_send, far_recv));
        let writer = Writer { source: Source::new(), send, acks: Acks::new(recv), sent: 0 };
        Self { writer: Some(writer), _nodes: (hub, peers) }
    }

    /// Moves `iters` batches and waits for the last acknowledgement.
    pub(crate) async fn run(&mut self, iters: u64) -> Duration {
        let writer = self.writer.take().expect("one run at a time");
        // On a worker, not on the thread that blocks for the result.
        let (writer, took) = tokio::spawn(writer.write(iters)).await.expect("writer");
        self.writer = Some(writer);
        took
    }
}

#[derive(Debug)]
struct Writer {
    source: Source,
    send: SendStream,
    acks: Acks,
    /// Batches.
    sent: u64,
}

impl Writer {
    async fn write(mut self, iters: u64) -> (Self, Duration) {
        let start = Instant::now();
        let end = self.sent + iters;
        while self.sent < end {
            self.acks.wait_for((self.sent + 1).saturating_sub(WINDOW)).await;
            let mut out = Vec::with_capacity(BATCH_BYTES);
            for seq in self.sent * BATCH..(self.sent + 1) * BATCH {
                frame::put(&mut out, 0, |out| self.source.encode(seq, out));
            }
            self.send.write_chunk(out.into()).await.expect("write");
            self.sent += 1;
        }
        self.acks.wait_for(end).await;
        (self, start.elapsed())
    }
}

/// Cumulative acknowledgements, as batches.
#[derive(Debug)]
struct Acks {
    recv: RecvStream,
    splitter: Splitter,
    batches: u64,
}

impl Acks {
    fn new(recv: RecvStream) -> Self {
        Self { recv, splitter: Splitter::default(), batches: 0 }
    }

    async fn wait_for(&mut self, batches: u64) {
        while self.batches < batches {
            let chunk = self.recv.read_chunk(usize::MAX, true).await.expect("read").expect("open");
            self.splitter.feed(&chunk.bytes, |_, body| {
                self.batches = u64::from_be_bytes(body.try_into().expect("a count"));
            });
        }
    }
}

async fn receive(mut send: SendStream, mut recv: RecvStream) {
    let mut map = Map::default();
    let mut splitter = Splitter::default();
    let (mut records, mut acked) = (0, 0);
    let mut chunks = [const { Bytes::new() }; CHUNKS];
    while let Ok(Some(count)) = recv.read_chunks(&mut chunks).await {
        for chunk in &mut chunks[..count] {
            splitter.feed(chunk, |_, body| {
                map.insert(body);
                records += 1;
            });
            *chunk = Bytes::new();
        }
        let batches: u64 = records / BATCH;
        if batches > acked {
            acked = batches;
            let mut ack = Vec::with_capacity(16);
            frame::put(&mut ack, 0, |out| out.extend_from_slice(&batches.to_be_bytes()));
            if send.write_all(&ack).await.is_err() {
                return;
            }
        }
    }
}
