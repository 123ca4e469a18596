//! Which records of one partition are complete: what may be committed, and what has to be done again after a restart.
//!
//! Records are dispatched in offset order and complete in any order. The committed offset is the lowest incomplete one;
//! what is complete above it travels as a map beside it, so that a restart repeats only what really was incomplete.
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
//! A log has gaps: compacted records, transaction markers, aborted records. An offset that was passed without a record
//! counts as complete, so the tracker never waits for it.
//!
//! An incomplete record may be marked. The map keeps the marks, and pays for them: every window leaves room to mark every
//! incomplete record.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::packing::{Unpacker, rice_count_max, varint_bytes_max};

mod map;

/// The most offsets that an incomplete record and the dispatch frontier may be apart.
pub const SPAN_MAX: usize = (1 << SPAN_BITS) - 1;
const SPAN_BITS: usize = 21;
/// What a mark of an incomplete record takes at most.
const MARK_BITS: usize = 1;

/// How far dispatching may run ahead of the lowest incomplete offset.
///
/// There are two limits, and keeping either is enough: few incomplete records may be far apart, and any number of them
/// may be close together. Both follow from the bytes that the map may take, so that it fits whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    incomplete_max: usize,
    dense_max: usize,
}

/// Where a record stands that was read from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It was never dispatched.
    New,
    /// It was dispatched before the restart and not complete when the map was written: it has to be dispatched again.
    Incomplete,
    /// It was dispatched since the restart and is not complete.
    Dispatched,
    /// It is complete.
    Complete,
}

/// The progress through one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletionTracker {
    /// The offset after the highest one that was dispatched.
    frontier: i64,
    /// The offset after the highest one that was read; never below the frontier.
    position: i64,
    /// The record dispatched last, until it completes or another is dispatched. A record that completes at once is never
    /// in a set.
    latest: Option<i64>,
    /// The other dispatched ones that are not complete.
    dispatched: BTreeSet<i64>,
    /// Those that were incomplete when the map was written and were not read again yet.
    restored: BTreeSet<i64>,
    /// The incomplete ones that are marked.
    marked: BTreeSet<i64>,
}

impl Window {
    /// Bytes of a map's span and of the numbers of gaps and marks, with the parameters of both.
    const HEADER_BYTES_MAX: usize = 3 * varint_bytes_max(SPAN_BITS) + 2;
    /// The least room that leaves a window worth having: hundreds of offsets, dozens of incomplete records.
    pub const MAP_BYTES_MIN: usize = 128;

    /// Returns the widest window whose maps never take more than `map_bytes`; `None` below [`Self::MAP_BYTES_MIN`].
    pub const fn for_map_bytes(map_bytes: usize) -> Option<Self> {
        if map_bytes < Self::MAP_BYTES_MIN {
            return None;
        }
        // Gaps and marks each fill up their last byte, which costs less than one byte of bits in all.
        let bits = (map_bytes - Self::HEADER_BYTES_MAX - 1) * 8;
        // The lowest incomplete offset is the committed one and needs no gap, but a mark.
        let incomplete_max = 1 + rice_count_max(bits - MARK_BITS, SPAN_MAX, MARK_BITS);
        // With the parameter 0 each of the other offsets takes a bit, be it complete or not.
        Some(Self { incomplete_max, dense_max: bits + 1 })
    }

    /// Returns how many records may be incomplete, however far apart below [`SPAN_MAX`].
    pub const fn incomplete_max(self) -> usize {
        self.incomplete_max
    }

    /// Returns what the spanned offsets and the incomplete records among them may come to together, however many of the
    /// offsets are incomplete.
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
    /// Returns the tracker of a partition that is complete below `offset`.
    pub fn new(offset: i64) -> Self {
        Self {
            frontier: offset,
            position: offset,
            latest: None,
            dispatched: BTreeSet::new(),
            restored: BTreeSet::new(),
            marked: BTreeSet::new(),
        }
    }

