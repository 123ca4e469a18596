//! Orders as the records of one produce request.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use kafka_client::writer::OutgoingRecord;
use order_avro::{Order, encode_confluent};
use service_runtime::trace_context::TRACEPARENT;

use crate::orders::faults::Fault;
use crate::orders::{DrawnOrder, ORDER_ID_BYTES_MAX};
use crate::senders::trace_sample::TraceSample;

/// The most orders in a batch: even the longest orders, and one oversize order, stay below the largest batch.
pub(crate) const BATCH_ORDERS_MAX: usize = 4500;

/// The most orders that fit a request of less than 8 KiB in any case.
const SMALL_BATCH_ORDERS: usize = 39;

/// The same two limits for traced orders. A batch has 124 KiB to spare, enough for the traces of two orders in five.
const SMALL_BATCH_TRACED_ORDERS: usize = 28;
const BATCH_TRACED_ORDERS_MAX: usize = 3200;
const FEW_TRACED: f64 = 0.2;

/// The fewest orders that make a request of more than 64 KiB in any case.
const LARGE_BATCH_ORDERS: usize = 800;

/// The header with the producer's id: one run of one generator, on one partition.
const PRODUCER_ID_HEADER: &str = "producer-id";

/// The header with the record's sequence number, which counts a producer's records from 1.
const SEQUENCE_HEADER: &str = "sequence";

/// An order in the queue of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PendingOrder {
    pub(crate) order: DrawnOrder,
    /// When the generator made the order, in milliseconds since the Unix epoch.
    pub(crate) timestamp_ms: i64,
}

impl PendingOrder {
    /// Returns whether its record ends a batch: two oversize records exceed the largest batch.
    pub(crate) fn fills_a_batch(&self) -> bool {
        self.order.fault == Some(Fault::Oversize)
    }
}

/// Orders and their records, which are the same in every attempt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    pub(crate) orders: Vec<DrawnOrder>,
    pub(crate) records: Vec<OutgoingRecord>,
}

impl Batch {
    /// Splits off the second half of a batch that the broker finds too large.
    pub(crate) fn split_off_half(&mut self) -> Self {
        let half = self.orders.len().div_ceil(2);
        let orders = self.orders.split_off(half);
        let records = self.records.split_off(half);
        Self { orders, records }
    }
}

/// Encodes the batches of one producer: keys, Avro values, and the headers by which readers recognise repeats.
#[derive(Debug)]
pub(crate) struct Encoder {
    schema_id: u32,
    producer_id: Bytes,
    next_sequence: u64,
    traces: TraceSample,
    order: Order,
}

impl Encoder {
    /// Returns the encoder of a new producer.
    ///
    /// `producer_id` must be new for every run and every partition: to readers, a record whose sequence is not above the last
    /// one of its producer is a repeat.
    pub(crate) fn new(schema_id: u32, producer_id: u64, traces: TraceSample) -> Self {
        Self {
            schema_id,
            producer_id: Bytes::from(format!("{producer_id:016x}")),
            next_sequence: 1,
            traces,
            order: Order { order_id: String::new(), product: String::new(), price: 0.0 },
        }
    }

    /// Returns the next batch of this producer; each order is encoded once, with one sequence number.
    pub(crate) fn encode(&mut self, pending: &[PendingOrder]) -> Batch {
        // All records of the batch share one buffer.
        let mut buffer = Vec::with_capacity(pending.len() * RECORD_BYTES_EXPECTED);
        let parts: Vec<_> = pending.iter().map(|p| self.write(&p.order, &mut buffer)).collect();
        let buffer = Bytes::from(buffer);
        let record = |(pending, parts): (&PendingOrder, Parts)| {
            let mut headers = vec![
                (Cow::Borrowed(PRODUCER_ID_HEADER), self.producer_id.clone()),
                (Cow::Borrowed(SEQUENCE_HEADER), buffer.slice(parts.sequence)),
            ];
            let trace = parts.trace.map(|trace| buffer.slice(trace));
            headers.extend(trace.map(|trace| (Cow::Borrowed(TRACEPARENT), trace)));
            OutgoingRecord {
                key: Some(buffer.slice(parts.key)),
                value: parts.value.map(|value| buffer.slice(value)),
                headers,
                timestamp_ms: pending.timestamp_ms,
            }
        };
        Batch {
            orders: pending.iter().map(|pending| pending.order).collect(),
            records: pending.iter().zip(parts).map(record).collect(),
        }
    }

