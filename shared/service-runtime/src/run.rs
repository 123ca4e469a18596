//! The shared main: signals, settings, telemetry, runtime, HTTP server, the service, its exit code.
//!
//! ```text
//! signals ─┬─→ exit 130, 143     ┌────────────────────── Context::stop ─┐
//!          └─────────────────────┘                                      ▼
//! environment ─→ settings ─→ telemetry ─→ runtime ─┬─ the service ─→ exit 0 or 1
//!                   │ violations                   └─ HTTP server ←─ Context::health, Context::metrics
//!                   └─→ exit 64
//! ```

use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::context::Context;
use crate::http::{self, probe};
use crate::metrics::Metrics;
use crate::settings::{Environment, FromSettings, RuntimeSettings, load_with_changes};
#[cfg(feature = "otlp")]
use crate::spans::Spans;
use crate::telemetry::{self, Console, Stream};

pub use self::arguments::explain;
pub use self::signals::hear_signals;

mod arguments;
mod signals;

/// The exit code for settings that are not usable, `EX_USAGE` of sysexits.
const EXIT_BAD_SETTINGS: u8 = 64;

/// The exit code of a service that failed.
const EXIT_FAILED: u8 = 1;

/// Runs a service to its end and returns the process's exit code: 0 when it returned `Ok`, 1 when it failed or
/// panicked, 64 when its settings are not usable.
///
/// Log lines go to stdout.
pub fn run<S, F, Fut>(name: &'static str, service: F) -> ExitCode
where
    S: FromSettings,
    F: FnOnce(S, Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let (settings, runtime_settings, changes) = match read_settings::<S>(name) {
        Ok(read) => read,
        Err(exit_code) => return exit_code,
    };
    let stop = match stop_token(name) {
        Ok(stop) => stop,
        Err(exit_code) => return exit_code,
    };
    let version = env!("CARGO_PKG_VERSION");
    let metrics = Metrics::of_service(name, version);
    #[cfg_attr(not(feature = "otlp"), expect(unused_mut, reason = "no spans go anywhere"))]
    let mut context = Context { stop, metrics, ..Context::default() };
    let RuntimeSettings { http_addr, log_filter, log_format } = runtime_settings;
    telemetry::start(&log_filter, log_format, context.console.clone());
    info!(version, settings = %changes, "starting {name}");
    #[cfg(feature = "otlp")]
    match Spans::of_service(name, version) {
        Ok(spans) => context.spans = spans,
        Err(error) => {
            complain(&format!("{name}: {error:#}"));
            return ExitCode::from(EXIT_BAD_SETTINGS);
        }
    }
    #[cfg(feature = "otlp")]
    let spans = context.spans.clone();
    let exit_code = block_on(http_addr, context.clone(), service(settings, context));
    #[cfg(feature = "otlp")]
    spans.flush();
    exit_code
}

/// Runs a command that prints its result on stdout: like [`run`], but without an HTTP server, with log lines on
/// stderr, and lines below WARN only if `RUST_LOG` is set.
pub fn run_tool<S, F, Fut>(name: &'static str, tool: F) -> ExitCode
where
    S: FromSettings,
    F: FnOnce(S, Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let (settings, runtime_settings, _changes) = match read_settings::<S>(name) {
        Ok(read) => read,
        Err(exit_code) => return exit_code,
    };
    let stop = match stop_token(name) {
        Ok(stop) => stop,
        Err(exit_code) => return exit_code,
    };
    let context = Context { stop, console: Console::new(Stream::Stderr), ..Context::default() };
    let log_filter = match runtime_settings.log_filter.as_str() {
        RuntimeSettings::LOG_FILTER_DEFAULT => "warn",
        given => given,
    };
    let log_format = runtime_settings.log_format;
    telemetry::start(log_filter, log_format, context.console.clone());
    block_on(None, context.clone(), tool(settings, context))
}

/// Requests `/readyz` of the service with the same settings and returns 0 if it is ready, 1 if not.
pub fn healthcheck<S: FromSettings>(name: &'static str) -> ExitCode {
    let address = match read_settings::<S>(name) {
        Ok((_, runtime_settings, _)) => runtime_settings.http_addr,
        Err(exit_code) => return exit_code,
    };
    let Some(address) = address else {
        complain(&format!("{name}: HTTP_ADDR is off, so the service has no /readyz"));
        return ExitCode::from(EXIT_FAILED);
    };
    match probe::get(&address, "/readyz") {
        Ok(response) if response.status == 200 => ExitCode::SUCCESS,
        Ok(response) => {
            complain(&format!("{name} is not ready: {}", response.body));
            ExitCode::from(EXIT_FAILED)
        }
        Err(error) => {
            complain(&format!("{name} at {address} does not answer: {error}"));
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Returns the token that the next signal cancels, or prints why signals cannot be handled.
fn stop_token(name: &str) -> Result<CancellationToken, ExitCode> {
    signals::stop_token().map_err(|error| {
        complain(&format!("{name}: handle signals: {error}"));
        ExitCode::from(EXIT_FAILED)
    })
}

/// Reads the settings from the environment, or prints all their errors.
fn read_settings<S: FromSettings>(name: &str) -> Result<(S, RuntimeSettings, String), ExitCode> {
    // Usually `main` has called this already.
    hear_signals();
    // A name or value that is not UTF-8 keeps a mark where it is not, and is judged like any other.
    let environment: Environment = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()))
        .collect();
    match load_with_changes::<(S, RuntimeSettings)>(&environment) {
        Ok(((settings, runtime_settings), changes)) => Ok((settings, runtime_settings, changes)),
        Err(violations) => {
            complain(&format!("{name}: {violations}"));
            Err(ExitCode::from(EXIT_BAD_SETTINGS))
        }
    }
}

/// Runs the service among its surroundings on a runtime of its own.
fn block_on(
    http_addr: Option<String>,
    context: Context,
    service: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> ExitCode {
    let outcome = Runtime::new().context("start the runtime").and_then(|runtime| {
        let outcome = runtime.block_on(surround(http_addr, context, service));
        // What is still running belongs to connections; nothing waits for it.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

async fn surround(
    http_addr: Option<String>,
    context: Context,
    service: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> anyhow::Result<()> {
    let mut surroundings = JoinSet::new();
    if let Some(address) = http_addr {
        surroundings.spawn(http::serve(address, context));
    }
    // A task of its own turns a panic of the service into an error.
    let mut service_task = JoinSet::new();
    service_task.spawn(service);
    match service_task.join_next().await {
        Some(joined) => joined.context("run the service")?,
        None => Ok(()),
    }
}

fn complain(text: &str) {
    // A closed stderr is no further error; the exit code reports the failure.
    writeln!(io::stderr(), "{text}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_that_fails_or_panics_ends_in_an_error() {
        let failed = surround(None, Context::default(), async { anyhow::bail!("no orders") });
        let panicked = surround(None, Context::default(), async { panic!("no orders") });

        assert_eq!(failed.await.unwrap_err().to_string(), "no orders");
        let panic = format!("{:#}", panicked.await.unwrap_err());
        assert!(
            panic.starts_with("run the service: task ") && panic.contains("panicked"),
            "{panic}"
        );
    }

    #[tokio::test]
    async fn a_service_that_returns_ends_its_surroundings() {
        let context = Context::default();
        let address = Some("127.0.0.1:0".to_owned());

        surround(address, context.clone(), async { Ok(()) }).await.unwrap();

        assert!(!context.stop.is_cancelled());
    }
}
