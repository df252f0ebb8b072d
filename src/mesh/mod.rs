//! A mesh of nodes in one process, with faults at its seams.
//!
//! Every node is a real one, on a socket of its own on the loopback interface. Faults are asked for when
//! the mesh is made; without them the sockets are plain ones and cost nothing extra. The nodes follow
//! from one seed: a mesh made twice has the same identities.

use std::net::SocketAddr;
use std::time::Duration;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::addr::PeerAddr;
use crate::identity::Identity;
use crate::node::{Config, Node, SpawnError};
use crate::runtime;
use crate::transport::Trust;
use crate::transport::fault::Faults;

pub use crate::transport::fault::{Link, Tally};
pub use crate::transport::tls::RealmCa;

/// How long a restart waits for the port of the stopped node.
const PORT_FREE: Duration = Duration::from_secs(5);

/// Describes a mesh; [`spawn`](Self::spawn) starts it.
#[derive(Debug)]
#[must_use = "a mesh does not exist until it is spawned"]
pub struct MeshBuilder {
    nodes: usize,
    seed: u64,
    config: Config,
    faults: bool,
    trust: Trust,
    reach: fn(usize, usize) -> bool,
}

/// Nodes in one process that have joined one mesh.
///
/// Dropping it stops all of them at once.
#[derive(Debug)]
pub struct LocalMesh {
    nodes: Vec<Node>,
    seats: Vec<Seat>,
    config: Config,
    trust: Trust,
    seed: u64,
    /// Nodes started so far, restarts apart.
    started: u64,
    /// What identities and faults follow from.
    rng: ChaCha8Rng,
}

/// What a restarted node gets back.
#[derive(Debug)]
struct Seat {
    identity: Identity,
    addr: SocketAddr,
    faults: Option<Faults>,
}

impl LocalMesh {
    /// Describes a mesh of 5 nodes, with default settings, seed 42 and no faults.
    pub fn builder() -> MeshBuilder {
        MeshBuilder {
            nodes: 5,
            seed: 42,
            config: Config::default(),
            faults: false,
            trust: Trust::pinned(),
            reach: |_, _| true,
        }
    }

    /// How many nodes the mesh has, killed ones included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the mesh has no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Node `i`, in the order in which they joined.
    ///
    /// # Panics
    ///
    /// When there is no such node.
    pub fn node(&self, i: usize) -> &Node {
        &self.nodes[i]
    }

    /// All nodes, in the order in which they joined.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Silences node `i`: nothing leaves or reaches its socket any more, no close escapes, and what it
    /// holds is lost.
    ///
    /// # Panics
    ///
    /// When the mesh was made without faults.
    pub fn kill(&mut self, i: usize) {
        self.faults(i).silence();
    }

    /// Starts node `i` again after a [`kill`](Self::kill): same identity, same port, nothing held.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] when its port cannot be bound again.
    ///
    /// # Panics
    ///
    /// When the mesh was made without faults.
    pub async fn restart(&mut self, i: usize) -> Result<(), SpawnError> {
        let bootstrap =
            self.nodes.iter().enumerate().find(|(j, _)| *j != i).map(|(_, node)| node.peer_addr());
        self.revive(i, bootstrap).await
    }

    /// As [`restart`](Self::restart), but the node tells nobody: its peers must find out by themselves.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] when its port cannot be bound again.
    ///
    /// # Panics
    ///
    /// When the mesh was made without faults.
    pub async fn restart_unheard(&mut self, i: usize) -> Result<(), SpawnError> {
        self.revive(i, None).await
    }

