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

mod contract;
mod outcome;
pub mod simulation;
pub mod webhook;

pub use self::contract::{Attempt, CountOnly, Handler, Source};
pub(crate) use self::outcome::{AttemptResult, NoAnswer};
pub use self::outcome::{Outcome, SimulatedFailure};
