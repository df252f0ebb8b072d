//! The endpoint: one UDP socket that dials and accepts verified connections.
//!
//! Dialing and accepting both end in [`Ready`] or in a typed error. The accept loop itself never
//! awaits a handshake: [`Endpoint::accept`] hands out [`Attempt`]s, which the caller completes in
//! tasks of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::accept::Attempt;
use super::close::{CloseCode, Lost, lost};
use super::config::{TransportConfig, TransportConfigError};
use super::connection::{Connection, Introduction, Ready, Side};
use super::gate::{Gate, Limits, Verdict};
use super::hello::{self, HelloError};
use super::lane::Lane;
use super::reset_key::ResetKey;
use super::socket::{self, BUFFER_FLOOR, SocketError};
use super::tls::{self, Expect, HelloClaim, HelloProof, Role, Tls};
use crate::id::NodeId;
use crate::identity::Identity;
use crate::wire::{Hello, Kind};

/// The endpoint of one node; clones are the same endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    inner: quinn::Endpoint,
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) tls: Tls,
    pub(super) identity: Identity,
    pub(super) realm: String,
    pub(super) config: TransportConfig,
    pub(super) dialer: Arc<quinn::TransportConfig>,
    pub(super) gate: Arc<Gate>,
    reach: Reach,
}

/// The address families that the socket can send to.
#[derive(Debug, Clone, Copy)]
struct Reach {
    v4: bool,
    v6: bool,
}

/// Where and as whom an endpoint is to be.
pub(crate) struct Bind {
    pub(crate) listen: SocketAddr,
    pub(crate) identity: Identity,
    pub(crate) tls: Tls,
    pub(crate) realm: String,
    pub(crate) config: TransportConfig,
    /// Faults that the socket is under.
    #[cfg(feature = "test-util")]
    pub(crate) faults: Option<super::fault::Faults>,
}

/// Why an endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] TransportConfigError),
    /// The socket could not be bound.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The socket could not be given to the runtime, which must be tokio.
    #[error("the socket cannot be driven by this runtime")]
    Runtime(#[source] std::io::Error),
}

/// Why a dial to one address failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// The address cannot be reached from this node's socket, or is not valid.
    #[error("the address cannot be dialed")]
    Address,
    /// The identity mode of the node cannot dial this address.
    #[error(transparent)]
    Trust(#[from] tls::ExpectError),
    /// The connection was refused, lost, or timed out during the handshake or HELLO.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// This node refused the acceptor's HELLO.
    #[error("this node refused the answer to HELLO: {0}")]
    Hello(CloseCode),
}

impl Endpoint {
    /// Binds the socket; dials and attempts are possible from then on.
    ///
    /// # Errors
    ///
    /// [`BindError`] when the configuration, the address or the runtime will not do.
    pub(crate) fn bind(bind: Bind) -> Result<Self, BindError> {
        bind.config.check()?;
        let bound = socket::bind(bind.listen, bind.config.socket_buffer)?;
        if !bound.is_roomy() {
            tracing::warn!(
                granted = bound.send_buffer.min(bound.recv_buffer),
                wanted = BUFFER_FLOOR,
                "small udp buffers lose packets under load: raise net.core.rmem_max and net.core.wmem_max"
            );
        }
        let config = bind.config.endpoint(Arc::new(ResetKey::of(&bind.identity)))?;
        let server = bind.config.server(bind.tls.server());
        let runtime: Arc<dyn quinn::Runtime> = Arc::new(quinn::TokioRuntime);
        let socket = runtime.wrap_udp_socket(bound.socket).map_err(BindError::Runtime)?;
        #[cfg(feature = "test-util")]
        let socket = match &bind.faults {
            Some(faults) => faults.wrap(socket, Arc::clone(&runtime)),
            None => socket,
        };
        let inner = quinn::Endpoint::new_with_abstract_socket(config, Some(server), socket, runtime)
            .map_err(BindError::Runtime)?;
        let reach = Reach { v4: bound.local.is_ipv4() || bound.dual_stack, v6: bound.local.is_ipv6() };
        Ok(Self::new(inner, bind.identity, bind.tls, bind.realm, bind.config, reach))
    }

    fn new(
        inner: quinn::Endpoint,
        identity: Identity,
        tls: Tls,
        realm: String,
        config: TransportConfig,
        reach: Reach,
    ) -> Self {
        let gate = Gate::new(Limits {
            total: config.handshakes_max,
            per_ip: config.handshakes_per_ip,
            retry_above: config.retry_above,
        });
        let dialer = config.quinn(true);
        Self { inner, shared: Arc::new(Shared { tls, identity, realm, config, dialer, gate, reach }) }
    }

