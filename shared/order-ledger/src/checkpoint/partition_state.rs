//! A partition's state, and how a record changes it.
//!
//! ```text
//!                       admit                        complete_order
//!   record read  --------+-----> Process  --------+-----------------> counted, complete
//!                        |         |   ^          |
//!                        |         v   |          | complete_dead_letter
//!                        |   record_attempts, doom +----------------> counted, complete
//!                        |    (waits for its retry or its dead letter)
//!                        +-----> Doomed              was doomed before a restart; complete_dead_letter follows
//!                        +-----> Skip                counted earlier
//! ```
//!
//! Counting and completing are one step, so the numbers always cover exactly the complete records: orders + dead
//! letters = complete records since the first covered offset. Every checkpoint is consistent, and a restart from it
//! repeats exactly the records that it does not count. An unreadable range of the log, such as a damaged batch, counts
//! as one dead letter at its first offset. Its other offsets then count as offsets without a record.

use std::fmt;
use std::ops::RangeInclusive;

use dead_letter::{ErrorType, REPLAY_OF_HEADER};
use uuid::Uuid;

use super::capacity::Capacity;
use super::contents::{self, Checkpoint, CheckpointError, Contents, DoesNotFit, Found};
use crate::aggregate::Aggregate;
use crate::completion::Observed;
use crate::dlq_limit::DlqLimit;

/// What to do with a record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Process it. It stays incomplete until it is completed as an order or a dead letter.
    Process {
        /// How many attempts were made at it before a restart.
        attempts: u32,
    },
    /// Write its dead letter without an attempt: it was doomed before a restart.
    Doomed {
        /// How many attempts were made at it.
        attempts: u32,
        /// Why it was doomed, if the checkpoint kept the reason.
        reason: Option<ErrorType>,
    },
    /// Nothing: it is complete, or in processing.
    Skip,
}

/// The state of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// It is complete and counted, or the offset has no record.
    Complete,
    /// It is in processing, waits for a retry, or is to be repeated after a restart.
    Incomplete {
        /// How many attempts were made at it.
        attempts: u32,
    },
    /// It gets a dead letter and no further attempt.
    Doomed {
        /// How many attempts were made at it.
        attempts: u32,
        /// Why, if the checkpoint kept the reason.
        reason: Option<ErrorType>,
    },
    /// It is above the position.
    NotRead,
}

/// Where a record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A producer sent it.
    Produced,
    /// An operator replayed it from the dead-letter topic.
    Replayed,
}

/// An order whose processing succeeded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompletedOrder {
    /// The time at which it counts, in milliseconds since 1970: the record's timestamp, unless that is far in the
    /// future.
    pub timestamp_ms: i64,
    /// The order's price, which must be valid.
    pub price: f32,
    /// The number of attempts, from 1.
    pub attempts: u32,
    /// Where the record came from.
    pub origin: Origin,
}

/// The completion of one partition's records, and their numbers.
#[derive(Clone, Debug)]
pub struct PartitionState {
    contents: Contents,
    capacity: Capacity,
    revision: u64,
}

/// A partition's state after an assignment.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The state at the committed offset.
    pub state: PartitionState,
    /// Why the state is empty, if it is.
    pub discarded: Option<Discarded>,
}

/// Why the numbers begin at zero although an offset was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// The offset was committed without metadata, by a tool or another client.
    NoMetadata,
    /// The metadata is not a checkpoint: another client committed it.
    Foreign,
    /// The checkpoint was written for another offset.
    OtherOffset {
        /// The offset that it was written for.
        found: i64,
        /// The offset that it was committed with.
        committed: i64,
    },
    /// The checkpoint is of another topic of that name, such as one that was deleted.
    OtherTopic {
        /// The topic id in the checkpoint.
        found: Uuid,
        /// The id of the current topic.
        assigned: Uuid,
    },
}

impl PartitionState {
    /// Returns the state of a partition that is processed from `offset` on, with all numbers at zero.
    pub fn empty(topic_id: Uuid, offset: i64, capacity: Capacity) -> Self {
        Self { contents: Contents::empty(topic_id, offset), capacity, revision: 0 }
    }

