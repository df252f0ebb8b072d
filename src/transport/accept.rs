//! The accepting side of a connection: from the first packet to HELLO_ACK.
//!
//! The accept loop hands out [`Attempt`]s and never waits for one; whoever completes it decides about the
//! [`Greeting`] before it is answered.

use std::sync::Arc;

use tokio::time::timeout;

use super::close::{CloseCode, Lost, lost};
use super::connection::{Introduction, Ready, Side};
use super::endpoint::{CloseOnDrop, Shared, establish};
use super::gate::Permit;
use super::hello::{self, HelloError};
use super::lane::Lane;
use super::tls::{self, HelloClaim, HelloProof, Role};
use crate::wire::{Decoder, HELLO_PROOF_LEN, Hello, Kind};

/// An attempt of a peer to connect.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(super) incoming: quinn::Incoming,
    pub(super) permit: Permit,
    pub(super) shared: Arc<Shared>,
}

/// A peer that has shaken hands and said HELLO, and waits for the answer.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) intro: Introduction,
    control: Lane,
    decoder: Decoder,
    guard: CloseOnDrop,
    permit: Permit,
    shared: Arc<Shared>,
}

impl Attempt {
    /// Answers that nobody is served here.
    pub(crate) fn refuse(self) {
        self.incoming.refuse();
    }

    /// Completes the handshake and reads HELLO; no other stream is read before.
    pub(crate) async fn greeting(self) -> Result<Greeting, Lost> {
        let Self { incoming, permit, shared } = self;
        let connecting = incoming.accept().map_err(|error| lost(&error))?;
        let connection = establish(connecting, shared.config.handshake_timeout).await?;
        let guard = CloseOnDrop::new(connection.clone());
        let refuse = |code: CloseCode| {
            connection.close(code);
            Lost::ByUs(code)
        };
        let peer = tls::peer_id(connection.inner()).ok_or_else(|| refuse(CloseCode::Protocol))?;
        let greeting = hello::await_greeting(&connection, &shared.realm, shared.config.hello_timeout).await;
        let (control, hello, decoder) = greeting.map_err(|error| match error {
            HelloError::Timeout => refuse(CloseCode::HelloTimeout),
            HelloError::Refused(code) => refuse(code),
            HelloError::Lost(lost) => lost,
        })?;
        let dial = hello.dial;
        let intro = Introduction { connection, peer, dialer: Side::Them, hello, dial };
        Ok(Greeting { intro, control, decoder, guard, permit, shared })
    }
}

impl Shared {
    /// Proves this node to a peer that dialed its public name.
    fn prove(&self, intro: &Introduction, answer: &Hello) -> Option<[u8; HELLO_PROOF_LEN]> {
        let claim = HelloClaim {
            role: Role::Acceptor,
            realm: &self.realm,
            prover: self.identity.node_id(),
            verifier: intro.peer,
            boot: answer.boot,
        };
        let proof = HelloProof::new(intro.connection.inner(), &self.identity, &claim).ok()?;
        Some(proof.to_bytes())
    }
}

impl Greeting {
    /// Closes the connection with `code` in place of an answer.
    pub(crate) fn refuse(self, code: CloseCode) {
        self.intro.connection.close(code);
    }

    /// Answers HELLO with `hello`, after which the connection is Ready on this side.
    pub(crate) async fn welcome(mut self, hello: &Hello) -> Result<Ready, Lost> {
        let mut answer = hello.clone();
        let connection = &self.intro.connection;
        answer.observed = Some(connection.remote().to_string());
        answer.dial = self.intro.dial;
        if self.shared.tls.answers_publicly() {
            answer.proof = self.shared.prove(&self.intro, &answer);
        }
        self.shared.config.raise(connection.inner());
        // A dialer that gives the stream no credit would keep its place at the gate for as long as it likes.
        let patience = self.shared.config.hello_timeout;
        match timeout(patience, hello::send(&mut self.control, Kind::HelloAck, &answer)).await {
            Ok(Ok(())) => {}
            Ok(Err(HelloError::Lost(lost))) => return Err(lost),
            Ok(Err(_)) => return Err(Lost::ByUs(CloseCode::Protocol)),
            Err(_) => {
                self.intro.connection.close(CloseCode::HelloTimeout);
                return Err(Lost::ByUs(CloseCode::HelloTimeout));
            }
        }
        self.guard.disarm();
        drop(self.permit);
        Ok(Ready { intro: self.intro, control: self.control, decoder: self.decoder })
    }
}
