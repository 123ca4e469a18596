//! A worker's way to permits, and the work that holds them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::{PollSemaphore, ReusableBoxFuture};

use super::{Finished, Intake, Worker};
use crate::flow::limiter::{Gate, Permit};
use crate::handler::Handler;

/// Work that has not ended at once, with the permit that it began with.
pub(super) struct InFlight<'a> {
    pub(super) work: ReusableBoxFuture<'a, Finished>,
    pub(super) permit: Option<Permit>,
    /// When it was found to wait.
    pub(super) begun: Instant,
}

impl Future for InFlight<'_> {
    type Output = (Finished, Duration, Option<Permit>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.work.poll(cx).map(|finished| (finished, this.begun.elapsed(), this.permit.take()))
    }
}

/// The permit that a worker has or waits for.
pub(super) struct Permits<'a> {
    gate: &'a Arc<Gate>,
    /// Kept from one attempt to the next while they end at once.
    at_hand: Option<Permit>,
    /// The place in the queue.
    queue: Option<PollSemaphore>,
    /// Whether a record that is not held yet waits for a permit.
    newcomer_waits: bool,
    next_probe: Candidate,
    /// Whether the gate was told that this worker has an order to probe with.
    is_prober: bool,
}

/// What the next probe is made with, if both wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Candidate {
    Newcomer,
    Held,
}

impl<'a> Permits<'a> {
    pub(super) fn of(gate: &'a Arc<Gate>) -> Self {
        let next_probe = Candidate::Newcomer;
        Self {
            gate,
            at_hand: None,
            queue: None,
            newcomer_waits: false,
            next_probe,
            is_prober: false,
        }
    }

    /// Tells the gate whether this worker has an order to probe with.
    pub(super) fn probes(&mut self, is_prober: bool) {
        if self.is_prober != is_prober {
            self.is_prober = is_prober;
            if is_prober {
                self.gate.add_prober();
            } else {
                self.gate.remove_prober();
            }
        }
    }

    /// Returns whether an attempt may begin, for which there is a permit then.
    #[inline]
    pub(super) fn allow(&mut self) -> bool {
        let is_usable = |permit: &Permit| permit.is_probe() || !self.gate.is_down();
        self.at_hand.as_ref().is_some_and(is_usable) || self.get()
    }

    fn get(&mut self) -> bool {
        self.at_hand = None;
        match &mut self.queue {
            None => self.at_hand = self.gate.try_permit(),
            // Whoever queues takes no other permit: the one that its place is given would be nobody's.
            Some(queue) => {
                // The queue is polled with a waker in the next turn, if that is still wanted.
                let polled = queue.poll_acquire(&mut Context::from_waker(Waker::noop()));
                if let Poll::Ready(Some(permit)) = polled {
                    self.arrive(permit);
                }
            }
        }
        self.at_hand.is_some()
    }

    /// Takes the permit that work in flight keeps until its end.
    pub(super) fn take(&mut self) -> Option<Permit> {
        self.at_hand.take()
    }

    /// Gives a probe's permit back after its attempt.
    #[inline]
    pub(super) fn end_probe(&mut self) {
        if self.has_probe() {
            self.at_hand = None;
        }
    }

    fn has_probe(&self) -> bool {
        self.at_hand.as_ref().is_some_and(Permit::is_probe)
    }

    /// Gives back what is at hand before waiting, and joins or leaves the queue.
    pub(super) fn prepare(&mut self, want: bool) {
        self.at_hand = None;
        if !want {
            self.queue = None;
        } else if self.queue.is_none() {
            self.queue = Some(self.gate.queue());
        }
    }

    /// Returns the permit that the queue gives next.
    ///
    /// Cancel safe: the place in the queue is kept.
    pub(super) async fn next(&mut self) -> Option<OwnedSemaphorePermit> {
        std::future::poll_fn(|cx| match &mut self.queue {
            Some(queue) => queue.poll_acquire(cx),
            None => Poll::Ready(None),
        })
        .await
    }

    /// Takes the permit that the queue gave.
    pub(super) fn arrive(&mut self, permit: OwnedSemaphorePermit) {
        self.queue = None;
        self.at_hand = Some(self.gate.permit(permit));
    }

    /// Gives up everything.
    pub(super) fn leave(&mut self) {
        self.at_hand = None;
        self.queue = None;
    }

    /// Returns whether the permit at hand is left to a record that is not held yet.
    ///
    /// Probes alternate between the two: held records alone may be the only ones that the other side cannot digest.
    pub(super) fn leave_probe_to_newcomer(&mut self) -> bool {
        if !self.newcomer_waits || !self.has_probe() {
            return false;
        }
        let leave = self.next_probe == Candidate::Newcomer;
        self.next_probe = if leave { Candidate::Held } else { Candidate::Newcomer };
        leave
    }
}

impl Drop for Permits<'_> {
    fn drop(&mut self) {
        self.probes(false);
    }
}

impl<H: Handler> Worker<'_, H> {
    /// Tells the gate whether there is an order here to probe with: one that waits, or runs, but for those that wait while
    /// the brake is on.
    pub(super) fn note_prober(&mut self) {
        let waits = self.permits.newcomer_waits || !self.held.is_empty();
        let is_stopped = self.shared.halt.is_on() && self.in_flight.is_empty();
        self.permits.probes(waits && !is_stopped);
    }

    /// Returns whether something could begin if there were a permit.
    pub(super) fn wants_permit(&self) -> bool {
        (self.permits.newcomer_waits || !self.ready.is_empty())
            && self.draining.is_none()
            && self.may_begin()
    }

    /// Waits for a permit for a record that is not held yet.
    pub(super) async fn wait_for_permit(&mut self) {
        self.permits.newcomer_waits = true;
        self.note_prober();
        self.standing.lock().waits_for_permit = true;
        while self.permits.at_hand.is_none() && self.wants_permit() && !self.ended {
            // Nothing is taken in, so the turn returns nothing.
            self.turn(Intake::Closed).await;
        }
        self.permits.newcomer_waits = false;
        self.standing.lock().waits_for_permit = false;
    }
}
