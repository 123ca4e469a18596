//! What all workers of a process share.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use schema_registry::SchemaRegistry;
use service_runtime::Spans;

use crate::dlq_writer::DlqWriter;
use crate::flow::limiter::Limiter;
use crate::flow::pause_reasons::PauseReasons;
use crate::flow::pause_switch::PauseSwitch;
use crate::flow::releases::Releases;
use crate::flow::watchdog::Watchdog;
use crate::settings::ProcessorSettings;
use crate::telemetry::metrics::Instruments;
use crate::telemetry::report::Reporter;

/// What all workers of a process share.
pub(crate) struct Shared<H> {
    pub(crate) handler: H,
    pub(crate) settings: ProcessorSettings,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) pause_switch: Arc<PauseSwitch>,
    pub(crate) watchdog: Arc<Watchdog>,
    pub(crate) pause_reasons: PauseReasons,
    pub(crate) releases: Releases,
    pub(crate) schemas: SchemaRegistry,
    pub(crate) dlq_writer: DlqWriter,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) instruments: Arc<Instruments>,
    pub(crate) spans: Spans,
    /// Bytes of all workers' incomplete records; `MAX_IN_FLIGHT_BYTES` bounds them.
    pub(crate) in_flight_bytes: AtomicUsize,
}
