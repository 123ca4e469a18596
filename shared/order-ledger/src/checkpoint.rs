//! What is committed beside an offset: everything that is known about a partition, as a short text.
//!
//! Kafka stores an offset and its metadata in one step, so progress and numbers can never disagree. The metadata of a
//! commit is limited (`offset.metadata.max.bytes`, 4096 by default). A checkpoint fits by construction: each section has a
//! worst case, and the completion map gets what the others leave, which bounds how far dispatching runs ahead. Of the
//! 3,069 bytes that 4096 characters hold, identity and offsets take at most 39, numbers 77, recent prices 870, producers
//! 313, the guard 15; attempts and reasons are promised 64. That leaves 1,691 for the map, in which any incomplete record
//! may be doomed: a record is dispatched while at most 955 are incomplete within 2,097,151 offsets, or while the incomplete
//! ones and the offsets they span come to 13,433 at most.
//!
//! A **doomed** record is to get a dead letter and no further attempt. The checkpoint that names it is committed before
//! the letter is written, so a restart cannot try again what has a letter.
//!
//! ```text
//! oc2: base64url( body, CRC-32C of the body in 4 bytes, lowest first )
//!
//! body:  version    1 byte   2
//!        topic id   16 bytes
//!        offset     varint   the committed one
//!        covered    varint   offset - since, which is the first offset the numbers are about
//!        numbers             orders, dead letters, duplicates, replayed, retries: varints; sum: zigzag varint;
//!                            if there are orders: lowest and highest price, 4 bytes each
//!        recent              count, first timestamp: varints; gaps to the next: Rice; prices: 4 bytes each
//!        producers           count: varint; each: hash of its id, 8 bytes, last sequence: varint
//!        guard               0, or the number of a type of failure; its dead letters since the last processed order: varint;
//!                            0, or the offset from which a release counts plus 1: varint
//!        map                 see `crate::completion`; its marks are the doomed records
//!        attempts            bits of each: 1 byte, 0 = none follow; count: varint; at the incomplete offsets, lowest
//!                            first: so many bits each
//!        reasons             the same of the doomed offsets; 0 = not known, 1 = rejected, 2 = retries exhausted,
//!                            3 = simulated, 4 = panic
//! ```
//!
//! Varints are little-endian base 128, prices and hashes little-endian; varints and Rice codes are those of
//! [`crate::packing`].

use uuid::Uuid;

use crate::aggregate::Aggregate;
use crate::completion::Window;
use crate::dlq_limit::DlqLimit;
use crate::packing::varint_bytes_max;
use crate::producer_table::ProducerTable;

mod contents;
mod partition_state;

pub use self::partition_state::{
    Admission, CompletedOrder, Discarded, Origin, PartitionState, RecordState, Restored,
};

/// The most characters that brokers store beside an offset unless they are configured otherwise.
pub const METADATA_CHARS_DEFAULT: usize = 4096;
/// The most characters that are made use of, whatever brokers store.
pub const METADATA_CHARS_MAX: usize = 65_536;
/// The fewest characters in which a checkpoint fits, with a narrow window.
pub const METADATA_CHARS_MIN: usize = metadata_chars(FIXED_BYTES_MAX + Window::MAP_BYTES_MIN);

/// The version that is written, and the only one that is read.
const VERSION: u8 = 2;
const PREFIX: &str = "oc2:";
const CHECKSUM_BYTES: usize = size_of::<u32>();

const IDENTITY_BYTES_MAX: usize =
    size_of_val(&VERSION) + size_of::<Uuid>() + 2 * varint_bytes_max(63) + CHECKSUM_BYTES;
/// The attempts and reasons get at least this, and besides what the other sections happen to leave.
const ATTEMPTS_BYTES_MIN: usize = 64;
/// Everything but the map, at worst.
const FIXED_BYTES_MAX: usize = IDENTITY_BYTES_MAX
    + Aggregate::BYTES_MAX
    + ProducerTable::BYTES_MAX
    + DlqLimit::BYTES_MAX
    + ATTEMPTS_BYTES_MIN;

/// How much fits beside a committed offset, and how far dispatching may run ahead because of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    chars: usize,
    bytes_max: usize,
    window: Window,
}

/// The metadata of a commit is limited so much that no checkpoint fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a checkpoint does not fit in {chars} characters of offset metadata; it needs {METADATA_CHARS_MIN}"
)]
pub struct CapacityError {
    chars: usize,
}

/// An offset and what is committed beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The offset to commit.
    pub offset: i64,
    /// The metadata to commit.
    pub metadata: String,
}

/// A checkpoint outgrew its room, so it must not be committed: the last one stays valid.
///
/// That takes records dispatched against the window, or a checkpoint read that was written with more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint takes {bytes} bytes of {bytes_max}")]
pub struct DoesNotFit {
    bytes: usize,
    bytes_max: usize,
}

/// Committed metadata that is a checkpoint, but cannot be relied on. Going on without it would lose its numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// A later release wrote it.
    #[error("the checkpoint has version {found}, and this release knows version {known}")]
    UnknownVersion {
        /// The version it has.
        found: u64,
        /// The latest version that can be read.
        known: u8,
    },
    /// It was changed on the way.
    #[error("the checkpoint's checksum is wrong")]
    Checksum,
    /// It does not hold what its version says.
    #[error("the checkpoint is malformed: {0}")]
    Malformed(&'static str),
}

impl Capacity {
    /// The capacity of a broker's default.
    pub const DEFAULT: Self = {
        let Ok(capacity) = Self::for_metadata(METADATA_CHARS_DEFAULT) else {
            panic!("the broker's default is enough")
        };
        capacity
    };

    /// Returns what fits in `chars` characters of metadata.
    ///
    /// # Errors
    /// Fewer characters than [`METADATA_CHARS_MIN`].
    pub const fn for_metadata(chars: usize) -> Result<Self, CapacityError> {
        let bytes_max = chars.saturating_sub(PREFIX.len()) * 3 / 4;
        match Window::for_map_bytes(bytes_max.saturating_sub(FIXED_BYTES_MAX)) {
            Some(window) => Ok(Self { chars, bytes_max, window }),
            None => Err(CapacityError { chars }),
        }
    }

    /// Returns how many characters a checkpoint may have.
    pub const fn chars(&self) -> usize {
        self.chars
    }

    /// Returns how far dispatching may run ahead.
    pub const fn window(&self) -> Window {
        self.window
    }
}

const _: () = {
    assert!(IDENTITY_BYTES_MAX == 39 && Aggregate::BYTES_MAX == 77 + 870);
    assert!(ProducerTable::BYTES_MAX == 313 && DlqLimit::BYTES_MAX == 15);
    assert!(METADATA_CHARS_MIN == 2_012);
    let window = Capacity::DEFAULT.window;
    assert!(window.incomplete_max() == 955 && window.dense_max() == 13_433);
};

/// Returns how many characters `bytes` take as a text.
const fn metadata_chars(bytes: usize) -> usize {
    PREFIX.len() + (bytes * 4).div_ceil(3)
}
