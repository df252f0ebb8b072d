//! Promises: alone, and between two pools over real QUIC.

#![expect(clippy::disallowed_methods, reason = "a test stops a pool beside its requests")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::*;
use crate::addr::Endpoint as Address;
use crate::id::NodeId;
use crate::identity::Identity;
use crate::pool::{Inbound, Lease, Outcome, Parts, Pool, PoolConfig, RequestError, Sink, Tag, Violation};
use crate::runtime::Tasks;
use crate::transport::tls::Tls;
use crate::transport::{Bind, Endpoint, TransportConfig, Trust};
use crate::wire::{self, BODY_MAX, Class, Decoder, HEADER_LEN, Hello, Kind};

const SECOND: Duration = Duration::from_secs(1);
const GRANT: Grant = Grant { requests: 4, bytes: 64 << 10 };

fn frame(kind: Kind, id: u64, body: &[u8], out: &mut BytesMut) {
    let body_len = u32::try_from(body.len()).unwrap();
    out.extend_from_slice(&Header { kind: kind as u8, flags: 0, body_len, id }.encode());
    out.extend_from_slice(body);
}

fn promise(later: &mut Later, id: u64, body_len: u32) -> Replier {
    later.begin(runtime::now(), &Header { kind: Kind::FindValue as u8, flags: 0, body_len, id });
    later.promise()
}

/// The frames in `out`: kind, id and length.
fn frames(out: &[u8]) -> Vec<(Kind, u64, usize)> {
    let mut decoder = Decoder::new(BODY_MAX);
    decoder.feed(out);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next().unwrap() {
        frames.push((Kind::from_u8(frame.header.kind).unwrap(), frame.header.id, frame.body.len()));
    }
    frames
}

#[tokio::test(start_paused = true)]
async fn every_promise_ends_in_one_frame() {
    let mut later = Later::new(GRANT, BODY_MAX);
    let [kept, dropped, cancelled, forgotten] = [1, 2, 3, 4].map(|id| promise(&mut later, id, 10));
    kept.reply(|id, out| frame(Kind::Pong, id, b"kept", out));
    drop(dropped);
    later.cancel(3);
    later.cancel(3);
    later.cancel(99);
    assert!(cancelled.is_cancelled() && !forgotten.is_cancelled());
    cancelled.reply(|_, _| panic!("nobody waits for it"));
    later.ready().await;
    let mut out = BytesMut::new();
    later.take(&mut out);
    assert_eq!(
        frames(&out).iter().map(|(kind, id, _)| (*kind, *id)).collect::<Vec<_>>(),
        [(Kind::Pong, 1), (Kind::Failed, 2), (Kind::Failed, 3)]
    );
    assert!(!later.is_empty());
    let start = runtime::now();
    out.clear();
    while out.is_empty() {
        later.ready().await;
        later.take(&mut out);
    }
    assert_eq!(runtime::now() - start, PROMISE_MAX);
    assert_eq!(frames(&out)[0].1, 4);
    assert!(later.is_empty() && forgotten.is_cancelled());
    forgotten.reply(|_, _| panic!("it is too late"));
}

#[test]
fn no_more_is_promised_than_was_granted() {
    let mut later = Later::new(GRANT, BODY_MAX);
    let mut kept: Vec<_> = (0..4).map(|id| promise(&mut later, id, 0)).collect();
    assert!(!later.is_overdrawn());
    kept.push(promise(&mut later, 4, 0));
    assert!(later.is_overdrawn());
    drop(kept.drain(..3));
    assert!(!later.is_overdrawn());
    kept.push(promise(&mut later, 5, GRANT.bytes));
    assert!(!later.is_overdrawn());
    kept.push(promise(&mut later, 6, 1));
    assert!(later.is_overdrawn());
    // Used twice, an id counts once.
    drop(kept.pop());
    kept.push(promise(&mut later, 5, GRANT.bytes));
    assert!(!later.is_overdrawn());
}

