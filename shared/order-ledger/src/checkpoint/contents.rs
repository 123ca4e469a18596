//! The contents of a checkpoint, and their encoding.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dead_letter::ErrorType;
use uuid::Uuid;

use super::capacity::{CHECKSUM_BYTES, Capacity, PREFIX, VERSION};
use crate::aggregate::{Aggregate, COUNT_MAX};
use crate::completion::CompletionTracker;
use crate::dlq_limit::DlqLimit;
use crate::leader_epochs::LeaderEpochs;
use crate::packing::{Unpacker, bit_width, varint_bytes_max, write_fixed, write_varint};

/// A higher number of attempts at a record is written as this one.
const ATTEMPTS_MAX: u32 = 255;

/// The reasons that are written, numbered from 1. Any other reason is found again by reading the record.
const REASONS: [ErrorType; 4] =
    [ErrorType::Rejected, ErrorType::RetriesExhausted, ErrorType::Simulated, ErrorType::Panic];

/// An offset and the metadata to commit with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The offset to commit: all records below it are complete.
    pub offset: i64,
    /// The leader epoch of the last record before the offset, if it is known (KIP-320).
    pub leader_epoch: Option<i32>,
    /// The text to commit as the offset's metadata; see [`crate::checkpoint`] for its format.
    pub metadata: String,
}

/// A checkpoint exceeds its size limit and must not be committed. The last committed one stays valid.
///
/// Causes: records were admitted outside the window, or the state was restored from a checkpoint with a higher limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint takes {bytes} bytes of {bytes_max}")]
pub struct DoesNotFit {
    bytes: usize,
    bytes_max: usize,
}

/// The committed metadata is a checkpoint that cannot be used. Processing without it would lose its numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Another release wrote it in another format.
    #[error("the checkpoint has version {found}, and this release knows version {known}")]
    UnknownVersion {
        /// The version of the checkpoint.
        found: u64,
        /// The version that this release reads.
        known: u8,
    },
    /// The checksum does not match: the text was changed.
    #[error("the checkpoint's checksum is wrong")]
    Checksum,
    /// A section does not follow the format of its version.
    #[error("the checkpoint is malformed: {0}")]
    Malformed(&'static str),
}

/// The contents of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) topic_id: Uuid,
    /// The first offset that the numbers cover.
    pub(super) since: i64,
    /// How many complete offsets the log has lost after they were counted.
    pub(super) truncated: u64,
    pub(super) leader_epochs: LeaderEpochs,
    pub(super) aggregate: Aggregate,
    pub(super) dlq_limit: DlqLimit,
    /// Its marks are the doomed records.
    pub(super) tracker: CompletionTracker,
    /// The number of attempts at incomplete records, if not 0.
    pub(super) attempts: BTreeMap<i64, u32>,
    /// Why records are doomed, as far as it is known.
    pub(super) reasons: BTreeMap<i64, ErrorType>,
}

/// What the metadata of a committed offset is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Foreign,
    /// A checkpoint, and the offset that it was written for.
    Checkpoint(Box<Contents>, i64),
}

impl Contents {
    /// Returns the contents of a partition whose records below `offset` are not counted.
    pub(super) fn empty(topic_id: Uuid, offset: i64) -> Self {
        Self {
            topic_id,
            since: offset,
            truncated: 0,
            leader_epochs: LeaderEpochs::default(),
            aggregate: Aggregate::default(),
            dlq_limit: DlqLimit::default(),
            tracker: CompletionTracker::new(offset),
            attempts: BTreeMap::new(),
            reasons: BTreeMap::new(),
        }
    }

    pub(super) fn write(&self, capacity: &Capacity) -> Result<Checkpoint, DoesNotFit> {
        let bytes_max = capacity.bytes_max;
        let offset = self.tracker.committable();
        let mut bytes = Vec::with_capacity(bytes_max);
        bytes.push(VERSION);
        bytes.extend_from_slice(self.topic_id.as_bytes());
        write_varint(offset.cast_unsigned(), &mut bytes);
        write_varint(offset.saturating_sub(self.since).cast_unsigned(), &mut bytes);
        write_varint(self.truncated, &mut bytes);
        let epoch = self.leader_epochs.before(self.tracker.end());
        let epoch = epoch.and_then(|epoch| u64::try_from(epoch).ok());
        write_varint(epoch.map_or(0, |epoch| epoch + 1), &mut bytes);
        self.aggregate.write(&mut bytes);
        self.dlq_limit.write(&mut bytes);
        self.tracker.write_map(&mut bytes);
        let room = bytes_max.saturating_sub(bytes.len() + CHECKSUM_BYTES);
        let room = room.saturating_sub(self.write_attempts(room, &mut bytes));
        self.write_reasons(room, &mut bytes);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        if bytes.len() > bytes_max {
            return Err(DoesNotFit { bytes: bytes.len(), bytes_max });
        }
        let metadata = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        Ok(Checkpoint { offset, leader_epoch: self.leader_epochs.before(offset), metadata })
    }

