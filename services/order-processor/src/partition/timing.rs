//! How long attempts take.
//!
//! An order that is done at once costs no look at the clock: the clock is looked at before and after the records of a
//! batch, and each order that was done in between counts with the mean. Attempts that wait are timed one by one.

use std::sync::Arc;
use std::time::Duration;

use service_runtime::Durations;
use tokio::time::Instant;

use crate::handler::AttemptResult;
use crate::telemetry::labels::of_attempt;
use crate::telemetry::metrics::Instruments;

/// Times the attempts at the orders of one topic.
pub(super) struct Timing {
    instruments: Arc<Instruments>,
    topic: String,
    done: Durations,
    /// Since when orders are taken in one after the other, and how many had been processed then.
    stretch: Option<(Instant, u64)>,
}

impl Timing {
    pub(super) fn new(instruments: &Arc<Instruments>, topic: &str) -> Self {
        let done = instruments.attempts(topic, None);
        Self { instruments: Arc::clone(instruments), topic: topic.to_owned(), done, stretch: None }
    }

    /// Notes that orders are taken in from here on, of which `processed` have been processed so far.
    pub(super) fn begin_stretch(&mut self, processed: u64) {
        self.stretch = Some((Instant::now(), processed));
    }

    /// Notes that this is over for now; all that were processed meanwhile were done at once.
    pub(super) fn end_stretch(&mut self, processed: u64) {
        if let Some((begun, before)) = self.stretch.take() {
            let done = processed.saturating_sub(before);
            if done > 0 {
                self.done.observe_many(begun.elapsed(), done);
            }
        }
    }

    /// Counts an attempt that has ended by itself; one that succeeded in a stretch is counted with the others.
    pub(super) fn attempt(&self, took: Duration, outcome: &AttemptResult) {
        match of_attempt(outcome) {
            None => self.done.observe(took),
            word => self.instruments.attempts(&self.topic, word).observe(took),
        }
    }
}
