//! The leader epochs under which records were written (KIP-320), as far as they were read.
//!
//! A leader that lacks records of the leader before it gives their offsets to other records. The epoch of a record tells
//! the two apart.

use std::collections::BTreeMap;

/// The leader epochs of a partition's records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    /// The epoch of a record, and of those after it up to the next entry.
    since: BTreeMap<i64, i32>,
}

impl LeaderEpochs {
    /// Notes the epoch of the record at `offset`, and of those after it. A negative epoch is an unknown one.
    pub(crate) fn note(&mut self, offset: i64, epoch: i32) {
        if epoch >= 0 && self.before(offset.saturating_add(1)) != Some(epoch) {
            self.since.insert(offset, epoch);
        }
    }

    /// Returns the epoch of the last record before `offset`, if it is known.
    pub(crate) fn before(&self, offset: i64) -> Option<i32> {
        self.since.range(..offset).next_back().map(|(_, epoch)| *epoch)
    }

    /// Forgets what only [`Self::before`] of lower offsets needs.
    pub(crate) fn forget_below(&mut self, offset: i64) {
        if let Some((kept, _)) = self.since.range(..offset).next_back() {
            self.since = self.since.split_off(&kept.clone());
        }
    }

    /// Forgets the records from `offset` on, and what another history than that of the log says about those before it: their
    /// epochs are `epoch` at most, that of the last one, if it is known.
    pub(crate) fn truncate(&mut self, offset: i64, epoch: Option<i32>) {
        self.since.split_off(&offset);
        if let Some(epoch) = epoch {
            self.since.retain(|_, known| *known <= epoch);
            self.note(offset.saturating_sub(1), epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_before_an_offset_is_that_of_the_last_record_below_it() {
        let mut epochs = LeaderEpochs::default();
        for (offset, epoch) in [(9, 3), (10, 3), (20, 5), (30, -1), (25, 5), (40, 6)] {
            epochs.note(offset, epoch);
        }
        let before = |epochs: &LeaderEpochs| [9, 10, 20, 21, 40, 41].map(|at| epochs.before(at));
        let all = [None, Some(3), Some(3), Some(5), Some(5), Some(6)];
        assert_eq!(before(&epochs), all);
        assert_eq!(epochs.since.len(), 3);

        let mut truncated = epochs.clone();
        truncated.truncate(40, None);
        assert_eq!(truncated.before(41), Some(5));
        truncated.truncate(30, Some(4));
        assert_eq!(before(&truncated), [None, Some(3), Some(3), Some(3), Some(4), Some(4)]);
        epochs.forget_below(21);
        assert_eq!(before(&epochs), [None, None, None, Some(5), Some(5), Some(6)]);
        epochs.forget_below(21);
        assert_eq!(epochs.since.len(), 2);
    }
}
