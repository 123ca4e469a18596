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

mod contract;
mod outcome;
pub mod simulation;
pub mod webhook;

pub use self::contract::{Attempt, CountOnly, Handler, Source};
pub(crate) use self::outcome::{AttemptResult, NoAnswer};
pub use self::outcome::{Outcome, SimulatedFailure};
