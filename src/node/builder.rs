//! Where all wires are soldered: a node is put together here and nowhere else.

use std::net::SocketAddr;
#[cfg(feature = "persist")]
use std::path::PathBuf;
use std::sync::Arc;
#[cfg(feature = "persist")]
use std::time::Duration;

use super::config::{Config, ConfigError, GRANTS};
use super::{Inner, Node};
use crate::addr::{Endpoint as Address, PeerAddr};
use crate::dht::record::RealmId;
use crate::id::Key;
#[cfg(feature = "persist")]
use crate::id::NodeId;
use crate::identity::Identity;
#[cfg(feature = "persist")]
use crate::persist::{self, DATA_BYTES_MAX, PersistError};
use crate::pool::{Parts, Pool};
use crate::runtime::{self, Tasks};
use crate::service::Router;
use crate::service::dht::{DhtConfig, DhtService};
use crate::service::path::PathService;
use crate::service::rpc::{Below, RpcService};
use crate::transport::tls::{Tls, TlsError};
use crate::transport::{Bind, BindError, Endpoint, PublicCertificate, Trust};
use crate::wire::{ENDPOINTS_MAX, Hello, REALM_MAX};

/// The protocol versions that a node offers.
const VERSIONS: (u16, u16) = (1, 1);

/// Puts a node together; [`spawn`](Self::spawn) starts it.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is spawned"]
pub struct Builder {
    identity: Identity,
    realm: String,
    listen: SocketAddr,
    advertise: Vec<Address>,
    bootstrap: Vec<PeerAddr>,
    serves: bool,
    trust: Trust,
    public: Option<PublicCertificate>,
    extra_roots: Vec<Vec<u8>>,
    config: Config,
    seed: Option<u64>,
    #[cfg(feature = "persist")]
    data: Data,
    #[cfg(feature = "test-util")]
    faults: Option<crate::transport::fault::Faults>,
}

