//! The router: takes what peers ask to the service that answers it.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};

use bytes::BytesMut;

use super::dht::DhtService;
use super::path::PathService;
use super::rpc::RpcService;
use crate::id::NodeId;
use crate::pool::{Inbound, Later, Violation};
use crate::wire::{self, Header, Hello, Kind};

/// Dispatches inbound requests; holds the services weakly, because they hold the pool.
#[derive(Debug, Default)]
pub(crate) struct Router {
    dht: OnceLock<Weak<DhtService>>,
    path: OnceLock<Weak<PathService>>,
    rpc: OnceLock<Weak<RpcService>>,
}

impl Router {
    /// Connects the services, once.
    pub(crate) fn connect(&self, dht: &Arc<DhtService>, path: &Arc<PathService>, rpc: &Arc<RpcService>) {
        let _ = self.dht.set(Arc::downgrade(dht));
        let _ = self.path.set(Arc::downgrade(path));
        let _ = self.rpc.set(Arc::downgrade(rpc));
    }

    fn rpc(&self) -> Option<Arc<RpcService>> {
        self.rpc.get().and_then(Weak::upgrade)
    }

    fn path(&self) -> Option<Arc<PathService>> {
        self.path.get().and_then(Weak::upgrade)
    }

    fn dht(&self) -> Option<Arc<DhtService>> {
        self.dht.get().and_then(Weak::upgrade)
    }
}

impl Inbound for Router {
    fn request(
        &self,
        from: &NodeId,
        header: &Header,
        body: &[u8],
        out: &mut BytesMut,
        later: &mut Later,
    ) -> Result<(), Violation> {
        let kind = Kind::from_u8(header.kind);
        if kind == Some(Kind::Route)
            && let Some(path) = self.path()
        {
            return path.received(self, from, header.id, body, out, later);
        }
        if kind == Some(Kind::Call)
            && let Some(rpc) = self.rpc()
        {
            return rpc.answer_call(from, header, body, out, later);
        }
        let Some(dht) = self.dht().filter(|dht| dht.serves()) else {
            wire::encode_unsupported(header.id, out);
            return Ok(());
        };
        match kind {
            Some(Kind::Store) => dht.answer_store(from, header.id, body, out, later),
            Some(Kind::FindValue) => dht.answer_find(header.id, body, out),
            Some(Kind::FindNode) => dht.answer_find_node(from, header.id, body, out),
            _ => {
                wire::encode_unsupported(header.id, out);
                Ok(())
            }
        }
    }

    fn connected(&self, peer: &NodeId, hello: &Hello, remote: SocketAddr) {
        if let Some(path) = self.path() {
            path.connected(peer);
        }
        if let Some(dht) = self.dht() {
            dht.connected(peer, hello, remote);
        }
    }

    fn left(&self, peer: &NodeId) {
        if let Some(dht) = self.dht() {
            dht.left(peer);
        }
    }

    fn unreachable(&self, peer: &NodeId) {
        if let Some(dht) = self.dht() {
            dht.unreachable(peer);
        }
    }
}
