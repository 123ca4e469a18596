//! The types of failure, and their labels in dead letters and metrics.

use std::fmt;

use order_avro::PoisonKind;

/// Why a record became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorType {
    /// The value does not begin with the magic of the configured wire format.
    BadMagic,
    /// The value begins with no known wire format's magic.
    UnknownFormat,
    /// The schema registry has no schema with the record's schema id.
    UnknownSchema,
    /// The value ends inside the order.
    Truncated,
    /// Bytes follow the order in the value.
    TrailingBytes,
    /// The writer schema cannot be resolved to the reader schema, or the value does not follow it.
    SchemaMismatch,
    /// The price is not finite, negative, or too high.
    InvalidPrice,
    /// The record's value is null.
    Tombstone,
    /// The record, its value or the decompressed value exceeds its size limit.
    Oversize,
    /// A record of an intact batch cannot be decoded.
    UndecodableRecord,
    /// A batch is damaged, or its format or codec is unknown.
    CorruptBatch,
    /// The handler refused the order permanently.
    Rejected,
    /// The failure was simulated by the settings of the processor.
    Simulated,
    /// The handler panicked on the order.
    Panic,
    /// The order still failed after all retries.
    RetriesExhausted,
    /// The record was doomed before a restart, and its checkpoint did not keep the reason.
    GivenUp,
}

/// Whether another attempt could help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorClass {
    /// The value is not a valid order: no attempt could succeed.
    Poison,
    /// The order cannot be processed as it is.
    Permanent,
    /// A later attempt might succeed.
    Transient,
}

/// The processing step in which a record failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Reading the record from the log.
    Fetch,
    /// Recognising the wire format of the value.
    Framing,
    /// Looking up the schema id.
    SchemaLookup,
    /// Decoding the Avro datum by its writer schema.
    Decode,
    /// Validating the fields of the order.
    Validate,
    /// Processing the order by the handler.
    Process,
}

impl ErrorType {
    /// All types. Checkpoints store their places in this list, so a new type goes last.
    pub const ALL: [Self; 16] = [
        Self::BadMagic,
        Self::UnknownFormat,
        Self::UnknownSchema,
        Self::Truncated,
        Self::TrailingBytes,
        Self::SchemaMismatch,
        Self::InvalidPrice,
        Self::Tombstone,
        Self::Oversize,
        Self::UndecodableRecord,
        Self::CorruptBatch,
        Self::Rejected,
        Self::Simulated,
        Self::Panic,
        Self::RetriesExhausted,
        Self::GivenUp,
    ];

    /// Returns the label in headers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadMagic => "bad-magic",
            Self::UnknownFormat => "unknown-format",
            Self::UnknownSchema => "unknown-schema",
            Self::Truncated => "truncated",
            Self::TrailingBytes => "trailing-bytes",
            Self::SchemaMismatch => "schema-mismatch",
            Self::InvalidPrice => "invalid-price",
            Self::Tombstone => "tombstone",
            Self::Oversize => "oversize",
            Self::UndecodableRecord => "undecodable-record",
            Self::CorruptBatch => "corrupt-batch",
            Self::Rejected => "rejected",
            Self::Simulated => "simulated",
            Self::Panic => "panic",
            Self::RetriesExhausted => "retries-exhausted",
            Self::GivenUp => "given-up",
        }
    }

    /// Returns the class of the type.
    pub const fn class(self) -> ErrorClass {
        match self {
            Self::BadMagic
            | Self::UnknownFormat
            | Self::UnknownSchema
            | Self::Truncated
            | Self::TrailingBytes
            | Self::SchemaMismatch
            | Self::InvalidPrice
            | Self::Tombstone
            | Self::Oversize
            | Self::UndecodableRecord
            | Self::CorruptBatch => ErrorClass::Poison,
            Self::Rejected | Self::Simulated | Self::Panic => ErrorClass::Permanent,
            Self::RetriesExhausted | Self::GivenUp => ErrorClass::Transient,
        }
    }

    /// Returns the stage in which the failure happens.
    pub const fn stage(self) -> Stage {
        match self {
            Self::Oversize | Self::UndecodableRecord | Self::CorruptBatch => Stage::Fetch,
            Self::BadMagic | Self::UnknownFormat | Self::Tombstone => Stage::Framing,
            Self::UnknownSchema => Stage::SchemaLookup,
            Self::Truncated | Self::TrailingBytes | Self::SchemaMismatch => Stage::Decode,
            Self::InvalidPrice => Stage::Validate,
            Self::Rejected
            | Self::Simulated
            | Self::Panic
            | Self::RetriesExhausted
            | Self::GivenUp => Stage::Process,
        }
    }
}

impl ErrorClass {
    /// Returns the label in headers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Permanent => "permanent",
            Self::Transient => "transient",
        }
    }
}

impl Stage {
    /// Returns the label in headers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Framing => "framing",
            Self::SchemaLookup => "schema-lookup",
            Self::Decode => "decode",
            Self::Validate => "validate",
            Self::Process => "process",
        }
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<PoisonKind> for ErrorType {
    fn from(kind: PoisonKind) -> Self {
        match kind {
            PoisonKind::BadMagic => Self::BadMagic,
            PoisonKind::UnknownFormat => Self::UnknownFormat,
            PoisonKind::UnknownSchema => Self::UnknownSchema,
            PoisonKind::Truncated => Self::Truncated,
            PoisonKind::TrailingBytes => Self::TrailingBytes,
            PoisonKind::Oversize => Self::Oversize,
            PoisonKind::SchemaMismatch => Self::SchemaMismatch,
            PoisonKind::InvalidPrice => Self::InvalidPrice,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_label_class_and_stage() {
        let labels: Vec<_> = ErrorType::ALL
            .map(|t| format!("{t} {} {}", t.class().as_str(), t.stage().as_str()))
            .to_vec();
        assert_eq!(
            labels,
            [
                "bad-magic poison framing",
                "unknown-format poison framing",
                "unknown-schema poison schema-lookup",
                "truncated poison decode",
                "trailing-bytes poison decode",
                "schema-mismatch poison decode",
                "invalid-price poison validate",
                "tombstone poison framing",
                "oversize poison fetch",
                "undecodable-record poison fetch",
                "corrupt-batch poison fetch",
                "rejected permanent process",
                "simulated permanent process",
                "panic permanent process",
                "retries-exhausted transient process",
                "given-up transient process",
            ]
        );
    }

    #[test]
    fn poison_keeps_the_label_of_the_decoder() {
        for kind in [
            PoisonKind::BadMagic,
            PoisonKind::UnknownFormat,
            PoisonKind::UnknownSchema,
            PoisonKind::Truncated,
            PoisonKind::TrailingBytes,
            PoisonKind::SchemaMismatch,
            PoisonKind::InvalidPrice,
        ] {
            assert_eq!(ErrorType::from(kind).as_str(), kind.as_str());
        }
    }
}
