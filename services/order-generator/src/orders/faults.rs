//! Faulty records, which show how readers handle them: the kinds of faults and their encodings.

use std::fmt::{self, Display};

use order_avro::{Order, encode_confluent};

/// The key that [`Fault::HotKey`] gives to orders.
pub(crate) const HOT_KEY: &str = "hot-key";

/// The smallest value of [`Fault::Oversize`] in bytes: more than a processor accepts by default.
pub(crate) const OVERSIZE_VALUE_BYTES: usize = 64 * 1024;

/// An id that no registry has assigned: they count from 1.
const UNKNOWN_SCHEMA_ID: u32 = i32::MAX.cast_unsigned();

/// A first byte of no wire format of orders.
const BAD_MAGIC: u8 = 0x01;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The value begins with the bytes of no wire format.
    BadMagic,
    /// The value names a schema that the registry does not have.
    UnknownSchema,
    /// The value ends before the order does.
    Truncated,
    /// The value has bytes after the order.
    TrailingBytes,
    Tombstone,
    /// The price is negative, infinite or not a number.
    InvalidPrice,
    /// The value is an order of more than 64 KiB.
    Oversize,
    /// A good order under one key that all orders of this kind share.
    HotKey,
}

impl Fault {
    pub(crate) const ALL: [Self; 8] = [
        Self::BadMagic,
        Self::UnknownSchema,
        Self::Truncated,
        Self::TrailingBytes,
        Self::Tombstone,
        Self::InvalidPrice,
        Self::Oversize,
        Self::HotKey,
    ];

    /// Returns the name in settings, log lines and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::BadMagic => "bad-magic",
            Self::UnknownSchema => "unknown-schema",
            Self::Truncated => "truncated",
            Self::TrailingBytes => "trailing-bytes",
            Self::Tombstone => "tombstone",
            Self::InvalidPrice => "invalid-price",
            Self::Oversize => "oversize",
            Self::HotKey => "hot-key",
        }
    }

    /// Returns the kind with this name.
    pub(crate) fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.as_str().eq_ignore_ascii_case(word))
    }

    /// Returns whether no processor can process the record.
    pub(crate) fn is_bad(self) -> bool {
        self != Self::HotKey
    }

    /// Appends the faulty value of `order`; nothing for a tombstone.
    pub(crate) fn encode(self, schema_id: u32, order: &mut Order, buffer: &mut Vec<u8>) {
        let start = buffer.len();
        match self {
            Self::BadMagic => {
                encode_confluent(schema_id, order, buffer);
                buffer[start] = BAD_MAGIC;
            }
            Self::UnknownSchema => encode_confluent(UNKNOWN_SCHEMA_ID, order, buffer),
            Self::Truncated => {
                encode_confluent(schema_id, order, buffer);
                buffer.truncate(start + (buffer.len() - start) / 2);
            }
            Self::TrailingBytes => {
                encode_confluent(schema_id, order, buffer);
                buffer.push(b'!');
            }
            Self::Tombstone => {}
            Self::InvalidPrice => {
                let prices = [f32::NAN, f32::INFINITY, -1.0 - order.price];
                // The id is as good as random, and the same for the same seed.
                let digits: usize = order.order_id.bytes().map(usize::from).sum();
                order.price = prices[digits % prices.len()];
                encode_confluent(schema_id, order, buffer);
            }
            Self::Oversize => {
                let copies = OVERSIZE_VALUE_BYTES.div_ceil(order.product.len().max(1));
                order.product = order.product.repeat(copies);
                encode_confluent(schema_id, order, buffer);
            }
            Self::HotKey => encode_confluent(schema_id, order, buffer),
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use order_avro::{Payload, PayloadFormat, WriterSchema, recognise, validate};

    use super::*;

    const SCHEMA_ID: u32 = 7;

    #[test]
    fn a_reader_finds_each_fault() {
        for (fault, expected) in [
            (Fault::BadMagic, "unknown-format"),
            (Fault::UnknownSchema, "unknown-schema"),
            (Fault::Truncated, "truncated"),
            (Fault::TrailingBytes, "trailing-bytes"),
            (Fault::InvalidPrice, "invalid-price"),
            (Fault::Oversize, "nothing"),
            (Fault::HotKey, "nothing"),
        ] {
            for number in 1001..1011 {
                let value = value(fault, number);
                assert_eq!(found_wrong(&value, PayloadFormat::Auto), expected, "{number}");
            }
        }
        let value = value(Fault::BadMagic, 1001);
        assert_eq!(found_wrong(&value, PayloadFormat::Confluent), "bad-magic");
    }

    #[test]
    fn a_tombstone_has_no_value_and_only_oversize_values_are_long() {
        for fault in Fault::ALL {
            let bytes = value(fault, 1001).len();

            assert_eq!(bytes == 0, fault == Fault::Tombstone, "{fault}: {bytes}");
            let is_long = bytes > OVERSIZE_VALUE_BYTES;
            assert_eq!(is_long, fault == Fault::Oversize, "{fault}: {bytes}");
        }
    }

    fn value(fault: Fault, number: u64) -> Vec<u8> {
        let (order_id, product) = (number.to_string(), "Yoga Mat".to_owned());
        let mut value = Vec::new();
        fault.encode(SCHEMA_ID, &mut Order { order_id, product, price: 19.99 }, &mut value);
        value
    }

    fn found_wrong(value: &[u8], format: PayloadFormat) -> String {
        let decoded = recognise(value, None, format).and_then(|payload| {
            let Payload::Confluent { schema_id, datum } = payload else { panic!("{payload:?}") };
            if schema_id != SCHEMA_ID.into() {
                return Ok("unknown-schema");
            }
            validate(&WriterSchema::own().decode(datum)?).map(|()| "nothing")
        });
        decoded.map_or_else(|error| error.kind().to_string(), str::to_owned)
    }
}