    /// Appends an order's key, value and sequence, and returns their places.
    fn write(&mut self, drawn: &DrawnOrder, buffer: &mut Vec<u8>) -> Parts {
        let mut id = [0; ORDER_ID_BYTES_MAX];
        let id = drawn.id.write_to(&mut id);
        let start = buffer.len();
        buffer.extend_from_slice(drawn.key(id).as_bytes());
        let key = start..buffer.len();

        self.order.order_id.clear();
        self.order.order_id.push_str(id);
        self.order.product.clear();
        self.order.product.push_str(drawn.product);
        self.order.price = drawn.price.to_f32();
        match drawn.fault {
            None => encode_confluent(self.schema_id, &self.order, buffer),
            Some(fault) => fault.encode(self.schema_id, &mut self.order, buffer),
        }
        let value = key.end..buffer.len();

        buffer.extend_from_slice(self.next_sequence.to_string().as_bytes());
        self.next_sequence += 1;
        let sequence = value.end..buffer.len();
        let trace = self.traces.draw().map(|trace| {
            buffer.extend_from_slice(trace.to_string().as_bytes());
            sequence.end..buffer.len()
        });
        Parts { key, value: (!value.is_empty()).then_some(value), sequence, trace }
    }

    /// Returns the most orders of the next batch, by the number of queued orders.
    pub(crate) fn batch_orders_max(&self, waiting: usize) -> usize {
        let ratio = self.traces.ratio();
        match (waiting < LARGE_BATCH_ORDERS, ratio > 0.0, ratio > FEW_TRACED) {
            (true, false, _) => SMALL_BATCH_ORDERS,
            (true, true, _) => SMALL_BATCH_TRACED_ORDERS,
            (false, _, false) => BATCH_ORDERS_MAX,
            (false, _, true) => BATCH_TRACED_ORDERS_MAX,
        }
    }
}

/// The approximate size of an order's key, value and sequence.
const RECORD_BYTES_EXPECTED: usize = 128;

/// The places of a record's parts in a batch's buffer.
struct Parts {
    key: Range<usize>,
    value: Option<Range<usize>>,
    sequence: Range<usize>,
    /// Absent for an untraced order.
    trace: Option<Range<usize>>,
}

#[cfg(test)]
mod tests {
    use kafka_client::writer::{BATCH_BYTES_MAX, BATCH_OVERHEAD_BYTES, SLOW_BATCH_BYTES};
    use order_avro::{Payload, PayloadFormat, SchemaId, WriterSchema, recognise};
    use service_runtime::trace_context::TraceContext;
    use uuid::Uuid;

    use super::*;
    use crate::orders::catalogue::PRODUCTS;
    use crate::orders::{Cents, OrderId};

    #[test]
    fn a_record_has_the_order_in_confluents_wire_format_under_its_id() {
        let batch = encoder(7, 0xab, 0.0).encode(&[pending(1001, "Yoga Mat", 1999)]);

        let record = &batch.records[0];
        assert_eq!(record.key.as_deref(), Some(b"1001".as_slice()));
        assert_eq!(record.timestamp_ms, 1_700_000_000_123);
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
            let mut pending = pending(1001, "Yoga Mat", 1999);
            pending.order.fault = fault;
            encoder(7, 0xab, 0.0).encode(&[pending]).records.remove(0)
        };

