//! Being told to stop: the first signal ends the run and keeps its results, the second ends the process.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The signal that ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    /// The exit code of a process that the signal stopped.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Whether a signal has come.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Option<Signal>>);

impl Stop {
    /// Listens to SIGINT and SIGTERM from now on.
    pub fn listen() -> std::io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let signal = tokio::select! {
                    _ = interrupt.recv() => Signal::Interrupt,
                    _ = terminate.recv() => Signal::Terminate,
                };
                if sender.borrow().is_some() {
                    std::process::exit(signal.exit_code().into());
                }
                sender.send_replace(Some(signal));
            }
        });
        Ok(Self(receiver))
    }

    /// A stop that comes when the test says so.
    #[cfg(test)]
    pub fn manual() -> (watch::Sender<Option<Signal>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    pub fn signal(&self) -> Option<Signal> {
        *self.0.borrow()
    }

    /// Waits for a signal.
    pub async fn wait(&mut self) -> Signal {
        match self.0.wait_for(Option::is_some).await.map(|signal| *signal) {
            Ok(Some(signal)) => signal,
            _ => std::future::pending().await,
        }
    }
}
