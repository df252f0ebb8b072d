//! The engine's side of the calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foveola::mesh::LocalMesh;
use foveola::{Advertisement, Caller, HandlerError, Node, Request, Selection, baseline};

use super::{config, timed};

const ECHO: &str = "bench.echo";

async fn echo(request: Request) -> Result<Bytes, HandlerError> {
    Ok(request.args)
}

/// The n-th arguments of a task.
fn args(task: u64, call: u64) -> [u8; 32] {
    let mut args = [0; 32];
    args[..8].copy_from_slice(&call.to_be_bytes());
    args[8..16].copy_from_slice(&task.to_be_bytes());
    args
}

async fn called(caller: &Caller, task: u64, share: u64) {
    for call in 0..share {
        let args = args(task, call);
        let result = caller.call_raw(Bytes::copy_from_slice(&args)).await.expect("a result");
        assert_eq!(result, args[..]);
    }
}

/// Two nodes, one of which offers an echo that the other calls.
#[derive(Debug)]
pub(crate) struct Callers {
    mesh: LocalMesh,
    caller: Caller,
    own: Caller,
    _offers: [Advertisement; 2],
}

impl Callers {
    pub(crate) async fn start() -> Self {
        let mesh = LocalMesh::builder().nodes(2).config(config()).spawn().await.expect("a mesh");
        let provider = mesh.node(1).rpc().advertise_raw(ECHO, echo).await.expect("an offer");
        let own = mesh.node(0).rpc().advertise_raw("bench.own", echo).await.expect("an offer");
        let caller = mesh.node(0).rpc().caller(ECHO).expect("a name");
        assert_eq!(caller.call_raw("warm").await.expect("a result"), "warm");
        let local = mesh.node(0).rpc().caller("bench.own").expect("a name");
        Self { mesh, caller, own: local, _offers: [provider, own] }
    }

    /// Makes `iters` calls, `in_flight` at a time.
    pub(crate) async fn call(&self, in_flight: u64, iters: u64) -> Duration {
        timed(in_flight, iters, |task, share| {
            let caller = self.caller.clone();
            async move { called(&caller, task, share).await }
        })
        .await
    }

    /// Makes `iters` calls of the node to itself, one at a time.
    pub(crate) async fn local(&self, iters: u64) -> Duration {
        timed(1, iters, |task, share| {
            let caller = self.own.clone();
            async move { called(&caller, task, share).await }
        })
        .await
    }

    pub(crate) fn client(&self, arm: baseline::Arm) -> baseline::Client {
        baseline::Client::new(self.mesh.node(0), arm).expect("a socket")
    }

    /// Makes `iters` calls the way `client` does, `in_flight` at a time.
    pub(crate) async fn baseline(
        &self,
        client: &Arc<baseline::Client>,
        in_flight: u64,
        iters: u64,
    ) -> Duration {
        let provider = self.mesh.node(1).id();
        timed(in_flight, iters, |task, share| {
            let client = Arc::clone(client);
            async move {
                for call in 0..share {
                    let args = args(task, call);
                    let result = client.call(provider, ECHO, &args).await.expect("taken");
                    assert!(result.is_none_or(|result| result == args[..]));
                }
            }
        })
        .await
    }
}

/// A mesh of 64 nodes, one of which offers a service.
#[derive(Debug)]
pub(crate) struct Discoverers {
    mesh: LocalMesh,
    _offer: Advertisement,
}

impl Discoverers {
    pub(crate) async fn start() -> Self {
        let mesh = LocalMesh::builder().nodes(64).k(8).config(config()).spawn().await.expect("a mesh");
        let offer = mesh.node(1).rpc().advertise_raw(ECHO, echo).await.expect("an offer");
        Self { mesh, _offer: offer }
    }

    fn node(&self) -> Node {
        self.mesh.node(0).clone()
    }

    /// Asks `iters` times who offers the service, which is remembered.
    pub(crate) async fn hit(&self, iters: u64) -> Duration {
        self.find(iters, false).await
    }

    /// Asks the DHT `iters` times who offers the service.
    pub(crate) async fn miss(&self, iters: u64) -> Duration {
        self.find(iters, true).await
    }

    async fn find(&self, iters: u64, fresh: bool) -> Duration {
        timed(1, iters, |_, share| {
            let node = self.node();
            async move {
                for _ in 0..share {
                    let found = node.rpc().find_providers(ECHO);
                    let found = if fresh { found.fresh().await } else { found.await };
                    assert_eq!(found.expect("an answer").len(), 1);
                }
            }
        })
        .await
    }
}

/// Three nodes that offer a service to a fourth.
#[derive(Debug)]
pub(crate) struct Survivors {
    mesh: LocalMesh,
    _offers: Vec<Advertisement>,
}

impl Survivors {
    pub(crate) async fn start() -> Self {
        let mesh = LocalMesh::builder().nodes(4).config(config()).spawn().await.expect("a mesh");
        let mut offers = Vec::new();
        for node in &mesh.nodes()[1..] {
            offers.push(node.rpc().advertise_raw(ECHO, echo).await.expect("an offer"));
        }
        Self { mesh, _offers: offers }
    }

    /// Makes `iters` calls, one at a time.
    pub(crate) async fn call(&self, iters: u64) -> Duration {
        let caller = self.mesh.node(0).rpc().caller(ECHO).expect("a name");
        timed(1, iters, |task, share| {
            let caller = caller.clone();
            async move { called(&caller, task, share).await }
        })
        .await
    }

    /// Makes `iters` calls whose first provider does not offer the service any more.
    pub(crate) async fn call_past_one_gone(&self, iters: u64) -> Duration {
        let node = self.mesh.node(0);
        let mut took = Duration::ZERO;
        for call in 0..iters {
            let gone = self.mesh.node(1).rpc().advertise_raw("bench.gone", echo).await.expect("an offer");
            let kept = self.mesh.node(2).rpc().advertise_raw("bench.gone", echo).await.expect("an offer");
            let caller = node.rpc().caller("bench.gone").expect("a name").selection(Selection::First);
            node.rpc().clear();
            assert_eq!(node.rpc().find_providers("bench.gone").await.expect("an answer").len(), 2);
            let first = node.rpc().find_providers("bench.gone").await.expect("an answer")[0].id;
            let (first, other) = if first == self.mesh.node(1).id() { (gone, kept) } else { (kept, gone) };
            first.withdraw().await.expect("a removal");
            let args = args(0, call);
            let start = Instant::now();
            let result = caller.call_raw(Bytes::copy_from_slice(&args)).await.expect("the other one answers");
            assert_eq!(result, args[..]);
            took += start.elapsed();
            other.withdraw().await.expect("a removal");
        }
        took
    }
}
