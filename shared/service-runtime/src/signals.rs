//! SIGINT and SIGTERM: the first asks the service to stop, the second exits at once.

use std::io;
use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Listens for the signals that end a service.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Takes the signals over; from here on they no longer end the process by themselves.
    ///
    /// # Errors
    ///
    /// When the process may not handle signals.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Cancels `stop` at the first signal and ends the process at the second, with the shell's exit code for it.
    pub(crate) async fn watch(mut self, stop: CancellationToken) {
        let (name, _) = self.next().await;
        info!(signal = name, "stopping; a second signal exits at once");
        stop.cancel();
        let (name, exit_code) = self.next().await;
        warn!(signal = name, "exiting at once");
        process::exit(exit_code);
    }

    /// Waits for the next signal and returns its name and exit code.
    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", 130),
            _ = self.terminate.recv() => ("SIGTERM", 143),
        }
    }
}
