//! Orders as batches of records.

use std::io;

use kafka_client::producer::BATCH_BYTES_MAX;
use kafka_core::compression::Compression;
use kafka_core::record_batch::{BatchEncoder, EncodedBatch, Fit, NewRecord};
use order_avro::{Order, encode_confluent};
use service_runtime::trace_context::{TRACEPARENT, TraceContext};

use crate::orders::{DrawnOrder, ORDER_ID_BYTES_MAX};
use crate::senders::trace_sample::TraceSample;

/// An order in the queue of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PendingOrder {
    pub(crate) order: DrawnOrder,
    /// When the generator made the order, in milliseconds since the Unix epoch.
    pub(crate) timestamp_ms: i64,
}

/// The batches of the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchLimits {
    /// The most bytes of a batch.
    pub(crate) bytes_max: usize,
    /// Whether the broker is known to take batches of that size.
    pub(crate) is_known: bool,
    pub(crate) compression: Compression,
}

impl BatchLimits {
    /// Returns the limits of a topic with these `max.message.bytes`; `None` if they are unknown.
    pub(crate) fn new(topic_bytes_max: Option<usize>, compression: Compression) -> Self {
        let bytes_max = topic_bytes_max.map_or(BATCH_BYTES_MAX, |max| max.min(BATCH_BYTES_MAX));
        Self { bytes_max, is_known: topic_bytes_max.is_some(), compression }
    }
}

/// A batch and the orders in it.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) orders: Vec<PendingOrder>,
    pub(crate) encoded: EncodedBatch,
    pub(crate) traces: Vec<Traced>,
}

/// A traced order of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traced {
    /// The order's place in the batch.
    pub(crate) index: usize,
    pub(crate) context: TraceContext,
}

/// Encodes the batches of one partition: keys, Avro values, and traces.
#[derive(Debug)]
pub(crate) struct Encoder {
    schema_id: u32,
    compression: Compression,
    traces: TraceSample,
    batch: BatchEncoder,
    order: Order,
    value: Vec<u8>,
}

impl Encoder {
    /// Returns an encoder of batches within `limits`.
    pub(crate) fn new(schema_id: u32, limits: BatchLimits, traces: TraceSample) -> Self {
        Self {
            schema_id,
            compression: limits.compression,
            traces,
            batch: BatchEncoder::new(limits.bytes_max),
            order: Order { order_id: String::new(), product: String::new(), price: 0.0 },
            value: Vec::new(),
        }
    }

    /// Takes the orders of the next batch from the front of `waiting`, at most `orders_max`, and encodes them. An order that is too
    /// large for every batch has one of its own: the broker is to have the last word on it.
    ///
    /// # Errors
    /// When the codec fails; the orders are taken then.
    pub(crate) fn encode(
        &mut self,
        waiting: &mut Vec<PendingOrder>,
        orders_max: usize,
    ) -> Result<Batch, Unencoded> {
        let mut traces = Vec::new();
        let mut count = 0;
        for pending in waiting.iter().take(orders_max) {
            let trace = self.traces.draw();
            match self.append(pending, trace) {
                Fit::Appended => {}
                Fit::TooLarge if count == 0 => {
                    let limited = std::mem::replace(&mut self.batch, BatchEncoder::new(usize::MAX));
                    // Nothing is too large for this one but what no broker could read.
                    let _fit = self.append(pending, trace);
                    let encoded = self.batch.finish(self.compression);
                    self.batch = limited;
                    traces.extend(trace.map(|context| Traced { index: 0, context }));
                    return batch(waiting, 1, encoded, traces);
                }
                Fit::Full | Fit::TooLarge => break,
            }
            traces.extend(trace.map(|context| Traced { index: count, context }));
            count += 1;
        }
        let encoded = self.batch.finish(self.compression);
        batch(waiting, count, encoded, traces)
    }

    fn append(&mut self, pending: &PendingOrder, trace: Option<TraceContext>) -> Fit {
        let drawn = &pending.order;
        let mut id = [0; ORDER_ID_BYTES_MAX];
        let id = drawn.id.write_to(&mut id);
        self.write_value(drawn, id);
        let trace = trace.map(|trace| trace.to_string());
        let header = trace.as_ref().map(|trace| (TRACEPARENT.as_bytes(), Some(trace.as_bytes())));
        self.batch.append(&NewRecord {
            timestamp_ms: pending.timestamp_ms,
            key: Some(drawn.key(id).as_bytes()),
            value: (!self.value.is_empty()).then_some(&self.value),
            headers: header.as_slice(),
        })
    }

    /// Writes an order's value, empty for a tombstone.
    fn write_value(&mut self, drawn: &DrawnOrder, id: &str) {
        self.value.clear();
        self.order.order_id.clear();
        self.order.order_id.push_str(id);
        self.order.product.clear();
        self.order.product.push_str(drawn.product);
        self.order.price = drawn.price.to_f32();
        match drawn.fault {
            None => encode_confluent(self.schema_id, &self.order, &mut self.value),
            Some(fault) => fault.encode(self.schema_id, &mut self.order, &mut self.value),
        }
    }
}

/// Orders that could not be encoded.
#[derive(Debug)]
pub(crate) struct Unencoded {
    pub(crate) orders: Vec<PendingOrder>,
    pub(crate) error: io::Error,
}

