//! What a replica shows of its work: log lines, metrics and readiness.

use std::time::Duration;

pub(crate) mod group_snapshot;
pub(crate) mod labels;
pub(crate) mod metrics;
pub(crate) mod partition_status;
pub(crate) mod partitions;
pub(crate) mod readiness;
pub(crate) mod report;
pub(crate) mod scrape;

/// How often a failure that recurs is logged.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_secs(5);
