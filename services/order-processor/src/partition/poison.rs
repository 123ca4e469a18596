//! Why a record holds no order.

use dead_letter::ErrorType;
use order_avro::{DecodeError, SchemaId};

/// Why a value gave no order.
pub(super) enum Undecoded {
    /// The registry was not asked for its schema yet.
    NeedsSchema(SchemaId),
    /// The registry does not have its schema yet.
    AwaitsSchema(SchemaId),
    Poison(Poison),
}

/// Why a record becomes a dead letter.
pub(super) struct Poison {
    pub(super) error_type: ErrorType,
    pub(super) message: String,
    pub(super) schema_id: Option<SchemaId>,
    /// The first and the last offset of an unreadable range; `None` for a record.
    pub(super) offsets: Option<(i64, i64)>,
}

impl Undecoded {
    pub(super) fn poison(
        error_type: ErrorType,
        message: impl Into<String>,
        schema_id: Option<SchemaId>,
    ) -> Self {
        Self::Poison(Poison { error_type, message: message.into(), schema_id, offsets: None })
    }

    pub(super) fn undecodable(error: &DecodeError, schema_id: Option<SchemaId>) -> Self {
        Self::poison(error.kind().into(), kafka_client::error::chain(error), schema_id)
    }
}
