//! All that is known about one partition, and how a record changes it.
//!
//! ```text
//!                       admit                        complete_order
//!   record read  --------+-----> Process  --------+-----------------> counted, complete
//!                        |         |   ^          |
//!                        |         v   |          | complete_dead_letter
//!                        |   record_attempts, doom +----------------> counted, complete
//!                        |    (waits for its retry, or for its letter)
//!                        +-----> Doomed              was doomed before a restart; complete_dead_letter follows
//!                        +-----> Repeat              counted as a duplicate, complete
//!                        +-----> Skip                counted earlier
//! ```
//!
//! Counting and completing are one step, so at any moment the numbers are those of exactly the complete records:
//! orders + dead letters + duplicates = records complete since the first offset covered. A checkpoint taken at any
//! moment is consistent, and a restart from it repeats exactly what it does not count. A piece of the log that is no
//! record, such as a damaged batch, counts as one dead letter at its first offset; its other offsets have no record once it
//! does.

use std::fmt;
use std::ops::RangeInclusive;

use dead_letter::{ErrorType, REPLAY_OF_HEADER};
use uuid::Uuid;

use super::contents::{self, Contents, Found};
use super::{Capacity, Checkpoint, CheckpointError, DoesNotFit};
use crate::aggregate::Aggregate;
use crate::completion::Observed;
use crate::dlq_limit::DlqLimit;
use crate::producer_table::{Judgement, Stamp};

/// What is to be done with a record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It has to be processed. It stays incomplete until it is completed as an order or a dead letter.
    Process {
        /// The attempts that were already made at it, before a restart.
        attempts: u32,
    },
    /// It was doomed before a restart: it gets its dead letter, and no attempt.
    Doomed {
        /// The attempts that were made at it.
        attempts: u32,
        /// Why it was doomed, if that is still known.
        reason: Option<ErrorType>,
    },
    /// Its producer sent it before; it is counted and complete.
    Repeat,
    /// It is complete already, or being processed.
    Skip,
}

/// Where a record stands, seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// It is counted.
    Complete,
    /// It is being processed, waits, or is to be done again after a restart.
    Incomplete {
        /// The attempts that were made at it.
        attempts: u32,
    },
    /// It is to get its dead letter, and no further attempt.
    Doomed {
        /// The attempts that were made at it.
        attempts: u32,
        /// Why, if that is still known.
        reason: Option<ErrorType>,
    },
    /// Nothing has come to it yet.
    NotRead,
}

/// Where a record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A producer sent it.
    Produced,
    /// It was a dead letter and was sent again.
    Replayed,
}

/// An order whose processing succeeded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompletedOrder {
    /// As of when it counts: the record's timestamp, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The order's price; has to be a valid one.
    pub price: f32,
    /// How many attempts it took, from 1.
    pub attempts: u32,
    /// Where the record came from.
    pub origin: Origin,
}

/// Progress and numbers of one partition.
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
    /// Why the state is an empty one, if it is.
    pub discarded: Option<Discarded>,
}

/// Why there are no earlier numbers to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// The offset was committed without metadata: by a tool, or by another client.
    NoMetadata,
    /// The metadata is no checkpoint: another client of the group wrote it.
    Foreign,
    /// The checkpoint was written for another offset.
    OtherOffset {
        /// The offset it was written for.
        found: i64,
        /// The offset it was committed with.
        committed: i64,
    },
    /// The checkpoint is of another topic: the topic was created anew.
    OtherTopic {
        /// The topic id in the checkpoint.
        found: Uuid,
        /// The id of the topic as it is.
        assigned: Uuid,
    },
}

impl PartitionState {
    /// Returns the state of a partition that is worked on from `offset`, and about which nothing is known.
    pub fn empty(topic_id: Uuid, offset: i64, capacity: Capacity) -> Self {
        Self { contents: Contents::empty(topic_id, offset), capacity, revision: 0 }
    }