    /// Returns the committed state, or an empty one at the committed offset if the metadata is not its checkpoint.
    ///
    /// The log has to be read from [`Self::committable`] on. If it has another history below [`Self::end`], call
    /// [`Self::truncate`] first.
    ///
    /// # Errors
    /// When the checkpoint has an unknown version or a wrong checksum, or is malformed. An operator has to decide
    /// whether its numbers may be lost.
    pub fn restore(
        metadata: &str,
        topic_id: Uuid,
        committed_offset: i64,
        capacity: Capacity,
    ) -> Result<Restored, CheckpointError> {
        let discarded = match contents::read(metadata)? {
            Found::Nothing => Discarded::NoMetadata,
            Found::Foreign => Discarded::Foreign,
            Found::Checkpoint(contents, _) if contents.topic_id != topic_id => {
                Discarded::OtherTopic { found: contents.topic_id, assigned: topic_id }
            }
            Found::Checkpoint(_, found) if found != committed_offset => {
                Discarded::OtherOffset { found, committed: committed_offset }
            }
            Found::Checkpoint(contents, _) => {
                let state = Self { contents: *contents, capacity, revision: 0 };
                return Ok(Restored { state, discarded: None });
            }
        };
        let state = Self::empty(topic_id, committed_offset, capacity);
        Ok(Restored { state, discarded: Some(discarded) })
    }

    /// Returns whether the record at `offset` may be admitted. Otherwise reading has to wait until records complete,
    /// because the checkpoint might not fit. Records that a restart repeats may always be admitted.
    #[inline]
    pub fn has_room_for(&self, offset: i64) -> bool {
        self.contents.tracker.has_room_for(offset, self.capacity.window())
    }

    /// Admits a record that was read and returns what to do with it. Call it in offset order.
    #[inline]
    pub fn admit(&mut self, offset: i64) -> Admission {
        let contents = &mut self.contents;
        let attempts = match contents.tracker.observe(offset) {
            Observed::New => {
                contents.tracker.begin(offset);
                0
            }
            Observed::Incomplete => {
                let state = self.record_state(offset);
                self.contents.tracker.begin(offset);
                match state {
                    RecordState::Doomed { attempts, reason } => {
                        return Admission::Doomed { attempts, reason };
                    }
                    RecordState::Incomplete { attempts } => attempts,
                    RecordState::Complete | RecordState::NotRead => 0,
                }
            }
            Observed::Dispatched | Observed::Complete => return Admission::Skip,
        };
        self.revision += 1;
        Admission::Process { attempts }
    }

    /// Admits an unreadable range of the log. Call it in offset order. Returns the offset at which the range counts as
    /// one record, and the attempts made there; `None` if all of the range is complete.
    ///
    /// Admit no later record before [`Self::complete_range`]. Until then the range's other offsets are not complete:
    /// after a restart they may be readable. The window must have room for the last one.
    pub fn admit_range(&mut self, offsets: RangeInclusive<i64>) -> Option<(i64, u32)> {
        let contents = &mut self.contents;
        let offset = contents.tracker.first_not_dispatched(offsets)?;
        contents.tracker.begin(offset);
        self.revision += 1;
        Some((offset, contents.attempts.get(&offset).copied().unwrap_or(0)))
    }

    /// Returns whether an admitted range of these offsets is incomplete.
    pub fn is_range_incomplete(&self, offsets: RangeInclusive<i64>) -> bool {
        self.contents.tracker.is_dispatched_within(offsets)
    }

    /// Counts an admitted range that ends at `last_offset` as one dead letter, as [`Self::complete_dead_letter`] does
    /// for a record.
    pub fn complete_range(&mut self, offset: i64, last_offset: i64, attempts: u32) -> bool {
        let is_complete = self.complete_dead_letter(offset, attempts, Origin::Produced);
        if is_complete {
            self.contents.tracker.skip_to(last_offset.saturating_add(1));
        }
        is_complete
    }

    /// Counts an admitted record as a processed order. Returns whether it was incomplete; if not, nothing changes.
    #[inline]
    pub fn complete_order(&mut self, offset: i64, order: CompletedOrder) -> bool {
        let is_complete = self.complete(offset, order.attempts, order.origin);
        if is_complete {
            self.contents.aggregate.add_order(order.timestamp_ms, order.price);
        }
        is_complete
    }

