//! Your own work on an order goes here: one trait, one async method.
//!
//! ```no_run
//! use order_avro::Order;
//! use order_processor::handler::{Attempt, Handler, Outcome};
//!
//! struct Invoices;
//!
//! impl Handler for Invoices {
//!     async fn handle(&self, order: &Order, attempt: Attempt<'_>) -> Outcome {
//!         if order.price == 0.0 {
//!             return Outcome::permanent("there is nothing to invoice");
//!         }
//!         match send_invoice(order, &attempt.idempotency_key()).await {
//!             Ok(()) => Outcome::Done,
//!             Err(error) => Outcome::transient(error.to_string()),
//!         }
//!     }
//! }
//!
//! async fn send_invoice(order: &Order, key: &str) -> std::io::Result<()> {
//!     Ok(())
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     service_runtime::run("invoices", |settings, context| {
//!         order_processor::service::run_with(Invoices, settings, context)
//!     })
//! }
//! ```
//!
//! What happens to an order is decided by the [`Outcome`]. The method may be called again for an order it has already
//! seen: after a crash, a rebalance that interrupted it, a timeout, a replay of a dead letter. So what it does should be
//! idempotent; [`Attempt::idempotency_key`] names the order for good. A handler that never waits costs no task and no
//! allocation. One that waits should not block its thread while it does.

use std::borrow::Cow;
use std::time::Duration;

use order_avro::Order;
use service_runtime::trace_context::Trace;
use uuid::Uuid;

use simulation::SimulatedFailure;

pub mod simulation;
pub mod webhook;

/// What became of one attempt at one order.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The order is processed.
    Done,
    /// It may succeed later: it is tried again after a delay, at most `MAX_RETRIES` times, and then dead-lettered.
    ///
    /// So is an attempt that takes longer than `HANDLER_TIMEOUT_MS`. When nothing but such failures comes back, the
    /// dependency counts as down (see `flow::circuit_breaker`).
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
    /// Something the work needs is not there, whatever the order: all attempts pause but a probe now and then, and the
    /// order is tried again. It is never dead-lettered for that, and the attempt does not count.
    DependencyDown {
        /// What is not there, for people.
        reason: Cow<'static, str>,
        /// The least pause before the first probe, if the other side named one.
        retry_after: Option<Duration>,
    },
    /// A failure on purpose.
    Simulated(SimulatedFailure),
}

impl Outcome {
    /// Returns a failure that may heal.
    pub fn transient(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Transient { reason: reason.into(), retry_after: None }
    }

    /// Returns a failure that cannot heal.
    pub fn permanent(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Permanent { reason: reason.into() }
    }

    /// Returns an outage of something that all orders need.
    pub fn dependency_down(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::DependencyDown { reason: reason.into(), retry_after: None }
    }
}

/// Which attempt at which record this is.
///
/// A replayed dead letter is named by the record that failed first.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Counts from 1, over restarts. An attempt that found a dependency down does not count: the next has its number.
    pub number: u32,
    /// The partition that the record is in.
    pub source: &'a Source,
    /// The record's offset in it.
    pub offset: i64,
    /// The record's timestamp, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The trace that the attempt is part of, if its record is: its span is the attempt's own.
    pub trace: Option<&'a Trace>,
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The topic's name.
    pub topic: String,
    /// The topic's id: one that is deleted and created again has another.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
}

impl Attempt<'_> {
    /// Returns `<topic id>-<partition>-<offset>`: the same for every attempt at this order, and for no other order.
    ///
    /// The topic's name would not do: a topic that is created anew begins at offset 0 again.
    pub fn idempotency_key(&self) -> String {
        let Source { topic_id, partition, .. } = self.source;
        format!("{topic_id}-{partition}-{}", self.offset)
    }
}

/// The work that is done for every order.
pub trait Handler: Send + Sync + 'static {
    /// Whether [`Attempt::trace`] is looked at. Where it is not, orders that are part of a trace cost no more than others.
    const USES_TRACE: bool = true;

    /// Processes one order.
    ///
    /// The future is dropped when its time (`HANDLER_TIMEOUT_MS`) is over, when its partition is lost, or when draining
    /// takes longer than `DRAIN_TIMEOUT_MS`; the order is then processed again, here or by another member.
    fn handle(&self, order: &Order, attempt: Attempt<'_>) -> impl Future<Output = Outcome> + Send;
}

/// The handler of the product as it comes: an order is done when it is counted.
#[derive(Clone, Copy, Debug)]
pub struct CountOnly;

impl Handler for CountOnly {
    const USES_TRACE: bool = false;

    async fn handle(&self, _order: &Order, _attempt: Attempt<'_>) -> Outcome {
        Outcome::Done
    }
}
