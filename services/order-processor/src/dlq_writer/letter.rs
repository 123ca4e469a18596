//! A dead letter on its way to its topic.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dead_letter::DeadLetter;
use kafka_client::cluster::Cluster;
use kafka_client::exact_writer::ExactRecord;
use tokio::sync::oneshot;

use crate::flow::pause_reasons::PauseReasons;
use crate::flow::watchdog::Watchdog;
use crate::telemetry::metrics::Instruments;

/// The least time between two reports about a topic that cannot be written.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Why a letter was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LetterError {
    /// The topic takes no record of this size.
    TooLarge,
    /// The queue has ended: the process is stopping.
    Stopped,
}

/// A letter in a queue.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) record: ExactRecord,
    pub(crate) answer: oneshot::Sender<Result<(), LetterError>>,
}

#[derive(Clone, Debug)]
pub(crate) struct DlqContext {
    pub(crate) cluster: Cluster,
    pub(crate) watchdog: Arc<Watchdog>,
    pub(crate) pause_reasons: PauseReasons,
    pub(crate) instruments: Arc<Instruments>,
}

/// Returns a dead letter as a record of its topic.
pub(super) fn outgoing(letter: &DeadLetter, timestamp_ms: i64) -> ExactRecord {
    let bytes = |bytes: &Vec<u8>| Bytes::copy_from_slice(bytes);
    let header = |(name, value): &(String, Vec<u8>)| {
        (Bytes::copy_from_slice(name.as_bytes()), Some(bytes(value)))
    };
    ExactRecord {
        key: letter.key.as_ref().map(bytes),
        value: letter.value.as_ref().map(bytes),
        headers: letter.headers.iter().map(header).collect(),
        timestamp_ms,
    }
}
