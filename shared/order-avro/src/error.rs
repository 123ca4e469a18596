//! Errors of values that are not orders.

use std::fmt;

/// Why a value is not an order. It is a property of the bytes: another attempt cannot succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PoisonKind {
    /// The value does not begin with the magic bytes of the configured format.
    BadMagic,
    /// The value begins with the bytes of no known format.
    UnknownFormat,
    /// The value names an unknown schema.
    UnknownSchema,
    /// The value ends before the order does.
    Truncated,
    /// The value has bytes after the order.
    TrailingBytes,
    /// The value unpacks to more bytes than allowed.
    Oversize,
    /// The bytes do not follow the writer's schema, or the writer's schema does not resolve to [`Order`](crate::Order)'s.
    SchemaMismatch,
    /// The decoded price is not a valid price.
    InvalidPrice,
}

/// The error of a value that is not an order, with a reason of at most a few hundred characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct DecodeError {
    kind: PoisonKind,
    detail: String,
}

/// The error of a text that is not an Avro schema, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the text is not an Avro schema: {0}")]
pub struct SchemaError(pub(crate) String);

/// The longest quote of a writer's names in a reason, in characters.
const DETAIL_CHARS_MAX: usize = 300;

impl PoisonKind {
    /// Returns the kind's name in dead letters and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadMagic => "bad-magic",
            Self::UnknownFormat => "unknown-format",
            Self::UnknownSchema => "unknown-schema",
            Self::Truncated => "truncated",
            Self::TrailingBytes => "trailing-bytes",
            Self::Oversize => "oversize",
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

    /// Returns the kind of the error.
    pub fn kind(&self) -> PoisonKind {
        self.kind
    }
}

/// Returns the text's first characters.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(DETAIL_CHARS_MAX).collect()
}
