//! Stops a partition from emptying itself into the dead-letter topic.
//!
//! A few dead letters are orders that are bad. Very many of one type with no order processed between them are one
//! cause: a wrong topic, a wrong format, a receiver that refuses everything. An operator has to look at it first.
//!
//! The count is part of the partition's checkpoint. A restart or a rebalance would begin a new count otherwise, and let as many
//! dead letters through again.

use std::collections::BTreeMap;

use dead_letter::ErrorType;

use crate::packing::{Unpacker, varint_bytes_max, write_varint};

/// One partition's dead letters since its last processed order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DlqLimit {
    counts: BTreeMap<ErrorType, u32>,
    /// The offset of the actions topic from which a release counts, for a partition that is stopped.
    release_from: Option<i64>,
}

impl DlqLimit {
    /// The most bytes that it takes in a checkpoint.
    pub(crate) const BYTES_MAX: usize = 1 + varint_bytes_max(32) + varint_bytes_max(63);

    /// Takes note of a processed order, or of a release, and returns whether there was anything to forget.
    #[inline]
    pub fn clear(&mut self) -> bool {
        let was_counting = !self.counts.is_empty();
        if was_counting {
            *self = Self::default();
        }
        was_counting
    }

    /// Takes note of a dead letter.
    pub fn count(&mut self, error_type: ErrorType) {
        let count = self.counts.entry(error_type).or_default();
        *count = count.saturating_add(1);
    }

    /// Returns the type of which there are `limit` dead letters; 0 is no limit.
    pub fn exceeded(&self, limit: u32) -> Option<ErrorType> {
        self.leading().filter(|(_, count)| limit > 0 && *count >= limit).map(|(leading, _)| leading)
    }

    /// Returns the offset of the actions topic from which a release counts, if it is known.
    pub fn release_from(&self) -> Option<i64> {
        self.release_from
    }

    /// Takes note of the offset of the actions topic from which a release counts.
    pub fn set_release_from(&mut self, offset: i64) {
        self.release_from = Some(offset);
    }

    fn leading(&self) -> Option<(ErrorType, u32)> {
        self.counts.iter().map(|(error_type, count)| (*error_type, *count)).max_by_key(|(_, n)| *n)
    }

    /// Appends the type that leads: its number in [`ErrorType::ALL`] from 1, or 0 for none, its count, and the offset from
    /// which a release counts plus 1, or 0 for none.
    ///
    /// The other types are counted anew after a restart. They are behind the one that stops the partition.
    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        let place = |leading| ErrorType::ALL.iter().position(|known| *known == leading);
        let leading = self.leading().and_then(|(leading, count)| Some((place(leading)?, count)));
        let Some((place, count)) = leading else { return into.push(0) };
        into.push(u8::try_from(place + 1).unwrap_or(0));
        write_varint(count, into);
        let from = self.release_from.map_or(0, |offset| offset.saturating_add(1));
        write_varint(from.cast_unsigned(), into);
    }

    pub(crate) fn read(from: &mut Unpacker<'_>) -> Option<Self> {
        let [number] = from.array()?;
        let Some(place) = number.checked_sub(1) else { return Some(Self::default()) };
        let leading = *ErrorType::ALL.get(usize::from(place))?;
        let count = from.varint()?;
        let release_from = from.varint::<i64>()?.checked_sub(1).filter(|offset| *offset >= 0);
        Some(Self { counts: BTreeMap::from([(leading, count)]), release_from })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 3;

    fn count(dlq_limit: &mut DlqLimit, error_type: ErrorType, letters: usize) -> Option<ErrorType> {
        (0..letters).for_each(|_| dlq_limit.count(error_type));
        dlq_limit.exceeded(LIMIT)
    }

    fn restart(dlq_limit: &DlqLimit) -> DlqLimit {
        let mut bytes = Vec::new();
        dlq_limit.write(&mut bytes);
        assert!(bytes.len() <= DlqLimit::BYTES_MAX, "{bytes:?}");
        let mut unpacker = Unpacker::new(&bytes);
        let read = DlqLimit::read(&mut unpacker).unwrap();
        assert!(unpacker.is_empty());
        read
    }

    #[test]
    fn so_many_of_one_type_with_no_order_between_them_are_too_many() {
        let mut dlq_limit = DlqLimit::default();
        assert_eq!(count(&mut dlq_limit, ErrorType::BadMagic, 2), None);
        assert_eq!(
            count(&mut dlq_limit, ErrorType::Rejected, 2),
            None,
            "another type, another cause"
        );
        let too_many = Some(ErrorType::BadMagic);
        assert_eq!(count(&mut dlq_limit, ErrorType::BadMagic, 1), too_many);
    }

    #[test]
    fn an_order_in_between_begins_a_new_count() {
        let mut dlq_limit = DlqLimit::default();
        assert!(!dlq_limit.clear());
        for _ in 0..5 {
            assert_eq!(count(&mut dlq_limit, ErrorType::Rejected, 2), None);
            assert!(dlq_limit.clear());
        }
    }

    #[test]
    fn without_a_limit_nothing_is_too_many() {
        let mut dlq_limit = DlqLimit::default();
        count(&mut dlq_limit, ErrorType::Rejected, 10_000);
        assert_eq!(dlq_limit.exceeded(0), None);
    }

    #[test]
    fn the_count_goes_on_after_a_restart() {
        assert_eq!(restart(&DlqLimit::default()), DlqLimit::default());
        for error_type in ErrorType::ALL {
            let mut dlq_limit = DlqLimit::default();
            assert_eq!(count(&mut dlq_limit, error_type, 2), None);
            let mut dlq_limit = restart(&dlq_limit);
            assert_eq!(dlq_limit.release_from(), None);
            assert_eq!(count(&mut dlq_limit, error_type, 1), Some(error_type));
        }
        let mut dlq_limit = restart(&DlqLimit {
            counts: BTreeMap::from([(ErrorType::GivenUp, u32::MAX)]),
            release_from: Some(i64::MAX - 1),
        });
        dlq_limit.count(ErrorType::GivenUp);
        assert_eq!(dlq_limit.exceeded(u32::MAX), Some(ErrorType::GivenUp));
        assert_eq!(dlq_limit.release_from(), Some(i64::MAX - 1));
    }

    #[test]
    fn what_no_guard_has_written_is_not_read() {
        for bytes in [&[][..], &[200, 1, 0], &[1], &[1, 1], &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0]] {
            assert_eq!(DlqLimit::read(&mut Unpacker::new(bytes)), None, "{bytes:?}");
        }
    }
}
