//! The plan by itself, then two real endpoints over a bad network.

#![expect(clippy::disallowed_methods, reason = "tests read the clock and build what the library may not")]

use std::io::IoSliceMut;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, Runtime, ServerConfig, TokioRuntime,
    TransportConfig,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::plan::{Plan, Verdict};
use super::queue::{Packet, Queue};
use super::{Faults, Link};
use crate::transport::socket;

const SEED: u64 = 0xF0_7EA1;
const IDLE: Duration = Duration::from_millis(400);
/// For tests that must not time out on a busy machine.
const PATIENT: Duration = Duration::from_secs(10);

fn rng(seed: u64) -> ChaCha8Rng {
    eprintln!("seed {seed:#x}");
    ChaCha8Rng::seed_from_u64(seed)
}

fn peer(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn verdicts(seed: u64, now: Instant) -> Vec<Verdict> {
    let mut plan = Plan::new(rng(seed));
    plan.set_default_link(Link {
        loss: 0.2,
        delay: Duration::from_millis(5),
        jitter: Duration::from_millis(9),
        duplicate: 0.1,
    });
    (0..2_000).map(|i| plan.judge(now, peer(i % 7))).collect()
}

#[test]
fn the_same_seed_makes_the_same_decisions() {
    let now = Instant::now();
    let first = verdicts(SEED, now);
    assert_eq!(first, verdicts(SEED, now));
    assert_ne!(first, verdicts(SEED + 1, now));
}

#[test]
fn shares_and_times_are_as_asked() {
    let now = Instant::now();
    let (mut lost, mut again) = (0, 0);
    for verdict in verdicts(SEED, now) {
        match verdict {
            Verdict::Drop => lost += 1,
            Verdict::Send { at, again: copy } => {
                let waits = at - now;
                assert!((5..=14).contains(&waits.as_millis()), "{waits:?}");
                again += u32::from(copy.is_some());
            }
        }
    }
    assert!((320..480).contains(&lost), "{lost} of 2000 lost");
    assert!((110..210).contains(&again), "{again} of 1600 sent again");
}

#[test]
fn a_link_or_cut_is_for_one_destination_in_both_notations() {
    let now = Instant::now();
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), 1);
    let mut plan = Plan::new(rng(SEED));
    let pass = Verdict::Send { at: now, again: None };
    plan.cut(peer(1));
    plan.set_link(peer(2), Link { delay: IDLE, ..Link::default() });
    assert_eq!(plan.judge(now, mapped), Verdict::Drop);
    assert_eq!(plan.judge(now, peer(2)), Verdict::Send { at: now + IDLE, again: None });
    assert_eq!(plan.judge(now, peer(3)), pass);
    plan.heal(mapped);
    assert_eq!(plan.judge(now, peer(1)), pass);
    assert!(!plan.is_idle());
    plan.clear();
    assert!(plan.is_idle());
    assert_eq!((plan.tally.cut, plan.tally.passed), (1, 3));
}

#[test]
fn the_queue_is_ordered_and_bounded() {
    let now = Instant::now();
    let packet = |port| {
        Packet::copy(&Transmit {
            destination: peer(port),
            ecn: None,
            contents: &[0; 8],
            segment_size: None,
            src_ip: None,
        })
    };
    let mut queue = Queue::new(3);
    assert!(queue.push(now + IDLE, packet(3)) && queue.push(now, packet(1)) && queue.push(now, packet(2)));
    assert!(!queue.push(now, packet(4)));
    for port in [1, 2] {
        assert_eq!(queue.peek(now).map(|p| p.to.port()), Some(port));
        queue.pop();
    }
    assert!(queue.peek(now).is_none());
    assert_eq!(queue.due(), Some(now + IDLE));
}

/// One side of the pair: what it is, and the faults of what it sends.
struct Side {
    faults: Faults,
    endpoint: Endpoint,
    connection: Connection,
}

impl Side {
    fn addr(&self) -> SocketAddr {
        self.endpoint.local_addr().expect("bound")
    }

