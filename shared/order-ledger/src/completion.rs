//! Completion tracking: which records of a partition are complete, and so which offset may be committed.
//!
//! Records are dispatched in offset order and complete in any order. The committed offset is the lowest incomplete one.
//! A map beside it says which records above it are complete, so a restart repeats only the incomplete ones.
//!
//! ```text
//!          committable()                 frontier          position
//!               |                           |                 |
//!   complete    |  incomplete or complete   |   not there     |   not read yet
//!  -------------+---------------------------+-----------------+---------------> offsets
//!               |<---------- span --------->|
//!
//!             begin                        complete
//!   New ----------------->  Dispatched  -------------->  Complete
//!                               ^
//!             begin             |
//!   Incomplete (restored) ------+
//! ```
//!
//! A log has gaps: compacted records, transaction markers, aborted records. An offset below the position without a
//! record counts as complete, so the tracker never waits for it.
//!
//! An incomplete record may be marked, and the map keeps the marks. Every window leaves room to mark every incomplete
//! record.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::packing::{Unpacker, rice_count_max, varint_bytes_max};

mod map;

/// The greatest distance in offsets between an incomplete record and the dispatch frontier.
pub const SPAN_MAX: usize = (1 << SPAN_BITS) - 1;
const SPAN_BITS: usize = 21;
/// The most bits that the mark of an incomplete record takes.
const MARK_BITS: usize = 1;

/// How far dispatching may run ahead of the lowest incomplete offset.
///
/// There are two limits, and either is sufficient: few incomplete records may be far apart, and many may be close
/// together. Both follow from the map's size limit in bytes, so the map always fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    incomplete_max: usize,
    dense_max: usize,
}

/// The state of a record that was read from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observed {
    /// It was never dispatched.
    New,
    /// It was dispatched before a restart and incomplete when the map was written: it has to be dispatched again.
    Incomplete,
    /// It was dispatched since the restart and is incomplete.
    Dispatched,
    /// It is complete: processed, a dead letter, or a duplicate.
    Complete,
}

/// The progress through one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompletionTracker {
    /// The offset after the highest one that was dispatched.
    frontier: i64,
    /// The offset after the highest one that was read; never below the frontier.
    position: i64,
    /// The record dispatched last, if it is incomplete. A record that completes at once never enters a set.
    latest: Option<i64>,
    /// The other dispatched and incomplete records.
    dispatched: BTreeSet<i64>,
    /// The records that were incomplete when the map was written and were not read since.
    restored: BTreeSet<i64>,
    /// The marked ones of the incomplete records.
    marked: BTreeSet<i64>,
}

impl Window {
    /// The most bytes that the span and the counts and parameters of gaps and marks take.
    const HEADER_BYTES_MAX: usize = 3 * varint_bytes_max(SPAN_BITS) + 2;
    /// The smallest map size that gives a useful window: hundreds of offsets, dozens of incomplete records.
    pub const MAP_BYTES_MIN: usize = 128;

    /// Returns the widest window whose maps never take more than `map_bytes`; `None` below [`Self::MAP_BYTES_MIN`].
    pub const fn for_map_bytes(map_bytes: usize) -> Option<Self> {
        if map_bytes < Self::MAP_BYTES_MIN {
            return None;
        }
        // Gaps and marks each pad their last byte, which costs less than one byte in all.
        let bits = (map_bytes - Self::HEADER_BYTES_MAX - 1) * 8;
        // The lowest incomplete offset is the committed one. It needs a mark but no gap.
        let incomplete_max = 1 + rice_count_max(bits - MARK_BITS, SPAN_MAX, MARK_BITS);
        // With the parameter 0 each of the other offsets takes one bit.
        Some(Self { incomplete_max, dense_max: bits + 1 })
    }

    /// Returns how many records may be incomplete at any distance up to [`SPAN_MAX`].
    pub const fn incomplete_max(self) -> usize {
        self.incomplete_max
    }

