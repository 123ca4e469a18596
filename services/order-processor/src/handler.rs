//! A handler is your own work on an order: one trait, one async method.
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
//! The [`Outcome`] decides what happens to an order. The method may be called again for the same order: after a crash, a
//! rebalance that interrupted it, a timeout, a replay of a dead letter. So its work should be idempotent;
//! [`Attempt::idempotency_key`] is the same for each attempt at an order. A handler that never waits costs no task and no
//! allocation. A handler that waits must not block its thread.

use std::borrow::Cow;
use std::time::Duration;

use order_avro::Order;
use service_runtime::trace_context::Trace;
use uuid::Uuid;

pub mod simulation;
pub mod webhook;

/// The work that is done for every order.
pub trait Handler: Send + Sync + 'static {
    /// Whether the handler reads [`Attempt::trace`]. If not, orders with a trace cost no more than others.
    const USES_TRACE: bool = true;

    /// Processes one order.
    ///
    /// The future is dropped when it exceeds `HANDLER_TIMEOUT_MS`, when its partition is lost, or when draining exceeds
    /// `DRAIN_TIMEOUT_MS`. The order is then processed again, here or by another member.
    fn handle(&self, order: &Order, attempt: Attempt<'_>) -> impl Future<Output = Outcome> + Send;
}

/// The default handler: an order is done when it is counted.
#[derive(Clone, Copy, Debug)]
pub struct CountOnly;

impl Handler for CountOnly {
    const USES_TRACE: bool = false;

    async fn handle(&self, _order: &Order, _attempt: Attempt<'_>) -> Outcome {
        Outcome::Done
    }
}

/// Which attempt at which record this is.
///
/// A replay has the place of the record that failed first.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Counts from 1, through restarts. An attempt that found the dependency down does not count: the next has its number.
    pub number: u32,
    /// The topic and partition of the record.
    pub source: &'a Source,
    /// The record's offset in its partition.
    pub offset: i64,
    /// The record's timestamp, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The trace of the record, with a span of the attempt's own.
    pub trace: Option<&'a Trace>,
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name of the topic.
    pub topic: String,
    /// The topic's id: one that is deleted and created again has another.
    pub topic_id: Uuid,
    /// The index of the partition.
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

/// How an attempt at an order ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The handler has processed the order.
    Done,
    /// A later attempt may succeed: the order is tried again after a delay, at most `MAX_RETRIES` times, and then
    /// dead-lettered.
    ///
    /// So is an attempt that exceeds `HANDLER_TIMEOUT_MS`. When all attempts fail like this, the dependency counts as down.
    Transient {
        /// What went wrong, as a text for operators.
        reason: Cow<'static, str>,
        /// The least delay before the next attempt, if the receiver named one.
        retry_after: Option<Duration>,
    },
    /// No attempt can succeed: the order goes to the dead-letter topic.
    Permanent {
        /// What went wrong, as a text for operators.
        reason: Cow<'static, str>,
    },
    /// The handler's dependency does not work for any order: all attempts pause except for probes, and the order is tried
    /// again. It is never dead-lettered for this, and the attempt does not count.
    DependencyDown {
        /// What does not work, as a text for operators.
        reason: Cow<'static, str>,
        /// The least pause before the first probe, if the receiver named one.
        retry_after: Option<Duration>,
    },
    /// The simulation failed the order on purpose.
    Simulated(SimulatedFailure),
}

impl Outcome {
    /// Returns a failure after which a later attempt may succeed.
    pub fn transient(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Transient { reason: reason.into(), retry_after: None }
    }

    /// Returns a failure after which no attempt can succeed.
    pub fn permanent(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Permanent { reason: reason.into() }
    }

    /// Returns an outage of the handler's dependency.
    pub fn dependency_down(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::DependencyDown { reason: reason.into(), retry_after: None }
    }
}

/// A simulated failure with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimulatedFailure {
    /// A later attempt may succeed.
    Transient(&'static str),
    /// No later attempt succeeds.
    Permanent(&'static str),
}

/// A handler's answer, or the reason why there is none.
pub(crate) type AttemptResult = Result<Outcome, NoAnswer>;

/// Why a handler gave no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// It panicked with this message.
    Panic(String),
    Timeout(Duration),
}