    /// The same socket for dials as somebody else, whose connections are too short to look for a larger
    /// MTU.
    #[cfg(feature = "baseline")]
    pub(crate) fn under(&self, identity: Identity, tls: Tls) -> Self {
        let shared = &self.shared;
        let (realm, mut config) = (shared.realm.clone(), shared.config.clone());
        config.mtu_max = TransportConfig::MTU_FLOOR;
        Self::new(self.inner.clone(), identity, tls, realm, config, shared.reach)
    }

    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.local_addr().ok()
    }

    /// Dials `remote` and returns once the acceptor has answered HELLO.
    ///
    /// Cancel safe: a dropped future abandons the attempt.
    pub(crate) async fn dial(
        &self,
        remote: SocketAddr,
        expect: Expect<'_>,
        hello: &Hello,
    ) -> Result<Ready, AttemptError> {
        self.dial_with(remote, expect, hello, None).await.map(|(ready, _)| ready)
    }

    /// As [`dial`](Self::dial), and writes `first` on a stream of its own right behind HELLO, which the
    /// acceptor reads once it has accepted HELLO. Returns that stream.
    pub(crate) async fn dial_with(
        &self,
        remote: SocketAddr,
        expect: Expect<'_>,
        hello: &Hello,
        first: Option<Bytes>,
    ) -> Result<(Ready, Option<Lane>), AttemptError> {
        let shared = &self.shared;
        let reachable = if remote.is_ipv4() { shared.reach.v4 } else { shared.reach.v6 };
        if !reachable {
            return Err(AttemptError::Address);
        }
        let (crypto, name) = shared.tls.dial(expect)?;
        let mut config = quinn::ClientConfig::new(crypto);
        config.transport_config(Arc::clone(&shared.dialer));
        let connecting = self.inner.connect_with(config, remote, &name).map_err(|_| AttemptError::Address)?;
        let connection = establish(connecting, shared.config.handshake_timeout).await?;
        let guard = CloseOnDrop::new(connection.clone());
        let ready = self.greet(connection, expect, hello, first).await?;
        guard.disarm();
        Ok(ready)
    }

    async fn greet(
        &self,
        connection: Connection,
        expect: Expect<'_>,
        hello: &Hello,
        first: Option<Bytes>,
    ) -> Result<(Ready, Option<Lane>), AttemptError> {
        let shared = &self.shared;
        let mut hello = hello.clone();
        hello.observed = Some(connection.remote().to_string());
        let patience = shared.config.hello_timeout;
        let asked = ask(&connection, &hello, first, patience).await;
        let (mut control, first) = asked.map_err(|error| self.dial_failure(&connection, error))?;
        let (answer, decoder) = hello::greet(&mut control, &hello, patience)
            .await
            .map_err(|error| self.dial_failure(&connection, error))?;
        let peer = match expect {
            Expect::Public(_) => self.proved(&connection, &answer),
            Expect::Node(_) | Expect::Realm => tls::peer_id(connection.inner()),
        };
        let Some(peer) = peer else {
            connection.close(CloseCode::Proof);
            return Err(AttemptError::Hello(CloseCode::Proof));
        };
        shared.config.raise(connection.inner());
        let dial = hello.dial;
        let intro = Introduction { connection, peer, dialer: Side::Us, hello: answer, dial };
        Ok((Ready { intro, control, decoder }, first))
    }

    /// The node that answered a public dial, if its proof holds and it may connect.
    fn proved(&self, connection: &Connection, answer: &Hello) -> Option<NodeId> {
        let shared = &self.shared;
        let proof = HelloProof::from_bytes(answer.proof.as_ref()?)?;
        let claim = HelloClaim {
            role: Role::Acceptor,
            realm: &shared.realm,
            prover: proof.prover(),
            verifier: shared.identity.node_id(),
            boot: answer.boot,
        };
        proof.verify(connection.inner(), &claim).ok()?;
        Some(proof.prover()).filter(|prover| shared.tls.admits(prover))
    }

    /// A HELLO that the acceptor cut short is told by the close of its connection.
    fn dial_failure(&self, connection: &Connection, error: HelloError) -> AttemptError {
        if let Some(error) = connection.inner().close_reason() {
            return lost(&error).into();
        }
        let code = match error {
            HelloError::Lost(lost) => return lost.into(),
            HelloError::Timeout => CloseCode::HelloTimeout,
            HelloError::Refused(code) => code,
        };
        connection.close(code);
        AttemptError::Hello(code)
    }

    /// The next attempt that passes the gate; `None` once the endpoint is closed. Cancel safe.
    pub(crate) async fn accept(&self) -> Option<Attempt> {
        loop {
            let incoming = self.inner.accept().await?;
            let validated = incoming.remote_address_validated();
            match self.shared.gate.judge(incoming.remote_address().ip(), validated) {
                Verdict::Enter(permit) => {
                    return Some(Attempt { incoming, permit, shared: Arc::clone(&self.shared) });
                }
                Verdict::Retry if incoming.may_retry() => drop(incoming.retry()),
                Verdict::Retry | Verdict::Ignore => incoming.ignore(),
            }
        }
    }

    /// Closes every connection with `code` and refuses new ones.
    pub(crate) fn close(&self, code: CloseCode) {
        self.inner.close(quinn::VarInt::from_u32(code.to_u32()), code.text().as_bytes());
    }

    /// Returns when the peers have been told of the close, or quinn gave up telling them.
    pub(crate) async fn wait_idle(&self) {
        self.inner.wait_idle().await;
    }
}

/// Opens the control lane with HELLO, and a stream with `first` behind it.
async fn ask(
    connection: &Connection,
    hello: &Hello,
    first: Option<Bytes>,
    patience: Duration,
) -> Result<(Lane, Option<Lane>), HelloError> {
    let mut control = connection.open(patience).await?;
    hello::send(&mut control, Kind::Hello, hello).await?;
    let Some(first) = first else { return Ok((control, None)) };
    let mut lane = connection.open(patience).await?;
    lane.send.write(first).await?;
    Ok((control, Some(lane)))
}

pub(super) async fn establish(connecting: quinn::Connecting, patience: Duration) -> Result<Connection, Lost> {
    match timeout(patience, connecting).await {
        Ok(Ok(connection)) => Ok(Connection::new(connection)),
        Ok(Err(error)) => Err(lost(&error)),
        Err(_) => Err(Lost::TimedOut),
    }
}

/// Closes a connection whose set-up was given up half-way, so that the peer need not wait.
#[derive(Debug)]
pub(super) struct CloseOnDrop(Option<Connection>);

impl CloseOnDrop {
    pub(super) fn new(connection: Connection) -> Self {
        Self(Some(connection))
    }

    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.close(CloseCode::Protocol);
        }
    }
}
