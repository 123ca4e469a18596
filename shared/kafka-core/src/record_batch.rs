//! Record batches (format 2): read in place as a fetch response brings them, and encoded for a producer.
//!
//! [`batches`] splits the bytes into [`RawBatch`]es. [`RawBatch::open`] verifies one and decompresses it.
//! [`RecordBatch::records`] iterates over its records, which are slices of the response: nothing is allocated or copied
//! for a record. Bytes that cannot be decoded come out as an [`UndecodableRecord`] with its offsets, so they do not
//! stop a partition. A consumer advances to [`RawBatch::next_offset`], never to its last record + 1: compaction removes
//! records, and control batches have none to deliver. A consumer that has to survive a damaged log reads with
//! [`FetchedPartition`].
//!
//! A producer encodes with [`BatchEncoder`]. [`BatchBuilder`] builds the batches of tests, also damaged ones.
//!
//! ```
//! # use kafka_core::record_batch::{batches, AbortedTransactions, BatchBuilder};
//! # let response = BatchBuilder::new(7).record(0, None, Some(b"value"), &[]).build().unwrap();
//! # let (listed, mut position) = (Vec::new(), 7);
//! let mut aborted = AbortedTransactions::new(listed);
//! for raw in batches(response) {
//!     let batch = raw.open(8 << 20)?;
//!     if aborted.delivers(&batch) {
//!         for item in batch.records_from(position) {
//!             match item {
//!                 Ok(record) => assert_eq!(record.value, Some(&b"value"[..])),
//!                 Err(undecodable) => unreachable!("{undecodable:?}"),
//!             }
//!         }
//!     }
//!     position = raw.next_offset();
//! }
//! # assert_eq!(position, 8);
//! # Ok::<(), kafka_core::record_batch::BatchError>(())
//! ```
//!
//! The format: <https://kafka.apache.org/documentation/#messageformat>.

mod aborted;
mod builder;
mod encoder;
mod error;
mod fetched_partition;
mod header;
mod headers;
mod raw;
mod records;
mod varint;

pub use self::aborted::AbortedTransactions;
pub use self::builder::BatchBuilder;
pub use self::encoder::{BatchEncoder, EncodedBatch, Fit, NewRecord};
pub use self::error::{BatchError, BatchErrorKind, DamagedBatch};
pub use self::fetched_partition::{FetchedPartition, VerifiedBatches};
pub use self::header::{BatchHeader, HEADER_BYTES};
pub use self::headers::{Header, HeaderIter, Headers};
pub use self::raw::{Batches, RawBatch, batches};
pub use self::records::{
    ControlMarker, Record, RecordBatch, RecordFault, RecordPosition, Records, UndecodableRecord,
};

#[cfg(test)]
mod tests;
