//! The old path, for comparison: a connection of its own for every message.
//!
//! The wire, TLS with its checks, HELLO and the replicas are those of the pooled path; only what is done
//! with connections differs. [`Arm::Legacy`] is the predecessor: it opens a connection, writes one message,
//! sleeps, closes, and goes on to the next replica, one store at a time. [`Arm::Fresh`] is the best that
//! can be had without keeping connections: all replicas at once, closed as soon as the reply is there.
//!
//! A node keeps one connection to a peer and drains every other one of the pair. So that short
//! connections neither disturb the pool nor each other, the client has identities of its own, which
//! serve nobody: one for each operation in flight, all on one socket.

mod error;
mod exchange;
mod slots;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

pub use error::{ClientError, MessageError};

use crate::id::{Key, NodeId};
use crate::node::Node;
use crate::runtime::Tasks;
use crate::transport::{CloseCode, Endpoint};
use exchange::Order;
use slots::{Slot, Slots};

/// Operations that a [`Arm::Fresh`] client has in flight at most; others wait their turn. The replicas of
/// a default pool have room for them beside their own connections.
pub const IN_FLIGHT_MAX: usize = 64;
/// How long an [`Arm::Legacy`] client keeps each connection open after it has written the STORE.
pub const LEGACY_PAUSE: Duration = Duration::from_millis(100);

/// What is done with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arm {
    /// A connection per replica, one after another; each is closed [`LEGACY_PAUSE`] after the STORE was
    /// written, whether or not a reply has come. One store at a time.
    Legacy,
    /// A connection per replica, all at once; each is closed when the reply has come. Up to
    /// [`IN_FLIGHT_MAX`] stores at a time.
    Fresh,
}

/// Stores records on behalf of a node without its pool.
///
/// The nodes it stores on are those that the node would choose, at the addresses that the node knows. It
/// dials addresses that are IP addresses, and peers that admit every node
/// ([`Trust::pinned`](crate::Trust::pinned)).
///
/// Dropping it ends what is in flight.
pub struct Client {
    node: Node,
    arm: Arm,
    endpoint: Endpoint,
    slots: Arc<Slots>,
    tasks: Tasks,
    seq: AtomicU64,
}

/// What became of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Under which identity the record was published: another one for each store in flight.
    pub publisher: NodeId,
    /// The sequence number that the record was given.
    pub seq: u64,
    /// The replicas that have acknowledged ([`Arm::Fresh`]), or that the record was written to
    /// ([`Arm::Legacy`], which does not wait to be told).
    pub replicas: Vec<NodeId>,
    /// Connections that were made for it.
    pub handshakes: u32,
}

impl Client {
    /// A client that knows the peers that `node` knows, on a socket of its own.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when the socket or the certificates could not be had.
    pub fn new(node: &Node, arm: Arm) -> Result<Self, ClientError> {
        let count = match arm {
            Arm::Legacy => 1,
            Arm::Fresh => IN_FLIGHT_MAX,
        };
        let listen = SocketAddr::new(node.local_addr().ip(), 0);
        let (endpoint, slots) = slots::open(node, listen, count)?;
        let (tasks, seq) = (Tasks::new(), AtomicU64::new(1));
        Ok(Self { node: node.clone(), arm, endpoint, slots, tasks, seq })
    }

    /// The identities under which records are published.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.slots.ids()
    }

    /// Stores `value` under `key` on every node that should hold it.
    ///
    /// # Errors
    ///
    /// [`MessageError`] of the first replica that failed; the others may hold the record.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have stored the record; what is in flight goes on until it ends or times out.
    pub async fn store(&self, key: Key, value: impl Into<Bytes>) -> Result<Receipt, MessageError> {
        let value = value.into();
        let slot = Arc::new(Slots::take(&self.slots).await);
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        let frame = exchange::frame(slot.publisher(), key, seq, self.node.config().ttl, &value)?;
        let replicas = self.node.replicas(&key);
        if replicas.is_empty() {
            return Err(MessageError::NoReplicas);
        }
        match self.arm {
            Arm::Legacy => {
                for replica in &replicas {
                    self.order(&slot, *replica)?.leave(frame.clone()).await?;
                }
            }
            Arm::Fresh => self.store_at_once(&slot, &replicas, &frame).await?,
        }
        let handshakes = u32::try_from(replicas.len()).unwrap_or(u32::MAX);
        Ok(Receipt { publisher: slot.publisher(), seq, replicas, handshakes })
    }

    /// Calls `service` of `provider` with `args`; the result is there only of [`Arm::Fresh`], since
    /// [`Arm::Legacy`] does not wait for one.
    ///
    /// # Errors
    ///
    /// [`MessageError`] when the call was not made, or has no result.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have made the call.
    pub async fn call(
        &self,
        provider: NodeId,
        service: &str,
        args: &[u8],
    ) -> Result<Option<Bytes>, MessageError> {
        let slot = Arc::new(Slots::take(&self.slots).await);
        let id = self.seq.fetch_add(1, Ordering::Relaxed);
        let order = self.order(&slot, provider)?;
        let frame = exchange::call_frame(service, args, id, self.node.config().request_timeout)?;
        match self.arm {
            Arm::Legacy => order.leave(frame).await.map(|()| None),
            Arm::Fresh => order.exchange(frame, exchange::answered).await.map(Some),
        }
    }

    /// Opens a verified connection to `peer`, both sides having accepted HELLO, and closes it.
    ///
    /// # Errors
    ///
    /// [`MessageError`] when there is no connection to be had.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future abandons the attempt.
    pub async fn dial(&self, peer: NodeId) -> Result<(), MessageError> {
        let slot = Arc::new(Slots::take(&self.slots).await);
        let ready = self.order(&slot, peer)?.dial().await?;
        ready.intro.connection.close(CloseCode::Shutdown);
        Ok(())
    }

    /// Each replica has a task, so that both sides of a many-core machine are busy as in the pooled path.
    async fn store_at_once(
        &self,
        slot: &Arc<Slot>,
        replicas: &[NodeId],
        frame: &Bytes,
    ) -> Result<(), MessageError> {
        let (done, mut results) = mpsc::channel(replicas.len());
        for replica in replicas {
            let (order, frame, done) = (self.order(slot, *replica)?, frame.clone(), done.clone());
            self.tasks.spawn(async move {
                let _ = done.send(order.exchange(frame, exchange::stored).await).await;
            });
        }
        drop(done);
        let mut outcome = Ok(());
        let mut ended = 0;
        while let Some(result) = results.recv().await {
            ended += 1;
            outcome = outcome.and(result);
        }
        if ended < replicas.len() { outcome.and(Err(MessageError::Shutdown)) } else { outcome }
    }

    fn order(&self, slot: &Arc<Slot>, peer: NodeId) -> Result<Order, MessageError> {
        let addresses = self.node.addresses(&peer);
        let remote = addresses.iter().find_map(crate::addr::Endpoint::socket_addr);
        let remote = remote.ok_or(MessageError::NoAddress(peer))?;
        Ok(Order { slot: Arc::clone(slot), peer, remote, patience: self.node.config().request_timeout })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.tasks.abort();
        self.endpoint.close(CloseCode::Shutdown);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("arm", &self.arm).finish_non_exhaustive()
    }
}