    /// Counts an admitted record as a dead letter. Returns whether it was incomplete; if not, nothing changes.
    ///
    /// Call it after the dead letter is written. `attempts` is the number of attempts at the record, 0 for one that
    /// could not be decoded.
    pub fn complete_dead_letter(&mut self, offset: i64, attempts: u32, origin: Origin) -> bool {
        let is_complete = self.complete(offset, attempts, origin);
        if is_complete {
            self.contents.aggregate.add_dead_letter();
        }
        is_complete
    }

    #[inline]
    fn complete(&mut self, offset: i64, attempts: u32, origin: Origin) -> bool {
        let contents = &mut self.contents;
        if !contents.tracker.complete(offset) {
            return false;
        }
        if !contents.attempts.is_empty() {
            contents.attempts.remove(&offset);
        }
        if !contents.reasons.is_empty() {
            contents.reasons.remove(&offset);
        }
        contents.aggregate.add_retries(attempts.saturating_sub(1));
        if origin == Origin::Replayed {
            contents.aggregate.add_replayed();
        }
        self.revision += 1;
        true
    }

    /// Dooms an admitted record after `attempts` attempts. Every later checkpoint names it, and a worker that restores
    /// one writes the dead letter without an attempt.
    ///
    /// The dead letter must not be written before such a checkpoint is committed.
    pub fn doom(&mut self, offset: i64, attempts: u32, reason: ErrorType) {
        let contents = &mut self.contents;
        contents.tracker.mark(offset);
        if attempts > 0 {
            contents.attempts.insert(offset, attempts);
        }
        contents.reasons.insert(offset, reason);
        self.revision += 1;
    }

    /// Returns the count of dead letters since the last processed order.
    pub fn dlq_limit(&self) -> &DlqLimit {
        &self.contents.dlq_limit
    }

    /// Counts a dead letter for [`Self::dlq_limit`]. Call it before [`Self::doom`], so that one commit has both.
    pub fn count_dead_letter(&mut self, error_type: ErrorType) {
        self.contents.dlq_limit.count(error_type);
        self.revision += 1;
    }

    /// Clears the count of dead letters after a processed order or a release.
    #[inline]
    pub fn clear_dlq_limit(&mut self) {
        if self.contents.dlq_limit.clear() {
            self.revision += 1;
        }
    }

    /// Sets the offset of the actions topic from which a release of the partition counts.
    pub fn set_release_from(&mut self, offset: i64) {
        self.contents.dlq_limit.set_release_from(offset);
        self.revision += 1;
    }

    /// Stores the number of attempts at an admitted record that waits for its retry.
    pub fn record_attempts(&mut self, offset: i64, attempts: u32) {
        self.contents.attempts.insert(offset, attempts);
        self.revision += 1;
    }

    /// Notes that the log was read up to `next_offset`. Offsets below it that were not admitted hold no record.
    ///
    /// Returns how many offsets that were incomplete before a restart have no record in the log. They count as
    /// complete.
    pub fn advance_to(&mut self, next_offset: i64) -> usize {
        let contents = &mut self.contents;
        let before = contents.tracker.committable();
        let lost = contents.tracker.advance_to(next_offset);
        if lost > 0 && !contents.attempts.is_empty() {
            let incomplete = contents.tracker.incomplete_offsets();
            contents.attempts.retain(|offset, _| incomplete.binary_search(offset).is_ok());
        }
        if lost > 0 {
            let doomed = contents.tracker.marked_offsets();
            contents.reasons.retain(|offset, _| doomed.contains(offset));
        }
        if contents.tracker.committable() != before {
            self.revision += 1;
        }
        lost
    }

    /// Notes the leader epoch of the record at `offset` and of those after it; a negative one is unknown. Call it before
    /// they are admitted.
    pub fn note_leader_epoch(&mut self, offset: i64, epoch: i32) {
        let contents = &mut self.contents;
        contents.leader_epochs.forget_below(contents.tracker.committable());
        contents.leader_epochs.note(offset, epoch);
    }

