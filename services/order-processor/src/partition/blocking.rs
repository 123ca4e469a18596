//! What the cursor's next record waits for, and when it may be tried again.

use super::cursor::Block;
use super::worker::Worker;
use crate::handler::Handler;

impl<H: Handler> Worker<'_, H> {
    /// Returns whether an attempt could begin if there were a permit.
    pub(super) fn wants_permit(&self) -> bool {
        (self.attempts.permits.newcomer_waits || !self.attempts.ready.is_empty())
            && self.session.draining.is_none()
            && self.may_begin()
    }

    /// Tells the limiter whether this worker has an order to probe with: one that waits, or one in flight. Orders that wait
    /// while the replica is paused do not count.
    pub(super) fn note_prober(&mut self) {
        let waits = self.attempts.permits.newcomer_waits || !self.attempts.incomplete.is_empty();
        let is_paused = self.shared.pause_switch.is_paused() && self.attempts.in_flight.is_empty();
        self.attempts.permits.probes(waits && !is_paused);
    }

    /// Notes what the next record waits for, and asks for it.
    pub(super) fn await_unblocking(&mut self, block: Block) {
        self.intake.block = Some(block);
        match block {
            Block::Room(full) => {
                let first_waits = self.first_waits();
                self.reporting.status.lock().waits.full = Some((full, first_waits));
            }
            Block::Schema(id) => self.begin_lookup(id),
            Block::Permit => self.attempts.permits.newcomer_waits = true,
            Block::Letter | Block::Release | Block::Paused => {}
        }
    }

    /// Lets the next record be tried again if what it waits for may have happened.
    pub(super) fn reconsider(&mut self) {
        match self.intake.block {
            None => return,
            Some(Block::Room(_)) => self.reporting.status.lock().waits.full = None,
            Some(Block::Schema(_)) if self.intake.lookup.is_some() => return,
            Some(Block::Schema(_) | Block::Letter | Block::Release | Block::Paused) => {}
            Some(Block::Permit) => {
                if self.attempts.permits.at_hand.is_none() && self.wants_permit() {
                    return;
                }
                self.attempts.permits.newcomer_waits = false;
                self.reporting.status.lock().waits.for_permit = false;
            }
        }
        self.intake.block = None;
    }
}
