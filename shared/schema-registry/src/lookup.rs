//! The lookup of one schema and its references.

use std::{collections::BTreeSet, sync::Arc};

use order_avro::{SCHEMA_BYTES_MAX, SchemaId, WriterSchema};
use reqwest::Method;
use serde::Deserialize;

use crate::{
    RegistryError,
    cache::Answer,
    transport::{Call, Rejection, Transport, chain},
};

/// The most references of a schema, direct and indirect.
const REFERENCES_MAX: usize = 64;

/// A schema in the registry's response.
#[derive(Deserialize)]
pub(crate) struct Found {
    schema: String,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
    references: Option<Vec<Reference>>,
}

/// A reference of a schema to another schema.
#[derive(Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i64,
}

/// A schema with references to look up.
struct Open {
    /// The subject and version; unknown for the requested schema itself.
    place: Option<(String, i64)>,
    text: String,
    left: std::vec::IntoIter<Reference>,
}

/// Why a lookup has no schema.
enum Obstacle {
    Error(RegistryError),
    /// The registry does not have the schema or a reference, but may have it soon.
    Denied(RegistryError),
    Unusable(String),
}

pub(crate) async fn schema(transport: &Transport, id: SchemaId) -> Answer {
    match found(transport, id).await {
        Ok(found) => parsed(transport, id, found).await,
        Err(obstacle) => obstacle.into_answer(id),
    }
}

/// Looks up the references of a schema and parses it.
pub(crate) async fn parsed(transport: &Transport, id: SchemaId, found: Found) -> Answer {
    match read(transport, id, found).await {
        Ok(schema) => Answer::Schema(Arc::new(schema)),
        Err(obstacle) => obstacle.into_answer(id),
    }
}

async fn read(transport: &Transport, id: SchemaId, found: Found) -> Result<WriterSchema, Obstacle> {
    let (text, references) = with_references(transport, id, found).await?;
    let references: Vec<&str> = references.iter().map(String::as_str).collect();
    WriterSchema::parse_with(&text, &references).map_err(|error| Obstacle::Unusable(chain(&error)))
}

async fn found(transport: &Transport, id: SchemaId) -> Result<Found, Obstacle> {
    let number = id.to_string();
    let kind = match id {
        SchemaId::Number(_) => "ids",
        SchemaId::Guid(_) => "guids",
    };
    let path = ["schemas", kind, &number];
    let call = Call { method: Method::GET, path: &path, query: None, schema: None };
    let rejection = match transport.call(&call).await.map_err(Obstacle::Error)? {
        Ok(found) => return Ok(found),
        Err(rejection) => rejection,
    };
    if rejection.is_not_found() {
        Err(Obstacle::Denied(RegistryError::UnknownSchema { id }))
    } else if rejection.is_too_long() {
        Err(Obstacle::Unusable(rejection.message))
    } else if matches!(id, SchemaId::Guid(_)) && knows_no_guids(transport, &rejection).await? {
        Err(Obstacle::Denied(RegistryError::NoGuids { id }))
    } else {
        Err(Obstacle::Error(rejection.into_unavailable()))
    }
}

/// Returns whether the server is a registry without GUIDs, which looks up ids.
async fn knows_no_guids(transport: &Transport, rejection: &Rejection) -> Result<bool, Obstacle> {
    if rejection.status != 404 {
        return Ok(false);
    }
    let path = ["schemas", "ids", "1"];
    let call = Call { method: Method::GET, path: &path, query: None, schema: None };
    match transport.call::<Found>(&call).await.map_err(Obstacle::Error)? {
        Ok(_) => Ok(true),
        Err(rejection) => Ok(rejection.is_not_found()),
    }
}

/// Returns the text of a schema and of its references, each after the references that it needs itself.
async fn with_references(
    transport: &Transport,
    id: SchemaId,
    found: Found,
) -> Result<(String, Vec<String>), Obstacle> {
    let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
    let mut bytes = found.schema.len();
    let mut texts = Vec::new();
    let mut top = Open::of(None, found)?;
    let mut below: Vec<Open> = Vec::new();
    loop {
        let Some(Reference { name, subject, version }) = top.left.next() else {
            let Some(next) = below.pop() else { return Ok((top.text, texts)) };
            texts.push(std::mem::replace(&mut top, next).text);
            continue;
        };
        let place = Some((subject.clone(), version));
        if (top.place == place) || below.iter().any(|open| open.place == place) {
            let path = below.iter().chain([&top]).filter_map(|open| open.place.as_ref());
            let path = path.chain(place.as_ref());
            let path: Vec<_> =
                path.map(|(subject, version)| format!("{subject:?} version {version}")).collect();
            let path = path.join(" to ");
            return Err(Obstacle::Unusable(format!("it refers in a circle: {path}")));
        }
        // Of two references with one name the first one counts, as in Confluent's own clients.
        if !(names.insert(name.clone()) && places.insert(place.clone())) {
            continue;
        }
        if names.len() > REFERENCES_MAX {
            return Err(Obstacle::Unusable(format!(
                "it refers to more than {REFERENCES_MAX} schemas"
            )));
        }
        let referred = version_of(transport, id, &name, &subject, version).await?;
        bytes += referred.schema.len();
        if bytes > SCHEMA_BYTES_MAX {
            return Err(Obstacle::Unusable(format!(
                "with what it refers to it has more than {SCHEMA_BYTES_MAX} bytes"
            )));
        }
        below.push(std::mem::replace(&mut top, Open::of(place, referred)?));
    }
}

/// Gets a referenced version of a subject, even if it is deleted.
async fn version_of(
    transport: &Transport,
    id: SchemaId,
    name: &str,
    subject: &str,
    version: i64,
) -> Result<Found, Obstacle> {
    let number = version.to_string();
    let path = ["subjects", subject, "versions", &number];
    let query = Some("deleted=true");
    let call = Call { method: Method::GET, path: &path, query, schema: None };
    let rejection = match transport.call(&call).await.map_err(Obstacle::Error)? {
        Ok(found) => return Ok(found),
        Err(rejection) => rejection,
    };
    let referred = format!("it refers to {name:?}, {subject:?} version {version}");
    if rejection.is_not_found() {
        let reason = format!("{referred}, which the registry does not have: {}", rejection.message);
        Err(Obstacle::Denied(RegistryError::InvalidSchema { id, reason }))
    } else if rejection.is_too_long() {
        Err(Obstacle::Unusable(format!("{referred}: {}", rejection.message)))
    } else {
        Err(Obstacle::Error(rejection.into_unavailable()))
    }
}

impl Found {
    /// Returns the registry's response for a schema without references.
    #[cfg(feature = "test-util")]
    pub(crate) fn of(schema: String) -> Self {
        Self { schema, schema_type: None, references: None }
    }
}

impl Open {
    fn of(place: Option<(String, i64)>, found: Found) -> Result<Self, Obstacle> {
        if let Some(other) = found.schema_type.filter(|schema_type| schema_type != "AVRO") {
            return Err(Obstacle::Unusable(format!("its type is {other}, not AVRO")));
        }
        let left = found.references.unwrap_or_default().into_iter();
        Ok(Self { place, text: found.schema, left })
    }
}

impl Obstacle {
    fn into_answer(self, id: SchemaId) -> Answer {
        match self {
            Self::Error(error) => Answer::Failed(error),
            Self::Denied(error) => Answer::Denied(error),
            Self::Unusable(reason) => Answer::Failed(RegistryError::InvalidSchema { id, reason }),
        }
    }
}