    /// Returns the limit of the sum of the span in offsets and the number of incomplete records in it.
    pub const fn dense_max(self) -> usize {
        self.dense_max
    }

    fn admits(self, incomplete: usize, span: usize) -> bool {
        span <= SPAN_MAX
            && (span + MARK_BITS * incomplete <= self.dense_max
                || incomplete <= self.incomplete_max)
    }
}

impl CompletionTracker {
    /// Creates the tracker of a partition that is complete below `offset`.
    pub(crate) fn new(offset: i64) -> Self {
        Self {
            frontier: offset,
            position: offset,
            latest: None,
            dispatched: BTreeSet::new(),
            restored: BTreeSet::new(),
            marked: BTreeSet::new(),
        }
    }

    /// Returns the state of the record at `offset`.
    #[inline]
    pub(crate) fn observe(&self, offset: i64) -> Observed {
        if offset >= self.position {
            Observed::New
        } else if self.restored.contains(&offset) {
            Observed::Incomplete
        } else if self.latest == Some(offset) || self.dispatched.contains(&offset) {
            Observed::Dispatched
        } else {
            Observed::Complete
        }
    }

    /// Returns the first of these offsets that is new or has to be dispatched again.
    pub(crate) fn first_not_dispatched(&self, offsets: RangeInclusive<i64>) -> Option<i64> {
        if offsets.is_empty() {
            return None;
        }
        let new = self.position.max(*offsets.start());
        let restored = self.restored.range(offsets.clone()).next().copied();
        restored.or_else(|| offsets.contains(&new).then_some(new))
    }

    /// Returns whether the map still fits after the record at `offset` is dispatched. A record that the map already
    /// covers always fits.
    #[inline]
    pub(crate) fn has_room_for(&self, offset: i64, window: Window) -> bool {
        match self.lowest_incomplete() {
            None => true,
            Some(_) if offset < self.position => true,
            Some(lowest) => window.admits(self.incomplete() + 1, distance(lowest, offset) + 1),
        }
    }

    /// Notes that the record at `offset` is dispatched: it is incomplete until [`Self::complete`].
    ///
    /// The record must be [`Observed::New`] or [`Observed::Incomplete`]. Call it in offset order.
    #[inline]
    pub(crate) fn begin(&mut self, offset: i64) {
        if let Some(earlier) = self.latest.replace(offset) {
            self.dispatched.insert(earlier);
        }
        if offset < self.position {
            self.restored.remove(&offset);
        } else {
            self.frontier = offset.saturating_add(1);
            self.position = self.frontier;
        }
    }

    /// Returns whether a record at one of these offsets is dispatched and incomplete.
    pub(crate) fn is_dispatched_within(&self, offsets: RangeInclusive<i64>) -> bool {
        let is_latest = self.latest.is_some_and(|latest| offsets.contains(&latest));
        is_latest || self.dispatched.range(offsets).next().is_some()
    }

    /// Notes that the offsets from the frontier up to `next_offset` hold no records, although the log has bytes there.
    /// A restart does not read them again.
    pub(crate) fn skip_to(&mut self, next_offset: i64) {
        self.frontier = self.frontier.max(next_offset);
        self.position = self.position.max(self.frontier);
    }

    /// Notes that the record at `offset` is complete, and returns whether it was dispatched and incomplete before.
    #[inline]
    pub(crate) fn complete(&mut self, offset: i64) -> bool {
        if self.latest == Some(offset) {
            self.latest = None;
        } else if !self.dispatched.remove(&offset) {
            return false;
        }
        if !self.marked.is_empty() {
            self.marked.remove(&offset);
        }
        true
    }

    /// Marks an incomplete record until it is complete, also through restarts. Any other record is not marked.
    pub(crate) fn mark(&mut self, offset: i64) {
        if matches!(self.observe(offset), Observed::Incomplete | Observed::Dispatched) {
            self.marked.insert(offset);
        }
    }

