//! Sequence numbers: one a record, from 0 to `i32::MAX`, then from 0 again.

/// Whether the broker is to see every number that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// It is.
    None,
    /// A number is missing. The broker's last number is that of the last delivered batch.
    Hole,
    /// It may be another: a later batch with an unknown outcome was given up, or the broker does not accept the number
    /// that follows.
    Broken,
}

/// Returns the number `records` after `sequence`.
pub(super) fn advance(sequence: i32, records: i32) -> i32 {
    // The sum modulo 2³¹.
    sequence.wrapping_add(records) & i32::MAX
}

/// Returns how many numbers `sequence` is before `next`, the number to be given next.
pub(super) fn distance(sequence: i32, next: i32) -> i32 {
    next.wrapping_sub(sequence) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_wrap_from_the_largest_to_zero() {
        for (sequence, records, next) in [
            (0, 1, 1),
            (i32::MAX - 1, 1, i32::MAX),
            (i32::MAX, 1, 0),
            (i32::MAX, 5, 4),
            (i32::MAX - 2, 10, 7),
            (7, 0, 7),
        ] {
            assert_eq!(advance(sequence, records), next);
            assert_eq!(distance(sequence, next), records);
        }
    }
}
