//! A UDP socket that obeys [`Faults`].
//!
//! Sending asks the plan; what must wait goes to a bounded queue. The queue is emptied by whoever
//! polls the socket for arrivals, which an endpoint does for as long as it lives: no task of its own.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, UdpPoller};

use super::plan::Verdict;
use super::queue::{Packet, Queue};
use super::{Faults, MAX_HELD};

/// The wrapper that [`Faults::wrap`] returns.
pub(super) struct FaultSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    runtime: Arc<dyn Runtime>,
    faults: Faults,
    pump: Mutex<Pump>,
}

/// What is needed to send the held packets in their time.
struct Pump {
    queue: Queue,
    timer: Option<Pin<Box<dyn AsyncTimer>>>,
    writable: Pin<Box<dyn UdpPoller>>,
    /// Whoever polls for arrivals, to be told when the first due time changes.
    driver: Option<Waker>,
}

impl FaultSocket {
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, runtime: Arc<dyn Runtime>, faults: Faults) -> Self {
        let pump = Pump {
            queue: Queue::new(MAX_HELD),
            timer: None,
            writable: inner.clone().create_io_poller(),
            driver: None,
        };
        Self { inner, runtime, faults, pump: Mutex::new(pump) }
    }

    /// Sends one datagram, never more, as the plan says.
    fn send_one(&self, now: Instant, datagram: &Transmit<'_>) -> io::Result<()> {
        let Verdict::Send { at, again } = self.faults.plan().judge(now, datagram.destination) else {
            return Ok(());
        };
        for at in [Some(at), again].into_iter().flatten() {
            if at > now {
                self.hold(at, datagram);
                continue;
            }
            match self.inner.try_send(datagram) {
                // The caller would send it again and it would be judged twice.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.hold(at, datagram),
                other => other?,
            }
        }
        Ok(())
    }

    fn hold(&self, at: Instant, datagram: &Transmit<'_>) {
        let packet = Packet::copy(datagram);
        let driver = {
            let mut pump = self.pump();
            let first = pump.queue.due();
            if !pump.queue.push(at, packet) {
                drop(pump);
                self.faults.plan().tally.overflowed += 1;
                return;
            }
            if first.is_some_and(|first| first <= at) { None } else { pump.driver.take() }
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Sends what is due and arms the timer for what is not.
    fn drive(&self, cx: &mut Context<'_>) {
        let pump = &mut *self.pump();
        if !pump.driver.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            pump.driver = Some(cx.waker().clone());
        }
        loop {
            let now = self.runtime.now();
            while let Some(packet) = pump.queue.peek(now) {
                if self.faults.plan().may_leave(packet.to) {
                    match self.inner.try_send(&packet.transmit()) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            if pump.writable.as_mut().poll_writable(cx).is_pending() {
                                return;
                            }
                            continue;
                        }
                        // A datagram that cannot be sent is a datagram lost.
                        Ok(()) | Err(_) => {}
                    }
                }
                pump.queue.pop();
            }
            let Some(due) = pump.queue.due() else { return };
            let timer = pump.timer.get_or_insert_with(|| self.runtime.new_timer(due));
            timer.as_mut().reset(due);
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }

    fn pump(&self) -> std::sync::MutexGuard<'_, Pump> {
        self.pump.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncUdpSocket for FaultSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if !self.faults.is_armed() {
            return self.inner.try_send(transmit);
        }
        let now = self.runtime.now();
        // A burst may have been built before the first fault was asked for.
        let one = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for contents in transmit.contents.chunks(one) {
            self.send_one(now, &Transmit { contents, segment_size: None, ..*transmit })?;
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.drive(cx);
        loop {
            let arrived = std::task::ready!(self.inner.poll_recv(cx, bufs, meta))?;
            if !self.faults.is_armed() {
                return Poll::Ready(Ok(arrived));
            }
            let datagrams = meta[..arrived].iter().map(|m| m.len.div_ceil(m.stride.max(1)) as u64).sum();
            if self.faults.plan().may_arrive(datagrams) {
                return Poll::Ready(Ok(arrived));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        if self.faults.is_armed() { 1 } else { self.inner.max_transmit_segments() }
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl fmt::Debug for FaultSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultSocket").field("inner", &self.inner).finish_non_exhaustive()
    }
}
