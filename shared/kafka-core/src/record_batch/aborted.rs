//! Filtering the records of aborted transactions, as a consumer with `isolation.level=read_committed` does.
//!
//! A fetch response lists the aborted transactions in its range: each producer id with the first offset of its
//! transaction. The consumer skips that producer's transactional batches from this offset up to its ABORT marker. A
//! list belongs to its response; the next response lists again what still applies.
//!
//! Fetch: <https://kafka.apache.org/protocol#The_Messages_Fetch>, transactions:
//! [KIP-98](https://cwiki.apache.org/confluence/display/KAFKA/KIP-98+-+Exactly+Once+Delivery+and+Transactional+Messaging).

use std::collections::BTreeSet;

use super::header::BatchHeader;
use super::records::{ControlMarker, RecordBatch};

/// The aborted transactions of one partition in one fetch response.
#[derive(Clone, Debug, Default)]
pub struct AbortedTransactions {
    /// First offset and producer id of transactions that begin after the batches read so far.
    ahead: BTreeSet<(i64, i64)>,
    /// Ids of producers with an aborted transaction at the current batch.
    producers: BTreeSet<i64>,
}

impl AbortedTransactions {
    /// Creates the filter from the response's list of `(producer id, first offset)`, in any order.
    pub fn new(listed: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let ahead = listed.into_iter().map(|(producer, first)| (first, producer)).collect();
        Self { ahead, producers: BTreeSet::new() }
    }

    /// Returns whether the records of `batch` are to be delivered: they are not if the batch is a control batch or
    /// belongs to an aborted transaction. Call it once for every batch of the response, in order.
    pub fn delivers(&mut self, batch: &RecordBatch) -> bool {
        self.is_delivered(batch.header(), || batch.marker())
    }

    /// Returns the same for a batch that cannot be opened.
    pub fn delivers_unopened(&mut self, header: &BatchHeader) -> bool {
        self.is_delivered(header, || None)
    }

    fn is_delivered(
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
