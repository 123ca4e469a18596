//! What a fetch response says about one partition, believing nothing that is not verified.
//!
//! A broker hands out its log as it is stored, and checks none of it. Damage, on the way or on a disk, can hit the very
//! fields that say where a batch ends and which offsets it has: the length and the base offset are not even under the
//! checksum. So a batch counts as whole only if its checksum is right, it begins where the one before it ended or above,
//! and below the log's end. Everything between two whole batches that is none is one [`DamagedBatch`]; the offsets it
//! stands for follow from the whole batches around it. Its own header is believed only where it agrees with a second one.
//!
//! ```text
//!   … 97 | 98 99 | 100 … 109 |  ?????  | 120 … 129 | 130 …
//!                ^ position   ^         ^
//!                             damaged: 110 to 119, all bytes up to the next whole batch
//! ```
//!
//! A [`VerifiedBatches`] ends with its first damaged batch: markers of transactions may have been in it, so what follows has to
//! be fetched anew, with a list of aborted transactions of its own.
//!
//! A batch whose end is missing is no damage. Brokers end an answer inside a batch where its size reaches a limit that
//! the request does not show: `fetch.max.bytes`, or what a quota leaves of ten seconds. Only the first batch of a request
//! comes whole, whatever its size, so such a batch has to be asked for by its own offset, first in the request.

use bytes::Bytes;

use super::{BatchErrorKind, BatchHeader, Batches, HEADER_BYTES, MAGIC_AT, RawBatch};

/// How many batches that look like the next one may turn out not to be, while the end of damage is looked for.
const CANDIDATES_MAX: usize = 64;

/// One partition's part of a fetch response, and what had been asked.
#[derive(Clone, Debug)]
pub struct FetchedPartition<'a> {
    /// The batches back to back, as stored; the last one may be cut off.
    pub records: Bytes,
    /// The offset that was asked for.
    pub asked: i64,
    /// What lies below this offset is known already, where less than it was asked for: the way to bytes that a broker
    /// cannot find by their own offset.
    pub position: i64,
    /// The last stable offset: where the log ended for the broker.
    pub end: i64,
    /// Whether the broker may have had more than there was room for.
    pub is_full: bool,
    /// Whether the first batch at the position may be cut off too. It may not if the partition was asked for from the
    /// position on and first in the request, or if the broker cannot find the position in its log.
    pub may_be_cut_off: bool,
    /// The aborted transactions in the response, as `(producer id, first offset)`.
    pub aborted: &'a [(i64, i64)],
}

/// What can be taken from a [`FetchedPartition`].
#[derive(Debug)]
pub struct VerifiedBatches {
    /// Whole batches in offset order. The first ones may lie below the position.
    pub batches: Vec<RawBatch>,
    /// The damaged batch that follows them.
    pub damaged: Option<DamagedBatch>,
    /// Where to go on; the position itself, if nothing was there.
    pub next_offset: i64,
    /// The answer ends in damage of which nothing tells how far it reaches: there has to be more room, or more of the
    /// log.
    pub is_unclear: bool,
}

/// A piece of a log that is no batch, as it was received.
#[derive(Debug)]
pub struct DamagedBatch {
    /// The first offset that it stands for.
    pub first_offset: i64,
    /// The last offset that it stands for.
    pub last_offset: i64,
    /// All its bytes.
    pub bytes: Bytes,
    /// What is wrong with it.
    pub fault: BatchErrorKind,
}

impl DamagedBatch {
    /// Returns the offset after those that it stands for.
    pub fn next_offset(&self) -> i64 {
        self.last_offset.saturating_add(1)
    }
}

impl FetchedPartition<'_> {
    /// Takes what is there, as far as it can be told.
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

/// Why a walk ended.
enum Stop {
    /// Nothing is left but a batch that was cut off.
    End,
    Damaged(DamagedBatch),
    Unclear,
}

/// The way through one answer.
struct Walk<'a> {
    answer: &'a FetchedPartition<'a>,
    rest: Bytes,
    /// The offset after the last whole batch.
    cursor: i64,
    is_first: bool,
    /// Damage below the position was passed over.
    is_behind_damage: bool,
    batches: Vec<RawBatch>,
}