#[test]
fn replies_that_nobody_fetches_are_bounded() {
    let mut later = Later::new(Grant { requests: 100, bytes: 1 << 20 }, BODY_MAX);
    let body = vec![0; 100 << 10];
    for id in 0..100 {
        promise(&mut later, id, 1).reply(|id, out| frame(Kind::Pong, id, &body, out));
    }
    let mut out = BytesMut::new();
    later.take(&mut out);
    assert!(out.len() < READY_MAX + 100 * (HEADER_LEN + 16), "{}", out.len());
    let frames = frames(&out);
    assert_eq!(frames.iter().map(|(_, id, _)| *id).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    assert_eq!(frames.iter().filter(|(kind, ..)| *kind == Kind::Pong).count(), 10);
    assert!(later.is_empty(), "it costs nothing again");
}

/// Promises FIND_VALUE, echoes FIND_NODE.
#[derive(Default)]
struct Promising {
    promised: Mutex<Vec<(Replier, Vec<u8>)>>,
    echoed: AtomicUsize,
}

impl Promising {
    /// The promises so far, once there are `count`.
    async fn promised(&self, count: usize) -> Vec<(Replier, Vec<u8>)> {
        let until = runtime::now() + 10 * SECOND;
        loop {
            {
                let mut promised = self.promised.lock().unwrap();
                if promised.len() >= count {
                    return std::mem::take(&mut *promised);
                }
            }
            assert!(runtime::now() < until, "no {count} requests came");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Inbound for Promising {
    fn request(
        &self,
        _: &NodeId,
        header: &Header,
        body: &[u8],
        out: &mut BytesMut,
        later: &mut Later,
    ) -> Result<(), Violation> {
        if header.kind == Kind::FindNode as u8 {
            self.echoed.fetch_add(1, Ordering::Relaxed);
            frame(Kind::FindNodeReply, header.id, body, out);
        } else {
            self.promised.lock().unwrap().push((later.promise(), body.to_vec()));
        }
        Ok(())
    }

    fn connected(&self, _: &NodeId, _: &Hello, _: SocketAddr) {}

    fn left(&self, _: &NodeId) {}

    fn unreachable(&self, _: &NodeId) {}
}

fn echo(replier: Replier, body: &[u8]) {
    replier.reply(|id, out| frame(Kind::FindValueReply, id, body, out));
}

struct Party {
    id: NodeId,
    pool: Pool,
    addr: SocketAddr,
    inbound: Arc<Promising>,
    tasks: Tasks,
}

impl Drop for Party {
    fn drop(&mut self) {
        self.tasks.abort();
        self.pool.abort();
    }
}

fn party(n: u8) -> Party {
    let identity = Identity::from_seed(&[n; 32]);
    let transport = TransportConfig::default();
    let endpoint = Endpoint::bind(Bind {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        identity: identity.clone(),
        tls: Tls::new(&identity, Trust::pinned(), None, &[]).unwrap(),
        realm: String::new(),
        config: transport.clone(),
        #[cfg(feature = "test-util")]
        faults: None,
    })
    .unwrap();
    let addr = endpoint.local_addr().unwrap();
    let hello = Hello {
        version_min: 1,
        version_max: 1,
        realm: String::new(),
        boot: u64::from(n),
        dial: 0,
        endpoints: Vec::new(),
        observed: None,
        serves: true,
        features: 0,
        grants: [GRANT; Class::LANES],
        proof: None,
    };
    let (inbound, tasks, id) = (Arc::<Promising>::default(), Tasks::new(), identity.node_id());
    let pool = Pool::start(Parts {
        local: id,
        endpoint,
        transport,
        hello,
        config: PoolConfig::default(),
        tasks: tasks.clone(),
        inbound: Arc::<Promising>::clone(&inbound),
        seed: n.into(),
    });
    pool.open();
    Party { id, pool, addr, inbound, tasks }
}

/// One that asks, one that answers, and a connection between them.
async fn pair() -> (Party, Party, Lease) {
    let (asker, answerer) = (party(1), party(2));
    asker.pool.learn(answerer.id, [Address::from(answerer.addr)]);
    let lease = asker.pool.acquire(&answerer.id, runtime::after(10 * SECOND)).await.unwrap();
    (asker, answerer, lease)
}

#[derive(Default)]
struct Reply(Mutex<Option<Result<Bytes, RequestError>>>, Notify);

impl Sink for Reply {
    fn settle(&self, _: Tag, outcome: Outcome<'_>) {
        *self.0.lock().unwrap() = Some(match outcome {
            Outcome::Frame { body, .. } => Ok(Bytes::copy_from_slice(body)),
            Outcome::Statuses { .. } => Err(RequestError::Malformed),
            Outcome::Failed(error) => Err(error),
        });
        self.1.notify_one();
    }
}

impl Reply {
    async fn settled(&self) -> Result<Bytes, RequestError> {
        tokio::time::timeout(10 * SECOND, self.1.notified()).await.expect("a reply in time");
        self.0.lock().unwrap().clone().unwrap()
    }
}

const TAG: Tag = Tag { peer: 0, first: 0, count: 1 };

fn ask(lease: &Lease, kind: Kind, body: &'static [u8], timeout: Duration) -> Arc<Reply> {
    let reply = Arc::<Reply>::default();
    let waiting: (Arc<dyn Sink>, Tag) = (Arc::<Reply>::clone(&reply), TAG);
    let pushed =
        lease.try_request(Class::Request, 64, runtime::after(timeout), waiting, |id, out: &mut BytesMut| {
            frame(kind, id, body, out);
        });
    assert!(pushed.is_ok());
    reply
}

#[tokio::test]
async fn promised_replies_come_when_they_are_ready_and_hold_nobody_up() {
    let (_asker, answerer, lease) = pair().await;
    let bodies: [&[u8]; 3] = [b"a", b"b", b"c"];
    let replies = bodies.map(|body| ask(&lease, Kind::FindValue, body, 10 * SECOND));
    let mut promised = answerer.inbound.promised(3).await;
    assert_eq!(ask(&lease, Kind::FindNode, b"now", SECOND).settled().await.unwrap(), "now");
    promised.reverse();
    for (replier, body) in promised {
        echo(replier, &body);
    }
    for (reply, body) in replies.iter().zip(bodies) {
        assert_eq!(reply.settled().await.unwrap(), body);
    }
    // The lane goes on.
    let reply = ask(&lease, Kind::FindValue, b"again", 10 * SECOND);
    for (replier, body) in answerer.inbound.promised(1).await {
        echo(replier, &body);
    }
    assert_eq!(reply.settled().await.unwrap(), "again");
}

#[tokio::test]
async fn a_promise_that_is_dropped_is_told_at_once() {
    let (_asker, answerer, lease) = pair().await;
    let reply = ask(&lease, Kind::FindValue, b"", 10 * SECOND);
    drop(answerer.inbound.promised(1).await);
    let error = reply.settled().await.unwrap_err();
    assert_eq!(error, RequestError::Abandoned);
    assert!(error.maybe_executed());
}

#[tokio::test]
async fn who_gives_up_cancels_and_has_its_room_back() {
    let (_asker, answerer, lease) = pair().await;
    for _ in 0..3 {
        // All that was granted.
        let replies = [(); 4].map(|()| ask(&lease, Kind::FindValue, b"", SECOND / 10));
        let mut promised = answerer.inbound.promised(4).await;
        for reply in &replies {
            assert_eq!(reply.settled().await, Err(RequestError::Timeout));
        }
        for (replier, _) in &mut promised {
            tokio::time::timeout(10 * SECOND, replier.cancelled()).await.expect("it is told");
            assert!(replier.is_cancelled());
        }
        let until = runtime::after(10 * SECOND);
        while !lease.outbox(Class::Request).is_idle() {
            assert!(runtime::now() < until, "the room of a cancelled request is lost");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test]
async fn a_stop_waits_for_what_is_promised() {
    let (_asker, answerer, lease) = pair().await;
    let reply = ask(&lease, Kind::FindValue, b"last", 10 * SECOND);
    let promised = answerer.inbound.promised(1).await;
    let pool = answerer.pool.clone();
    let stop = tokio::spawn(async move { pool.shutdown(10 * SECOND).await });
    let until = runtime::after(10 * SECOND);
    while answerer.pool.residents().contains(&lease.id) || !answerer.pool.residents().is_empty() {
        assert!(runtime::now() < until, "it does not begin");
        tokio::task::yield_now().await;
    }
    assert_eq!(ask_late(&lease).await, Err(RequestError::GoingAway));
    for (replier, body) in promised {
        echo(replier, &body);
    }
    assert_eq!(reply.settled().await.unwrap(), "last");
    drop(lease);
    tokio::time::timeout(5 * SECOND, stop).await.expect("nothing is left to wait for").unwrap();
}

/// What a request meets that comes after GOAWAY; before it has come here, it may be sent all the same.
async fn ask_late(lease: &Lease) -> Result<Bytes, RequestError> {
    let reply = Arc::<Reply>::default();
    let waiting: (Arc<dyn Sink>, Tag) = (Arc::<Reply>::clone(&reply), TAG);
    let encode = |id, out: &mut BytesMut| frame(Kind::FindNode, id, b"", out);
    match lease.try_request(Class::Request, 64, runtime::after(SECOND), waiting, encode) {
        Ok(_) => reply.settled().await,
        Err(_) => Err(RequestError::GoingAway),
    }
}

fn ask_alone(lease: &Lease, timeout: Duration) -> Arc<Reply> {
    let reply = Arc::<Reply>::default();
    let sink: Arc<dyn Sink> = Arc::<Reply>::clone(&reply);
    lease.single(runtime::after(timeout), sink, TAG, |id, out| frame(Kind::FindValue, id, &[7; 70_000], out));
    reply
}

#[tokio::test]
async fn a_stream_of_its_own_waits_for_its_promise() {
    let (_asker, answerer, lease) = pair().await;
    let reply = ask_alone(&lease, 10 * SECOND);
    for (replier, body) in answerer.inbound.promised(1).await {
        echo(replier, &body);
    }
    assert_eq!(reply.settled().await.unwrap(), [7; 70_000][..]);
    let reply = ask_alone(&lease, SECOND / 5);
    let mut promised = answerer.inbound.promised(1).await;
    assert_eq!(reply.settled().await, Err(RequestError::Timeout));
    tokio::time::timeout(10 * SECOND, promised[0].0.cancelled()).await.expect("it is told");
}

#[tokio::test]
async fn who_takes_more_than_was_granted_is_cut_off() {
    let (_asker, answerer, lease) = pair().await;
    let mut out = BytesMut::new();
    wire::encode_open(Class::Request, &mut out);
    (1..=5).for_each(|id| frame(Kind::FindValue, id, b"", &mut out));
    let lane = lease.connection.open(SECOND).await.unwrap();
    let mut send = lane.send;
    send.write(out.freeze()).await.unwrap();
    let until = runtime::after(10 * SECOND);
    while !answerer.pool.residents().is_empty() {
        assert!(runtime::now() < until, "it is served on");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
