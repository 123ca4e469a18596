//! Leaving out what aborted transactions wrote, as a consumer with `isolation.level=read_committed` does.
//!
//! A response lists the aborted transactions that touch it: each producer with the first offset of its transaction.
//! From that offset on, that producer's transactional batches are left out, up to its ABORT marker. A list belongs to
//! its response: the next response repeats what still applies.

use std::collections::BTreeSet;

use super::BatchHeader;
use super::records::{ControlMarker, RecordBatch};

/// The aborted transactions of one partition in one fetch response.
#[derive(Clone, Debug, Default)]
pub struct AbortedTransactions {
    /// First offset and producer id of transactions that begin after the batches seen so far.
    ahead: BTreeSet<(i64, i64)>,
    /// Producers in the middle of an aborted transaction.
    producers: BTreeSet<i64>,
}

impl AbortedTransactions {
    /// Takes the response's list of (producer id, first offset), in any order.
    pub fn new(listed: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let ahead = listed.into_iter().map(|(producer, first)| (first, producer)).collect();
        Self { ahead, producers: BTreeSet::new() }
    }

    /// Returns whether the records of `batch` are to be delivered: not if an aborted transaction wrote them, nor if
    /// they are markers. Has to be asked about every batch of the response, once each and in order.
    pub fn delivers(&mut self, batch: &RecordBatch) -> bool {
        self.judge(batch.header(), || batch.marker())
    }

    /// Returns the same about a batch that cannot be opened.
    pub fn delivers_unopened(&mut self, header: &BatchHeader) -> bool {
        self.judge(header, || None)
    }

    fn judge(
        &mut self,
        header: &BatchHeader,
        marker: impl FnOnce() -> Option<ControlMarker>,
    ) -> bool {
        if header.producer_id < 0 {
            return !header.is_control();
        }
        while let Some(&(first, producer)) = self.ahead.first() {
            if header.last_offset < first {
                break;
            }
            self.ahead.pop_first();
            self.producers.insert(producer);
        }
        if header.is_control() {
            if marker() == Some(ControlMarker::Abort) {
                self.producers.remove(&header.producer_id);
            }
            return false;
        }
        !(header.is_transactional() && self.producers.contains(&header.producer_id))
    }
}
