//! What a handler implements, and what it learns of an attempt.

use order_avro::Order;
use service_runtime::trace_context::Trace;
use uuid::Uuid;

use super::outcome::Outcome;

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
