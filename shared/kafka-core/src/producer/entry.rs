//! One batch of a partition's producer, from the push to its outcome.

use std::time::Instant;

use super::outcome::{AttemptId, BrokerError, Delivery, Written};
use crate::record_batch::EncodedBatch;

/// A batch and what is known of it.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) batch: EncodedBatch,
    pub(super) deadline: Instant,
    pub(super) token: T,
    /// The first record's sequence number in the present numbering; `None` before the first attempt.
    pub(super) sequence: Option<i32>,
    pub(super) doubt: Doubt,
    pub(super) state: State,
    pub(super) last_error: Option<BrokerError>,
    /// How often the broker refused it and it was sent again.
    pub(super) refusals: u32,
}

/// What earlier attempts under the present number may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    /// Every attempt was answered, and none was written. The batch may get another number.
    Clean,
    /// Every attempt was answered, but one may have been appended. The batch may get another number once the broker is
    /// known not to have it.
    Answered,
    /// An attempt has no answer, so a copy may arrive at any time; or nothing can show that the broker does not have the
    /// batch. It never gets another number.
    Loose,
}

/// Where a batch stands.
#[derive(Debug)]
pub(super) enum State {
    /// To be sent, or sent again.
    Waiting,
    /// Sent, not answered.
    OnItsWay {
        attempt: AttemptId,
        /// Whether every batch before it was resolved when it was sent, so that an out-of-order answer says that the
        /// broker's state is not what it should be.
        is_conclusive: bool,
    },
    /// The broker does not have it and cannot take it under its number. It waits for another one.
    OutOfOrder,
    /// Resolved.
    Done(Delivery),
}

impl<T> Entry<T> {
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done(_))
    }

    pub(super) fn is_delivered(&self) -> bool {
        matches!(self.state, State::Done(Delivery::Delivered { .. }))
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    pub(super) fn is_on_its_way(&self) -> bool {
        matches!(self.state, State::OnItsWay { .. })
    }

    /// Returns whether the batch has a number and no outcome.
    pub(super) fn is_unresolved(&self) -> bool {
        self.sequence.is_some() && !self.is_done()
    }

    /// Returns whether the batch may be in the log, or arrive there, although it has no outcome.
    pub(super) fn may_be_written(&self) -> bool {
        self.is_unresolved() && (self.is_on_its_way() || self.doubt != Doubt::Clean)
    }

    /// Returns whether the broker's last number may be that of this batch, or does not fit it.
    pub(super) fn breaks_numbering(&self) -> bool {
        let is_broken = match self.state {
            State::OutOfOrder
            | State::Done(
                Delivery::InDoubt { .. } | Delivery::Expired { written: Written::Unknown, .. },
            ) => true,
            State::Waiting | State::OnItsWay { .. } | State::Done(_) => false,
        };
        self.sequence.is_some() && is_broken
    }

    pub(super) fn raise_doubt(&mut self, doubt: Doubt) {
        self.doubt = self.doubt.max(doubt);
    }
}