    /// Appends the attempts at the lowest incomplete offsets, as many as fit in `room` bytes, and returns the bytes
    /// written.
    ///
    /// The others begin at 0 again after a restart. That costs a few more attempts, and changes no number but the
    /// retries.
    fn write_attempts(&self, room: usize, into: &mut Vec<u8>) -> usize {
        let attempts_at = |offset: &i64| {
            self.attempts.get(offset).map_or(0, |n| u64::from(*n.min(&ATTEMPTS_MAX)))
        };
        let last = self.attempts.last_key_value().map(|(offset, _)| *offset);
        let offsets = self.tracker.incomplete_offsets();
        let known = offsets.iter().take_while(|offset| Some(**offset) <= last);
        // The reasons take at least one byte.
        write_list(known.map(attempts_at).collect(), room.saturating_sub(1), into)
    }

    /// Appends the reasons of the lowest doomed offsets, as many as fit in `room` bytes. After a restart the dead
    /// letters of the others have a less specific reason.
    fn write_reasons(&self, room: usize, into: &mut Vec<u8>) {
        let number_at = |offset: &i64| {
            let reason = self.reasons.get(offset)?;
            let place = REASONS.iter().position(|known| known == reason)?;
            u64::try_from(place + 1).ok()
        };
        let doomed = self.tracker.marked_offsets().iter();
        write_list(doomed.map(|offset| number_at(offset).unwrap_or(0)).collect(), room, into);
    }

    fn read(from: &mut Unpacker<'_>) -> Option<(Self, i64)> {
        let topic_id = Uuid::from_bytes(from.array()?);
        let offset: i64 = from.varint()?;
        let since = offset.checked_sub(from.varint()?)?;
        let truncated = from.varint()?;
        (truncated <= COUNT_MAX).then_some(())?;
        let epoch: u32 = from.varint()?;
        let aggregate = Aggregate::read(from)?;
        let dlq_limit = DlqLimit::read(from)?;
        let tracker = CompletionTracker::read_map(offset, from)?;
        let mut leader_epochs = LeaderEpochs::default();
        if let Some(epoch) = epoch.checked_sub(1) {
            leader_epochs.note(tracker.end().saturating_sub(1), i32::try_from(epoch).ok()?);
        }
        let mut attempts = BTreeMap::new();
        for (offset, count) in tracker.incomplete_offsets().into_iter().zip(read_list(from)?) {
            if count > 0 {
                attempts.insert(offset, u32::try_from(count).ok()?);
            }
        }
        let mut reasons = BTreeMap::new();
        for (offset, number) in tracker.marked_offsets().iter().zip(read_list(from)?) {
            if let Some(place) = number.checked_sub(1) {
                reasons.insert(*offset, *REASONS.get(usize::try_from(place).ok()?)?);
            }
        }
        let contents = Self {
            topic_id,
            since,
            truncated,
            leader_epochs,
            aggregate,
            dlq_limit,
            tracker,
            attempts,
            reasons,
        };
        Some((contents, offset))
    }
}

/// Appends small numbers, as many as fit in `room` bytes, and returns the bytes written.
fn write_list(mut numbers: Vec<u64>, room: usize, into: &mut Vec<u8>) -> usize {
    const HEADER_BYTES_MAX: usize = 1 + varint_bytes_max(21);
    let before = into.len();
    let width = numbers.iter().copied().max().map_or(0, bit_width);
    if width > 0 {
        numbers.truncate(room.saturating_sub(HEADER_BYTES_MAX) * 8 / usize::from(width));
    }
    if width == 0 || numbers.is_empty() {
        into.push(0);
    } else {
        into.push(width);
        write_varint(u64::try_from(numbers.len()).unwrap_or(u64::MAX), into);
        write_fixed(&numbers, width, into);
    }
    into.len() - before
}

fn read_list(from: &mut Unpacker<'_>) -> Option<Vec<u64>> {
    let [width] = from.array()?;
    if width == 0 {
        return Some(Vec::new());
    }
    let count = from.varint()?;
    from.fixed(count, width)
}

/// Reads the metadata of a committed offset.
pub(super) fn read(metadata: &str) -> Result<Found, CheckpointError> {
    if metadata.is_empty() {
        return Ok(Found::Nothing);
    }
    let Some((container_version, encoded)) = split_prefix(metadata) else {
        return Ok(Found::Foreign);
    };
    if container_version != u64::from(VERSION) {
        return Err(CheckpointError::UnknownVersion { found: container_version, known: VERSION });
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_not_base64| CheckpointError::Malformed("it is not base64url"))?;
    let (body, checksum) = bytes
        .split_last_chunk()
        .ok_or(CheckpointError::Malformed("it is shorter than its checksum"))?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
        return Err(CheckpointError::Checksum);
    }
    let (version, contents) =
        body.split_first().ok_or(CheckpointError::Malformed("it has no version"))?;
    if *version != VERSION {
        return Err(CheckpointError::UnknownVersion { found: u64::from(*version), known: VERSION });
    }
    let mut unpacker = Unpacker::new(contents);
    match Contents::read(&mut unpacker) {
        Some((contents, offset)) if unpacker.is_empty() => {
            Ok(Found::Checkpoint(Box::new(contents), offset))
        }
        Some(_) => Err(CheckpointError::Malformed("bytes follow its last section")),
        None => Err(CheckpointError::Malformed("a section has an impossible value")),
    }
}

/// Splits `oc<number>:` off a metadata text; `None` if it does not begin like that.
fn split_prefix(metadata: &str) -> Option<(u64, &str)> {
    let (number, encoded) = metadata.strip_prefix("oc")?.split_once(':')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| (number.parse().unwrap_or(u64::MAX), encoded))
}

#[cfg(test)]
mod tests;
