//! What is not complete: the records that were taken in, and the work in flight for them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use dead_letter::ErrorType;
use futures_util::stream::FuturesUnordered;
use order_avro::Order;
use tokio::time::Instant;
use tokio_util::sync::ReusableBoxFuture;

use super::incomplete::IncompleteRecords;
use super::permits::Permits;
use crate::dlq_writer::LetterError;
use crate::flow::limiter::{Limiter, Permit};
use crate::flow::watchdog::Heartbeat;
use crate::handler::AttemptResult;

/// How a piece of work in flight ended.
pub(super) enum Finished {
    Attempt {
        offset: i64,
        order: Order,
        outcome: AttemptResult,
    },
    Letter {
        offset: i64,
        /// The last offset of an unreadable range; `None` for a record.
        last_offset: Option<i64>,
        error_type: ErrorType,
        outcome: Result<(), LetterError>,
    },
}

/// Work that did not end at once, with the permit that it began with.
pub(super) struct InFlight<'a> {
    pub(super) work: ReusableBoxFuture<'a, Finished>,
    pub(super) permit: Option<Permit>,
    pub(super) begun: Instant,
}

impl Future for InFlight<'_> {
    type Output = (Finished, Duration, Option<Permit>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.work.poll(cx).map(|finished| (finished, this.begun.elapsed(), this.permit.take()))
    }
}

/// The records that were taken in and are not complete, and the attempts and letters that are in flight for them.
pub(super) struct Pending<'a> {
    pub(super) incomplete: IncompleteRecords,
    /// This worker's share of the process's in-flight bytes.
    counted_bytes: usize,
    pub(super) in_flight: FuturesUnordered<InFlight<'a>>,
    /// An allocation that the next attempt reuses, so that attempts that end at once make none.
    pub(super) spare: Option<ReusableBoxFuture<'a, Finished>>,
    /// Incomplete records whose next attempt may start.
    pub(super) ready: VecDeque<i64>,
    pub(super) permits: Permits<'a>,
    /// Beats before and after each first poll.
    pub(super) heartbeat: Arc<Heartbeat>,
}

impl<'a> Pending<'a> {
    pub(super) fn new(limiter: &'a Arc<Limiter>, heartbeat: Arc<Heartbeat>) -> Self {
        Self {
            incomplete: IncompleteRecords::default(),
            counted_bytes: 0,
            in_flight: FuturesUnordered::new(),
            spare: None,
            ready: VecDeque::new(),
            permits: Permits::of(limiter),
            heartbeat,
        }
    }

    /// Forgets everything but the work in flight; the offsets stay incomplete.
    pub(super) fn clear_waiting(&mut self) {
        self.incomplete.clear_waiting();
        self.ready.clear();
        self.permits.leave();
    }

    /// Updates this worker's share of the process's in-flight bytes.
    pub(super) fn count_bytes(&mut self, in_flight_bytes: &AtomicUsize) {
        let bytes = self.incomplete.bytes();
        // The sum wraps, so a smaller share is subtracted.
        in_flight_bytes.fetch_add(bytes.wrapping_sub(self.counted_bytes), Ordering::Relaxed);
        self.counted_bytes = bytes;
    }

    /// Takes this worker's share off the process's in-flight bytes.
    pub(super) fn uncount_bytes(&self, in_flight_bytes: &AtomicUsize) {
        in_flight_bytes.fetch_sub(self.counted_bytes, Ordering::Relaxed);
    }
}
