//! A letter's value as an order, where it is one.

use dead_letter::names;
use order_avro::{Order, Payload, PayloadFormat, SchemaId, WriterSchema};
use schema_registry::{RegistryConfig, RegistryError, SchemaRegistry};
use tokio::time::{Duration, Instant, timeout};

use super::letter::Letter;
use crate::settings::ConsoleSettings;
use crate::text::short;

/// How long one request to the registry may take. Operators read letters also while it is away.
const LOOK_UP_MAX: Duration = Duration::from_secs(3);

/// How long a registry that did not answer is not asked again.
const LOOK_UP_PAUSE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decoded {
    /// An order, with its wire format.
    Order(Order, String),
    /// It is not an order, for this reason.
    NotAnOrder(String),
    /// The registry, which has the schema, does not answer.
    NoRegistry(String),
    Nothing,
    /// The value was too large for the dead-letter topic.
    Omitted,
}

/// A value that is decoded later, and the header that may name its schema.
#[derive(Debug)]
pub(crate) struct Undecoded {
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) schema_header: Option<Vec<u8>>,
}

/// Decodes values in any of the wire formats.
#[derive(Clone)]
pub(crate) struct Decoder {
    schemas: Result<SchemaRegistry, String>,
    /// Most bytes that a value may unpack to.
    value_bytes_max: usize,
    /// Why the registry did not answer, and until when it is not asked again.
    registry_pause: Option<(String, Instant)>,
}

impl Decoder {
    pub(crate) fn new(settings: &ConsoleSettings) -> Self {
        let url = settings.connection.schema_registry_url.reveal();
        let config = RegistryConfig { attempts_max: 1, ..RegistryConfig::new(url) };
        let schemas = SchemaRegistry::new(config).map_err(|error| error.to_string());
        Self { schemas, value_bytes_max: settings.value_bytes_max, registry_pause: None }
    }

    /// Decodes the value of a letter.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn decode(&mut self, letter: &Letter<'_>) -> Decoded {
        let Some(value) = letter.value else {
            let is_omitted = letter.text(names::VALUE) == Some(names::OMITTED);
            return if is_omitted { Decoded::Omitted } else { Decoded::Nothing };
        };
        self.decode_value(value, letter.schema_header().as_deref()).await
    }

    /// Decodes a value that was kept.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn decode_kept(&mut self, kept: &Undecoded) -> Decoded {
        match &kept.value {
            Some(value) => self.decode_value(value, kept.schema_header.as_deref()).await,
            None => Decoded::Nothing,
        }
    }

    async fn decode_value(&mut self, value: &[u8], schema_header: Option<&[u8]>) -> Decoded {
        let payload = match order_avro::recognise(value, schema_header, PayloadFormat::Auto) {
            Ok(payload) => payload,
            Err(error) => return Decoded::NotAnOrder(error.to_string()),
        };
        let (order, format) = match payload {
            Payload::Confluent { schema_id, datum } => {
                let schema = match self.schema(schema_id).await {
                    Ok(schema) => schema,
                    Err(decoded) => return decoded,
                };
                (
                    schema.decode(datum),
                    format!("Confluent's wire format, schema {} {schema_id}", schema_id.kind()),
                )
            }
            Payload::SingleObject { fingerprint, datum } => (
                order_avro::decode_single_object(fingerprint, datum),
                "single-object encoding".to_owned(),
            ),
            Payload::Container(file) => (
                order_avro::decode_container(file, self.value_bytes_max),
                "object container file".to_owned(),
            ),
            Payload::Bare(datum) => (WriterSchema::own().decode(datum), "bare datum".to_owned()),
        };
        match order {
            Ok(order) => Decoded::Order(order, format),
            Err(error) => Decoded::NotAnOrder(error.to_string()),
        }
    }

    async fn schema(&mut self, id: SchemaId) -> Result<std::sync::Arc<WriterSchema>, Decoded> {
        let schemas = self.schemas.clone().map_err(Decoded::NoRegistry)?;
        if let Some(schema) = schemas.cached(id) {
            return Ok(schema);
        }
        if let Some((error, until)) = &self.registry_pause
            && Instant::now() < *until
        {
            return Err(Decoded::NoRegistry(error.clone()));
        }
        let error = match timeout(LOOK_UP_MAX, schemas.schema_by_id(id)).await {
            Ok(Ok(schema)) => return Ok(schema),
            Ok(Err(error @ RegistryError::Unavailable { .. })) => error.to_string(),
            Ok(Err(error)) => return Err(Decoded::NotAnOrder(error.to_string())),
            Err(_elapsed) => format!("the schema registry did not answer within {LOOK_UP_MAX:?}"),
        };
        self.registry_pause = Some((error.clone(), Instant::now() + LOOK_UP_PAUSE));
        Err(Decoded::NoRegistry(error))
    }
}

impl Decoded {
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::Order(order, _) => {
                let (id, product) = (short(&order.order_id), short(&order.product));
                format!("{id} {product} {:.2}", order.price)
            }
            Self::NotAnOrder(why) => format!("no order: {}", short(why)),
            Self::NoRegistry(_) => "not decoded: the schema registry does not answer".to_owned(),
            Self::Nothing => "no value".to_owned(),
            Self::Omitted => "value too large, left out".to_owned(),
        }
    }
}
