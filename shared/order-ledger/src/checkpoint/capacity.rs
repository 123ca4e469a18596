//! How much a checkpoint may hold.

use uuid::Uuid;

use crate::aggregate::Aggregate;
use crate::completion::Window;
use crate::dlq_limit::DlqLimit;
use crate::packing::varint_bytes_max;

/// The broker's default limit of a commit's metadata in characters (`offset.metadata.max.bytes`).
pub const METADATA_CHARS_DEFAULT: usize = 4096;
/// The most characters that a checkpoint uses, whatever the broker's limit.
pub const METADATA_CHARS_MAX: usize = 65_536;
/// The fewest characters in which a checkpoint fits, with the narrowest window.
pub const METADATA_CHARS_MIN: usize = metadata_chars(FIXED_BYTES_MAX + Window::MAP_BYTES_MIN);

/// The version that is written, and the only one that is read.
pub(super) const VERSION: u8 = 3;
pub(super) const PREFIX: &str = "oc3:";
pub(super) const CHECKSUM_BYTES: usize = size_of::<u32>();

/// The three offsets and counts below 2^63, and the leader epoch, are among them.
const IDENTITY_BYTES_MAX: usize = size_of_val(&VERSION)
    + size_of::<Uuid>()
    + 3 * varint_bytes_max(63)
    + varint_bytes_max(32)
    + CHECKSUM_BYTES;
/// The least space of attempts and reasons. They also use what the other sections leave.
const ATTEMPTS_BYTES_MIN: usize = 64;
/// The most bytes of all sections but the map.
const FIXED_BYTES_MAX: usize =
    IDENTITY_BYTES_MAX + Aggregate::BYTES_MAX + DlqLimit::BYTES_MAX + ATTEMPTS_BYTES_MIN;

/// The size limit of a checkpoint, and the window of dispatching that follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    chars: usize,
    pub(super) bytes_max: usize,
    window: Window,
}

/// The limit of a commit's metadata is too low for any checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a checkpoint does not fit in {chars} characters of offset metadata; it needs {METADATA_CHARS_MIN}"
)]
pub struct CapacityError {
    chars: usize,
}

impl Capacity {
    /// The capacity for the broker's default limit, [`METADATA_CHARS_DEFAULT`].
    pub const DEFAULT: Self = {
        let Ok(capacity) = Self::for_metadata(METADATA_CHARS_DEFAULT) else {
            panic!("the broker's default is enough")
        };
        capacity
    };

    /// Returns the capacity for `chars` characters of metadata.
    ///
    /// # Errors
    /// When `chars` is below [`METADATA_CHARS_MIN`].
    pub const fn for_metadata(chars: usize) -> Result<Self, CapacityError> {
        let bytes_max = chars.saturating_sub(PREFIX.len()) * 3 / 4;
        match Window::for_map_bytes(bytes_max.saturating_sub(FIXED_BYTES_MAX)) {
            Some(window) => Ok(Self { chars, bytes_max, window }),
            None => Err(CapacityError { chars }),
        }
    }

    /// Returns the most characters that a checkpoint may have.
    pub const fn chars(&self) -> usize {
        self.chars
    }

    /// Returns how far dispatching may run ahead of the lowest incomplete offset.
    pub const fn window(&self) -> Window {
        self.window
    }
}

const _: () = {
    assert!(IDENTITY_BYTES_MAX == 53 && Aggregate::BYTES_MAX == 67 + 870);
    assert!(DlqLimit::BYTES_MAX == 15);
    assert!(METADATA_CHARS_MIN == 1_600);
    let window = Capacity::DEFAULT.window;
    assert!(window.incomplete_max() == 1_155 && window.dense_max() == 15_905);
};

/// Returns the length of the text of `bytes` bytes, in characters.
const fn metadata_chars(bytes: usize) -> usize {
    PREFIX.len() + (bytes * 4).div_ceil(3)
}