    /// Returns the state that was committed, or an empty one at the committed offset if there is none to go on with.
    ///
    /// The log has to be read from [`Self::committable`]. If the log ends below [`Self::dispatch_frontier`] it was cut
    /// off, and the state must not be used.
    ///
    /// # Errors
    /// A checkpoint of an unknown version, with a wrong checksum, or malformed: an operator has to decide whether its
    /// numbers may be lost.
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

    /// Returns whether the record at `offset` may be admitted; otherwise reading has to pause before it.
    ///
    /// Without that, a checkpoint could outgrow its room. Records that a restart repeats always may be.
    #[inline]
    pub fn has_room_for(&self, offset: i64) -> bool {
        self.contents.tracker.has_room_for(offset, self.capacity.window())
    }

    /// Takes up a record that was read, in offset order, and returns what is to be done with it.
    ///
    /// Without a stamp the record is taken as it comes.
    #[inline]
    pub fn admit(&mut self, offset: i64, stamp: Option<Stamp<'_>>) -> Admission {
        let contents = &mut self.contents;
        let attempts = match contents.tracker.observe(offset) {
            Observed::New => {
                contents.tracker.begin(offset);
                let judgement = stamp.map(|stamp| contents.producers.judge(&stamp));
                if judgement == Some(Judgement::Repeat) {
                    contents.tracker.complete(offset);
                    contents.aggregate.add_duplicate();
                    self.revision += 1;
                    return Admission::Repeat;
                }
                0
            }
            // It was judged when it was dispatched for the first time.
            Observed::Incomplete => {
                let standing = self.record_state(offset);
                self.contents.tracker.begin(offset);
                match standing {
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

    /// Takes up a piece of the log that is no record, in offset order, and returns the offset at which it counts as one,
    /// with the attempts that were made there; `None` if all of it is complete already.
    ///
    /// Nothing behind it may be taken up before [`Self::complete_range`]: its other offsets are complete only then, because
    /// there may be records to be read after a restart. There has to be room for the last one.
    pub fn admit_range(&mut self, offsets: RangeInclusive<i64>) -> Option<(i64, u32)> {
        let contents = &mut self.contents;
        let offset = contents.tracker.first_open(offsets)?;
        contents.tracker.begin(offset);
        self.revision += 1;
        Some((offset, contents.attempts.get(&offset).copied().unwrap_or(0)))
    }

    /// Returns whether a piece of these offsets was admitted and is not complete.
    pub fn is_range_incomplete(&self, offsets: RangeInclusive<i64>) -> bool {
        self.contents.tracker.is_dispatched_within(offsets)
    }

    /// Counts an admitted piece up to `last_offset` as one dead letter, as [`Self::complete_dead_letter`] does a record.
    pub fn complete_range(&mut self, offset: i64, last_offset: i64, attempts: u32) -> bool {
        let is_complete = self.complete_dead_letter(offset, attempts, Origin::Produced);
        if is_complete {
            self.contents.tracker.skip_to(last_offset.saturating_add(1));
        }
        is_complete
    }

    /// Counts an admitted record as a processed order, and returns whether it was incomplete; otherwise nothing changes.
    #[inline]
    pub fn complete_order(&mut self, offset: i64, order: CompletedOrder) -> bool {
        let is_complete = self.complete(offset, order.attempts, order.origin);
        if is_complete {
            self.contents.aggregate.add_order(order.timestamp_ms, order.price);
        }
        is_complete
    }

    /// Counts an admitted record as a dead letter, and returns whether it was incomplete; otherwise nothing changes.
    ///
    /// The dead letter has to be written before. `attempts` is how many were made at the record, 0 if it was none to try.
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

    /// Dooms an admitted record at which so many attempts were made: a checkpoint from here on names it, and whoever goes on
    /// from that writes its dead letter and makes no attempt.
    ///
    /// Its dead letter must not be written before such a checkpoint is committed.
    pub fn doom(&mut self, offset: i64, attempts: u32, reason: ErrorType) {
        let contents = &mut self.contents;
        contents.tracker.mark(offset);
        if attempts > 0 {
            contents.attempts.insert(offset, attempts);
        }
        contents.reasons.insert(offset, reason);
        self.revision += 1;
    }

    /// Returns what is counted of the dead letters since the last processed order.
    pub fn dlq_limit(&self) -> &DlqLimit {
        &self.contents.dlq_limit
    }

    /// Counts a dead letter for [`Self::dlq_limit`]; to be called before the record is doomed, so that one commit has both.
    pub fn count_dead_letter(&mut self, error_type: ErrorType) {
        self.contents.dlq_limit.count(error_type);
        self.revision += 1;
    }

    /// Begins the count of dead letters anew, after a processed order or a release.
    #[inline]
    pub fn clear_dlq_limit(&mut self) {
        if self.contents.dlq_limit.clear() {
            self.revision += 1;
        }
    }

    /// Notes the offset of the actions topic from which a release of the partition counts.
    pub fn set_release_from(&mut self, offset: i64) {
        self.contents.dlq_limit.set_release_from(offset);
        self.revision += 1;
    }

    /// Notes how many attempts were made at an admitted record that waits for its next one.
    pub fn record_attempts(&mut self, offset: i64, attempts: u32) {
        self.contents.attempts.insert(offset, attempts);
        self.revision += 1;
    }

    /// Notes that everything below `next_offset` was read: what was not admitted does not exist, and counts as complete.
    ///
    /// Returns how many offsets that were incomplete before the restart are not in the log any more.
    pub fn advance_to(&mut self, next_offset: i64) -> usize {
        let contents = &mut self.contents;
        let before = contents.tracker.committable();
        let gone = contents.tracker.advance_to(next_offset);
        if gone > 0 && !contents.attempts.is_empty() {
            let incomplete = contents.tracker.incomplete_offsets();
            contents.attempts.retain(|offset, _| incomplete.binary_search(offset).is_ok());
        }
        if gone > 0 {
            let doomed = contents.tracker.marked_offsets();
            contents.reasons.retain(|offset, _| doomed.contains(offset));
        }
        if contents.tracker.committable() != before {
            self.revision += 1;
        }
        gone
    }

    /// Returns where the record at `offset` stands.
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

    /// Returns the offset to commit: everything below it is complete.
    pub fn committable(&self) -> i64 {
        self.contents.tracker.committable()
    }

    /// Returns the offset from which on nothing was admitted yet.
    pub fn dispatch_frontier(&self) -> i64 {
        self.contents.tracker.frontier()
    }

    /// Returns how many records are incomplete: being processed, waiting, or to be repeated after a restart.
    pub fn incomplete(&self) -> usize {
        self.contents.tracker.incomplete()
    }

    /// Returns the id of the topic.
    pub fn topic_id(&self) -> Uuid {
        self.contents.topic_id
    }

    /// Returns the first offset that the numbers cover.
    pub fn since(&self) -> i64 {
        self.contents.since
    }

    /// Returns the numbers.
    pub fn aggregate(&self) -> &Aggregate {
        &self.contents.aggregate
    }

    /// Returns a number that is another one after everything that changes the checkpoint.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns what is to be committed.
    ///
    /// # Errors
    /// The checkpoint outgrew its room because records were admitted without [`Self::has_room_for`], or because it was
    /// restored from a larger one. It must not be committed then; once more records are complete it fits again.
    pub fn checkpoint(&self) -> Result<Checkpoint, DoesNotFit> {
        self.contents.write(&self.capacity)
    }
}

impl Origin {
    /// The fewest headers that a replay has: whose it is, its count, and its stamp of two.
    pub const REPLAY_HEADERS_MIN: usize = 4;

    /// Returns where the record with these headers came from.
    pub fn of<'a>(headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Self {
        let is_replay = headers.into_iter().any(|(name, _)| name == REPLAY_OF_HEADER.as_bytes());
        if is_replay { Self::Replayed } else { Self::Produced }
    }
}

impl Discarded {
    /// Returns whether numbers may have been lost, so that somebody should hear of it.
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