    async fn send(&self, data: &[u8]) {
        let mut stream = self.connection.open_uni().await.expect("open");
        stream.write_all(data).await.expect("write");
        stream.finish().expect("finish");
    }

    async fn receive(&self) -> Vec<u8> {
        let mut stream = self.connection.accept_uni().await.expect("accept");
        stream.read_to_end(1 << 20).await.expect("read")
    }
}

fn configs(idle: Duration) -> (ServerConfig, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["peer".to_owned()]).expect("certificate");
    let cert = made.cert.der().clone();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.clone()).expect("root");
    let mut server = ServerConfig::with_single_cert(vec![cert], key.into()).expect("server");
    let mut client = ClientConfig::with_root_certificates(Arc::new(roots)).expect("client");
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(idle.try_into().expect("fits")));
    let transport = Arc::new(transport);
    server.transport_config(transport.clone());
    client.transport_config(transport);
    (server, client)
}

fn endpoint(seed: u64, server: Option<ServerConfig>) -> (Faults, Endpoint) {
    let faults = Faults::new(rng(seed));
    let runtime = Arc::new(TokioRuntime);
    let bound = socket::bind(peer(0), socket::BUFFER_FLOOR).expect("bind");
    let socket = faults.wrap(runtime.wrap_udp_socket(bound.socket).expect("wrap"), runtime.clone());
    let endpoint = Endpoint::new_with_abstract_socket(EndpointConfig::default(), server, socket, runtime);
    (faults, endpoint.expect("endpoint"))
}

async fn pair(idle: Duration) -> (Side, Side) {
    let (server, client) = configs(idle);
    let (b_faults, b) = endpoint(SEED, Some(server));
    let (a_faults, a) = endpoint(SEED + 1, None);
    let dial = a.connect_with(client, b.local_addr().expect("bound"), "peer").expect("dial");
    let accept = async { b.accept().await.expect("open").await };
    let (to_b, to_a) = tokio::join!(dial, accept);
    let a = Side { faults: a_faults, endpoint: a, connection: to_b.expect("dialed") };
    let b = Side { faults: b_faults, endpoint: b, connection: to_a.expect("accepted") };
    (a, b)
}

#[tokio::test]
async fn silence_times_out_and_no_close_escapes() {
    let (a, b) = pair(IDLE).await;
    b.faults.silence();
    assert!(b.faults.is_silent());
    b.endpoint.close(7u8.into(), b"a dead process says nothing");
    a.send(b"anyone?").await;
    assert_eq!(a.connection.closed().await, ConnectionError::TimedOut);
    assert!(b.faults.tally().silenced > 1, "{:?}", b.faults.tally());
}

#[tokio::test]
async fn silence_lets_nothing_in() {
    let (a, b) = pair(IDLE).await;
    b.faults.silence();
    a.send(b"anyone?").await;
    assert_eq!(b.connection.accept_uni().await.expect_err("deaf"), ConnectionError::TimedOut);
}

#[tokio::test]
async fn without_silence_the_close_arrives() {
    let (a, b) = pair(PATIENT).await;
    b.faults.silence();
    b.faults.unsilence();
    b.endpoint.close(7u8.into(), b"");
    assert!(matches!(a.connection.closed().await, ConnectionError::ApplicationClosed(_)));
}

#[tokio::test]
async fn a_cut_lets_the_other_direction_through_and_heals() {
    let (a, b) = pair(PATIENT).await;
    a.faults.cut(b.addr());
    b.send(b"still heard").await;
    assert_eq!(a.receive().await, b"still heard");
    a.send(b"late").await;
    assert!(a.faults.tally().cut > 0);
    a.faults.heal(b.addr());
    assert_eq!(b.receive().await, b"late");
}

#[tokio::test]
async fn the_far_side_of_a_cut_times_out() {
    let (a, b) = pair(IDLE).await;
    a.faults.cut(b.addr());
    assert_eq!(b.connection.closed().await, ConnectionError::TimedOut);
}

