//! Your own work goes here: implement [`Handler`] and give it to [`crate::service::run`].
//!
//! ```
//! use order_avro::Order;
//! use order_processor::handler::{Attempt, Handler, Outcome};
//!
//! struct Invoices;
//!
//! impl Handler for Invoices {
//!     async fn handle(&self, order: &Order, _attempt: Attempt<'_>) -> Outcome {
//!         if order.price == 0.0 {
//!             return Outcome::Permanent { reason: "there is nothing to invoice".into() };
//!         }
//!         Outcome::Done
//!     }
//! }
//! ```
//!
//! One async method decides about one order. It may be called again for an order it has already seen (after a crash,
//! or a rebalance that interrupted it), so what it does should be idempotent; [`Attempt`] carries coordinates that name the
//! record for good. A handler that never waits costs no task and no allocation.

use std::borrow::Cow;
use std::time::Duration;

use order_avro::Order;

use crate::simulation::{Answer, Simulation};

/// What became of one attempt at one order.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The order is processed.
    Done,
    /// It may succeed later: the processor tries again after a delay, at most `MAX_RETRIES` times.
    Transient {
        /// What went wrong, for people.
        reason: Cow<'static, str>,
        /// The least delay before the next attempt, if the other side named one.
        retry_after: Option<Duration>,
    },
    /// It can never succeed: the order goes to the dead-letter topic.
    Permanent {
        /// What went wrong, for people.
        reason: Cow<'static, str>,
    },
    /// As [`Outcome::Permanent`], for failures on purpose.
    Simulated {
        /// What went wrong, for people.
        reason: Cow<'static, str>,
    },
}

/// Which attempt at which record this is.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Counts from 1.
    pub number: u32,
    /// The topic the record was read from.
    pub topic: &'a str,
    /// The partition it was read from.
    pub partition: i32,
    /// The record's offset in it.
    pub offset: i64,
}

/// The work that is done for every order.
pub trait Handler: Send + Sync + 'static {
    /// Processes one order.
    ///
    /// The future is dropped when its partition is lost, or when draining takes longer than `DRAIN_TIMEOUT_MS`; the
    /// order is then processed again, here or by another member.
    fn handle(&self, order: &Order, attempt: Attempt<'_>) -> impl Future<Output = Outcome> + Send;
}

/// The handler of the product as it comes: it counts every order as processed, except those that the settings make fail.
#[derive(Clone, Debug)]
pub struct SimulatedHandler {
    simulation: Simulation,
}

impl SimulatedHandler {
    /// Makes a handler that fails where `simulation` says so.
    pub fn new(simulation: Simulation) -> Self {
        Self { simulation }
    }
}

impl Handler for SimulatedHandler {
    async fn handle(&self, order: &Order, attempt: Attempt<'_>) -> Outcome {
        match self.simulation.answer(&order.order_id, order.price, attempt.number) {
            Answer::Ok => Outcome::Done,
            Answer::Transient(reason) => {
                Outcome::Transient { reason: Cow::Borrowed(reason), retry_after: None }
            }
            Answer::Permanent(reason) => Outcome::Simulated { reason: Cow::Borrowed(reason) },
        }
    }
}
