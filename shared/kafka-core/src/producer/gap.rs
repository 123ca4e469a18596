//! Gaps in the numbers: how they open, what closes them, and the new numbers after that.

use super::entry::{Doubt, Entry, State};
use super::outcome::{BrokerError, Delivery, ProducerIdentity};
use super::partition::PartitionProducer;
use super::sequence::{Gap, advance, distance};

impl<T> PartitionProducer<T> {
    /// Returns the next batch to send while there is a gap: one that may be in the log, when nothing else is on its way.
    pub(super) fn next_probe(&self) -> Option<usize> {
        if self.touched().any(Entry::is_on_its_way) {
            return None;
        }
        self.touched().position(|entry| entry.is_waiting() && entry.may_be_written())
    }

    /// Resolves a batch that is in the log. What was in doubt before it in the numbering is so no more.
    pub(super) fn deliver(
        &mut self,
        index: usize,
        base_offset: Option<i64>,
        log_append_time_ms: Option<i64>,
    ) {
        let entry = &mut self.entries[index];
        entry.state = State::Done(Delivery::Delivered { base_offset, log_append_time_ms });
        let Some(sequence) = entry.sequence else {
            return;
        };
        let next = advance(sequence, entry.batch.record_count());
        if distance(self.delivered_to, self.next_sequence) <= distance(next, self.next_sequence) {
            return;
        }
        self.delivered_to = next;
        let is_broken = self.touched().skip(index + 1).any(Entry::breaks_numbering);
        if self.gap != Gap::None {
            self.gap = if is_broken { Gap::Broken } else { Gap::Hole };
        }
    }

    /// Resolves a batch that the broker refuses for good.
    pub(super) fn refuse(&mut self, index: usize, error: BrokerError) {
        if self.entries[index].doubt == Doubt::Clean {
            self.entries[index].state = State::Done(Delivery::Refused(error));
            self.note_hole(index);
        } else if self.is_proven(index) {
            self.deliver(index, None, None);
        } else {
            // The refusal is about this attempt; an earlier one may be in the log.
            self.abandon(index, Delivery::InDoubt { last_error: Some(error) });
        }
    }

    /// Resolves a batch whose outcome is unknown.
    pub(super) fn abandon(&mut self, index: usize, delivery: Delivery) {
        self.entries[index].state = State::Done(delivery);
        self.gap = Gap::Broken;
        // It is not sent again, so it cannot show whether the batches before it are in the log.
        for entry in self.entries.range_mut(..index) {
            if entry.may_be_written() {
                entry.raise_doubt(Doubt::Loose);
            }
        }
    }

    /// Notes that a batch is resolved and was never written; if it has a number, the broker will not see it.
    pub(super) fn note_hole(&mut self, index: usize) {
        if self.entries[index].sequence.is_some() && self.gap == Gap::None {
            self.gap = Gap::Hole;
        }
    }

    /// Notes that the broker does not accept a batch's number.
    pub(super) fn displace(&mut self, index: usize) {
        self.entries[index].state = State::OutOfOrder;
        self.gap = Gap::Broken;
    }

    /// Notes that nothing can show any more whether a batch is in the log, if it may be.
    pub(super) fn loosen(&mut self, index: usize) {
        if self.entries[index].doubt != Doubt::Clean {
            self.entries[index].raise_doubt(Doubt::Loose);
        }
    }

    /// Returns whether a batch behind this one was appended under the same numbering. Then the broker had this one, too.
    pub(super) fn is_proven(&self, index: usize) -> bool {
        self.touched().skip(index + 1).any(|e| e.sequence.is_some() && e.is_delivered())
    }

    /// Draws the conclusions of an event: batches that later ones prove, and the end of a gap.
    pub(super) fn settle(&mut self) {
        for index in 0..self.touched {
            let entry = &self.entries[index];
            if entry.may_be_written() && !entry.is_on_its_way() && self.is_proven(index) {
                self.deliver(index, None, None);
            }
        }
        let is_open = (self.gap == Gap::None)
            || self.touched().any(Entry::is_on_its_way)
            || self.next_probe().is_some();
        if !is_open {
            self.close_gap();
        }
    }

    fn close_gap(&mut self) {
        let is_clean = (self.gap == Gap::Hole) && !self.is_overtaken_or_in_doubt();
        for entry in self.entries.range_mut(..self.touched) {
            if entry.is_unresolved() {
                entry.state = if entry.doubt == Doubt::Loose {
                    State::Done(Delivery::InDoubt { last_error: entry.last_error.clone() })
                } else {
                    State::Waiting
                };
                entry.doubt = Doubt::Clean;
            }
            entry.sequence = None;
        }
        self.gap = Gap::None;
        if is_clean {
            self.next_sequence = self.delivered_to;
        } else {
            self.bump_epoch();
        }
    }

    /// Returns whether a batch to be renumbered was in doubt, or a later one is in the log already: within an epoch, the
    /// order in the log is that of the batches.
    fn is_overtaken_or_in_doubt(&self) -> bool {
        self.touched().enumerate().any(|(index, entry)| {
            entry.is_unresolved() && ((entry.doubt != Doubt::Clean) || self.is_proven(index))
        })
    }

    fn bump_epoch(&mut self) {
        self.next_sequence = 0;
        self.delivered_to = 0;
        self.acknowledged_at = None;
        let is_usable = !std::mem::take(&mut self.is_fenced);
        self.identity = self.identity.filter(|_| is_usable).and_then(|identity| {
            let epoch = identity.epoch.checked_add(1)?;
            Some(ProducerIdentity { epoch, ..identity })
        });
    }
}
