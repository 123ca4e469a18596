//! Stops a partition from emptying itself into the dead-letter topic.
//!
//! A few dead letters are orders that are bad. Very many of one type with no order processed between them are one
//! cause: a wrong topic, a wrong format, a receiver that refuses everything. Somebody has to look at it first.

use std::collections::BTreeMap;

use crate::dead_letter::ErrorType;

/// Counts one partition's dead letters since its last processed order.
#[derive(Clone, Debug)]
pub struct Guard {
    /// So many of one type are too many; 0 = never.
    limit: u32,
    dead_letters: BTreeMap<ErrorType, u32>,
}

impl Guard {
    /// Returns a guard that `limit` dead letters of one type alarm; 0 is none.
    pub fn new(limit: u32) -> Self {
        Self { limit, dead_letters: BTreeMap::new() }
    }

    /// Takes note of a processed order, or of somebody's word that all is well.
    #[inline]
    pub fn clear(&mut self) {
        if !self.dead_letters.is_empty() {
            self.dead_letters.clear();
        }
    }

    /// Takes note of a dead letter, and returns whether it is the last one for now.
    #[must_use]
    pub fn count(&mut self, error_type: ErrorType) -> bool {
        if self.limit == 0 {
            return false;
        }
        let count = self.dead_letters.entry(error_type).or_default();
        *count = count.saturating_add(1);
        *count >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarms(guard: &mut Guard, error_type: ErrorType, letters: usize) -> usize {
        (0..letters).filter(|_| guard.count(error_type)).count()
    }

    #[test]
    fn so_many_of_one_type_with_no_order_between_them_are_too_many() {
        let mut guard = Guard::new(3);
        assert_eq!(alarms(&mut guard, ErrorType::BadMagic, 2), 0);
        assert_eq!(alarms(&mut guard, ErrorType::Rejected, 2), 0, "another type is another cause");
        assert_eq!(alarms(&mut guard, ErrorType::BadMagic, 1), 1);
    }

    #[test]
    fn an_order_in_between_begins_a_new_count() {
        let mut guard = Guard::new(3);
        for _ in 0..5 {
            assert_eq!(alarms(&mut guard, ErrorType::Rejected, 2), 0);
            guard.clear();
        }
    }

    #[test]
    fn without_a_limit_nothing_is_too_many() {
        assert_eq!(alarms(&mut Guard::new(0), ErrorType::Rejected, 10_000), 0);
    }
}