impl Walk<'_> {
    fn run(&mut self) -> Stop {
        while !self.rest.is_empty() {
            let fault = match self.whole(&self.rest, self.is_first) {
                Ok(batch) if self.is_in_doubt(&batch) => return self.doubtful(&batch),
                Ok(batch) => {
                    self.pass(batch);
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

    fn pass(&mut self, batch: RawBatch) {
        self.cursor = batch.next_offset();
        self.rest = self.rest.slice(batch.bytes().len()..);
        self.is_first = false;
        self.batches.push(batch);
    }

    /// Returns the batch at the start of `bytes`, if it is whole and stands where a batch can stand. The error is what
    /// is wrong with it, or nothing where its end is missing.
    fn whole(&self, bytes: &Bytes, is_first: bool) -> Result<RawBatch, Option<BatchErrorKind>> {
        let raw = Batches { rest: bytes.clone() }.next().ok_or(None)?.verified().map_err(Some)?;
        let (base, last) = (raw.header().base_offset, raw.header().last_offset);
        // Only the first one may begin below what was asked for: the offset can lie anywhere in it.
        let is_in_place = if base < self.cursor { is_first } else { self.can_begin_at(base) };
        if is_in_place && (self.cursor <= last) {
            Ok(raw)
        } else {
            Err(Some(BatchErrorKind::Offsets))
        }
    }

    /// Returns whether the next batch can begin at `base_offset`: right here, or behind a gap within the log.
    fn can_begin_at(&self, base_offset: i64) -> bool {
        base_offset == self.cursor || (self.cursor..self.answer.end).contains(&base_offset)
    }

    /// Returns whether the batch whose end is missing may be whole in the log.
    fn may_be_cut_off(&self) -> bool {
        let has_news = self.answer.position < self.cursor;
        has_news || self.answer.may_be_cut_off || self.answer.end <= self.cursor
    }

    /// Returns whether nothing tells if `batch` is to be delivered: the end of its producer's aborted transaction may
    /// have been in damage that was passed over.
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

    /// Looks for the end of the damage at hand, and passes over it where it lies below the position.
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

    /// Returns how many bytes are damaged, and the offset after them.
    fn end_of_damage(&self, first_offset: i64) -> Option<(usize, i64)> {
        if let Some(length) = framed_bytes(&self.rest) {
            let next = self.rest.slice(length..);
            if let Ok(batch) = self.whole(&next, false) {
                return Some((length, batch.header().base_offset));
            }
            // Two headers that agree are believed, although the second batch is damaged too, or cut off.
            let claim = believable(&self.rest).map(|header| header.next_offset());
            let base = believable(&next).map(|header| header.base_offset);
            if let Some(base) = base.filter(|base| claim == Some(*base) && self.can_begin_at(*base))
            {
                return Some((length, base));
            }
        }
        self.search().or_else(|| self.believable_end(first_offset))
    }

    /// Returns the same where nothing follows: the header is believed where the two fields agree that tell the number
    /// of records, unless there may be more to see: the answer was full, or the batch claims bytes that are not there.
    fn believable_end(&self, first_offset: i64) -> Option<(usize, i64)> {
        let has_more = self.answer.is_full || is_cut_off(&self.rest);
        let header = believable(&self.rest).filter(|_| !has_more)?;
        let base = header.base_offset;
        let is_dense = header.last_offset - base + 1 == i64::from(header.record_count);
        let is_in_place = (base <= first_offset || self.can_begin_at(base))
            && (first_offset..self.answer.end).contains(&header.last_offset);
        (is_dense && is_in_place).then(|| (self.rest.len(), header.next_offset()))
    }

    /// Searches for the next batch byte by byte.
    fn search(&self) -> Option<(usize, i64)> {
        let places = 1..self.rest.len().saturating_sub(HEADER_BYTES);
        let looks_right = |at: &usize| {
            let base = self.rest[*at..].first_chunk().map(|base| i64::from_be_bytes(*base));
            self.rest[at + MAGIC_AT] == 2 && base.is_some_and(|base| self.can_begin_at(base))
        };
        places.filter(looks_right).take(CANDIDATES_MAX).find_map(|at| {
            let batch = self.whole(&self.rest.slice(at..), false).ok()?;
            Some((at, batch.header().base_offset))
        })
    }
}

/// Returns whether the batch at the start of `bytes` claims more bytes than there are.
fn is_cut_off(bytes: &Bytes) -> bool {
    Batches { rest: bytes.clone() }.next().is_none()
}

/// Returns how many bytes the batch at the start of `bytes` claims, if they are there.
fn framed_bytes(bytes: &Bytes) -> Option<usize> {
    let raw = Batches { rest: bytes.clone() }.next()?;
    (raw.bytes().len() >= HEADER_BYTES).then(|| raw.bytes().len())
}

/// Returns the header at the start of `bytes`, unless it contradicts itself.
fn believable(bytes: &Bytes) -> Option<BatchHeader> {
    let is_current = bytes.get(MAGIC_AT) == Some(&2);
    bytes.first_chunk().filter(|_| is_current).and_then(BatchHeader::parse)
}

#[cfg(test)]
mod tests;
