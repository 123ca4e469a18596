//! One partition's part of a fetch response, split into verified batches and damage.
//!
//! A broker returns its log as stored, without checking it. Damage in transit or on a disk can hit the fields that say
//! where a batch ends and which offsets it has: the checksum covers neither the length nor the base offset. So a batch
//! counts as intact only if its checksum is right and its base offset lies between the end of the batch before it and
//! the end of the log. The bytes between two intact batches are one [`DamagedBatch`], whose offsets follow from the
//! intact batches around it. The damaged batch's own header is used only where a second header agrees with it.
//!
//! ```text
//!   … 97 | 98 99 | 100 … 109 |  ?????  | 120 … 129 | 130 …
//!                ^ position   ^         ^
//!                             damaged: 110 to 119, all bytes up to the next intact batch
//! ```
//!
//! A [`VerifiedBatches`] ends with its first damaged batch. Transaction markers may have been in it, so what follows is
//! fetched again, with a list of aborted transactions of its own.
//!
//! A batch that the response cuts off is not damaged. Brokers end a response inside a batch where its size reaches a
//! limit that the request does not show: the broker's `fetch.max.bytes`, or what a quota allows for its window of ten
//! seconds. Only the first batch of a response is complete whatever its size. So a batch that was cut off is fetched by
//! its own offset, first in the request.

use bytes::Bytes;

use super::error::{BatchErrorKind, DamagedBatch};
use super::header::{BatchHeader, HEADER_BYTES, MAGIC_AT};
use super::raw::{Batches, RawBatch};

/// How many places that look like the next batch are verified in the search for the end of damage.
const CANDIDATES_MAX: usize = 64;

/// One partition's part of a fetch response, and what the request asked for.
#[derive(Clone, Debug)]
pub struct FetchedPartition<'a> {
    /// The batches back to back, as stored. The last one may be cut off.
    pub records: Bytes,
    /// The fetch offset of the request.
    pub asked: i64,
    /// The consumer's position. It is above `asked` when the broker could not find the position by itself; what lies
    /// between them was read before.
    pub position: i64,
    /// The last stable offset, up to which the broker returns batches.
    pub end: i64,
    /// Whether the response may have reached its size limit before the end of the log.
    pub is_full: bool,
    /// Whether even the first batch at the position may be cut off. It cannot be if the request asked for the position
    /// itself with this partition first, or if the broker cannot find the position in its log.
    pub may_be_cut_off: bool,
    /// The aborted transactions of the response, as `(producer id, first offset)`.
    pub aborted: &'a [(i64, i64)],
}

/// The intact batches of a [`FetchedPartition`], up to the first damage.
#[derive(Debug)]
pub struct VerifiedBatches {
    /// Intact batches in offset order. The first ones may lie below the position.
    pub batches: Vec<RawBatch>,
    /// The damaged batch after them.
    pub damaged: Option<DamagedBatch>,
    /// The new position; the old one if there was nothing to read.
    pub next_offset: i64,
    /// Whether the response ends in damage of unknown extent. It has to be fetched again with a higher limit, or when
    /// the log has grown.
    pub is_unclear: bool,
}

impl FetchedPartition<'_> {
    /// Verifies the batches up to the first damage.
    pub fn read(&self) -> VerifiedBatches {
        let mut walk = Walk {
            answer: self,
            rest: self.records.clone(),
            cursor: self.asked,
            is_first: true,
            is_behind_damage: false,
            batches: Vec::new(),
        };
        let (damaged, is_unclear) = match walk.run() {
            Stop::End => (None, false),
            Stop::Damaged(damaged) => (Some(damaged), false),
            Stop::Unclear => (None, true),
        };
        let last = damaged.as_ref().map(DamagedBatch::next_offset);
        VerifiedBatches {
            next_offset: last.unwrap_or(walk.cursor).max(self.position),
            batches: walk.batches,
            damaged,
            is_unclear,
        }
    }
}

enum Stop {
    /// At most a batch that was cut off is left.
    End,
    Damaged(DamagedBatch),
    Unclear,
}

/// The state of reading one response.
struct Walk<'a> {
    answer: &'a FetchedPartition<'a>,
    rest: Bytes,
    /// The offset after the last intact batch.
    cursor: i64,
    is_first: bool,
    /// Whether damage below the position was skipped.
    is_behind_damage: bool,
    batches: Vec<RawBatch>,
}

