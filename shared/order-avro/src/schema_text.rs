//! The parts of a schema's JSON that define the encoding of data.
//!
//! The parser skips documentation, defaults, aliases and all other attributes without effect on the encoding. A text takes
//! little more memory than its length; a hostile text takes a few times that.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// A part of a schema.
#[derive(Debug)]
pub(crate) enum Json<'a> {
    /// The name of a type, a symbol, or another text.
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    /// A type or a field.
    Object(Vec<(Key, Json<'a>)>),
    Number(u64),
    /// Null, a boolean, or another number.
    Other,
}

/// An attribute with an effect on the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
pub(crate) enum Key {
    Type,
    Name,
    Namespace,
    Fields,
    Items,
    Values,
    Symbols,
    Size,
    LogicalType,
    #[serde(other)]
    Ignored,
}

impl<'a> Json<'a> {
    /// Reads a whole text.
    ///
    /// # Errors
    /// The message of the JSON parser.
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(crate) fn list(&self) -> Option<&[Self]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    /// Returns an attribute; of duplicates the last, like other parsers.
    pub(crate) fn attribute(&self, key: Key) -> Option<&Self> {
        let Self::Object(attributes) = self else { return None };
        attributes.iter().rfind(|(other, _)| *other == key).map(|(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Json<'de>, E> {
        Ok(Json::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json<'de>, A::Error> {
        let mut attributes = Vec::new();
        while let Some(key) = entries.next_key()? {
            if key == Key::Ignored {
                entries.next_value::<IgnoredAny>()?;
            } else {
                attributes.push((key, entries.next_value()?));
            }
        }
        Ok(Json::Object(attributes))
    }
}
