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

pub use arguments::explain;
pub use clock::now_ms;
pub use grouped::grouped;
pub use health::{Check, Health};
pub use host::host_name;
pub use line_limit::LineLimit;
pub use metrics::{Durations, Families, Messaging, MessagingLabels, Metrics};
pub use printable::{escaped, is_printable, printable};
pub use progress::Progress;
pub use recurring::Recurring;
pub use run::{Context, healthcheck, run, run_tool};
pub use signals::hear_signals;
pub use spans::{Span, SpanKind, SpanValue, Spans};
pub use telemetry::{Console, HeldLines, two_decimals};
pub use waiting::Waiting;

pub mod settings;
pub mod trace_context;

mod arguments;
#[cfg(test)]
mod captured;
mod clock;
mod grouped;
mod health;
mod host;
mod http;
mod line_limit;
mod metrics;
mod printable;
mod probe;
mod progress;
mod recurring;
mod run;
mod signals;
mod spans;
mod telemetry;
mod waiting;
