//! Encodes orders in each wire format.

use std::sync::LazyLock;

use apache_avro::{Codec, Writer, writer::datum::GenericDatumWriter};

use crate::{Order, writer_schema};

static WRITER: LazyLock<GenericDatumWriter<'static>> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the schema is part of the program, and tested")]
    GenericDatumWriter::builder(writer_schema::own_schema())
        .human_readable(false)
        .build()
        .expect("the schema of orders refers to no other")
});

/// Appends an order in Confluent's wire format; `schema_id` is the registry's id of
/// [`ORDER_SCHEMA`](crate::ORDER_SCHEMA).
pub fn encode_confluent(schema_id: u32, order: &Order, into: &mut Vec<u8>) {
    into.push(0);
    into.extend_from_slice(&schema_id.to_be_bytes());
    encode_bare(order, into);
}

/// Appends the datum of an order without any header.
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "memory takes every write, and the tuple is the schema's"
)]
pub fn encode_bare(order: &Order, into: &mut Vec<u8>) {
    // The Avro library writes a tuple three times as fast as a struct, because it looks up no names.
    let fields = (order.order_id.as_str(), order.product.as_str(), order.price);
    WRITER.write_ser(into, &fields).expect("an order follows its schema");
}

/// Appends an order in Avro's single-object encoding.
pub fn encode_single_object(order: &Order, into: &mut Vec<u8>) {
    into.extend_from_slice(&[0xC3, 0x01]);
    let fingerprint = writer_schema::fingerprint(writer_schema::own_schema());
    into.extend(fingerprint.into_iter().flat_map(u64::to_le_bytes));
    encode_bare(order, into);
}

/// Returns an uncompressed object container file with one order.
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "memory takes every write, and the order is the schema's"
)]
pub fn encode_container(order: &Order) -> Vec<u8> {
    let file = Writer::with_codec(writer_schema::own_schema(), Vec::new(), Codec::Null)
        .and_then(|mut writer| writer.append_ser(order).and_then(|_| writer.into_inner()));
    file.expect("an order follows its schema")
}