    /// Takes notice that the log has lost its records from `offset` on, or has others in their place. They are forgotten,
    /// but the numbers keep those that were counted. Returns how many offsets that is. `leader_epoch` is that of the last
    /// record before `offset`, if it is known.
    pub fn truncate(&mut self, offset: i64, leader_epoch: Option<i32>) -> u64 {
        let contents = &mut self.contents;
        let lost = contents.tracker.truncate(offset);
        contents.attempts.split_off(&offset);
        contents.reasons.split_off(&offset);
        contents.leader_epochs.truncate(offset, leader_epoch);
        contents.since = contents.since.min(offset);
        contents.truncated = contents.truncated.saturating_add(lost);
        self.revision += 1;
        lost
    }

    /// Returns the state of the record at `offset`.
    #[inline]
    pub fn record_state(&self, offset: i64) -> RecordState {
        let contents = &self.contents;
        match contents.tracker.observe(offset) {
            Observed::New => RecordState::NotRead,
            Observed::Incomplete | Observed::Dispatched => {
                let attempts = contents.attempts.get(&offset).copied().unwrap_or(0);
                if contents.tracker.is_marked(offset) {
                    let reason = contents.reasons.get(&offset).copied();
                    return RecordState::Doomed { attempts, reason };
                }
                RecordState::Incomplete { attempts }
            }
            Observed::Complete => RecordState::Complete,
        }
    }

    /// Returns the offset to commit: all records below it are complete.
    pub fn committable(&self) -> i64 {
        self.contents.tracker.committable()
    }

    /// Returns the leader epoch of the last record before [`Self::committable`], if it is known (KIP-320).
    pub fn leader_epoch(&self) -> Option<i32> {
        self.contents.leader_epochs.before(self.committable())
    }

    /// Returns the offset after the last one that the state covers, and the leader epoch of the last record before it, if
    /// it is known.
    pub fn end(&self) -> (i64, Option<i32>) {
        let end = self.contents.tracker.end();
        (end, self.contents.leader_epochs.before(end))
    }

    /// Returns how many offsets the log has lost after they were counted.
    pub fn truncated(&self) -> u64 {
        self.contents.truncated
    }

    /// Returns the offset after the highest one that was admitted.
    pub fn dispatch_frontier(&self) -> i64 {
        self.contents.tracker.frontier()
    }

    /// Returns how many records are incomplete: in processing, waiting, or to be repeated after a restart.
    pub fn incomplete(&self) -> usize {
        self.contents.tracker.incomplete()
    }

    /// Returns the id of the partition's topic.
    pub fn topic_id(&self) -> Uuid {
        self.contents.topic_id
    }

    /// Returns the first offset that the numbers cover.
    pub fn since(&self) -> i64 {
        self.contents.since
    }

    /// Returns the numbers of the complete records.
    pub fn aggregate(&self) -> &Aggregate {
        &self.contents.aggregate
    }

    /// Returns a number that increases with every change of the checkpoint.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the checkpoint to commit.
    ///
    /// # Errors
    /// When the checkpoint exceeds its size limit, because records were admitted without [`Self::has_room_for`] or the
    /// state was restored from a larger one. It fits again once more records are complete.
    pub fn checkpoint(&self) -> Result<Checkpoint, DoesNotFit> {
        self.contents.write(&self.capacity)
    }
}

impl Origin {
    /// The fewest headers of a replay: the record that it replays, and its count.
    pub const REPLAY_HEADERS_MIN: usize = 2;

    /// Returns the origin of the record with these headers.
    pub fn of<'a>(headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Self {
        let is_replay = headers.into_iter().any(|(name, _)| name == REPLAY_OF_HEADER.as_bytes());
        if is_replay { Self::Replayed } else { Self::Produced }
    }
}

impl Discarded {
    /// Returns whether numbers may be lost, so that a warning is due.
    pub fn is_warning(self) -> bool {
        match self {
            Self::NoMetadata => false,
            Self::Foreign | Self::OtherOffset { .. } | Self::OtherTopic { .. } => true,
        }
    }
}

impl fmt::Display for Discarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMetadata => write!(f, "the offset was committed without a checkpoint"),
            Self::Foreign => {
                write!(f, "another client committed the offset, with metadata of its own")
            }
            Self::OtherOffset { found, committed } => {
                write!(f, "the checkpoint is of offset {found}, but was committed with {committed}")
            }
            Self::OtherTopic { found, assigned } => {
                write!(f, "the checkpoint is of topic id {found}, but the topic has {assigned}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