impl Walk<'_> {
    fn run(&mut self) -> Stop {
        while !self.rest.is_empty() {
            let fault = match self.intact(&self.rest, self.is_first) {
                Ok(batch) if self.is_in_doubt(&batch) => return self.doubtful(&batch),
                Ok(batch) => {
                    self.accept(batch);
                    continue;
                }
                Err(None) if self.may_be_cut_off() => return Stop::End,
                Err(fault) => fault.unwrap_or(BatchErrorKind::Malformed),
            };
            if let Some(stop) = self.damage(fault) {
                return stop;
            }
        }
        Stop::End
    }

    fn accept(&mut self, batch: RawBatch) {
        self.cursor = batch.next_offset();
        self.rest = self.rest.slice(batch.bytes().len()..);
        self.is_first = false;
        self.batches.push(batch);
    }

    /// Returns the batch at the start of `bytes`, if it is intact and its offsets are possible here. The error is what
    /// is wrong with it, or `None` if its end is missing.
    fn intact(&self, bytes: &Bytes, is_first: bool) -> Result<RawBatch, Option<BatchErrorKind>> {
        let raw = Batches { rest: bytes.clone() }.next().ok_or(None)?.verified().map_err(Some)?;
        let (base, last) = (raw.header().base_offset, raw.header().last_offset);
        // Only the first batch may begin below the fetch offset, which can lie anywhere in it.
        let is_in_place = if base < self.cursor { is_first } else { self.can_begin_at(base) };
        if is_in_place && (self.cursor <= last) {
            Ok(raw)
        } else {
            Err(Some(BatchErrorKind::Offsets))
        }
    }

    /// Returns whether the next batch can begin at `base_offset`: at the cursor, or after a gap within the log.
    fn can_begin_at(&self, base_offset: i64) -> bool {
        base_offset == self.cursor || (self.cursor..self.answer.end).contains(&base_offset)
    }

    /// Returns whether the batch whose end is missing may be complete in the log.
    fn may_be_cut_off(&self) -> bool {
        let has_news = self.answer.position < self.cursor;
        has_news || self.answer.may_be_cut_off || self.answer.end <= self.cursor
    }

    /// Returns whether it is unknown if `batch` is to be delivered: the end of its producer's aborted transaction may
    /// have been in the damage that was skipped.
    fn is_in_doubt(&self, batch: &RawBatch) -> bool {
        let header = batch.header();
        self.is_behind_damage
            && (self.answer.position <= header.last_offset)
            && header.is_transactional()
            && self.answer.aborted.iter().any(|(producer, _)| *producer == header.producer_id)
    }

    fn doubtful(&self, batch: &RawBatch) -> Stop {
        Stop::Damaged(DamagedBatch {
            first_offset: batch.header().base_offset.max(self.answer.position),
            last_offset: batch.header().last_offset,
            bytes: batch.bytes().clone(),
            fault: BatchErrorKind::Transaction,
        })
    }

    /// Finds the end of the damage at the cursor, and skips damage below the position.
    fn damage(&mut self, fault: BatchErrorKind) -> Option<Stop> {
        let first_offset = self.cursor.max(self.answer.position);
        let Some((length, next_offset)) = self.end_of_damage(first_offset) else {
            return Some(Stop::Unclear);
        };
        let bytes = self.rest.split_to(length);
        if first_offset < next_offset {
            let last_offset = next_offset - 1;
            return Some(Stop::Damaged(DamagedBatch { first_offset, last_offset, bytes, fault }));
        }
        self.cursor = next_offset;
        self.is_first = false;
        self.is_behind_damage = true;
        None
    }

    /// Returns the number of damaged bytes, and the offset after them.
    fn end_of_damage(&self, first_offset: i64) -> Option<(usize, i64)> {
        if let Some(length) = framed_bytes(&self.rest) {
            let next = self.rest.slice(length..);
            if let Ok(batch) = self.intact(&next, false) {
                return Some((length, batch.header().base_offset));
            }
            // Two headers that agree are trusted, even if the second batch is damaged, too, or cut off.
            let end = trusted_header(&self.rest).map(|header| header.next_offset());
            let base = trusted_header(&next).map(|header| header.base_offset);
            if let Some(base) = base.filter(|base| end == Some(*base) && self.can_begin_at(*base)) {
                return Some((length, base));
            }
        }
        self.search().or_else(|| self.trusted_end(first_offset))
    }

    /// Returns the same for damage at the end of the log. The header is trusted if its offsets and its record count
    /// agree, unless more bytes may follow: the response was full, or the batch declares bytes that are missing.
    fn trusted_end(&self, first_offset: i64) -> Option<(usize, i64)> {
        let has_more = self.answer.is_full || is_cut_off(&self.rest);
        let header = trusted_header(&self.rest).filter(|_| !has_more)?;
        let base = header.base_offset;
        let is_dense = header.last_offset - base + 1 == i64::from(header.record_count);
        let is_in_place = (base <= first_offset || self.can_begin_at(base))
            && (first_offset..self.answer.end).contains(&header.last_offset);
        (is_dense && is_in_place).then(|| (self.rest.len(), header.next_offset()))
    }

    /// Searches for the next intact batch byte by byte.
    fn search(&self) -> Option<(usize, i64)> {
        let places = 1..self.rest.len().saturating_sub(HEADER_BYTES);
        let looks_right = |at: &usize| {
            let base = self.rest[*at..].first_chunk().map(|base| i64::from_be_bytes(*base));
            self.rest[at + MAGIC_AT] == 2 && base.is_some_and(|base| self.can_begin_at(base))
        };
        places.filter(looks_right).take(CANDIDATES_MAX).find_map(|at| {
            let batch = self.intact(&self.rest.slice(at..), false).ok()?;
            Some((at, batch.header().base_offset))
        })
    }
}

/// Returns whether the batch at the start of `bytes` declares more bytes than there are.
fn is_cut_off(bytes: &Bytes) -> bool {
    Batches { rest: bytes.clone() }.next().is_none()
}

/// Returns the declared length of the batch at the start of `bytes`, if that many bytes are there.
fn framed_bytes(bytes: &Bytes) -> Option<usize> {
    let raw = Batches { rest: bytes.clone() }.next()?;
    (raw.bytes().len() >= HEADER_BYTES).then(|| raw.bytes().len())
}

/// Returns the header at the start of `bytes`, unless it contradicts itself.
fn trusted_header(bytes: &Bytes) -> Option<BatchHeader> {
    let is_current = bytes.get(MAGIC_AT) == Some(&2);
    bytes.first_chunk().filter(|_| is_current).and_then(BatchHeader::parse)
}

#[cfg(test)]
mod tests;