#[tokio::test]
async fn a_transfer_completes_over_heavy_loss_and_duplicates() {
    let (a, b) = pair(PATIENT).await;
    let link = Link { loss: 0.2, duplicate: 0.1, ..Link::default() };
    a.faults.set_default_link(link);
    b.faults.set_link(a.addr(), link);
    let data: Vec<u8> = (0..200_000u32).map(|i| i.to_le_bytes()[1]).collect();
    let (_, got) = tokio::join!(a.send(&data), b.receive());
    assert!(got == data, "{} bytes", got.len());
    let tally = a.faults.tally();
    assert!(tally.lost > 10 && tally.duplicated > 5, "{tally:?}");
}

#[tokio::test]
async fn delay_is_added_to_a_round_trip() {
    let (a, b) = pair(PATIENT).await;
    let delay = Duration::from_millis(40);
    a.faults.set_link(b.addr(), Link { delay, ..Link::default() });
    b.faults.set_default_link(Link { delay, jitter: delay / 4, ..Link::default() });
    let start = Instant::now();
    a.send(b"ping").await;
    assert_eq!(b.receive().await, b"ping");
    b.send(b"pong").await;
    assert_eq!(a.receive().await, b"pong");
    let took = start.elapsed();
    assert!(took >= 2 * delay, "{took:?}");
}

/// A wrapped socket that nobody but its own reader keeps awake, with one datagram held for `delay`,
/// and the socket that it is for.
async fn one_held(delay: Duration) -> (Faults, tokio::net::UdpSocket) {
    let runtime = Arc::new(TokioRuntime);
    let bind = || socket::bind(peer(0), socket::BUFFER_FLOOR).expect("bind");
    let (from, to) = (bind(), bind());
    let faults = Faults::new(rng(SEED));
    faults.set_default_link(Link { delay, ..Link::default() });
    let wrapped = faults.wrap(runtime.wrap_udp_socket(from.socket).expect("wrap"), runtime);
    let reader = wrapped.clone();
    tokio::spawn(async move {
        let (mut buf, mut meta) = ([0; 2048], [RecvMeta::default()]);
        std::future::poll_fn(|cx| reader.poll_recv(cx, &mut [IoSliceMut::new(&mut buf)], &mut meta)).await
    });
    tokio::task::yield_now().await;
    let datagram =
        Transmit { destination: to.local, ecn: None, contents: b"held", segment_size: None, src_ip: None };
    wrapped.try_send(&datagram).expect("held");
    (faults, tokio::net::UdpSocket::from_std(to.socket).expect("tokio"))
}

#[tokio::test]
async fn a_held_datagram_leaves_without_other_traffic() {
    let (_, to) = one_held(Duration::from_millis(20)).await;
    let mut buf = [0; 8];
    let got = tokio::time::timeout(PATIENT, to.recv(&mut buf)).await.expect("in time").expect("received");
    assert_eq!(&buf[..got], b"held");
}

#[tokio::test]
async fn a_held_datagram_does_not_survive_silence() {
    let (faults, to) = one_held(Duration::from_millis(20)).await;
    faults.silence();
    let dropped = async {
        while faults.tally().silenced == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENT, dropped).await.expect("dropped");
    assert!(to.try_recv(&mut [0; 8]).is_err());
}

#[tokio::test]
async fn bursts_are_offered_only_while_no_fault_is_in_force() {
    let faults = Faults::new(rng(SEED));
    let runtime = Arc::new(TokioRuntime);
    let bound = socket::bind(peer(0), socket::BUFFER_FLOOR).expect("bind");
    let plain = runtime.wrap_udp_socket(bound.socket).expect("wrap");
    let wrapped = faults.wrap(plain.clone(), runtime);
    assert_eq!(wrapped.max_transmit_segments(), plain.max_transmit_segments());
    faults.cut(peer(1));
    assert_eq!(wrapped.max_transmit_segments(), 1);
    faults.clear();
    assert_eq!(wrapped.max_transmit_segments(), plain.max_transmit_segments());
}
