//! The ways in which a value can fail to be an order.

use std::fmt;

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
    /// The value unpacks to more than is taken.
    Oversize,
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

/// A text that is no Avro schema, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the text is not an Avro schema: {0}")]
pub struct SchemaError(pub(crate) String);

/// The length in characters to which reasons are cut that quote a writer's names.
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

    /// Returns which way of being bad this is.
    pub fn kind(&self) -> PoisonKind {
        self.kind
    }
}

/// Returns the text's first characters.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(DETAIL_CHARS_MAX).collect()
}
