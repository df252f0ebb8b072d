//! Requests that others pass on, and what relays may not do with them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use foveola::mesh::LocalMesh;
use foveola::route::envelope::{self, Request};
use foveola::route::relays::RelayConfig;
use foveola::wire::{
    Class, Decoder, FindBatch, HEADER_LEN, Kind, RecordKind, Route, RouteError, RouteReply, encode_open,
};
use foveola::{Ack, Config, Key, Node, NodeId};

use crate::nodes::{RawPeer, config, identity, key, next_frame, node};
use crate::util::{in_time, until};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_reaches_a_node_that_only_others_reach() {
    let mesh = LocalMesh::builder().nodes(4).reach(|a, b| b == a + 1).spawn().await.unwrap();
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| mesh.node(i));
    c.dht().store(key("far"), "away").ack(Ack::All).await.unwrap();
    until(5 * SECOND, "the last one holds it", || d.stats().held_records == 1).await;
    let found = a.dht().query_peer(d.id(), key("far")).timeout(10 * SECOND).await.unwrap();
    assert_eq!(found[0].value, "away");
    assert!(!a.pool().residents().contains(&d.id()));
    assert!(a.stats().routed_sent >= 1 && d.stats().routed_received >= 1);
    assert!(b.stats().relayed >= 1 && c.stats().relayed >= 1, "each hop counts it");
    let before = d.stats().routed_received;
    // The way is remembered: the next one does not wait for a dial.
    let start = Instant::now();
    a.dht().query_peer(d.id(), key("far")).timeout(10 * SECOND).await.unwrap();
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    assert!(d.stats().routed_received > before);
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_and_a_find_go_down_a_line_of_nodes() {
    let mesh = LocalMesh::builder().nodes(4).reach(|a, b| b == a + 1).spawn().await.unwrap();
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| mesh.node(i));
    let stored = a.dht().store(key("line"), "from a").ack(Ack::All).timeout(10 * SECOND).await.unwrap();
    let mut acked: Vec<NodeId> = stored.acked().collect();
    let mut others = vec![b.id(), c.id(), d.id()];
    acked.sort_unstable();
    others.sort_unstable();
    assert_eq!(acked, others, "the last of the line as well");
    assert_eq!(d.stats().held_records, 1, "an acknowledged record is there");
    assert!(a.stats().routed_sent >= 1 && d.stats().routed_received >= 1);
    assert!(b.stats().relayed >= 1 && c.stats().relayed >= 1, "each hop counts it");
    let held = d.dht().find_value(key("line")).await.unwrap();
    assert_eq!(held[0].value, "from a");
    let found = d.dht().find_value(key("line")).from(a.id()).timeout(10 * SECOND).await.unwrap();
    assert_eq!((found.len(), found[0].publisher), (1, a.id()));
    let asked = d.dht().query_peer(b.id(), key("line")).timeout(10 * SECOND).await.unwrap();
    assert_eq!(asked[0].value, "from a", "a replica two hops away answers");
    mesh.shutdown().await;
}

