//! What a record's value holds: an order, or the reason why there is none.

use dead_letter::ErrorType;
use kafka_client::error::chain;
use kafka_core::record_batch::Record;
use order_avro::{DecodeError, Order, Payload, SCHEMA_ID_HEADER, SchemaId, WriterSchema};
use schema_registry::{RegistryError, SchemaStatus};

use super::dead_letters::LetterCause;
use super::worker::Worker;

/// Why a value gave no order.
pub(super) enum Undecoded {
    /// The registry was not asked for its schema yet.
    NeedsSchema(SchemaId),
    /// The registry does not have its schema yet.
    AwaitsSchema(SchemaId),
    /// It never will.
    Never(LetterCause),
}

impl Undecoded {
    fn never(
        error_type: ErrorType,
        message: impl Into<String>,
        schema_id: Option<SchemaId>,
    ) -> Self {
        Self::Never(LetterCause::new(error_type, message, schema_id))
    }

    fn undecodable(error: &DecodeError, schema_id: Option<SchemaId>) -> Self {
        Self::never(error.kind().into(), chain(error), schema_id)
    }
}

impl<H> Worker<'_, H> {
    pub(super) fn decode(
        &mut self,
        value: Option<&[u8]>,
        schema_header: Option<&[u8]>,
    ) -> Result<(Order, Option<SchemaId>), Undecoded> {
        let Some(value) = value else {
            return Err(Undecoded::never(ErrorType::Tombstone, "the record has no value", None));
        };
        let bytes_max = self.shared.settings.value_bytes_max;
        if value.len() > bytes_max {
            let message =
                format!("the value has {} bytes, MAX_VALUE_BYTES is {bytes_max}", value.len());
            return Err(Undecoded::never(ErrorType::Oversize, message, None));
        }
        let format = self.shared.settings.payload_format;
        let payload = order_avro::recognise(value, schema_header, format)
            .map_err(|error| Undecoded::undecodable(&error, None))?;
        let (order, schema_id) = match payload {
            Payload::Confluent { schema_id, datum } => {
                let schema = self.schema(schema_id)?;
                (schema.decode(datum), Some(schema_id))
            }
            Payload::SingleObject { fingerprint, datum } => {
                (order_avro::decode_single_object(fingerprint, datum), None)
            }
            Payload::Container(file) => (order_avro::decode_container(file, bytes_max), None),
            Payload::Bare(datum) => (WriterSchema::own().decode(datum), None),
        };
        let order = order.map_err(|error| Undecoded::undecodable(&error, schema_id))?;
        order_avro::validate(&order).map_err(|error| Undecoded::undecodable(&error, schema_id))?;
        Ok((order, schema_id))
    }

    fn schema(&mut self, id: SchemaId) -> Result<&WriterSchema, Undecoded> {
        if self.intake.schema.as_ref().is_none_or(|(last, _)| *last != id) {
            match self.shared.schemas.status(id) {
                SchemaStatus::Usable(schema) => self.intake.schema = Some((id, schema)),
                SchemaStatus::NotAsked => return Err(Undecoded::NeedsSchema(id)),
                SchemaStatus::Awaited => return Err(Undecoded::AwaitsSchema(id)),
                SchemaStatus::Unusable(error) => {
                    let error_type = if matches!(error, RegistryError::InvalidSchema { .. }) {
                        ErrorType::SchemaMismatch
                    } else {
                        ErrorType::UnknownSchema
                    };
                    return Err(Undecoded::never(error_type, error.to_string(), Some(id)));
                }
            }
        }
        match &self.intake.schema {
            Some((_, schema)) => Ok(schema),
            None => Err(Undecoded::NeedsSchema(id)),
        }
    }
}

/// Returns the header that names the schema of a record's value; of several the last, as Kafka's own clients do.
#[inline]
pub(super) fn schema_header<'a>(record: &Record<'a>) -> Option<&'a [u8]> {
    record.headers.last(SCHEMA_ID_HEADER.as_bytes())?.value
}
