//! The UDP socket under an endpoint, with kernel buffers large enough for a burst of handshakes.
//!
//! The kernel's default buffers hold about 32 handshakes; what does not fit is lost without an
//! error, and the dialer waits a second before it tries again. The kernel may also grant less than
//! was asked, again without an error, so what was granted is read back for the caller to judge.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of buffer in each direction below which simultaneous handshakes lose packets.
pub(crate) const BUFFER_FLOOR: usize = 1024 * 1024;

/// Most bytes of buffer in each direction that [`bind`] asks for: beyond it a buffer only adds queue.
pub(crate) const BUFFER_CEILING: usize = 4 * 1024 * 1024;

/// Linux doubles what it is asked for, to pay for its own bookkeeping, and reports the double.
const REPORTED_PER_GRANTED: usize = if cfg!(target_os = "linux") { 2 } else { 1 };

/// Why a socket could not be bound. All of these are local faults.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The system refused a UDP socket of this address family.
    #[error("cannot open a udp socket for {addr}")]
    Open {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The address is taken, not ours, or needs a privilege.
    #[error("cannot bind a udp socket to {addr}")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A bound, non-blocking socket and what the kernel granted it.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The socket, ready to be given to a runtime.
    pub(crate) socket: UdpSocket,
    /// Where it is bound, with the port that the system chose when 0 was asked for.
    pub(crate) local: SocketAddr,
    /// Bytes of send buffer granted.
    pub(crate) send_buffer: usize,
    /// Bytes of receive buffer granted.
    pub(crate) recv_buffer: usize,
    /// Whether it also reaches IPv4 peers although it is an IPv6 socket.
    pub(crate) dual_stack: bool,
}

impl Bound {
    /// Whether both buffers have at least [`BUFFER_FLOOR`] bytes.
    pub(crate) fn is_roomy(&self) -> bool {
        self.send_buffer.min(self.recv_buffer) >= BUFFER_FLOOR
    }
}

/// Binds a UDP socket to `addr` and asks for `want` bytes of buffer in each direction, at most
/// [`BUFFER_CEILING`].
///
/// A smaller grant is not an error: see [`Bound::is_roomy`]. An IPv6 socket is made dual-stack where
/// the system allows it.
///
/// # Errors
///
/// [`SocketError`] when the system refuses the socket or the address.
pub(crate) fn bind(addr: SocketAddr, want: usize) -> Result<Bound, SocketError> {
    let open = |source| SocketError::Open { addr, source };
    let bind = |source| SocketError::Bind { addr, source };

    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP)).map_err(open)?;
    socket.set_nonblocking(true).map_err(open)?;
    let dual_stack = addr.is_ipv6() && socket.set_only_v6(false).is_ok();

    let want = want.min(BUFFER_CEILING);
    // A refusal shows in what is read back.
    let _ = socket.set_send_buffer_size(want);
    let _ = socket.set_recv_buffer_size(want);
    let send_buffer = socket.send_buffer_size().map_err(open)? / REPORTED_PER_GRANTED;
    let recv_buffer = socket.recv_buffer_size().map_err(open)? / REPORTED_PER_GRANTED;

    socket.bind(&addr.into()).map_err(bind)?;
    let socket = UdpSocket::from(socket);
    let local = socket.local_addr().map_err(bind)?;
    Ok(Bound { socket, local, send_buffer, recv_buffer, dual_stack })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const V4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn reports_what_was_granted_and_not_its_double() {
        let want = 64 * 1024;
        let bound = bind(V4, want).expect("loopback");
        assert_eq!((bound.send_buffer, bound.recv_buffer), (want, want));
        assert!(!bound.is_roomy());
        assert_ne!(bound.local.port(), 0);
    }

    #[test]
    fn never_asks_for_more_than_the_ceiling() {
        let bound = bind(V4, usize::MAX).expect("loopback");
        assert!(bound.send_buffer <= BUFFER_CEILING && bound.recv_buffer <= BUFFER_CEILING);
    }

    #[test]
    fn a_taken_port_is_a_bind_error_that_names_it() {
        let first = bind(V4, BUFFER_FLOOR).expect("loopback");
        let error = bind(first.local, BUFFER_FLOOR).expect_err("taken");
        assert!(matches!(error, SocketError::Bind { addr, .. } if addr == first.local), "{error:?}");
    }

    #[test]
    fn a_v6_socket_hears_v4() {
        let Ok(bound) = bind((Ipv6Addr::UNSPECIFIED, 0).into(), BUFFER_FLOOR) else {
            return; // no IPv6 here
        };
        assert!(bound.dual_stack);
        bound.socket.set_nonblocking(false).expect("blocking");
        let sender = bind(V4, BUFFER_FLOOR).expect("loopback");
        sender.socket.send_to(b"x", (Ipv4Addr::LOCALHOST, bound.local.port())).expect("send");
        let (len, from) = bound.socket.recv_from(&mut [0; 8]).expect("receive");
        assert_eq!((len, from.ip().to_canonical(), from.port()), (1, V4.ip(), sender.local.port()));
    }
}
