//! Pieces of a log that are no records: they go to the dead-letter topic as they are, one letter for all the offsets that
//! a piece stands for.
//!
//! Such a piece counts as one record, at the first of its offsets that is not complete. Once its letter is written the
//! others count as absent, as those that compaction has removed. Nothing behind it is taken in before that: the next
//! owner of the partition may be able to read what this one cannot, and then finds all its records still to be done.

use anyhow::Context as _;
use dead_letter::{ErrorType, NO_TIMESTAMP};
use kafka_client::error::chain;
use kafka_core::record_batch::{DamagedBatch, Headers, Record, UndecodableRecord};
use order_ledger::checkpoint::Origin;

use super::Worker;
use super::dispatch::{Block, Dispatch, Poison};
use super::held::Work;
use crate::handler::Handler;
use crate::settings::OnCorruptBatch;

/// Bytes that cannot be read as what they should be.
pub(super) struct Piece<'a> {
    first_offset: i64,
    last_offset: i64,
    raw: &'a [u8],
    timestamp_ms: i64,
    error_type: ErrorType,
    message: String,
}

impl<'a> Piece<'a> {
    /// Takes a piece of a batch that is whole otherwise; `timestamp_ms` is the batch's.
    pub(super) fn of_record(piece: &UndecodableRecord<'a>, timestamp_ms: i64) -> Self {
        let UndecodableRecord { first_offset, last_offset, raw, fault } = *piece;
        let mut message = fault.as_str().to_owned();
        if last_offset > first_offset {
            message = format!("{message}: stands for offsets {first_offset} to {last_offset}");
        }
        let error_type = ErrorType::UndecodableRecord;
        Self { first_offset, last_offset, raw, timestamp_ms, error_type, message }
    }

    /// Returns the offsets that its letter has to name; a record's own are named anyway.
    fn offsets(&self) -> Option<(i64, i64)> {
        let is_record = self.error_type == ErrorType::UndecodableRecord
            && self.first_offset == self.last_offset;
        (!is_record).then_some((self.first_offset, self.last_offset))
    }

    fn of_batch(damaged: &'a DamagedBatch) -> Self {
        let DamagedBatch { first_offset, last_offset, ref bytes, ref fault } = *damaged;
        let fault = chain(fault);
        Self {
            first_offset,
            last_offset,
            raw: bytes,
            // Nothing in it can be believed.
            timestamp_ms: NO_TIMESTAMP,
            error_type: ErrorType::CorruptBatch,
            message: format!(
                "the batch of offsets {first_offset} to {last_offset} cannot be read: {fault}"
            ),
        }
    }
}

impl<H: Handler> Worker<'_, H> {
    /// Takes in a batch that cannot be read, as the settings say.
    ///
    /// # Errors
    /// When the settings say that damage ends the process.
    pub(super) async fn take_damaged(&mut self, damaged: &DamagedBatch) -> anyhow::Result<()> {
        let piece = Piece::of_batch(damaged);
        if self.shared.corrupt_batch == OnCorruptBatch::Fail {
            return Err(anyhow::Error::msg(piece.message))
                .with_context(|| format!("read {} of the log (CORRUPT_BATCH=fail)", self.tp));
        }
        tracing::error!(
            partition = %self.tp,
            first_offset = piece.first_offset,
            last_offset = piece.last_offset,
            bytes = piece.raw.len(),
            fault = %chain(&damaged.fault),
            "a batch in the log is damaged: its bytes go to the dead-letter topic"
        );
        while let Dispatch::Blocked(block) = self.dispatch_piece(&piece) {
            self.unblock(block).await;
            if self.is_ending() {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn dispatch_piece(&mut self, piece: &Piece<'_>) -> Dispatch {
        if self.state.is_range_incomplete(piece.first_offset..=piece.last_offset) {
            return Dispatch::Blocked(Block::Letter);
        }
        if let Some(block) = self.block(piece.last_offset) {
            return Dispatch::Blocked(block);
        }
        let offsets = piece.first_offset..=piece.last_offset;
        let Some((offset, attempts)) = self.state.admit_range(offsets) else {
            return Dispatch::Taken;
        };
        let record = Record {
            offset,
            timestamp_ms: piece.timestamp_ms,
            key: None,
            value: Some(piece.raw),
            headers: Headers::EMPTY,
        };
        self.hold(&record, Work::new(attempts, None, None, Origin::Produced));
        let poison = Poison {
            error_type: piece.error_type,
            message: piece.message.clone(),
            schema_id: None,
            offsets: piece.offsets(),
        };
        self.give_up_piece(offset, &poison);
        if piece.first_offset < piece.last_offset {
            return Dispatch::Blocked(Block::Letter);
        }
        Dispatch::Taken
    }
}
