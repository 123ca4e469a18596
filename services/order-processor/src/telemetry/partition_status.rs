//! The status of one partition, as its worker published it last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The status of a partition. Its worker writes it once a step.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionStatus {
    /// The offset that the group has committed; `None` before the first commit.
    pub(crate) committed: Option<i64>,
    /// The last known end of the log: its last stable offset.
    pub(crate) log_end: i64,
    /// The offset of the first incomplete record.
    pub(crate) committable: i64,
    /// The offset of the next record to take in.
    pub(crate) frontier: i64,
    /// How many records are incomplete.
    pub(crate) incomplete: usize,
    /// How many of them wait for their next attempt.
    pub(crate) waiting: usize,
    /// How many of them have a dead letter that is not acknowledged.
    pub(crate) letters: usize,
    /// How many of them have an attempt in flight.
    pub(crate) running: usize,
    /// The time of the first incomplete record.
    pub(crate) next: Next,
    /// When all of the log was complete, in milliseconds since 1970.
    pub(crate) caught_up_at_ms: Option<i64>,
    /// When the oldest of the incomplete records was taken in.
    pub(crate) oldest: Option<Instant>,
    /// The length of the last checkpoint.
    pub(crate) checkpoint_bytes: usize,
    /// Records that were delivered, repeats included.
    pub(crate) delivered: u64,
    pub(crate) waits: Waits,
}

/// Why a partition takes nothing in.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "several reasons may hold at once")]
pub(crate) struct Waits {
    /// The registry has to answer with a schema.
    pub(crate) for_registry: bool,
    /// An attempt needs a permit: too many are in flight, or the handler's dependency is down.
    pub(crate) for_permit: bool,
    /// The partition reached the dead-letter limit, and an operator has to release it.
    pub(crate) for_release: bool,
    /// An operator has to resume the replica.
    pub(crate) for_resume: bool,
    /// No further record may become incomplete: the limit, and what the first incomplete record waits for.
    pub(crate) full: Option<(Full, FirstWaits)>,
}

/// Which limit of incomplete records is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The window of the partition's checkpoint.
    Window,
    Bytes,
    /// `ORDERING=partition`: one incomplete record at a time.
    Order,
    /// The number of awaited schemas.
    Schemas,
}

/// What the first incomplete record of a partition waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstWaits {
    Retry {
        due: Instant,
        attempts: u32,
    },
    /// Its dead letter, which waits for a commit or for the dead-letter topic.
    Letter,
    /// An attempt that is in flight or may begin.
    Attempt,
}

/// The time of a record, as far as it is known, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Next {
    #[default]
    Unknown,
    At(i64),
    /// It follows a record of this time.
    After(i64),
}

impl PartitionStatus {
    /// Sets the end of the log at a time in milliseconds since 1970. While a partition is assigned, its log only grows.
    pub(crate) fn ends_at(&mut self, log_end: i64, now_ms: i64) {
        self.log_end = self.log_end.max(log_end);
        if self.is_caught_up() {
            self.caught_up_at_ms = Some(now_ms);
        }
    }

    /// Returns whether all of the log is complete.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.committable >= self.log_end
    }

    /// Returns the number of offsets from the committed one to the log's end.
    pub(crate) fn lag(&self) -> i64 {
        self.log_end.saturating_sub(self.committed.unwrap_or(self.committable)).max(0)
    }

    /// Returns the age of the first incomplete record, if it is known.
    pub(crate) fn lag_time(&self, now_ms: i64) -> Option<Duration> {
        if self.is_caught_up() {
            return Some(Duration::ZERO);
        }
        let since_ms = match self.next {
            Next::Unknown => self.caught_up_at_ms?,
            Next::At(time) => time,
            // It was written after all of the log was complete.
            Next::After(time) => time.max(self.caught_up_at_ms.unwrap_or(time)),
        };
        // The record may have no time at all, or one of a clock that is ahead.
        (since_ms >= 0)
            .then(|| Duration::from_millis(u64::try_from(now_ms - since_ms).unwrap_or(0)))
    }
}

/// A status that a worker writes and scrapes read; cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedStatus(Arc<Mutex<PartitionStatus>>);

impl SharedStatus {
    pub(crate) fn new(status: PartitionStatus) -> Self {
        Self(Arc::new(Mutex::new(status)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, PartitionStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_060_000;

    fn behind(next: Next, caught_up_at_ms: Option<i64>) -> PartitionStatus {
        PartitionStatus {
            log_end: 20,
            committable: 10,
            next,
            caught_up_at_ms,
            ..PartitionStatus::default()
        }
    }

    fn lag_ms(status: &PartitionStatus) -> Option<u128> {
        status.lag_time(NOW_MS).map(|lag| lag.as_millis())
    }

    #[test]
    fn lag_in_time_is_the_age_of_the_first_record_that_is_not_complete() {
        let minute_ago = NOW_MS - 60_000;
        assert_eq!(lag_ms(&behind(Next::At(minute_ago), Some(NOW_MS))), Some(60_000));
        assert_eq!(lag_ms(&behind(Next::After(minute_ago), None)), Some(60_000));
        assert_eq!(lag_ms(&behind(Next::After(minute_ago), Some(NOW_MS - 5))), Some(5));
        assert_eq!(lag_ms(&behind(Next::Unknown, Some(NOW_MS - 5))), Some(5));
        assert_eq!(lag_ms(&behind(Next::Unknown, None)), None);
    }

    #[test]
    fn lag_in_time_is_nothing_when_there_is_nothing_more_to_do() {
        let mut status = behind(Next::At(NOW_MS - 60_000), None);
        status.committable = 20;
        assert_eq!(lag_ms(&status), Some(0));
    }

    #[test]
    fn a_record_without_a_time_has_no_lag_in_time_and_one_of_the_future_none_left() {
        assert_eq!(lag_ms(&behind(Next::At(-1), None)), None);
        assert_eq!(lag_ms(&behind(Next::At(NOW_MS + 1_000), None)), Some(0));
    }

    #[test]
    fn what_comes_after_a_long_time_with_nothing_to_do_is_not_older_than_that() {
        let mut status = behind(Next::After(NOW_MS - 3_600_000), None);
        status.committable = 20;
        status.ends_at(20, NOW_MS - 3_000);
        status.ends_at(25, NOW_MS - 1_000);
        assert_eq!(lag_ms(&status), Some(3_000));
    }

    #[test]
    fn lag_in_records_counts_from_the_committed_offset() {
        let mut status = behind(Next::Unknown, None);
        assert_eq!(status.lag(), 10);
        status.committed = Some(7);
        assert_eq!(status.lag(), 13);
        status.ends_at(5, NOW_MS);
        assert_eq!(status.lag(), 13, "what was heard earlier may arrive later");
        status.committed = Some(25);
        assert_eq!(status.lag(), 0);
    }
}