    /// Returns where the record at `offset` stands.
    #[inline]
    pub fn observe(&self, offset: i64) -> Observed {
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
    pub fn first_open(&self, offsets: RangeInclusive<i64>) -> Option<i64> {
        if offsets.is_empty() {
            return None;
        }
        let new = self.position.max(*offsets.start());
        let restored = self.restored.range(offsets.clone()).next().copied();
        restored.or_else(|| offsets.contains(&new).then_some(new))
    }

    /// Returns whether the record at `offset` may be dispatched: afterwards the map still has to fit.
    ///
    /// What is in the map already may always be.
    #[inline]
    pub fn has_room_for(&self, offset: i64, window: Window) -> bool {
        match self.lowest_incomplete() {
            None => true,
            Some(_) if offset < self.position => true,
            Some(lowest) => window.admits(self.incomplete() + 1, distance(lowest, offset) + 1),
        }
    }

    /// Notes that the record at `offset` is dispatched: it is incomplete until [`Self::complete`].
    ///
    /// The record has to be [`Observed::New`] or [`Observed::Incomplete`], and records come in offset order.
    #[inline]
    pub fn begin(&mut self, offset: i64) {
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

    /// Returns whether a record at one of these offsets is dispatched and not complete.
    pub fn is_dispatched_within(&self, offsets: RangeInclusive<i64>) -> bool {
        let is_latest = self.latest.is_some_and(|latest| offsets.contains(&latest));
        is_latest || self.dispatched.range(offsets).next().is_some()
    }

    /// Notes that there are no records from the frontier up to `next_offset`, also after a restart, although something is
    /// there to be read.
    pub fn skip_to(&mut self, next_offset: i64) {
        self.frontier = self.frontier.max(next_offset);
        self.position = self.position.max(self.frontier);
    }

    /// Notes that the record at `offset` is complete, and returns whether it was dispatched and not complete before.
    #[inline]
    pub fn complete(&mut self, offset: i64) -> bool {
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

    /// Marks a record that is incomplete, until it is complete, also after a restart. Others stay as they are.
    pub fn mark(&mut self, offset: i64) {
        if matches!(self.observe(offset), Observed::Incomplete | Observed::Dispatched) {
            self.marked.insert(offset);
        }
    }

    /// Returns whether the record at `offset` is marked.
    #[inline]
    pub fn is_marked(&self, offset: i64) -> bool {
        !self.marked.is_empty() && self.marked.contains(&offset)
    }

    /// Returns the marked offsets in rising order.
    pub fn marked_offsets(&self) -> &BTreeSet<i64> {
        &self.marked
    }

    /// Notes that everything below `next_offset` was read: what was not dispatched does not exist.
    ///
    /// Returns how many offsets of the restored map are not in the log any more. They count as complete.
    pub fn advance_to(&mut self, next_offset: i64) -> usize {
        let present = self.restored.split_off(&next_offset);
        let gone = std::mem::replace(&mut self.restored, present);
        for offset in &gone {
            self.marked.remove(offset);
        }
        self.position = self.position.max(next_offset);
        gone.len()
    }

    /// Returns the offset to commit: everything below it is complete.
    #[inline]
    pub fn committable(&self) -> i64 {
        self.lowest_incomplete().unwrap_or(self.position)
    }

    /// Returns the offset from which on nothing was dispatched yet.
    pub fn frontier(&self) -> i64 {
        self.frontier
    }

    /// Returns how many records are dispatched or restored, and not complete.
    #[inline]
    pub fn incomplete(&self) -> usize {
        usize::from(self.latest.is_some()) + self.dispatched.len() + self.restored.len()
    }

    /// Returns the incomplete offsets in rising order.
    pub fn incomplete_offsets(&self) -> Vec<i64> {
        let offsets = self.latest.iter().chain(&self.dispatched).chain(&self.restored);
        let mut offsets: Vec<_> = offsets.copied().collect();
        offsets.sort_unstable();
        offsets
    }

    /// Appends the map: what above [`Self::committable`] is complete and what is not, and what of that is marked.
    ///
    /// It takes no more bytes than the window was made for, as long as [`Self::has_room_for`] was heeded.
    pub fn write_map(&self, into: &mut Vec<u8>) {
        let incomplete = self.incomplete_offsets();
        let span = incomplete.first().map_or(0, |lowest| distance(*lowest, self.frontier));
        map::write(span, &incomplete, &self.marked, into);
    }

    /// Reads a map that was written when `committed` was the committable offset.
    ///
    /// Reading the log has to start there. `None` stands for bytes that are no map.
    pub fn read_map(committed: i64, from: &mut Unpacker<'_>) -> Option<Self> {
        let map::CompletionMap { frontier, incomplete, marked } = map::read(committed, from)?;
        Some(Self { restored: incomplete, marked, ..Self::new(frontier) })
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

/// Returns how far `to` is above `from`; 0 if it is not.
#[inline]
fn distance(from: i64, to: i64) -> usize {
    usize::try_from(to.saturating_sub(from)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