    /// Returns whether the record at `offset` is marked.
    #[inline]
    pub(crate) fn is_marked(&self, offset: i64) -> bool {
        !self.marked.is_empty() && self.marked.contains(&offset)
    }

    /// Returns the marked offsets in ascending order.
    pub(crate) fn marked_offsets(&self) -> &BTreeSet<i64> {
        &self.marked
    }

    /// Notes that the log was read up to `next_offset`. Offsets below it that were not dispatched hold no record.
    ///
    /// Returns how many incomplete offsets of the restored map have no record in the log. They count as complete.
    pub(crate) fn advance_to(&mut self, next_offset: i64) -> usize {
        let present = self.restored.split_off(&next_offset);
        let lost = std::mem::replace(&mut self.restored, present);
        for offset in &lost {
            self.marked.remove(offset);
        }
        self.position = self.position.max(next_offset);
        lost.len()
    }

    /// Forgets the offsets from `offset` on, which the log has lost, and returns how many of them were complete.
    pub(crate) fn truncate(&mut self, offset: i64) -> u64 {
        let end = self.end();
        let mut incomplete = self.dispatched.split_off(&offset);
        incomplete.append(&mut self.restored.split_off(&offset));
        incomplete.extend(self.latest.take_if(|latest| *latest >= offset));
        self.marked.split_off(&offset);
        self.frontier = self.frontier.min(offset);
        self.position = self.position.min(offset);
        u64::try_from(distance(offset, end).saturating_sub(incomplete.len())).unwrap_or(u64::MAX)
    }

    /// Returns the offset to commit: all records below it are complete.
    #[inline]
    pub(crate) fn committable(&self) -> i64 {
        self.lowest_incomplete().unwrap_or(self.position)
    }

    /// Returns the dispatch frontier: the offset after the highest one that was dispatched.
    pub(crate) fn frontier(&self) -> i64 {
        self.frontier
    }

    /// Returns the offset after the highest one that the map and the committed offset cover.
    pub(crate) fn end(&self) -> i64 {
        self.frontier.max(self.committable())
    }

    /// Returns how many records are incomplete: dispatched, or restored and not read again.
    #[inline]
    pub(crate) fn incomplete(&self) -> usize {
        usize::from(self.latest.is_some()) + self.dispatched.len() + self.restored.len()
    }

    /// Returns the incomplete offsets in ascending order.
    pub(crate) fn incomplete_offsets(&self) -> Vec<i64> {
        let offsets = self.latest.iter().chain(&self.dispatched).chain(&self.restored);
        let mut offsets: Vec<_> = offsets.copied().collect();
        offsets.sort_unstable();
        offsets
    }

    /// Appends the map of the offsets from [`Self::committable`] to the frontier: incomplete ones and marks.
    ///
    /// It fits in the window's size limit if records were dispatched only when [`Self::has_room_for`] them.
    pub(crate) fn write_map(&self, into: &mut Vec<u8>) {
        let incomplete = self.incomplete_offsets();
        let span = incomplete.first().map_or(0, |lowest| distance(*lowest, self.frontier));
        map::write(span, &incomplete, &self.marked, into);
    }

    /// Reads a map that was written when `committed` was the committable offset; `None` for malformed bytes.
    ///
    /// The log has to be read from `committed` on.
    pub(crate) fn read_map(committed: i64, from: &mut Unpacker<'_>) -> Option<Self> {
        map::read(committed, from)
    }

    #[inline]
    fn lowest_incomplete(&self) -> Option<i64> {
        if self.dispatched.is_empty() && self.restored.is_empty() {
            return self.latest;
        }
        let lowest = [self.latest.as_ref(), self.dispatched.first(), self.restored.first()];
        lowest.into_iter().flatten().min().copied()
    }
}

/// Returns how far `to` is above `from`; 0 if it is below.
#[inline]
fn distance(from: i64, to: i64) -> usize {
    usize::try_from(to.saturating_sub(from)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
