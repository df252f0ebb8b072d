//! The DHT service: drives the pure parts of [`crate::dht`] with the peers in the pool.
//!
//! The replica store and the publication log are cut into [`SHARDS`] shards by the first bits of the
//! key, each behind a lock of its own. Requests of peers are answered on the task that read them
//! ([`replica`]); own operations go to the k closest nodes of the mesh ([`store`], [`find`]), which are
//! known by region ([`cover`]) or searched for ([`lookup`]).

use std::array;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::Semaphore;

use crate::addr::{Endpoint, PeerAddr};
use crate::dht::log::{LogLimits, PublicationLog};
use crate::dht::members::{Members, ReplicaSet};
use crate::dht::record::RealmId;
use crate::dht::replication::ReplicationConfig;
use crate::dht::rtt::Patience;
use crate::dht::store::{Shard, StoreLimits};
use crate::dht::table::Insert;
use crate::dht::upkeep::UpkeepConfig;
use crate::id::{Key, NodeId};
use crate::identity::Identity;
use crate::pool::Pool;
use crate::runtime::{self, Tasks};
use crate::service::path::PathService;
use crate::wire::{Hello, RecordKind};

use contact::Listens;
use outgoing::Deliveries;
use replicate::Changes;
use upkeep::Keeper;

mod ask;
mod contact;
mod cover;
mod durable;
mod find;
mod find_many;
mod find_op;
mod join;
mod lookup;
mod lookup_op;
mod outgoing;
mod part;
mod publish;
mod read;
mod receipt;
mod replica;
mod replicate;
mod screen;
mod store;
mod store_many;
mod store_op;
mod upkeep;

pub use ask::QueryError;
pub use find::FindError;
pub(crate) use lookup::LookupTally;
pub(crate) use publish::StoreOptions;
pub(crate) use read::FindOptions;
pub use receipt::{Durability, LookupStats, Receipt, Record};
pub use store::StoreError;

/// The kinds of records that there are.
const RECORD_KINDS: [RecordKind; 3] = [RecordKind::VALUE, RecordKind::PROVIDER, RecordKind::SUBSCRIPTION];
/// Shards of the replica store and of the publication log.
pub(super) const SHARDS: usize = 16;
/// Replicas at a time that wait for a connection or for room, over all operations of a node; larger
/// records count as many.
const DEFERRED_MAX: usize = 4_096;
/// Bytes of records that count as one of [`DEFERRED_MAX`]: together no more than 16 MiB wait.
const DEFERRED_SHARE: usize = 4 << 10;
/// Records that one round of expiry looks at, per shard.
const EXPIRE_BUDGET: usize = 4_096;
/// How often expired records are collected.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// The settings of the DHT that the node hands down.
#[derive(Debug, Clone)]
pub(crate) struct DhtConfig {
    /// Signs own records.
    pub(crate) identity: Identity,
    pub(crate) k: usize,
    pub(crate) alpha: usize,
    /// Whether the node answers for others at all.
    pub(crate) serves: bool,
    pub(crate) store: StoreLimits,
    pub(crate) log: LogLimits,
    pub(crate) request_timeout: Duration,
    pub(crate) replication: ReplicationConfig,
    pub(crate) query_timeout: Duration,
    /// What signatures of records are made and checked for.
    pub(crate) realm: RealmId,
    pub(crate) join_timeout: Duration,
    /// The addresses through which it joins, and joins again when it knows nobody.
    pub(crate) bootstrap: Vec<PeerAddr>,
    pub(crate) upkeep: UpkeepConfig,
}

