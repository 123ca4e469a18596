//! The dead-letter limit: it pauses a partition whose records all become dead letters.
//!
//! A few dead letters are bad orders. Many of one type without a processed order between them have one cause, such as a
//! wrong topic, a wrong format, or a receiver that refuses everything. An operator has to look at the cause first.
//!
//! The count is part of the partition's checkpoint. Otherwise every restart or rebalance would begin a new count and
//! let as many dead letters through again.

use std::collections::BTreeMap;

use dead_letter::ErrorType;

use crate::packing::{Unpacker, varint_bytes_max, write_varint};

/// One partition's count of dead letters by type since its last processed order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DlqLimit {
    counts: BTreeMap<ErrorType, u32>,
    /// For a partition that has reached the limit: only a release at this offset of the actions topic or above counts.
    release_from: Option<i64>,
}

impl DlqLimit {
    /// The most bytes that [`Self::write`] appends.
    pub(crate) const BYTES_MAX: usize = 1 + varint_bytes_max(32) + varint_bytes_max(63);

    /// Clears the count after a processed order or a release, and returns whether it had counted anything.
    #[inline]
    pub fn clear(&mut self) -> bool {
        let was_counting = !self.counts.is_empty();
        if was_counting {
            *self = Self::default();
        }
        was_counting
    }

    /// Counts a dead letter of this type.
    pub fn count(&mut self, error_type: ErrorType) {
        let count = self.counts.entry(error_type).or_default();
        *count = count.saturating_add(1);
    }

    /// Returns the type that has reached `limit` dead letters, if any; 0 stands for no limit.
    pub fn exceeded(&self, limit: u32) -> Option<ErrorType> {
        self.leading().filter(|(_, count)| limit > 0 && *count >= limit).map(|(leading, _)| leading)
    }

    /// Returns the offset of the actions topic from which a release counts, if it was set.
    pub fn release_from(&self) -> Option<i64> {
        self.release_from
    }

    /// Sets the offset of the actions topic from which a release counts.
    pub fn set_release_from(&mut self, offset: i64) {
        self.release_from = Some(offset);
    }

    fn leading(&self) -> Option<(ErrorType, u32)> {
        self.counts.iter().map(|(error_type, count)| (*error_type, *count)).max_by_key(|(_, n)| *n)
    }

    /// Appends the type with the highest count: its number in [`ErrorType::ALL`] from 1, or 0 for none; its count; the
    /// offset from which a release counts plus 1, or 0 for none.
    ///
    /// The counts of the other types begin at 0 after a restart. None of them has paused the partition.
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

    fn count(counts: &mut DlqLimit, error_type: ErrorType, letters: usize) -> Option<ErrorType> {
        (0..letters).for_each(|_| counts.count(error_type));
        counts.exceeded(LIMIT)
    }

    fn restart(counts: &DlqLimit) -> DlqLimit {
        let mut bytes = Vec::new();
        counts.write(&mut bytes);
        assert!(bytes.len() <= DlqLimit::BYTES_MAX, "{bytes:?}");
        let mut unpacker = Unpacker::new(&bytes);
        let read = DlqLimit::read(&mut unpacker).unwrap();
        assert!(unpacker.is_empty());
        read
    }

    #[test]
    fn the_limit_is_reached_by_one_type_without_an_order_between_its_dead_letters() {
        let mut counts = DlqLimit::default();
        assert_eq!(count(&mut counts, ErrorType::BadMagic, 2), None);
        assert_eq!(count(&mut counts, ErrorType::Rejected, 2), None, "another type, another cause");
        let too_many = Some(ErrorType::BadMagic);
        assert_eq!(count(&mut counts, ErrorType::BadMagic, 1), too_many);
    }

    #[test]
    fn a_processed_order_begins_a_new_count() {
        let mut counts = DlqLimit::default();
        assert!(!counts.clear());
        for _ in 0..5 {
            assert_eq!(count(&mut counts, ErrorType::Rejected, 2), None);
            assert!(counts.clear());
        }
    }

    #[test]
    fn a_limit_of_0_is_never_reached() {
        let mut counts = DlqLimit::default();
        count(&mut counts, ErrorType::Rejected, 10_000);
        assert_eq!(counts.exceeded(0), None);
    }

    #[test]
    fn the_count_goes_on_after_a_restart() {
        assert_eq!(restart(&DlqLimit::default()), DlqLimit::default());
        for error_type in ErrorType::ALL {
            let mut counts = DlqLimit::default();
            assert_eq!(count(&mut counts, error_type, 2), None);
            let mut counts = restart(&counts);
            assert_eq!(counts.release_from(), None);
            assert_eq!(count(&mut counts, error_type, 1), Some(error_type));
        }
        let mut counts = restart(&DlqLimit {
            counts: BTreeMap::from([(ErrorType::GivenUp, u32::MAX)]),
            release_from: Some(i64::MAX - 1),
        });
        counts.count(ErrorType::GivenUp);
        assert_eq!(counts.exceeded(u32::MAX), Some(ErrorType::GivenUp));
        assert_eq!(counts.release_from(), Some(i64::MAX - 1));
    }

    #[test]
    fn malformed_bytes_are_refused() {
        for bytes in [&[][..], &[200, 1, 0], &[1], &[1, 1], &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0]] {
            assert_eq!(DlqLimit::read(&mut Unpacker::new(bytes)), None, "{bytes:?}");
        }
    }
}