/// Settings under which a cut connection is soon given up.
fn hasty() -> Config {
    config(|config| {
        config.transport.idle_timeout = 2 * SECOND;
        config.transport.keep_alive = SECOND / 2;
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_takes_a_route_until_the_direct_way_is_healed() {
    let mesh = LocalMesh::builder().nodes(3).config(hasty()).faults().spawn().await.unwrap();
    let (writer, relay, far) = (mesh.node(0), mesh.node(1), mesh.node(2));
    mesh.cut(0, 2);
    mesh.cut(2, 0);
    until(20 * SECOND, "the connection is gone", || !writer.pool().residents().contains(&far.id())).await;
    let store = |name: &str| writer.dht().store(key(name), "value").ack(Ack::All).timeout(10 * SECOND);
    let receipt = store("routed").await.unwrap();
    assert_eq!(receipt.acks(), 2);
    assert!(receipt.acked().any(|replica| replica == far.id()));
    assert_eq!(far.stats().held_records, 1, "an acknowledged record is there");
    assert!(relay.stats().relayed >= 1 && writer.stats().routed_sent >= 1);
    mesh.heal(0, 2);
    mesh.heal(2, 0);
    let deadline = Instant::now() + 60 * SECOND;
    for i in 0.. {
        store(&format!("healed {i}")).await.unwrap();
        if writer.pool().residents().contains(&far.id()) {
            break;
        }
        assert!(Instant::now() < deadline, "the direct way is not tried");
        tokio::time::sleep(SECOND / 20).await;
    }
    let routed = writer.stats().routed_sent;
    store("direct").await.unwrap();
    assert_eq!(writer.stats().routed_sent, routed, "the direct way is there and not used");
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_relay_is_gone_around_in_time() {
    let mut mesh = LocalMesh::builder().nodes(4).reach(|a, b| (a, b) != (0, 3)).spawn().await.unwrap();
    let (asker, last) = (mesh.node(0).clone(), mesh.node(3).clone());
    let distance = |i: usize| mesh.node(i).id().distance(&last.id().to_key());
    let (first, second) = if distance(1) < distance(2) { (1, 2) } else { (2, 1) };
    until(5 * SECOND, "all are connected", || {
        asker.pool().residents().len() == 2 && last.pool().residents().len() == 2
    })
    .await;
    mesh.kill(first);
    let start = Instant::now();
    let found = asker.dht().query_peer(last.id(), key("nothing")).timeout(8 * SECOND).await.unwrap();
    assert!(found.is_empty() && start.elapsed() < 8 * SECOND);
    assert!(mesh.node(second).stats().relayed >= 1);
    mesh.node(second).shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_nobody_reaches_is_an_error_in_time_and_costs_little() {
    let mesh = LocalMesh::builder().nodes(6).spawn().await.unwrap();
    let nobody = identity(33_000).node_id();
    let start = Instant::now();
    let error = mesh.node(0).dht().query_peer(nobody, key("nothing")).timeout(5 * SECOND).await.unwrap_err();
    assert!(start.elapsed() < 6 * SECOND, "{error:?} after {:?}", start.elapsed());
    let passed: u64 = mesh.nodes().iter().map(|node| node.stats().relayed).sum();
    assert!((1..=11).contains(&passed), "passed on {passed} times");
    // It is remembered that there is no way.
    let _ = mesh.node(0).dht().query_peer(nobody, key("nothing")).timeout(SECOND).await.unwrap_err();
    assert_eq!(mesh.nodes().iter().map(|node| node.stats().relayed).sum::<u64>(), passed);
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_dial_does_not_throw_out_who_answers_by_a_route() {
    let mut settings = hasty();
    settings.pool.dial_timeout = 2 * SECOND;
    let mesh = LocalMesh::builder().nodes(3).config(settings).faults().spawn().await.unwrap();
    let (writer, far) = (mesh.node(0), mesh.node(2).id());
    mesh.cut(0, 2);
    mesh.cut(2, 0);
    until(20 * SECOND, "the connection is gone", || !writer.pool().residents().contains(&far)).await;
    let store = |name: &str| writer.dht().store(key(name), "value").ack(Ack::All).timeout(10 * SECOND);
    assert_eq!(store("routed").await.unwrap().acks(), 2);
    let failures = || writer.pool().explain(far).failures;
    let before = failures();
    until(20 * SECOND, "the dial that went on has failed", || failures() > before).await;
    assert_eq!(store("again").await.unwrap().acks(), 2);
    assert!(writer.table().contains(&far), "it answers, and counts");
    mesh.shutdown().await;
}

/// A request lane that is written by hand.
struct Lane {
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    decoder: Decoder,
    id: u64,
}

impl Lane {
    async fn open(raw: &RawPeer) -> Self {
        let (mut send, recv) = raw.connection.open_bi().await.unwrap();
        let mut out = BytesMut::new();
        encode_open(Class::Request, &mut out);
        send.write_all(&out).await.unwrap();
        Self { send, recv, decoder: Decoder::new(1 << 20), id: 0 }
    }

    async fn send(&mut self, route: &Route<'_>) {
        self.id += 1;
        let mut out = BytesMut::new();
        route.encode(self.id, &mut out).unwrap();
        self.send.write_all(&out).await.unwrap();
    }

    /// What comes of an envelope: the kind of the answer, or the error.
    async fn ask(&mut self, route: &Route<'_>) -> Result<u8, RouteError> {
        self.send(route).await;
        let (kind, id, body) = in_time(next_frame(&mut self.recv, &mut self.decoder)).await;
        assert_eq!((kind, id), (Kind::RouteReply as u8, self.id));
        RouteReply::decode(&body).unwrap().result.map(|routed| routed.kind)
    }
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn realm() -> Key {
    Key::of_name("")
}

/// A question in an envelope of `origin`.
fn sealed(origin: u64, destination: NodeId, nonce: u64, issued_ms: u64, question: &[u8]) -> Route<'_> {
    let kind = Kind::FindValue.to_u8();
    let request = Request { destination, nonce, issued_ms, kind, flags: 0, body: question };
    let mut route = envelope::seal(&identity(origin), &realm(), &request);
    route.left_ms = 5_000;
    route
}

fn question() -> Vec<u8> {
    let mut out = BytesMut::new();
    let mut batch = FindBatch::open(0, &mut out);
    batch.push(&key("what"), RecordKind::VALUE, None, &mut out).unwrap();
    out[HEADER_LEN..].to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_genuine_is_refused() {
    let target: Node = node(34_000, Config::default()).await;
    let raw = RawPeer::dial(34_001, &target, 1 << 20).await;
    let mut lane = Lane::open(&raw).await;
    let (now, question) = (now_ms(), question());
    let to = target.id();
    let genuine = sealed(34_001, to, 1, now, &question);
    assert_eq!(lane.ask(&genuine).await, Ok(Kind::FindValueReply as u8));
    let again = lane.ask(&genuine).await;
    assert_eq!((again, target.stats().routed_received), (Ok(Kind::FindValueReply as u8), 1), "a replay");
    let forged = Route { origin_key: identity(34_002).public_key(), ..sealed(34_001, to, 2, now, &question) };
    assert_eq!(lane.ask(&forged).await, Err(RouteError::Refused), "another's name");
    let mut altered = question.clone();
    *altered.last_mut().unwrap() ^= 1;
    let altered = Route { body: &altered, ..sealed(34_001, to, 3, now, &question) };
    assert_eq!(lane.ask(&altered).await, Err(RouteError::Refused), "an altered body");
    for issued in [now - 301_000, now + 310_000] {
        let stale = sealed(34_001, to, 4, issued, &question);
        assert_eq!(lane.ask(&stale).await, Err(RouteError::Refused), "not of this time");
    }
    let late = Route { left_ms: 0, ..sealed(34_001, to, 5, now, &question) };
    assert_eq!(lane.ask(&late).await, Err(RouteError::Expired));
    // An envelope in an envelope is not opened, and nonsense is refused without blame for who passed it on.
    for (kind, expected) in
        [(Kind::Route, Ok(Kind::Unsupported as u8)), (Kind::Store, Err(RouteError::Refused))]
    {
        let request = Request {
            destination: to,
            nonce: 7 + u64::from(kind.to_u8()),
            issued_ms: now,
            kind: kind.to_u8(),
            flags: 0,
            body: b"nonsense",
        };
        let mut nested = envelope::seal(&identity(34_001), &realm(), &request);
        nested.left_ms = 1_000;
        assert_eq!(lane.ask(&nested).await, expected);
    }
    assert_eq!(target.stats().routed_received, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_caps_what_it_passes_on_and_an_answer_must_be_signed() {
    let relay = node(35_000, Config::default()).await;
    let origin = RawPeer::dial(35_001, &relay, 1 << 20).await;
    let destination = RawPeer::dial(35_002, &relay, 1 << 20).await;
    let to = identity(35_002).node_id();
    let mut lane = Lane::open(&origin).await;
    let question = question();
    let greedy = Route { hops: u8::MAX, left_ms: u32::MAX, ..sealed(35_001, to, 1, now_ms(), &question) };
    lane.send(&greedy).await;
    let (mut send, mut recv) = in_time(destination.connection.accept_bi()).await.unwrap();
    let mut decoder = Decoder::new(1 << 20);
    let (kind, id, body) = loop {
        let frame = in_time(next_frame(&mut recv, &mut decoder)).await;
        if frame.0 != Kind::Open as u8 {
            break frame;
        }
    };
    assert_eq!(kind, Kind::Route as u8);
    let route = Route::decode(&body).unwrap();
    assert_eq!((route.hops, route.passed.as_slice()), (9, &[relay.id()][..]));
    assert!(route.left_ms < 30_000, "{}", route.left_ms);
    // A second envelope of the kind is a copy, a forged answer is none.
    let asked = (&identity(35_001).node_id(), 1);
    let mut routed = envelope::answer(&identity(35_002), &realm(), asked, (0x13, 0, b"forged"));
    routed.body = b"Forged";
    let mut out = BytesMut::new();
    RouteReply { hops: 0, result: Ok(routed) }.encode(id, &mut out).unwrap();
    send.write_all(&out).await.unwrap();
    let (kind, _, body) = in_time(next_frame(&mut lane.recv, &mut lane.decoder)).await;
    assert_eq!(kind, Kind::RouteReply as u8);
    assert!(RouteReply::decode(&body).unwrap().result.is_err(), "a forged answer was passed on");
    assert_eq!(lane.ask(&greedy).await, Err(RouteError::NoRoute), "it was here already");
    let wandering = Route { passed: vec![to], ..sealed(35_001, to, 2, now_ms(), &question) };
    assert_eq!(lane.ask(&wandering).await, Err(RouteError::Refused), "it did not come from there");
    let spent = Route { hops: 0, ..sealed(35_001, to, 3, now_ms(), &question) };
    assert_eq!(lane.ask(&spent).await, Err(RouteError::MaxHops));
    assert_eq!((relay.stats().relayed, relay.stats().relay_refused), (1, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_opens_thousands_of_one_origin() {
    let target: Node = node(36_000, Config::default()).await;
    let raw = RawPeer::dial(36_001, &target, 1 << 20).await;
    let mut lane = Lane::open(&raw).await;
    let question = question();
    let mut last = None;
    for n in 0..6_000 {
        let route = sealed(36_001, target.id(), 1_000_000 + n, now_ms(), &question);
        assert_eq!(lane.ask(&route).await, Ok(Kind::FindValueReply as u8), "{n}");
        last = Some(route);
    }
    assert_eq!(lane.ask(&last.unwrap()).await, Ok(Kind::FindValueReply as u8), "it is answered again");
    let first = sealed(36_001, target.id(), 1_000_000, now_ms(), &question);
    assert_eq!(lane.ask(&first).await, Err(RouteError::Refused), "its answer is forgotten");
    assert_eq!(target.stats().routed_received, 6_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_relay_had_no_room_for_may_come_again() {
    let relay =
        node(37_000, config(|config| config.relay = RelayConfig { in_flight: 1, ..config.relay })).await;
    let origin = RawPeer::dial(37_001, &relay, 1 << 20).await;
    let destination = RawPeer::dial(37_002, &relay, 1 << 20).await;
    let to = identity(37_002).node_id();
    let mut lane = Lane::open(&origin).await;
    let question = question();
    let [first, second] = [1, 2].map(|nonce| sealed(37_001, to, nonce, now_ms(), &question));
    lane.send(&first).await;
    let (mut send, mut recv) = in_time(destination.connection.accept_bi()).await.unwrap();
    let mut decoder = Decoder::new(1 << 20);
    let mut passed_on = async || loop {
        let (kind, id, _) = in_time(next_frame(&mut recv, &mut decoder)).await;
        if kind == Kind::Route as u8 {
            return id;
        }
    };
    let id = passed_on().await;
    assert_eq!(lane.ask(&second).await, Err(RouteError::Overloaded));
    let refused = RouteReply { hops: 0, result: Err(RouteError::Refused) };
    let mut out = BytesMut::new();
    refused.encode(id, &mut out).unwrap();
    send.write_all(&out).await.unwrap();
    in_time(next_frame(&mut lane.recv, &mut lane.decoder)).await;
    lane.send(&second).await;
    passed_on().await;
}
