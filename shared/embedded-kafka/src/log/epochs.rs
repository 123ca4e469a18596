//! The leader epochs of a log: where each began (KIP-101, KIP-320).
//!
//! The rules are those of Kafka's `LeaderEpochFileCache`.

/// An epoch and the offset after its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochEnd {
    pub(crate) epoch: i32,
    pub(crate) end_offset: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EpochStart {
    epoch: i32,
    start_offset: i64,
}

/// The epochs of a log, in ascending order of epochs and of offsets.
#[derive(Debug)]
pub(crate) struct Epochs(Vec<EpochStart>);

impl Default for Epochs {
    fn default() -> Self {
        Self(vec![EpochStart { epoch: 0, start_offset: 0 }])
    }
}

impl Epochs {
    /// Returns the epoch of the records that come next.
    pub(crate) fn latest(&self) -> i32 {
        self.0.last().map_or(0, |latest| latest.epoch)
    }

    /// Begins an epoch, which replaces epochs without records.
    pub(crate) fn begin(&mut self, epoch: i32, start_offset: i64) {
        self.0.retain(|start| (start.epoch < epoch) && (start.start_offset < start_offset));
        self.0.push(EpochStart { epoch, start_offset });
    }

    /// Returns the epoch of the record at an offset.
    pub(crate) fn at(&self, offset: i64) -> Option<i32> {
        self.0.iter().rfind(|start| start.start_offset <= offset).map(|start| start.epoch)
    }

    /// Returns the largest epoch up to the requested one with its end; `None` for −1, and for one that is larger than all.
    pub(crate) fn end_of(&self, requested: i32, log_end_offset: i64) -> Option<EpochEnd> {
        if requested < 0 {
            return None;
        }
        if self.0.last().is_some_and(|latest| latest.epoch == requested) {
            return Some(EpochEnd { epoch: requested, end_offset: log_end_offset });
        }
        let next = self.0.iter().find(|start| requested < start.epoch)?;
        let floor = self.0.iter().rfind(|start| start.epoch <= requested);
        let epoch = floor.map_or(requested, |floor| floor.epoch);
        Some(EpochEnd { epoch, end_offset: next.start_offset })
    }

    /// Forgets what began at or after the new end of the log.
    pub(crate) fn truncate_end(&mut self, end_offset: i64) {
        self.0.retain(|start| start.start_offset < end_offset);
    }

    /// Forgets what ended before the new start of the log.
    pub(crate) fn truncate_start(&mut self, start_offset: i64) {
        let before = self.0.iter().rposition(|start| start.start_offset <= start_offset);
        if let Some(place) = before {
            self.0.drain(..place);
            if let Some(first) = self.0.first_mut() {
                first.start_offset = start_offset;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Epoch 0 at offset 0, epoch 2 at 10, epoch 5 at 30.
    fn epochs() -> Epochs {
        let mut epochs = Epochs::default();
        epochs.begin(2, 10);
        epochs.begin(4, 30);
        epochs.begin(5, 30);
        epochs
    }

    #[track_caller]
    fn ends(epochs: &Epochs, requested: i32, expected: Option<(i32, i64)>) {
        let found = epochs.end_of(requested, 40).map(|end| (end.epoch, end.end_offset));
        assert_eq!(found, expected, "epoch {requested}");
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let epochs = epochs();
        ends(&epochs, -1, None);
        ends(&epochs, 0, Some((0, 10)));
        ends(&epochs, 1, Some((0, 10)));
        ends(&epochs, 2, Some((2, 30)));
        ends(&epochs, 4, Some((2, 30)));
        ends(&epochs, 5, Some((5, 40)));
        ends(&epochs, 6, None);
    }

    #[test]
    fn a_record_has_the_epoch_that_began_last_before_it() {
        let epochs = epochs();
        let found: Vec<_> = [0, 9, 10, 29, 30, 99].map(|offset| epochs.at(offset)).into();
        assert_eq!(found, [0, 0, 2, 2, 5, 5].map(Some));
    }

    #[test]
    fn truncation_forgets_epochs_beyond_the_end() {
        let mut epochs = epochs();
        epochs.truncate_end(10);
        epochs.begin(6, 10);
        ends(&epochs, 0, Some((0, 10)));
        ends(&epochs, 2, Some((0, 10)));
        ends(&epochs, 6, Some((6, 40)));
        epochs.truncate_end(0);
        epochs.begin(7, 0);
        ends(&epochs, 2, Some((2, 0)));
    }

    #[test]
    fn deletion_forgets_epochs_before_the_start() {
        let mut epochs = epochs();
        epochs.truncate_start(15);
        ends(&epochs, 0, Some((0, 15)));
        ends(&epochs, 2, Some((2, 30)));
        epochs.truncate_start(30);
        ends(&epochs, 2, Some((2, 30)));
        assert_eq!((epochs.at(29), epochs.at(30)), (None, Some(5)));
    }
}