    /// Silences node `i` for good, as [`kill`](Self::kill) does, and puts a new node in its place: another
    /// identity on another port, which knows one node that is alive, drawn by the seed, and joins through it.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] when the new node cannot be started; the place then keeps the silenced one.
    ///
    /// # Panics
    ///
    /// When the mesh was made without faults.
    pub async fn replace(&mut self, i: usize) -> Result<(), SpawnError> {
        self.faults(i).silence();
        self.nodes[i].abort();
        let alive: Vec<PeerAddr> =
            (0..self.len()).filter(|j| !self.is_killed(*j)).map(|j| self.nodes[j].peer_addr()).collect();
        let bootstrap = (!alive.is_empty()).then(|| alive[self.rng.random_range(0..alive.len())].clone());
        let (node, seat) = self.start(true, bootstrap, &[]).await?;
        (self.nodes[i], self.seats[i]) = (node, seat);
        Ok(())
    }

    /// Starts the next node that follows from the seed; it cannot send to `cut`.
    async fn start(
        &mut self,
        with_faults: bool,
        bootstrap: Option<PeerAddr>,
        cut: &[SocketAddr],
    ) -> Result<(Node, Seat), SpawnError> {
        let mut secret = [0; 32];
        self.rng.fill_bytes(&mut secret);
        let identity = Identity::from_seed(&secret);
        let faults = with_faults.then(|| Faults::new(ChaCha8Rng::seed_from_u64(self.rng.next_u64())));
        let mut builder = Node::builder()
            .identity(identity.clone())
            .trust(self.trust.clone())
            .config(self.config.clone())
            .seed(self.seed.wrapping_add(self.started))
            .bootstrap(bootstrap);
        if let Some(faults) = &faults {
            cut.iter().for_each(|addr| faults.cut(*addr));
            builder = builder.faults(faults.clone());
        }
        let node = builder.spawn().await?;
        self.started += 1;
        let addr = node.local_addr();
        Ok((node, Seat { identity, addr, faults }))
    }

    async fn revive(&mut self, i: usize, bootstrap: Option<PeerAddr>) -> Result<(), SpawnError> {
        self.faults(i).silence();
        let faults = Faults::new(ChaCha8Rng::seed_from_u64(runtime::entropy()));
        self.seats[i].faults = Some(faults.clone());
        self.nodes[i].stop_now().await;
        let seat = &self.seats[i];
        let builder = || {
            Node::builder()
                .identity(seat.identity.clone())
                .listen(seat.addr)
                .trust(self.trust.clone())
                .config(self.config.clone())
                .seed(self.seed.wrapping_add(i as u64))
                .faults(faults.clone())
        };
        // The place must not stay empty, and the port is taken until the last handle of the old node is gone
        // and quinn has noticed.
        let placeholder = Node::builder().listen(SocketAddr::new(seat.addr.ip(), 0)).spawn().await?;
        self.nodes[i] = placeholder;
        let deadline = runtime::now() + PORT_FREE;
        let node = loop {
            match builder().spawn().await {
                Err(SpawnError::Bind(_)) if runtime::now() < deadline => {
                    tokio::time::sleep_until((runtime::now() + Duration::from_millis(1)).into()).await;
                }
                node => break node?,
            }
        };
        self.nodes[i] = node;
        if let Some(address) = bootstrap
            && let Err(error) = self.nodes[i].join(&address).await
        {
            tracing::warn!(%address, %error, "bootstrap node not reached");
        }
        Ok(())
    }

    /// Nothing that `from` sends reaches `to` any more; the other direction is another cut.
    ///
    /// # Panics
    ///
    /// When the mesh was made without faults.
    pub fn cut(&self, from: usize, to: usize) {
        self.faults(from).cut(self.seats[to].addr);
    }

    /// Ends the cut from `from` to `to`.
    ///
    /// # Panics
    ///
    /// When the mesh was made without faults.
    pub fn heal(&self, from: usize, to: usize) {
        self.faults(from).heal(self.seats[to].addr);
    }

    /// What `from` sends to `to` takes `link` from now on.
    ///
    /// # Panics
    ///
    /// When the mesh was made without faults.
    pub fn set_link(&self, from: usize, to: usize, link: Link) {
        self.faults(from).set_link(self.seats[to].addr, link);
    }

    /// Everything that `from` sends to nodes without a link of their own takes `link` from now on.
    ///
    /// # Panics
    ///
    /// When the mesh was made without faults.
    pub fn set_links(&self, from: usize, link: Link) {
        self.faults(from).set_default_link(link);
    }

