//! What the end-to-end suites stand on: a place to run in, the services as processes, and judges from outside.
//!
//! A test opens a [`Scenario`]: topics and a consumer group that nobody else uses, on the platform that the environment
//! variable `TEST_PLATFORM` names. It starts the services' binaries as processes ([`Service`]), does to them what it is
//! about, and compares what they tell ([`Stats`]) with what the topics hold ([`Verdict`]). The suites themselves are in
//! the `tests` folder beside this crate's sources.
//!
//! Reading order: [`platform`], [`scenario`], [`service`], [`stats`], [`metrics`], [`verdict`], [`topic`], [`ledger`], [`proxy`], [`webhook`],
//! [`lagging_registry`], [`terminal`],
//! [`outsiders`].

pub mod lagging_registry;
pub mod ledger;
pub mod metrics;
pub mod outsiders;
pub mod platform;
pub mod proxy;
pub mod scenario;
pub mod service;
pub mod stats;
pub mod terminal;
pub mod topic;
pub mod verdict;
pub mod webhook;

pub use lagging_registry::LaggingRegistry;
pub use ledger::Ledger;
pub use metrics::Metrics;
pub use platform::Platform;
pub use scenario::Scenario;
pub use service::Service;
pub use stats::Stats;
pub use terminal::Terminal;
pub use verdict::Verdict;
pub use webhook::Webhook;

/// Compiles the handler that the README shows.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
