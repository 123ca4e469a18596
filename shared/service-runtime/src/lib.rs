//! What both services share around their work: settings, telemetry, signals, health and metrics.
//!
//! A service is one async function over its settings and a [`Context`]; [`run()`] does the rest:
//!
//! ```no_run
//! use std::process::ExitCode;
//! use service_runtime::Context;
//! use service_runtime::settings::{FromSettings, Settings};
//!
//! struct Greeting(String);
//!
//! impl FromSettings for Greeting {
//!     fn read(settings: &mut Settings) -> Self {
//!         Self(settings.text("GREETING", "hello", "What is said."))
//!     }
//! }
//!
//! async fn greet(greeting: Greeting, context: Context) -> anyhow::Result<()> {
//!     tracing::info!("{}", greeting.0);
//!     context.stop.cancelled().await;
//!     Ok(())
//! }
//!
//! fn main() -> ExitCode {
//!     service_runtime::run("greeter", greet)
//! }
//! ```
//!
//! # Invariants
//!
//! - A signal ends the process from the first instruction of `main` on, also as the first process of a container.
//! - All invalid settings are named at once, with exit code 64.
//! - `/healthz` fails only when the process is stuck.
//! - A trace is the same from the producer through dead letter and replay to the webhook. An invalid trace context
//!   is not passed on.
//! - A collector sees an order sent, processed and dead-lettered as one trace. A missing collector delays nothing.

pub use context::Context;
pub use health::{Check, Health, Waiting};
pub use metrics::{Durations, Families, Messaging, MessagingLabels, Metrics};
pub use process::{host_name, now_ms};
pub use run::{explain, healthcheck, hear_signals, run, run_tool};
pub use spans::{Span, SpanKind, SpanValue, Spans};
pub use telemetry::{Console, HeldLines, LineLimit, Progress, two_decimals};
pub use text::{escaped, grouped, is_printable, printable};

pub mod settings;
pub mod trace_context;

mod context;
mod health;
mod http;
mod metrics;
mod process;
mod run;
mod spans;
mod telemetry;
mod text;
