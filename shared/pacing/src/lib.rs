//! [`Backoff`] spaces attempts, and [`ReportLimit`] spaces log lines about lasting failures.

mod backoff;
mod report_limit;

pub use self::backoff::Backoff;
pub use self::report_limit::ReportLimit;
