//! A worker's way to permits.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::PollSemaphore;

use crate::flow::limiter::{Limiter, Permit};

/// The permit that a worker has or waits for.
pub(super) struct Permits<'a> {
    limiter: &'a Arc<Limiter>,
    /// Kept from one attempt to the next while they end at once.
    pub(super) at_hand: Option<Permit>,
    /// The place in the queue.
    queue: Option<PollSemaphore>,
    /// Whether the next record of the cursor waits for a permit.
    pub(super) newcomer_waits: bool,
    /// Whether the next probe is for that record, if incomplete ones wait too.
    is_newcomers_turn: bool,
    /// Whether the limiter counts this worker as one with an order to probe with.
    is_prober: bool,
}

impl<'a> Permits<'a> {
    pub(super) fn of(limiter: &'a Arc<Limiter>) -> Self {
        Self {
            limiter,
            at_hand: None,
            queue: None,
            newcomer_waits: false,
            is_newcomers_turn: true,
            is_prober: false,
        }
    }

    /// Tells the limiter whether this worker has an order to probe with.
    pub(super) fn probes(&mut self, is_prober: bool) {
        if self.is_prober != is_prober {
            self.is_prober = is_prober;
            if is_prober {
                self.limiter.add_prober();
            } else {
                self.limiter.remove_prober();
            }
        }
    }

    /// Returns whether an attempt may begin, for which there is a permit then.
    #[inline]
    pub(super) fn allow(&mut self) -> bool {
        let is_usable = |permit: &Permit| permit.is_probe() || !self.limiter.is_down();
        self.at_hand.as_ref().is_some_and(is_usable) || self.get()
    }

    fn get(&mut self) -> bool {
        self.at_hand = None;
        match &mut self.queue {
            None => self.at_hand = self.limiter.try_permit(),
            // A worker in the queue takes no other permit: the queue would give its place a permit that is never used.
            Some(queue) => {
                // The next step polls the queue with a waker, if a permit is still wanted.
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
            self.queue = Some(self.limiter.queue());
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
        self.at_hand = Some(self.limiter.permit(permit));
    }

    /// Gives the permit and the place in the queue back.
    pub(super) fn leave(&mut self) {
        self.at_hand = None;
        self.queue = None;
    }

    /// Returns whether the permit at hand is left to the next record of the cursor.
    ///
    /// Probes alternate between it and the incomplete records, which may be the only ones that the dependency cannot digest.
    pub(super) fn leave_probe_to_newcomer(&mut self) -> bool {
        if !self.newcomer_waits || !self.has_probe() {
            return false;
        }
        let is_newcomers_turn = self.is_newcomers_turn;
        self.is_newcomers_turn = !is_newcomers_turn;
        is_newcomers_turn
    }
}

impl Drop for Permits<'_> {
    fn drop(&mut self) {
        self.probes(false);
    }
}
