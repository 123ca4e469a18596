//! The kinds of failure, in the words that dead letters and metrics carry.

use std::fmt;

use order_avro::PoisonKind;

/// What was wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorType {
    /// The value does not begin as the configured format does.
    BadMagic,
    /// The value begins as no known format does.
    UnknownFormat,
    /// The registry has no schema of the id that the value names.
    UnknownSchema,
    /// The value ends before the order does.
    Truncated,
    /// The value goes on after the order.
    TrailingBytes,
    /// The writer's schema cannot be resolved to ours, or the bytes do not follow it.
    SchemaMismatch,
    /// The price is not finite, negative, or too high.
    InvalidPrice,
    /// The record has no value.
    Tombstone,
    /// The record, or what it unpacks to, is too large to be handled.
    Oversize,
    /// A record in an intact batch cannot be read.
    UndecodableRecord,
    /// A batch cannot be read.
    CorruptBatch,
    /// The handler refused the order for good.
    Rejected,
    /// The order was made to fail.
    Simulated,
    /// The handler panicked.
    Panic,
    /// The order still failed after all retries.
    RetriesExhausted,
    /// The record was given up before a restart, and why is not known any more.
    GivenUp,
}

/// What can be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorClass {
    /// The bytes are no order: no attempt could succeed.
    Poison,
    /// The order cannot be processed as it is.
    Permanent,
    /// It might have succeeded later.
    Transient,
}

/// How far a record came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Reading it from the log.
    Fetch,
    /// Recognising its format.
    Framing,
    /// Looking up its schema.
    SchemaLookup,
    /// Decoding it.
    Decode,
    /// Checking the order.
    Validate,
    /// Processing the order.
    Process,
}

impl ErrorType {
    /// All kinds of failure. Checkpoints number them by their places: a new one goes last.
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

    /// Returns the word for it.
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

    /// Returns the class it belongs to.
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

    /// Returns the stage at which it happens.
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
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Permanent => "permanent",
            Self::Transient => "transient",
        }
    }
}

impl Stage {
    /// Returns the word for it.
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

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Stage {
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
    fn every_failure_has_its_word_class_and_stage() {
        let words: Vec<_> =
            ErrorType::ALL.map(|t| format!("{t} {} {}", t.class(), t.stage())).to_vec();
        assert_eq!(
            words,
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
    fn poison_keeps_the_word_of_the_decoder() {
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
