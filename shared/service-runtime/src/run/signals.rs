//! SIGINT and SIGTERM: the first stops the service, the second exits at once.
//!
//! Until the service runs there is nothing to stop, and the first exits at once. The signals have a thread of their own,
//! so that neither reading the settings nor a runtime whose threads are blocked keeps them from being heard.

use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// What this process does about signals; its first use installs the handlers.
static SIGNALS: LazyLock<io::Result<Arc<Signals>>> = LazyLock::new(Signals::install);

/// Takes SIGINT and SIGTERM over: to be the first instruction of `main`.
///
/// The kernel drops a signal for the first process of a container while the signal has no handler.
pub fn hear_signals() {
    LazyLock::force(&SIGNALS);
}

/// Returns what the first signal cancels from here on.
///
/// # Errors
///
/// When the process may not handle signals.
pub(crate) fn stop_token() -> Result<CancellationToken, &'static io::Error> {
    let signals = SIGNALS.as_ref()?;
    signals.is_running.store(true, Ordering::SeqCst);
    Ok(signals.stop.clone())
}

#[derive(Default)]
struct Signals {
    /// Whether there is a service to stop.
    is_running: AtomicBool,
    stop: CancellationToken,
}

impl Signals {
    fn install() -> io::Result<Arc<Self>> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let (interrupt, terminate) = {
            let _entered = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        let signals = Arc::new(Self::default());
        let watched = Arc::clone(&signals);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(watched.watch(interrupt, terminate)))?;
        Ok(signals)
    }

    /// Cancels `stop` at the first signal and ends the process at the second, with the shell's exit code for it.
    async fn watch(&self, mut interrupt: Signal, mut terminate: Signal) {
        let (name, exit_code) = next(&mut interrupt, &mut terminate).await;
        if !self.is_running.load(Ordering::SeqCst) {
            process::exit(exit_code);
        }
        info!(signal = name, "stopping; a second signal exits at once");
        self.stop.cancel();
        let (name, exit_code) = next(&mut interrupt, &mut terminate).await;
        warn!(signal = name, "exiting at once");
        process::exit(exit_code);
    }
}

/// Waits for the next signal and returns its name and exit code.
async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> (&'static str, i32) {
    tokio::select! {
        _ = interrupt.recv() => ("SIGINT", 130),
        _ = terminate.recv() => ("SIGTERM", 143),
    }
}
