//! The headers with which a producer stamps its records.

/// The header with the producer's id: any bytes, new for every run of a producer and every partition.
pub const PRODUCER_ID_HEADER: &str = "producer-id";
/// The header with the record's sequence: a decimal number below 2<sup>35</sup>.
pub const SEQUENCE_HEADER: &str = "sequence";

/// Returns whether a header of that name is part of a stamp.
pub fn is_stamp(name: &[u8]) -> bool {
    name == PRODUCER_ID_HEADER.as_bytes() || name == SEQUENCE_HEADER.as_bytes()
}
