//! The ways in which a value can fail to be an order.

use std::{error::Error as _, fmt, io};

/// Why a value is no order: a property of the bytes, so that trying again cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PoisonKind {
    /// The value does not begin as the one expected format must.
    BadMagic,
    /// The value begins as none of the known formats.
    UnknownFormat,
    /// The schema the value names is not known.
    UnknownSchema,
    /// The value ends before the order does.
    Truncated,
    /// The value goes on after the order.
    TrailingBytes,
    /// The bytes do not follow the writer's schema, or that schema cannot be resolved to ours.
    SchemaMismatch,
    /// The order decodes, but its price is none.
    InvalidPrice,
}

/// A value that is no order.
///
/// The text says what is wrong with it, in at most a few hundred characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct DecodeError {
    kind: PoisonKind,
    detail: String,
}

/// A text that is no Avro schema.
#[derive(Debug, thiserror::Error)]
#[error("the text is not an Avro schema")]
pub struct SchemaError(#[source] pub(crate) apache_avro::Error);

/// The length in characters to which foreign error texts are cut: some quote whole schemas.
const DETAIL_CHARS_MAX: usize = 300;

impl PoisonKind {
    /// Returns the kind's name as dead letters and metrics carry it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadMagic => "bad-magic",
            Self::UnknownFormat => "unknown-format",
            Self::UnknownSchema => "unknown-schema",
            Self::Truncated => "truncated",
            Self::TrailingBytes => "trailing-bytes",
            Self::SchemaMismatch => "schema-mismatch",
            Self::InvalidPrice => "invalid-price",
        }
    }
}

impl fmt::Display for PoisonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl DecodeError {
    pub(crate) fn new(kind: PoisonKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// Classifies an error of the Avro library.
    ///
    /// Reading past the end shows as an `UnexpectedEof` somewhere in the chain of sources. So does a length
    /// over the allocation limit in effect: no value is that long.
    pub(crate) fn from_avro(error: &apache_avro::Error) -> Self {
        let over_limit =
            matches!(error.details(), apache_avro::error::Details::MemoryAllocation { .. });
        let mut source = error.source();
        let mut ended = false;
        while let Some(cause) = source {
            ended |= cause
                .downcast_ref::<io::Error>()
                .is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof);
            source = cause.source();
        }
        if ended || over_limit {
            Self::new(PoisonKind::Truncated, "the value ends before the order does")
        } else {
            Self::new(PoisonKind::SchemaMismatch, cut(&error.to_string()))
        }
    }

    /// Returns which way of being bad this is.
    pub fn kind(&self) -> PoisonKind {
        self.kind
    }
}

/// Returns the text's first characters.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(DETAIL_CHARS_MAX).collect()
}
