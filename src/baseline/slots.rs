//! The identities of a client: each is used by one operation at a time.
//!
//! Two connections of one identity to one peer would be a pair with two connections, of which the peer
//! drains one. With an identity for each operation in flight no peer ever sees that.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ClientError;
use crate::id::NodeId;
use crate::identity::Identity;
use crate::node::Node;
use crate::runtime;
use crate::transport::tls::Tls;
use crate::transport::{Bind, Endpoint, Trust};
use crate::wire::Hello;

/// The identities of a client, on its one socket.
pub(super) struct Slots {
    users: Vec<User>,
    /// The last one to become idle is the next one taken: few publishers where few are in flight.
    idle: Mutex<Vec<usize>>,
    turns: Arc<Semaphore>,
    dials: AtomicU64,
}

struct User {
    id: NodeId,
    endpoint: Endpoint,
    hello: Hello,
}

/// An identity that is in use.
pub(super) struct Slot {
    slots: Arc<Slots>,
    user: usize,
    _turn: OwnedSemaphorePermit,
}

/// Binds the socket of a client and makes `count` identities for it.
pub(super) fn open(
    node: &Node,
    listen: SocketAddr,
    count: usize,
) -> Result<(Endpoint, Arc<Slots>), ClientError> {
    let tls = |identity: &Identity| Tls::new(identity, Trust::pinned(), None, &[]);
    let first = Identity::generate();
    let endpoint = Endpoint::bind(Bind {
        listen,
        identity: first.clone(),
        tls: tls(&first)?,
        realm: node.hello().realm.clone(),
        config: node.config().transport.clone(),
        #[cfg(feature = "test-util")]
        faults: None,
    })?;
    let mut users = vec![User { id: first.node_id(), endpoint: endpoint.clone(), hello: introduction(node) }];
    while users.len() < count {
        let identity = Identity::generate();
        let (id, tls) = (identity.node_id(), tls(&identity)?);
        users.push(User { id, endpoint: endpoint.under(identity, tls), hello: introduction(node) });
    }
    let idle = Mutex::new((0..users.len()).rev().collect());
    let turns = Arc::new(Semaphore::new(users.len()));
    Ok((endpoint, Arc::new(Slots { users, idle, turns, dials: AtomicU64::new(1) })))
}

/// What an identity says about itself: it serves nobody, and nobody can dial it.
fn introduction(node: &Node) -> Hello {
    Hello { boot: runtime::entropy(), endpoints: Vec::new(), serves: false, ..node.hello().clone() }
}

impl Slots {
    /// Waits for an idle identity, in the order of the calls.
    pub(super) async fn take(slots: &Arc<Self>) -> Slot {
        let turn = Arc::clone(&slots.turns).acquire_owned().await.expect("the semaphore is never closed");
        let user = slots.idle().pop().expect("there are as many turns as identities");
        Slot { slots: Arc::clone(slots), user, _turn: turn }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.users.iter().map(|user| user.id)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn user(&self) -> &User {
        &self.slots.users[self.user]
    }

    pub(super) fn publisher(&self) -> NodeId {
        self.user().id
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.user().endpoint
    }

    /// The HELLO of the next dial.
    pub(super) fn hello(&self) -> Hello {
        Hello { dial: self.slots.dials.fetch_add(1, Ordering::Relaxed), ..self.user().hello.clone() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.idle().push(self.user);
    }
}
