//! The checkpoint: a partition's ledger as a short text, committed as the metadata of its offset.
//!
//! Kafka stores an offset and its metadata in one step, so position and numbers always agree. The broker limits the
//! metadata (`offset.metadata.max.bytes`, 4096 by default). A checkpoint fits by construction: each section has a worst
//! case, and the completion map gets the rest, which limits how far dispatching runs ahead. 4096 characters hold 3,069
//! bytes. Of these, identity, offsets and epoch take at most 53, numbers 67, recent prices 870, the dead-letter limit 15;
//! attempts and reasons have 64 of their own. That leaves 2,000 bytes for the map, in which every incomplete record may
//! be doomed. A record is dispatched while at most 1,155 records are incomplete within 2,097,151 offsets, or while the
//! number of incomplete records and the offsets that they span add up to 15,905 at most.
//!
//! A **doomed** record gets a dead letter and no further attempt. The checkpoint that dooms it is committed before the
//! letter is written, so a restart makes no attempt at a record that has a letter.
//!
//! ```text
//! oc3: base64url( body, CRC-32C of the body in 4 bytes, lowest first )
//!
//! body:  version    1 byte   3
//!        topic id   16 bytes
//!        offset     varint   the committed one
//!        covered    varint   offset - since; since is the first offset that the numbers cover
//!        truncated  varint   counted offsets that the log has lost
//!        epoch      varint   0, or 1 + the leader epoch of the last record that the map and the offset cover
//!        numbers             orders, dead letters, replayed, retries: varints; sum: zigzag varint;
//!                            if there are orders: lowest and highest price, 4 bytes each
//!        recent              count, first timestamp: varints; gaps to the next: Rice; prices: 4 bytes each
//!        dlq limit           0, or the number of an error type; its dead letters since the last processed order: varint;
//!                            0, or the offset from which a release counts plus 1: varint
//!        map                 see `crate::completion`; its marks are the doomed records
//!        attempts            width in bits: 1 byte, 0 = none follow; count: varint; the attempts at the incomplete
//!                            offsets, lowest first, in that many bits each
//!        reasons             the same for the doomed offsets; 0 = unknown, 1 = rejected, 2 = retries exhausted,
//!                            3 = simulated, 4 = panic
//! ```
//!
//! Varints are little-endian base 128, prices little-endian. Varints and Rice codes are those of
//! `packing`.

mod capacity;
mod contents;
mod partition_state;

pub use self::capacity::{
    Capacity, CapacityError, METADATA_CHARS_DEFAULT, METADATA_CHARS_MAX, METADATA_CHARS_MIN,
};
pub use self::contents::{Checkpoint, CheckpointError, DoesNotFit};
pub use self::partition_state::{
    Admission, CompletedOrder, Discarded, Origin, PartitionState, RecordState, Restored,
};