pub(crate) struct DhtService {
    local: NodeId,
    pub(super) pool: Pool,
    pub(super) path: Arc<PathService>,
    pub(super) tasks: Tasks,
    config: DhtConfig,
    members: Mutex<Members<Listens>>,
    keeper: Keeper,
    patience: Mutex<Patience>,
    lookups: Mutex<LookupTally>,
    /// Surveys that may begin.
    surveys: Arc<Semaphore>,
    /// Lookups for replicas that may begin.
    turns: Semaphore,
    shards: [Mutex<Shard>; SHARDS],
    /// The lock of a shard also orders the stores to its keys: sequence and place in every queue are
    /// given under it.
    log: [Mutex<PublicationLog>; SHARDS],
    /// The sequence of the next publication.
    next_seq: AtomicU64,
    /// What makes the node's part durable, if it has a data directory.
    #[cfg(feature = "persist")]
    disk: std::sync::OnceLock<crate::persist::Disk>,
    /// The peers of the last run, the one seen last first.
    #[cfg(feature = "persist")]
    known: std::sync::OnceLock<Vec<crate::persist::Contact>>,
    deferred: Arc<Semaphore>,
    changes: Mutex<Changes>,
    deliveries: Arc<Deliveries>,
    /// Reads that may mend replicas.
    mends: Arc<Semaphore>,
    closing: AtomicBool,
}

impl std::fmt::Debug for DhtService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DhtService").field("local", &self.local).finish_non_exhaustive()
    }
}

impl DhtService {
    pub(crate) fn new(
        local: NodeId,
        pool: Pool,
        path: Arc<PathService>,
        tasks: Tasks,
        config: DhtConfig,
        seed: u64,
    ) -> Arc<Self> {
        let epoch = runtime::now();
        let keys = |i: usize| (seed, i as u64);
        let (store, log) = (config.store.per_shard(SHARDS), config.log.per_shard(SHARDS));
        let every = config.replication.every;
        let shard = |i| {
            let mut shard = Shard::new(epoch, store, keys(i));
            shard.replicate_every(Some(every));
            shard
        };
        Arc::new(Self {
            local,
            pool,
            path,
            tasks,
            members: Mutex::new(Members::new(local, config.k)),
            keeper: Keeper::new(seed, config.upkeep.clone()),
            patience: Mutex::default(),
            lookups: Mutex::default(),
            surveys: Arc::new(Semaphore::new(cover::SURVEYS_MAX)),
            turns: Semaphore::new(cover::LOOKUPS_AT_ONCE),
            shards: array::from_fn(|i| Mutex::new(shard(i))),
            log: array::from_fn(|i| Mutex::new(PublicationLog::new(epoch, log, keys(i)))),
            config,
            next_seq: AtomicU64::new(1),
            #[cfg(feature = "persist")]
            disk: std::sync::OnceLock::new(),
            #[cfg(feature = "persist")]
            known: std::sync::OnceLock::new(),
            deferred: Arc::new(Semaphore::new(DEFERRED_MAX)),
            changes: Mutex::default(),
            deliveries: Arc::default(),
            mends: Arc::new(Semaphore::new(read::MENDS_MAX)),
            closing: AtomicBool::new(false),
        })
    }

    /// Starts collecting what has expired, and keeping the rest where it belongs, until the service is gone.
    pub(crate) fn start(self: &Arc<Self>, seed: u64) {
        self.start_replication(seed);
        let service = Arc::downgrade(self);
        self.tasks.spawn(async move {
            loop {
                tokio::time::sleep_until((runtime::now() + EXPIRE_EVERY).into()).await;
                let Some(service) = service.upgrade() else { return };
                let now = runtime::now();
                for i in 0..SHARDS {
                    lock(&service.shards[i]).expire(now, EXPIRE_BUDGET);
                    lock(&service.log[i]).expire(now, EXPIRE_BUDGET);
                }
            }
        });
    }

