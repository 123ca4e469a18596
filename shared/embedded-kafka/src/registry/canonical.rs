//! The text a registry stores for a schema.
//!
//! Two schemas are the same if this text is. It keeps all that Avro's Parsing Canonical Form drops (documentation, defaults,
//! aliases, properties), but fixes the order of attributes and the shortest spelling of names and types, as Java's
//! `Schema.toString()` does.

use serde_json::{Map, Value};

/// What the attributes of a named type are written around.
const NAMED: &[&str] = &["type", "name", "namespace", "aliases"];

/// Returns the stored form of a schema that is known to be one.
pub(super) fn canonical(schema: &Value) -> String {
    write(schema, "").to_string()
}

fn write(schema: &Value, namespace: &str) -> Value {
    match schema {
        Value::String(name) => Value::String(short(name, namespace)),
        Value::Array(variants) => {
            Value::Array(variants.iter().map(|variant| write(variant, namespace)).collect())
        }
        Value::Object(attributes) => write_type(attributes, namespace),
        Value::Null | Value::Bool(_) | Value::Number(_) => schema.clone(),
    }
}

fn write_type(attributes: &Map<String, Value>, namespace: &str) -> Value {
    match attributes.get("type").and_then(Value::as_str) {
        Some("record" | "error") => {
            named(attributes, namespace, &["doc", "fields"], |fields, namespace| {
                let fields = fields.as_array().into_iter().flatten();
                fields
                    .filter_map(Value::as_object)
                    .map(|field| write_field(field, namespace))
                    .collect()
            })
        }
        Some("enum") => {
            named(attributes, namespace, &["doc", "symbols", "default"], |symbols, _| {
                symbols.clone()
            })
        }
        Some("fixed") => named(attributes, namespace, &["size"], |size, _| size.clone()),
        Some("array") => with_inner(attributes, "items", namespace),
        Some("map") => with_inner(attributes, "values", namespace),
        Some(name) => {
            let mut written = Map::from_iter([("type".to_owned(), short(name, namespace).into())]);
            written.extend(others(attributes, &["type"]));
            if written.len() == 1 { short(name, namespace).into() } else { written.into() }
        }
        None => attributes.get("type").map_or(Value::Null, |inner| write(inner, namespace)),
    }
}

/// Writes a named type: its own attributes in their order, then its properties, then its aliases.
///
/// `content` writes the last of the attributes that every such type has.
fn named(
    attributes: &Map<String, Value>,
    enclosing: &str,
    own: &[&str],
    content: impl Fn(&Value, &str) -> Value,
) -> Value {
    let text = |key: &str| attributes.get(key).and_then(Value::as_str);
    let name = text("name").unwrap_or_default();
    let (namespace, name) =
        name.rsplit_once('.').unwrap_or((text("namespace").unwrap_or(enclosing), name));
    let mut written = Map::new();
    written.insert("type".to_owned(), text("type").into());
    written.insert("name".to_owned(), name.into());
    if namespace != enclosing {
        written.insert("namespace".to_owned(), namespace.into());
    }
    for key in own {
        if let Some(value) = attributes.get(*key) {
            let value = match *key {
                "fields" | "symbols" | "size" => content(value, namespace),
                _ => value.clone(),
            };
            written.insert((*key).to_owned(), value);
        }
    }
    written.extend(others(attributes, &[NAMED, own].concat()));
    if let Some(Value::Array(aliases)) = attributes.get("aliases") {
        let aliases = aliases.iter().filter_map(Value::as_str);
        let aliases: Value = aliases.map(|alias| short(alias, namespace)).collect();
        written.insert("aliases".to_owned(), aliases);
    }
    written.into()
}

fn write_field(field: &Map<String, Value>, namespace: &str) -> Value {
    const OWN: &[&str] = &["name", "type", "doc", "default", "order", "aliases"];
    let mut written = Map::new();
    for key in OWN {
        match (*key, field.get(*key)) {
            (_, None) => {}
            ("order", Some(Value::String(order))) if order == "ascending" => {}
            ("type", Some(schema)) => {
                written.insert((*key).to_owned(), write(schema, namespace));
            }
            (_, Some(value)) => {
                written.insert((*key).to_owned(), value.clone());
            }
        }
    }
    written.extend(others(field, OWN));
    written.into()
}

fn with_inner(attributes: &Map<String, Value>, inner: &str, namespace: &str) -> Value {
    let mut written = Map::new();
    written.insert("type".to_owned(), attributes["type"].clone());
    if let Some(schema) = attributes.get(inner) {
        written.insert(inner.to_owned(), write(schema, namespace));
    }
    written.extend(others(attributes, &["type", inner]));
    written.into()
}

/// Returns the attributes besides those named, in the order they have.
fn others<'a>(
    attributes: &'a Map<String, Value>,
    own: &'a [&str],
) -> impl Iterator<Item = (String, Value)> + 'a {
    let others = attributes.iter().filter(|(key, _)| !own.contains(&key.as_str()));
    others.map(|(key, value)| (key.clone(), value.clone()))
}

/// Returns a full name without its namespace where that is the enclosing one.
fn short(full: &str, enclosing: &str) -> String {
    match full.rsplit_once('.') {
        Some((namespace, name)) if namespace == enclosing => name.to_owned(),
        Some(_) | None => full.to_owned(),
    }
}
