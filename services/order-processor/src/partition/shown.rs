//! What the metrics are told of a partition: once a batch, and once for each other thing that happens.

use super::Worker;
use crate::handler::Handler;
use crate::telemetry::partition_status::Next;
use service_runtime::now_ms;

impl<H: Handler> Worker<'_, H> {
    /// Notes how the partition stands.
    pub(super) fn show(&mut self) {
        let committable = self.state.committable();
        let oldest = self.held.oldest();
        let mut standing = self.standing.lock();
        standing.committable = committable;
        standing.frontier = self.state.dispatch_frontier();
        standing.incomplete = self.state.incomplete();
        standing.waiting = self.held.waiting();
        standing.letters = self.letters + self.dooms.len();
        standing.running = self.in_flight.len().saturating_sub(self.letters);
        standing.waits_for_permit = self.wants_permit();
        standing.is_guarded = self.guarded.is_some();
        standing.is_stopped = self.shared.halt.is_on();
        standing.oldest = oldest.map(|held| held.work.since);
        // After a restart the first incomplete record may not have been read again yet.
        let first = oldest.filter(|held| held.record.offset == committable);
        standing.next = first.map_or(self.next, |held| Next::At(held.record.timestamp_ms));
        standing.delivered += std::mem::take(&mut self.delivered);
        if standing.is_caught_up() {
            standing.caught_up_at_ms = Some(now_ms());
        }
    }
}
