//! How one partition stands, as its worker noted it last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How a partition stands. Its worker writes it once a batch and once for each other thing that happens.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a reason to wait, and several may hold at once"
)]
pub(crate) struct PartitionStatus {
    /// The offset that the group has committed; `None` before the first commit.
    pub(crate) committed: Option<i64>,
    /// The end of what can be read of the log, as far as it is known.
    pub(crate) log_end: i64,
    /// The offset of the first record that is not complete.
    pub(crate) committable: i64,
    /// The offset of the first record that was not taken in.
    pub(crate) frontier: i64,
    /// Records that were taken in and are not complete.
    pub(crate) incomplete: usize,
    /// Those of them that wait for their next attempt.
    pub(crate) waiting: usize,
    /// Those of them whose dead letter is on its way.
    pub(crate) letters: usize,
    /// Those of them at which an attempt is made; each ends in time.
    pub(crate) running: usize,
    /// The time of the first record that is not complete.
    pub(crate) next: Next,
    /// When there was nothing more to do, in milliseconds since 1970.
    pub(crate) caught_up_at_ms: Option<i64>,
    /// When the oldest of the incomplete records was taken in.
    pub(crate) oldest: Option<Instant>,
    /// How long the last checkpoint was.
    pub(crate) checkpoint_bytes: usize,
    /// Records that were delivered, repeats included.
    pub(crate) delivered: u64,
    /// Nothing is taken in until the registry answers.
    pub(crate) waits_for_registry: bool,
    /// Nothing is taken in until one of the process's attempts has ended, or what the handler needs is back.
    pub(crate) waits_for_permit: bool,
    /// Why nothing is taken in until something that was is complete, and what the first of that waits for.
    pub(crate) full: Option<(Full, FirstWaits)>,
    /// Nothing is taken in until somebody releases the partition.
    pub(crate) is_over_dlq_limit: bool,
    /// Nothing is taken in and nothing begins until somebody starts the replica.
    pub(crate) is_paused: bool,
}

/// What leaves no room for one more incomplete record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The partition's checkpoint: its window is full.
    Window,
    /// The bytes that records may take in this process.
    Bytes,
    /// The setting that keeps the whole partition in order.
    Order,
    /// The number of schemas that may be waited for.
    Schemas,
}

/// What the first incomplete record of a partition waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstWaits {
    /// Its next attempt.
    Retry {
        /// When that is due.
        due: Instant,
        /// How many were made.
        attempts: u32,
    },
    /// Its dead letter, which waits for a commit or for the dead-letter topic.
    Letter,
    /// An attempt that runs, or may begin.
    Attempt,
}

/// What is known about the time of a record, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing.
    #[default]
    Unknown,
    /// It is this.
    At(i64),
    /// It follows a record of this time.
    After(i64),
}

impl PartitionStatus {
    /// Takes note of where the log ends at a time, in milliseconds since 1970; while a partition is assigned, logs only grow.
    pub(crate) fn ends_at(&mut self, log_end: i64, now_ms: i64) {
        self.log_end = self.log_end.max(log_end);
        if self.is_caught_up() {
            self.caught_up_at_ms = Some(now_ms);
        }
    }

    /// Returns whether everything that can be read is complete.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.committable >= self.log_end
    }

    /// Returns how many offsets there are from the committed one to the end.
    pub(crate) fn lag(&self) -> i64 {
        self.log_end.saturating_sub(self.committed.unwrap_or(self.committable)).max(0)
    }

    /// Returns how long the first record that is not complete has been in the log; nothing if that is not known.
    pub(crate) fn lag_time(&self, now_ms: i64) -> Option<Duration> {
        if self.is_caught_up() {
            return Some(Duration::ZERO);
        }
        let since_ms = match self.next {
            Next::Unknown => self.caught_up_at_ms?,
            Next::At(time) => time,
            // It was not there when there was nothing more to do.
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
