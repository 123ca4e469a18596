//! The harness of the end-to-end suites: platforms, the services as processes, and independent judges.
//!
//! A test opens a [`Scenario`] with topics and a consumer group of its own, on the platform that the environment variable
//! `TEST_PLATFORM` names. It starts the services' binaries as processes ([`Service`]), causes failures, and compares the
//! group's statistics ([`Stats`]) with the contents of the topics ([`Verdict`]). The suites are in the folder `tests`.
//!
//! Reading order: [`platform`], [`scenario`], [`service`], [`stats`], [`metrics`], [`verdict`], [`topic`], [`ledger`],
//! [`proxy`], [`webhook`], [`lagging_registry`], [`terminal`], [`outsiders`], [`cluster`], [`darkness`].

pub mod cluster;
pub mod darkness;
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

pub use cluster::KafkaCluster;
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