/// Where the node keeps what survives a restart.
#[cfg(feature = "persist")]
#[derive(Debug)]
struct Data {
    dir: Option<PathBuf>,
    bytes_max: u64,
}

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The settings cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The realm is longer than [`REALM_MAX`] bytes.
    #[error("the realm is longer than {REALM_MAX} bytes")]
    Realm,
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The socket could not be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The data directory cannot be used; nothing in it was changed.
    #[cfg(feature = "persist")]
    #[error(transparent)]
    Persist(#[from] PersistError),
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            identity: Identity::generate(),
            realm: String::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: Vec::new(),
            bootstrap: Vec::new(),
            serves: true,
            trust: Trust::pinned(),
            public: None,
            extra_roots: Vec::new(),
            config: Config::default(),
            seed: None,
            #[cfg(feature = "persist")]
            data: Data { dir: None, bytes_max: DATA_BYTES_MAX },
            #[cfg(feature = "test-util")]
            faults: None,
        }
    }

    /// Who the node is; by default a new identity that is gone with the process.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// The mesh it belongs to; nodes of other realms are refused. By default the empty name.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.realm = realm.into();
        self
    }

    /// The UDP address to listen on; by default a free port of `127.0.0.1`.
    pub fn listen(mut self, listen: SocketAddr) -> Self {
        self.listen = listen;
        self
    }

    /// The addresses under which others reach the node; by default the one it listens on, unless that
    /// is the unspecified address. At most [`ENDPOINTS_MAX`] are told to others.
    pub fn advertise(mut self, endpoints: impl IntoIterator<Item = Address>) -> Self {
        self.advertise = endpoints.into_iter().collect();
        self
    }

    /// The nodes through which it joins the mesh.
    pub fn bootstrap(mut self, peers: impl IntoIterator<Item = PeerAddr>) -> Self {
        self.bootstrap = peers.into_iter().collect();
        self
    }

    /// Whether the node holds records for others, which is the default. One that does not enters nobody's
    /// routing table.
    pub fn serves(mut self, serves: bool) -> Self {
        self.serves = serves;
        self
    }

    /// Whom it believes; by default everybody who proves the node id that was dialed.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// The certificate of a public authority for dials to this node's DNS name.
    pub fn public_certificate(mut self, certificate: PublicCertificate) -> Self {
        self.public = Some(certificate);
        self
    }

    /// Authorities (DER) believed on dials to `public:` addresses beside those of the web.
    pub fn extra_roots(mut self, roots: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.extra_roots = roots.into_iter().collect();
        self
    }

    /// All other settings.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Makes what chance decides (jitter, hash seeds) follow from `seed`; by default it differs per run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Keeps records held for others, own publications and contacts in this directory, which is made if
    /// it is missing, so that a restart finds them again. By default they are in memory only.
    ///
    /// The node then acknowledges a record once it is on disk, and its replicas' receipts say so
    /// ([`Receipt::durable`](crate::Receipt::durable)). The directory belongs to one identity and to one
    /// running node; another one may use it once [`Node::shutdown`] has returned. The file in it is read
    /// and verified whole at the start.
    #[cfg(feature = "persist")]
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data.dir = Some(dir.into());
        self
    }

    /// How large the file in the data directory may grow, in bytes; by default [`DATA_BYTES_MAX`]. It
    /// needs two to three times what the node holds. When it is full, the node goes on in memory but
    /// acknowledges nothing that it cannot keep.
    #[cfg(feature = "persist")]
    pub fn data_bytes_max(mut self, bytes: u64) -> Self {
        self.data.bytes_max = bytes;
        self
    }

    #[cfg(feature = "test-util")]
    pub(crate) fn faults(mut self, faults: crate::transport::fault::Faults) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Binds the socket, starts the node, and returns once every bootstrap address was tried. A node that
    /// has a data directory then also tries the peers it knew, if it has reached nobody.
    ///
    /// A bootstrap node that does not answer is no error: as long as the node knows nobody, it tries again
    /// ([`UpkeepConfig`](crate::dht::upkeep::UpkeepConfig)).
    ///
    /// # Errors
    ///
    /// [`SpawnError`] when the settings, the certificates or the socket will not do.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the node.
    pub async fn spawn(self) -> Result<Node, SpawnError> {
        let node = self.start()?;
        node.inner.dht.settle().await;
        Ok(node)
    }

    fn start(self) -> Result<Node, SpawnError> {
        self.config.check()?;
        if self.realm.len() > REALM_MAX {
            return Err(SpawnError::Realm);
        }
        let local = self.identity.node_id();
        #[cfg(feature = "persist")]
        let opened = self.data.open(local)?;
        let tls = Tls::new(&self.identity, self.trust, self.public, &self.extra_roots)?;
        let endpoint = Endpoint::bind(Bind {
            listen: self.listen,
            identity: self.identity.clone(),
            tls,
            realm: self.realm.clone(),
            config: self.config.transport.clone(),
            #[cfg(feature = "test-util")]
            faults: self.faults,
        })?;
        let bound = endpoint.local_addr().unwrap_or(self.listen);
        let seed = self.seed.unwrap_or_else(runtime::entropy);
        let signed_for = RealmId::of(&self.realm);
        let listens: Vec<String> =
            advertised(self.advertise, bound).iter().map(ToString::to_string).collect();
        let realm = Key::of_name(&self.realm);
        let hello = introduction(self.realm, listens.clone(), self.serves);
        let tasks = Tasks::new();
        let router = Arc::new(Router::default());
        let pool = Pool::start(Parts {
            local,
            endpoint: endpoint.clone(),
            transport: self.config.transport.clone(),
            hello,
            config: self.config.pool.clone(),
            tasks: tasks.clone(),
            inbound: Arc::<Router>::clone(&router),
            seed,
        });
        let dht = dht_config(&self.config, self.identity.clone(), signed_for, self.serves, self.bootstrap);
        let mut relay = self.config.relay.clone();
        relay.enabled &= self.serves;
        let path = PathService::new(self.identity.clone(), realm, pool.clone(), tasks.clone(), relay);
        let dht = DhtService::new(local, pool.clone(), Arc::clone(&path), tasks.clone(), dht, seed);
        #[cfg(feature = "persist")]
        if let Some(opened) = opened {
            dht.keep_in(opened)?;
        }
        let below = Below {
            local,
            pool: pool.clone(),
            path: Arc::clone(&path),
            dht: Arc::clone(&dht),
            tasks: tasks.clone(),
        };
        let rpc = RpcService::new(below, self.config.rpc, listens, seed);
        router.connect(&dht, &path, &rpc);
        pool.open();
        dht.start(seed);
        let identity = self.identity;
        Ok(Node::new(Inner { identity, bound, endpoint, pool, path, dht, rpc, tasks, config: self.config }))
    }
}

#[cfg(feature = "persist")]
impl Data {
    /// Opens the file of the node `owner`, if it is to have one.
    fn open(&self, owner: NodeId) -> Result<Option<persist::Opened>, PersistError> {
        let Some(dir) = self.dir.clone() else { return Ok(None) };
        let (now, unix) = (runtime::now(), Duration::from_millis(runtime::unix_ms()));
        persist::open(&persist::Options { dir, owner, bytes_max: self.bytes_max, now, unix }).map(Some)
    }
}

/// What the node says about itself to every peer.
fn introduction(realm: String, endpoints: Vec<String>, serves: bool) -> Hello {
    Hello {
        version_min: VERSIONS.0,
        version_max: VERSIONS.1,
        realm,
        boot: runtime::entropy(),
        dial: 0,
        endpoints,
        observed: None,
        serves,
        features: 0,
        grants: GRANTS,
        proof: None,
    }
}

/// What the DHT takes of the settings.
fn dht_config(
    config: &Config,
    identity: Identity,
    realm: RealmId,
    serves: bool,
    bootstrap: Vec<PeerAddr>,
) -> DhtConfig {
    DhtConfig {
        identity,
        realm,
        k: config.k,
        alpha: config.alpha,
        serves,
        store: config.store,
        log: config.log,
        request_timeout: config.request_timeout,
        replication: config.replication,
        query_timeout: config.query_timeout,
        join_timeout: config.join_timeout,
        bootstrap,
        upkeep: config.upkeep.clone(),
    }
}

/// What the node tells others about where it listens.
fn advertised(chosen: Vec<Address>, bound: SocketAddr) -> Vec<Address> {
    if !chosen.is_empty() {
        return chosen.into_iter().take(ENDPOINTS_MAX).collect();
    }
    let bound = Address::from(bound);
    if bound.is_unspecified() { Vec::new() } else { vec![bound] }
}
