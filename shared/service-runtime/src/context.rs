//! What surrounds a running service.

use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::metrics::Metrics;
use crate::spans::Spans;
use crate::telemetry::Console;

/// What surrounds a running service; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Cancelled at the first SIGINT or SIGTERM: the service drains and returns.
    pub stop: CancellationToken,
    /// The checks that `/readyz` shows.
    pub health: Health,
    /// The metrics that `/metrics` shows.
    pub metrics: Metrics,
    /// Where spans go.
    pub spans: Spans,
    /// The place of the log lines.
    pub console: Console,
}
