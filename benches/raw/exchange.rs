//! Requests and replies on one stream, matched by id: any number of callers, one queue, one writer
//! that drains it before it writes, one reader that wakes the callers.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::sync::mpsc;

use super::frame::{self, CHUNKS, Splitter};

/// Requests that may wait in the queue.
const QUEUE: usize = 1_024;

/// The body of a request.
pub(crate) trait Encode: Send + 'static {
    fn encode(&self, out: &mut Vec<u8>);
}

impl Encode for Bytes {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

/// Who waits for the reply.
pub(crate) trait Done: Send + 'static {
    /// What is kept of a reply.
    type Reply: Send;

    fn keep(body: &[u8]) -> Self::Reply;

    fn done(self, reply: Self::Reply);
}

/// What is put into the queue.
#[derive(Debug)]
pub(crate) struct Request<B, D> {
    pub(crate) body: B,
    pub(crate) done: D,
}

/// Those who wait, by id; ids are used again.
#[derive(Debug)]
struct Pending<D> {
    slots: Vec<Option<D>>,
    free: Vec<u32>,
}

impl<D> Pending<D> {
    fn insert(&mut self, done: D) -> u32 {
        if let Some(id) = self.free.pop() {
            self.slots[id as usize] = Some(done);
            return id;
        }
        self.slots.push(Some(done));
        u32::try_from(self.slots.len() - 1).expect("few are pending")
    }

    fn remove(&mut self, id: u32) -> Option<D> {
        let done = self.slots.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(done)
    }
}

/// The asking end of a stream: the queue of its writer.
pub(crate) fn client<B: Encode, D: Done>(send: SendStream, recv: RecvStream) -> mpsc::Sender<Request<B, D>> {
    let (queue, requests) = mpsc::channel(QUEUE);
    let pending = Arc::new(Mutex::new(Pending { slots: Vec::new(), free: Vec::new() }));
    tokio::spawn(write(send, requests, pending.clone()));
    tokio::spawn(read(recv, pending));
    queue
}

async fn write<B: Encode, D: Done>(
    mut send: SendStream,
    mut requests: mpsc::Receiver<Request<B, D>>,
    pending: Arc<Mutex<Pending<D>>>,
) {
    let mut batch = Vec::with_capacity(QUEUE);
    let mut room = 256;
    while requests.recv_many(&mut batch, QUEUE).await > 0 {
        // The first request wakes this task before the other callers have run: let them.
        tokio::task::yield_now().await;
        while batch.len() < QUEUE
            && let Ok(request) = requests.try_recv()
        {
            batch.push(request);
        }
        let mut out = Vec::with_capacity(room);
        {
            let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
            for request in batch.drain(..) {
                let id = pending.insert(request.done);
                frame::put(&mut out, id, |out| request.body.encode(out));
            }
        }
        room = room.max(out.len());
        if send.write_chunk(out.into()).await.is_err() {
            return;
        }
    }
}

async fn read<D: Done>(mut recv: RecvStream, pending: Arc<Mutex<Pending<D>>>) {
    let mut splitter = Splitter::default();
    let mut chunks = [const { Bytes::new() }; CHUNKS];
    let mut done = Vec::new();
    while let Ok(Some(count)) = recv.read_chunks(&mut chunks).await {
        {
            let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
            for chunk in &mut chunks[..count] {
                splitter.feed(chunk, |id, body| {
                    done.push((pending.remove(id).expect("a reply to a request"), D::keep(body)));
                });
                *chunk = Bytes::new();
            }
        }
        // Waking is slow enough that the writer must not wait for it.
        for (waiting, reply) in done.drain(..) {
            waiting.done(reply);
        }
    }
}

/// The answering end of a stream: `answer` gets a body and appends the body of its reply.
pub(crate) async fn serve(
    mut send: SendStream,
    mut recv: RecvStream,
    mut answer: impl FnMut(&[u8], &mut Vec<u8>),
) {
    let mut splitter = Splitter::default();
    let mut chunks = [const { Bytes::new() }; CHUNKS];
    while let Ok(Some(count)) = recv.read_chunks(&mut chunks).await {
        let mut out = Vec::new();
        for chunk in &mut chunks[..count] {
            splitter.feed(chunk, |id, body| frame::put(&mut out, id, |out| answer(body, out)));
            *chunk = Bytes::new();
        }
        if !out.is_empty() && send.write_chunk(out.into()).await.is_err() {
            return;
        }
    }
}

/// Runs `iters` calls on `tasks` tasks, each of which makes its next call when the last one is done.
pub(crate) async fn spread<F>(tasks: u64, iters: u64, mut caller: impl FnMut(u64, u64) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let callers: Vec<_> = (0..tasks)
        .map(|task| {
            let share = iters / tasks + u64::from(task < iters % tasks);
            tokio::spawn(caller(task, share))
        })
        .collect();
    for caller in callers {
        caller.await.expect("caller");
    }
}
