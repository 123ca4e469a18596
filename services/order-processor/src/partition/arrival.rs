//! Timestamps of records, and which of them can be true.

/// How far a producer's clock may be ahead of ours.
const AHEAD_MAX_MS: i64 = 3_600_000;

/// Who stamped records, and when they were read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrival {
    /// Their producers stamped them; they were read at this time, in milliseconds since 1970.
    Produced(i64),
    /// The broker stamped them when it appended them.
    Appended,
}

impl Arrival {
    /// Returns the time as of which a record with this timestamp counts: its arrival, if it is from a clock that is far
    /// ahead.
    ///
    /// One that is read again after a crash arrives again. That changes the place of such records only.
    #[inline]
    pub(crate) fn time_of(self, timestamp_ms: i64) -> i64 {
        match self {
            Self::Produced(read_ms) if timestamp_ms > read_ms + AHEAD_MAX_MS => read_ms,
            Self::Produced(_) | Self::Appended => timestamp_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_producer_can_be_far_ahead() {
        let read_ms = 1_700_000_000_000;
        let ahead = |ms| Arrival::Produced(read_ms).time_of(read_ms + ms) - read_ms;
        assert_eq!([-1, 0, AHEAD_MAX_MS].map(ahead), [-1, 0, AHEAD_MAX_MS]);
        assert_eq!([AHEAD_MAX_MS + 1, i64::MAX - read_ms].map(ahead), [0, 0]);
        assert_eq!(Arrival::Appended.time_of(i64::MAX), i64::MAX);
    }
}