    /// Takes no new operations from now on.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(crate) fn serves(&self) -> bool {
        self.config.serves
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        lock(&self.shards[shard_of(key)])
    }

    pub(super) fn log(&self, key: &Key) -> MutexGuard<'_, PublicationLog> {
        lock(&self.log[shard_of(key)])
    }

    /// The nodes of the routing table that are closest to `key`, at most `count`.
    #[cfg(any(feature = "baseline", feature = "persist"))]
    pub(crate) fn closest(&self, key: &Key, count: usize) -> Vec<NodeId> {
        lock(&self.members).closest(runtime::now(), key, count)
    }

    /// How many nodes the routing table holds.
    pub(crate) fn table_len(&self) -> usize {
        lock(&self.members).table().len()
    }

    /// The members of the routing table that answer.
    #[cfg(feature = "test-util")]
    pub(crate) fn table(&self) -> Vec<NodeId> {
        let members = lock(&self.members);
        members.table().iter().map(|member| member.id).filter(|id| !members.is_silent(id)).collect()
    }

    /// Records held for others and the bytes of their values.
    pub(crate) fn held(&self) -> (usize, usize) {
        self.shards.iter().map(lock).fold((0, 0), |sum, shard| (sum.0 + shard.len(), sum.1 + shard.bytes()))
    }

    /// Own publications and the bytes of their values.
    pub(crate) fn published(&self) -> (usize, usize) {
        self.log.iter().map(lock).fold((0, 0), |sum, log| (sum.0 + log.len(), sum.1 + log.bytes()))
    }

    /// A peer has completed its handshake: it enters the table if it serves, and leaves it if not.
    ///
    /// A node dials and accepts on one socket, so the other end of its connection is an address of it.
    pub(crate) fn connected(self: &Arc<Self>, peer: &NodeId, hello: &Hello, remote: SocketAddr) {
        let now = runtime::now();
        if !hello.serves {
            return self.left(peer);
        }
        let advertised = hello.endpoints.iter().filter_map(|text| text.parse().ok());
        let usable = advertised.filter(|endpoint: &Endpoint| !endpoint.is_unspecified());
        let endpoints: Vec<Endpoint> = usable.chain([Endpoint::from(remote)]).collect();
        let listens = Listens::new(peer, &endpoints);
        self.pool.learn(*peer, endpoints);
        let inserted = lock(&self.members).connected(now, *peer, remote.ip().to_canonical(), listens);
        let holds = self.shards.iter().any(|shard| !lock(shard).is_empty());
        lock(&self.changes).connected(*peer, hello.boot, holds);
        self.save_contact(peer);
        if let Insert::Full { ping: Some(ping) } = inserted {
            self.check(ping);
        }
    }

    /// A peer has said that it shuts down, or does not serve.
    pub(crate) fn left(&self, peer: &NodeId) {
        lock(&self.members).left(runtime::now(), peer);
        lock(&self.changes).gone(peer);
    }

    /// No address of the peer answered. One that answers by a route stays what it is.
    pub(crate) fn unreachable(&self, peer: &NodeId) {
        if self.path.has_route(peer) {
            return;
        }
        lock(&self.members).unreachable(runtime::now(), peer);
        lock(&self.changes).gone(peer);
    }
}

/// The shard of a key: its last four bits, because the first ones crowd around the own id.
pub(super) fn shard_of(key: &Key) -> usize {
    usize::from(key.as_bytes()[31] & 0xf)
}

/// Which part of an order belongs to which shard.
pub(super) type Runs = SmallVec<[(usize, Range<usize>); SHARDS]>;

/// Orders keys by their shard, keeping their order within each: the places of the keys in the new order,
/// and which run of it belongs to which shard.
pub(super) fn by_shard<'a>(keys: impl ExactSizeIterator<Item = &'a Key> + Clone) -> (Vec<u32>, Runs) {
    let mut counts = [0_usize; SHARDS];
    for key in keys.clone() {
        counts[shard_of(key)] += 1;
    }
    let mut next = [0_usize; SHARDS];
    let mut runs = Runs::new();
    let mut start = 0;
    for (shard, count) in counts.into_iter().enumerate() {
        next[shard] = start;
        if count > 0 {
            runs.push((shard, start..start + count));
        }
        start += count;
    }
    let mut order = vec![0; start];
    for (place, key) in (0_u32..).zip(keys) {
        let slot = &mut next[shard_of(key)];
        order[*slot] = place;
        *slot += 1;
    }
    (order, runs)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