        let [order, hot, tombstone] =
            [None, Some(Fault::HotKey), Some(Fault::Tombstone)].map(record);
        assert_eq!((hot.key.as_deref(), &hot.value), (Some(b"hot-key".as_slice()), &order.value));
        assert_eq!((&tombstone.key, &tombstone.value), (&order.key, &None));
        assert_eq!(header(&tombstone, "sequence"), "1");
    }

    #[test]
    fn sequences_count_from_1_across_batches() {
        let mut encoder = encoder(1, 0xab, 0.0);
        let orders: Vec<_> = (0..12).map(|n| pending(n, "Yoga Mat", 100)).collect();

        let first = encoder.encode(&orders[..9]);
        let second = encoder.encode(&orders[9..]);

        let sequences: Vec<_> =
            first.records.iter().chain(&second.records).map(|r| header(r, "sequence")).collect();
        let expected: Vec<_> = (1..=12).map(|n| n.to_string()).collect();
        assert_eq!(sequences, expected);
        assert_eq!(header(&second.records[0], "producer-id"), "00000000000000ab");
    }

    #[test]
    fn a_split_batch_keeps_the_order_of_orders_and_records() {
        let orders: Vec<_> = (0..5).map(|n| pending(n, "Yoga Mat", 100)).collect();
        let whole = encoder(1, 1, 0.0).encode(&orders);

        let mut first = whole.clone();
        let second = first.split_off_half();

        assert_eq!((first.orders.len(), second.orders.len()), (3, 2));
        assert_eq!([first.orders, second.orders].concat(), whole.orders);
        assert_eq!([first.records, second.records].concat(), whole.records);
    }

    #[test]
    fn a_full_batch_of_the_longest_orders_is_not_too_large() {
        let product = PRODUCTS.iter().max_by_key(|product| product.len()).unwrap();
        let mut order = pending(0, product, u32::MAX);
        order.order.id = OrderId::Uuid(Uuid::from_bytes([0xff; 16]));
        let (mut longest, mut filler) = (0, 0);
        for fault in [None].into_iter().chain(Fault::ALL.map(Some)) {
            order.order.fault = fault;
            let bytes = longest_with(order, 0.0);
            let most = if order.fills_a_batch() { &mut filler } else { &mut longest };
            *most = bytes.max(*most);
        }

        let batch_bytes = BATCH_OVERHEAD_BYTES + (BATCH_ORDERS_MAX - 1) * longest + filler;
        assert!(batch_bytes <= BATCH_BYTES_MAX, "{batch_bytes} bytes");

        order.order.fault = None;
        let trace = longest_with(order, 1.0) - longest_with(order, 0.0);
        let traced = BATCH_OVERHEAD_BYTES + (BATCH_TRACED_ORDERS_MAX - 1) * (longest + trace);
        assert!(traced + filler + trace <= BATCH_BYTES_MAX, "{traced} bytes");
        let few = batch_bytes + BATCH_ORDERS_MAX * 2 / 5 * trace;
        assert!(few <= 1024 * 1024, "{few} bytes are more than brokers take by default");
    }

    /// Returns the size of a record of a producer with long sequence numbers.
    fn longest_with(order: PendingOrder, trace_ratio: f64) -> usize {
        let mut encoder = encoder(u32::MAX, u64::MAX, trace_ratio);
        encoder.next_sequence = u64::MAX - 1;
        encoder.encode(&[order]).records[0].encoded_bytes()
    }

    #[test]
    fn traced_orders_differ_only_in_their_trace_header() {
        let orders: Vec<_> = (0..100).map(|n| pending(n, "Yoga Mat", 100)).collect();
        let plain = encoder(1, 1, 0.0).encode(&orders).records;
        let mut traced = encoder(1, 1, 1.0).encode(&orders).records;
        for (plain, traced) in plain.iter().zip(&mut traced) {
            let (name, value) = traced.headers.pop().unwrap();
            assert_eq!(name, "traceparent");
            assert!(TraceContext::parse(&value).is_some_and(TraceContext::is_sampled), "{value:?}");
            assert_eq!(plain, traced);
        }
    }

    #[test]
    fn no_batch_has_a_slow_size() {
        let shortest = PRODUCTS.iter().min_by_key(|product| product.len()).unwrap();
        let longest = PRODUCTS.iter().max_by_key(|product| product.len()).unwrap();
        let uuid = OrderId::Uuid(Uuid::from_bytes([0xff; 16]));
        for (count, id, product, trace_ratio) in [
            (SMALL_BATCH_ORDERS, uuid, longest, 0.0),
            (SMALL_BATCH_TRACED_ORDERS, uuid, longest, 1.0),
            (LARGE_BATCH_ORDERS, OrderId::Number(1001), shortest, 0.0),
        ] {
            let mut order = pending(0, product, 1);
            order.order.id = id;
            let records = encoder(1, 1, trace_ratio).encode(&vec![order; count]).records;
            let bytes: usize = records.iter().map(OutgoingRecord::encoded_bytes).sum();
            assert!(
                !SLOW_BATCH_BYTES.contains(&(bytes + BATCH_OVERHEAD_BYTES)),
                "{count}: {bytes}"
            );
        }
    }

    fn encoder(schema_id: u32, producer_id: u64, trace_ratio: f64) -> Encoder {
        Encoder::new(schema_id, producer_id, TraceSample::new(trace_ratio, 7))
    }

    fn pending(number: u64, product: &'static str, cents: u32) -> PendingOrder {
        let id = OrderId::Number(number);
        let order = DrawnOrder { id, product, price: Cents(cents), fault: None };
        PendingOrder { order, timestamp_ms: 1_700_000_000_123 }
    }

    fn header(record: &OutgoingRecord, name: &str) -> String {
        let mut headers = record.headers.iter();
        let (_, value) = headers.find(|(header, _)| header == name).unwrap();
        String::from_utf8(value.to_vec()).unwrap()
    }
}
