//! What a worker reports: log lines, how long attempts take, and the partition's status.

use pacing::ReportLimit;

use super::timing::Timing;
use crate::telemetry::REPORT_INTERVAL;
use crate::telemetry::partition_status::{Next, SharedStatus};

pub(super) struct Reporting {
    pub(super) timing: Timing,
    pub(super) status: SharedStatus,
    /// How many more lines about processed orders may be written.
    pub(super) lines_reserved: usize,
    /// How many processed orders got no line.
    pub(super) lines_withheld: usize,
    /// The time of the first record that was not taken in, as far as it is known.
    pub(super) next: Next,
    /// Records that were delivered and are not in the status yet.
    pub(super) delivered: u64,
    /// The revision that the reporter knows.
    pub(super) revision: u64,
    /// Checkpoints that did not fit beside the offset.
    pub(super) too_large: ReportLimit<()>,
}

impl Reporting {
    pub(super) fn new(timing: Timing, status: SharedStatus) -> Self {
        Self {
            timing,
            status,
            lines_reserved: 0,
            lines_withheld: 0,
            next: Next::Unknown,
            delivered: 0,
            revision: 0,
            too_large: ReportLimit::every(REPORT_INTERVAL),
        }
    }
}