/// Takes a batch's orders from the front of `waiting`.
fn batch(
    waiting: &mut Vec<PendingOrder>,
    count: usize,
    encoded: io::Result<EncodedBatch>,
    traces: Vec<Traced>,
) -> Result<Batch, Unencoded> {
    let rest = waiting.split_off(count);
    let orders = std::mem::replace(waiting, rest);
    match encoded {
        Ok(encoded) => Ok(Batch { orders, encoded, traces }),
        Err(error) => Err(Unencoded { orders, error }),
    }
}

#[cfg(test)]
mod tests {
    use order_avro::{Payload, PayloadFormat, SchemaId, WriterSchema, recognise};

    use super::*;
    use crate::orders::faults::Fault;
    use crate::orders::{Cents, OrderId};
    use crate::senders::fake_broker::{Received, received};

    #[test]
    fn a_record_has_the_order_in_confluents_wire_format_under_its_id() {
        let [record] = &encode(&mut encoder(7, 0.0), &[pending(1001)])[..] else { panic!() };

        assert_eq!(record.key, b"1001");
        assert_eq!(record.timestamp_ms, 1_700_000_000_123);
        assert_eq!(record.headers, []);
        let value = record.value.as_deref().unwrap();
        let Payload::Confluent { schema_id: SchemaId::Number(7), datum } =
            recognise(value, None, PayloadFormat::Auto).unwrap()
        else {
            panic!("not Confluent's format with id 7: {value:?}");
        };
        let order = WriterSchema::own().decode(datum).unwrap();
        let expected =
            Order { order_id: "1001".to_owned(), product: "Yoga Mat".to_owned(), price: 19.99 };
        assert_eq!(order, expected);
    }

    #[test]
    fn a_hot_key_is_the_key_of_an_order_and_a_tombstone_has_a_key_only() {
        let record = |fault| {
            let mut pending = pending(1001);
            pending.order.fault = fault;
            encode(&mut encoder(7, 0.0), &[pending]).remove(0)
        };

        let [order, hot, tombstone] =
            [None, Some(Fault::HotKey), Some(Fault::Tombstone)].map(record);
        assert_eq!((hot.key.as_slice(), &hot.value), (b"hot-key".as_slice(), &order.value));
        assert_eq!((&tombstone.key, &tombstone.value), (&order.key, &None));
    }

    #[test]
    fn batches_keep_to_their_limits_and_take_every_order_once_and_in_order() {
        for compression in [Compression::None, Compression::Lz4] {
            for (bytes_max, orders_max) in [(300, usize::MAX), (10_000, usize::MAX), (10_000, 7)] {
                let limits = BatchLimits::new(Some(bytes_max), compression);
                let mut encoder = Encoder::new(1, limits, TraceSample::new(0.5, 7));
                let all: Vec<_> = (0..500).map(pending).collect();
                let mut waiting = all.clone();
                let mut taken = Vec::new();
                while !waiting.is_empty() {
                    let batch = encoder.encode(&mut waiting, orders_max).unwrap();
                    assert!(batch.encoded.uncompressed_bytes() <= bytes_max);
                    assert!((1..=orders_max).contains(&batch.orders.len()));
                    assert_eq!(received(batch.encoded).len(), batch.orders.len());
                    taken.extend(batch.orders);
                }
                assert_eq!(taken, all);
            }
        }
    }

    #[test]
    fn an_order_that_is_too_large_for_the_topic_has_a_batch_of_its_own() {
        let mut waiting: Vec<_> = (0..5).map(pending).collect();
        waiting[2].order.fault = Some(Fault::Oversize);
        let limits = BatchLimits::new(Some(1000), Compression::None);
        let mut encoder = Encoder::new(1, limits, TraceSample::new(0.0, 7));

        let mut sizes = Vec::new();
        while !waiting.is_empty() {
            let batch = encoder.encode(&mut waiting, usize::MAX).unwrap();
            sizes.push(batch.orders.len());
        }
        assert_eq!(sizes, [2, 1, 2]);
    }

    #[test]
    fn traced_orders_differ_only_in_their_trace_header() {
        let orders: Vec<_> = (0..100).map(pending).collect();
        let plain = encode(&mut encoder(1, 0.0), &orders);
        let batch = encoder(1, 1.0).encode(&mut orders.clone(), usize::MAX).unwrap();
        let named = batch.traces;
        let mut with_headers = received(batch.encoded);
        assert_eq!(named.len(), with_headers.len());
        let pairs = plain.iter().zip(&mut with_headers).zip(named);
        for ((plain, traced), Traced { context, .. }) in pairs {
            let (name, value) = traced.headers.pop().unwrap();
            assert_eq!(name, "traceparent");
            assert!(context.is_sampled());
            assert_eq!(TraceContext::parse(&value), Some(context));
            assert_eq!(plain, traced);
        }
    }

    fn encode(encoder: &mut Encoder, orders: &[PendingOrder]) -> Vec<Received> {
        received(encoder.encode(&mut orders.to_vec(), usize::MAX).unwrap().encoded)
    }

    fn encoder(schema_id: u32, trace_ratio: f64) -> Encoder {
        let limits = BatchLimits::new(None, Compression::None);
        Encoder::new(schema_id, limits, TraceSample::new(trace_ratio, 7))
    }

    fn pending(number: u64) -> PendingOrder {
        let id = OrderId::Number(number);
        let order = DrawnOrder { id, product: "Yoga Mat", price: Cents(1999), fault: None };
        PendingOrder { order, timestamp_ms: 1_700_000_000_123 }
    }
}
