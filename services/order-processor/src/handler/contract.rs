//! What a handler implements, and what it learns of an attempt.

use order_avro::Order;
use service_runtime::trace_context::Trace;
use uuid::Uuid;

use super::outcome::Outcome;

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
