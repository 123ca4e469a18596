//! The schemas of a registry, and the versions of each subject.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use serde_json::Value;

use crate::registry::refusal::Refusal;

/// The longest message of the Avro library in an error response, in characters.
const DETAILS_CHARS_MAX: usize = 500;

#[derive(Debug, Default)]
pub(super) struct Store {
    /// Ids count from 1. Schemas that are equal as JSON have one id.
    schemas: BTreeMap<u32, Value>,
    /// The schema ids of each subject's versions, oldest first; never empty.
    subjects: BTreeMap<String, Vec<u32>>,
}

/// A version of a subject.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) subject: String,
    pub(super) number: usize,
    pub(super) id: u32,
    /// The schema as JSON text.
    pub(super) schema: String,
}

impl Store {
    pub(super) fn subjects(&self) -> impl Iterator<Item = &str> {
        self.subjects.keys().map(String::as_str)
    }

    /// Returns the numbers of a subject's versions.
    pub(super) fn versions(&self, subject: &str) -> Result<RangeInclusive<usize>, Refusal> {
        let not_found = || Refusal::new(40401, format!("Subject '{subject}' not found."));
        self.subjects.get(subject).map(|ids| 1..=ids.len()).ok_or_else(not_found)
    }

    /// Returns the version with this schema of the first subject that has it.
    pub(super) fn by_id(&self, id: u32) -> Result<Version, Refusal> {
        let version = self.subjects.keys().find_map(|subject| self.version(subject, id));
        version.ok_or_else(|| Refusal::new(40403, format!("Schema {id} not found")))
    }

    /// Returns the version of a subject that has this schema.
    pub(super) fn lookup(&self, subject: &str, schema: &str) -> Result<Version, Refusal> {
        self.versions(subject)?;
        if schema.is_empty() {
            return Err(not_found());
        }
        let (schema, _) = parse(schema)?;
        self.id_of(&schema).and_then(|id| self.version(subject, id)).ok_or_else(not_found)
    }

    /// Registers a schema under a subject, unless the subject has it already.
    ///
    /// A new version must read the data of the version before it, which is the compatibility level `BACKWARD`.
    pub(super) fn register(&mut self, subject: &str, schema: &str) -> Result<Version, Refusal> {
        if schema.is_empty() {
            return Err(Refusal::new(42201, "Empty schema"));
        }
        let (schema, parsed) = parse(schema)?;
        let known = self.id_of(&schema);
        if let Some(version) = known.and_then(|id| self.version(subject, id)) {
            return Ok(version);
        }
        if let Some(latest) = self.subjects.get(subject).and_then(|ids| ids.last()) {
            let (_, latest) = parse(&self.schemas[latest].to_string())?;
            check_backward(subject, &latest, &parsed)?;
        }
        let next = self.schemas.last_key_value().map_or(1, |(id, _)| id + 1);
        let id = known.unwrap_or(next);
        self.schemas.insert(id, schema);
        self.subjects.entry(subject.to_owned()).or_default().push(id);
        self.version(subject, id).ok_or_else(not_found)
    }

    fn id_of(&self, schema: &Value) -> Option<u32> {
        self.schemas.iter().find(|(_, known)| *known == schema).map(|(id, _)| *id)
    }

    fn version(&self, subject: &str, id: u32) -> Option<Version> {
        let place = self.subjects.get(subject)?.iter().position(|known| *known == id)?;
        let schema = self.schemas.get(&id)?.to_string();
        Some(Version { subject: subject.to_owned(), number: place + 1, id, schema })
    }
}

fn not_found() -> Refusal {
    Refusal::new(40403, "Schema not found")
}

fn parse(schema: &str) -> Result<(Value, Schema), Refusal> {
    let invalid = |error: String| {
        let details = shortened(&error);
        Refusal::new(42201, format!("Invalid schema of type AVRO, details: {details}"))
    };
    let json: Value = serde_json::from_str(schema).map_err(|error| invalid(error.to_string()))?;
    let parsed = Schema::parse(&json).map_err(|error| invalid(error.to_string()))?;
    Ok((json, parsed))
}

fn check_backward(subject: &str, latest: &Schema, new: &Schema) -> Result<(), Refusal> {
    let reason = match SchemaCompatibility::can_read(latest, new) {
        Ok(Compatibility::Full) => return Ok(()),
        Ok(Compatibility::Partial) => "some values have no counterpart".to_owned(),
        Err(error) => shortened(&error.to_string()),
    };
    let message = format!(
        "Schema being registered is incompatible with an earlier schema for subject \"{subject}\", \
         details: [the new schema cannot read the old one's data: {reason}]"
    );
    Err(Refusal::new(40901, message))
}

fn shortened(details: &str) -> String {
    details.chars().take(DETAILS_CHARS_MAX).collect()
}
