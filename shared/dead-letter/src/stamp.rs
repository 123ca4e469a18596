//! The stamp: two headers by which consumers recognise records that their producer sent twice.

/// The producer's id: any bytes, different for every run of a producer and every partition.
pub const PRODUCER_ID_HEADER: &str = "producer-id";
/// The record's sequence: a decimal number below 2<sup>35</sup>, ascending for each producer id.
pub const SEQUENCE_HEADER: &str = "sequence";

/// Returns whether a header of that name is part of a stamp.
pub fn is_stamp(name: &[u8]) -> bool {
    name == PRODUCER_ID_HEADER.as_bytes() || name == SEQUENCE_HEADER.as_bytes()
}
