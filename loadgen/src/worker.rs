//! The worker: takes an operation, does it, writes down when. There is one; what differs between the
//! load models is where its operations come from ([`Feed`]).

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::audit::Sample;
use crate::board::{Board, Slot};
use crate::errors::{Failure, Kind};
use crate::pacer::Due;
use crate::plan::Workload;
use crate::record::{Acks, Edges, Moved, Recorder, Tally, Timeline};
use crate::target::{Proof, Target};
use crate::workload::Data;

/// What the workers of a phase share; none of it is locked while they run.
pub struct Shared {
    pub target: Target,
    pub data: Arc<Data>,
    pub workload: Workload,
    pub batch: u64,
    pub seed: u64,
    /// Records that the audit will check.
    pub audit: usize,
    pub timeline: Timeline,
    pub board: Arc<Board>,
}

/// Where operations come from.
pub enum Feed {
    /// The next when the last has ended: every `step`-th from `next`, until `end` or the deadline.
    Closed { next: u64, step: u64, end: u64, deadline: Option<Instant> },
    /// When they are due.
    Paced(mpsc::Receiver<Due>),
}

impl Feed {
    /// The next operation and when it should have started; `now` is the end of the last one.
    async fn next(&mut self, now: Instant, board: &Board) -> Option<(u64, Option<Instant>)> {
        match self {
            Self::Closed { next, step, end, deadline } => {
                if *next >= *end || deadline.is_some_and(|deadline| now >= deadline) || board.is_stopped() {
                    return None;
                }
                let i = *next;
                *next += *step;
                Some((i, None))
            }
            Self::Paced(queue) => queue.recv().await.map(|due| (due.i, Some(due.at))),
        }
    }

    /// How many operations were handed over and not begun.
    fn left(&mut self) -> u64 {
        match self {
            Self::Closed { .. } => 0,
            Self::Paced(queue) => {
                queue.close();
                std::iter::from_fn(|| queue.try_recv().ok()).count() as u64
            }
        }
    }
}

/// Why a phase no longer waits for open operations: the kind that they fail with.
pub type Cut = oneshot::Receiver<Kind>;

/// Works until the feed ends or the cut comes. Returns the notes, and how many operations were handed
/// over and never begun.
pub async fn run(shared: Arc<Shared>, place: usize, mut feed: Feed, mut cut: Cut) -> (Tally, u64) {
    let mut recorder = Recorder::new(&shared.timeline, Sample::new(shared.seed, shared.audit));
    let mut open = None;
    let slot = &shared.board.slots[place];
    let kind = {
        let work = work(&shared, slot, &mut feed, &mut recorder, &mut open);
        tokio::select! {
            biased;
            () = work => None,
            kind = &mut cut => Some(kind.unwrap_or(Kind::Cancelled)),
        }
    };
    if let (Some(kind), Some((intended, started))) = (kind, open) {
        let edges = Edges { intended, started, ended: Instant::now() };
        recorder.failed(&edges, Failure::new(kind, "still open when the run ended"));
        slot.end(false);
    }
    (recorder.finish(), feed.left())
}

/// The hot loop: one clock read for each operation of a closed loop, two in an open one.
async fn work(
    shared: &Shared,
    slot: &Slot,
    feed: &mut Feed,
    recorder: &mut Recorder<'_>,
    open: &mut Option<(Option<Instant>, Instant)>,
) {
    let mut now = Instant::now();
    while let Some((i, intended)) = feed.next(now, &shared.board).await {
        let started = if intended.is_some() { Instant::now() } else { now };
        *open = Some((intended, started));
        slot.start();
        let outcome = perform(shared, i, recorder.sample()).await;
        now = Instant::now();
        let edges = Edges { intended, started, ended: now };
        slot.end(outcome.is_ok());
        match outcome {
            Ok(moved) => recorder.succeeded(&edges, moved),
            Err(failure) => recorder.failed(&edges, failure),
        }
        *open = None;
    }
}

async fn perform(shared: &Shared, i: u64, sample: &mut Sample) -> Result<Moved, Failure> {
    let data = &shared.data;
    let items = i * shared.batch..(i + 1) * shared.batch;
    match shared.workload {
        Workload::Store => {
            let value = data.value(i);
            let bytes_out = value.len() as u64;
            let proof = shared.target.store(data.key(i), value).await?;
            let (acks, handshakes) = (Acks::of([proof.acks()]), proof.handshakes());
            sample.offer(i, proof);
            Ok(Moved { records: 1, acks, handshakes, bytes_out, bytes_in: 0 })
        }
        Workload::StoreMany => {
            let batch: Vec<_> = items.clone().map(|n| (data.key(n), data.value(n))).collect();
            let bytes_out = batch.iter().map(|(_, value)| value.len() as u64).sum();
            let proofs = shared.target.store_many(batch).await?;
            let records = proofs.len() as u64;
            let (acks, handshakes) =
                (Acks::of(proofs.iter().map(Proof::acks)), proofs.iter().map(Proof::handshakes).sum());
            items.zip(proofs).for_each(|(n, proof)| sample.offer(n, proof));
            Ok(Moved { records, acks, handshakes, bytes_out, bytes_in: 0 })
        }
        Workload::Find => {
            let reader = shared.target.reader(i);
            let key = data.key_for(i, |key| shared.target.is_remote(reader, key));
            let value = shared.target.find(reader, key).await?;
            read(data, &[value])
        }
        Workload::FindMany => {
            let reader = shared.target.reader(i);
            let keys = items.map(|n| data.key_for(n, |key| shared.target.is_remote(reader, key)));
            let values = shared.target.find_many(reader, keys.collect()).await?;
            read(data, &values)
        }
        Workload::Rpc => {
            let args = data.numbered(i);
            let bytes = args.len() as u64;
            shared.target.call(i, args).await?;
            Ok(Moved { bytes_out: bytes, bytes_in: bytes, ..Moved::default() })
        }
        Workload::Discovery => shared.target.discover(i).await.map(|()| Moved::default()),
        Workload::Advertise => shared.target.advertise(i).await.map(|()| Moved::default()),
        Workload::Connect => {
            shared.target.connect(i).await?;
            Ok(Moved { handshakes: 1, ..Moved::default() })
        }
    }
}

/// A value that this run did not write is a failure, however fast it came.
fn read(data: &Data, values: &[bytes::Bytes]) -> Result<Moved, Failure> {
    if values.iter().any(|value| !data.wrote(value)) {
        return Err(Failure::new(Kind::Remote, "a value that this run did not write"));
    }
    let bytes_in = values.iter().map(|value| value.len() as u64).sum();
    Ok(Moved { records: values.len() as u64, bytes_in, ..Moved::default() })
}
