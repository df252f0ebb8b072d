//! Endpoints on loopback and the connections between them.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig, TokioRuntime,
};
use socket2::{Domain, Socket, Type};

use super::Settings;
use super::tls::{Identity, Spki};

/// One endpoint that dials and accepts.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) identity: Identity,
    pub(crate) endpoint: Endpoint,
    pub(crate) addr: SocketAddr,
    settings: Settings,
}

impl Node {
    /// Binds `identity` to a free port; it accepts the owners of `peers`.
    pub(crate) fn start(settings: &Settings, identity: Identity, peers: HashSet<Spki>) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("socket");
        socket.set_send_buffer_size(settings.socket_buffer).expect("send buffer");
        socket.set_recv_buffer_size(settings.socket_buffer).expect("receive buffer");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        let mut server = ServerConfig::with_crypto(Arc::new(identity.server(peers)));
        server.transport_config(settings.transport(false));
        let runtime = Arc::new(TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(server), socket.into(), runtime)
            .expect("an endpoint");
        let addr = endpoint.local_addr().expect("a bound socket");
        Self { identity, endpoint, addr, settings: *settings }
    }

    /// What is needed to dial the owner of `peer`: made once, used for each dial.
    pub(crate) fn dialer(&self, peer: &Spki) -> ClientConfig {
        let mut config = ClientConfig::new(Arc::new(self.identity.client(peer)));
        config.transport_config(self.settings.transport(true));
        config
    }

    /// Connects to `peer`, which must be accepting.
    pub(crate) async fn dial(&self, peer: &Self) -> (Connection, Connection) {
        let dialed =
            self.endpoint.connect_with(self.dialer(&peer.identity.spki), peer.addr, "raw").expect("dial");
        let accepted = async { peer.endpoint.accept().await.expect("open endpoint").await };
        let (dialed, accepted) = tokio::join!(dialed, accepted);
        (dialed.expect("handshake"), accepted.expect("handshake"))
    }
}

/// A hub and its peers, who know each other.
pub(crate) fn star(settings: &Settings, peers: usize) -> (Node, Vec<Node>) {
    let hub = Identity::generate();
    let peers: Vec<Identity> = (0..peers).map(|_| Identity::generate()).collect();
    let known = peers.iter().map(|peer| peer.spki.clone()).collect();
    let only_hub = HashSet::from([hub.spki.clone()]);
    let peers = peers.into_iter().map(|peer| Node::start(settings, peer, only_hub.clone())).collect();
    (Node::start(settings, hub, known), peers)
}

/// A bidirectional stream and its far end. A stream is visible to the far side once it carries
/// something, so each side has sent and received `b"hello"`.
pub(crate) async fn stream(
    near: &Connection,
    far: &Connection,
) -> ((SendStream, RecvStream), (SendStream, RecvStream)) {
    let open = async {
        let (mut send, mut recv) = near.open_bi().await.expect("open");
        greet(&mut send, &mut recv).await;
        (send, recv)
    };
    let accept = async {
        let (mut send, mut recv) = far.accept_bi().await.expect("accept");
        greet(&mut send, &mut recv).await;
        (send, recv)
    };
    tokio::join!(open, accept)
}

/// One exchange: sends a greeting and takes the other's.
pub(crate) async fn greet(send: &mut SendStream, recv: &mut RecvStream) {
    let mut heard = [0; 5];
    send.write_all(b"hello").await.expect("write");
    recv.read_exact(&mut heard).await.expect("read");
    assert_eq!(&heard, b"hello");
}