    /// Ends the silence of node `i` that [`kill`](Self::kill) began: it was only paused.
    ///
    /// # Panics
    ///
    /// When the mesh was made without faults.
    pub fn resume(&self, i: usize) {
        self.faults(i).unsilence();
    }

    /// Whether node `i` was killed and neither resumed nor restarted.
    pub fn is_killed(&self, i: usize) -> bool {
        self.seats[i].faults.as_ref().is_some_and(Faults::is_silent)
    }

    /// Ends every fault of what node `i` sends and receives.
    ///
    /// # Panics
    ///
    /// When the mesh was made without faults.
    pub fn clear_faults(&self, i: usize) {
        self.faults(i).clear();
    }

    /// What the faults of node `i` have done to its datagrams.
    ///
    /// # Panics
    ///
    /// When the mesh was made without faults.
    pub fn tally(&self, i: usize) -> Tally {
        self.faults(i).tally()
    }

    fn faults(&self, i: usize) -> &Faults {
        self.seats[i].faults.as_ref().expect("the mesh was made with faults")
    }

    /// Shuts every node down, one after another.
    pub async fn shutdown(self) {
        for node in &self.nodes {
            node.shutdown().await;
        }
    }
}

impl MeshBuilder {
    /// How many nodes; default 5.
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// Replicas per record; the same as [`Config::k`].
    pub fn k(mut self, k: usize) -> Self {
        self.config.k = k;
        self
    }

    /// What identities and chance follow from; default 42.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The settings of every node; replaces what was set before.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Makes faults possible.
    pub fn faults(mut self) -> Self {
        self.faults = true;
        self
    }

    /// Which nodes reach each other: node `a` and the later node `b` are cut off from each other, until
    /// that is healed, unless `reach(a, b)`. Makes faults possible.
    pub fn reach(mut self, reach: fn(usize, usize) -> bool) -> Self {
        self.reach = reach;
        self.faults()
    }

    /// Starts the nodes one after another; each joins through the first that it reaches.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] of the first node that could not be started.
    pub async fn spawn(self) -> Result<LocalMesh, SpawnError> {
        let mut mesh = LocalMesh {
            nodes: Vec::new(),
            seats: Vec::new(),
            config: self.config,
            trust: self.trust,
            seed: self.seed,
            started: 0,
            rng: ChaCha8Rng::seed_from_u64(self.seed),
        };
        for i in 0..self.nodes {
            let (near, far): (Vec<usize>, Vec<usize>) = (0..i).partition(|j| (self.reach)(*j, i));
            let bootstrap = near.first().map(|j| mesh.nodes[*j].peer_addr());
            let cut: Vec<_> = far.iter().map(|j| mesh.seats[*j].addr).collect();
            let (node, seat) = mesh.start(self.faults, bootstrap, &cut).await?;
            mesh.nodes.push(node);
            mesh.seats.push(seat);
            far.into_iter().for_each(|j| mesh.cut(j, i));
        }
        mesh.settle(self.reach).await;
        Ok(mesh)
    }
}

impl LocalMesh {
    /// Waits until every node knows every other that it reaches, or as many as a table of a big mesh takes.
    async fn settle(&self, reach: fn(usize, usize) -> bool) {
        let deadline = runtime::now() + Duration::from_secs(10);
        let near = |i: usize, j: usize| i != j && reach(i.min(j), i.max(j));
        let enough = |i| (0..self.len()).filter(|j| near(i, *j)).count().min(self.config.k.min(20));
        let enough: Vec<_> = (0..self.len()).map(enough).collect();
        loop {
            if self.nodes.iter().zip(&enough).all(|(node, enough)| node.stats().table_nodes >= *enough) {
                return;
            }
            if runtime::now() > deadline {
                tracing::warn!("the mesh did not settle in time");
                return;
            }
            tokio::time::sleep_until((runtime::now() + Duration::from_millis(2)).into()).await;
        }
    }
}
