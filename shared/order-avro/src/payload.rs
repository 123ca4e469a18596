//! The wire format of a record's value, from its leading bytes or from a header that names its schema.
//!
//! | format | begins with | then |
//! |---|---|---|
//! | Confluent | `00` | schema id, 4 bytes big-endian; datum |
//! | single-object | `C3 01` | CRC-64-AVRO fingerprint of the schema, 8 bytes little-endian; datum |
//! | object container file | `4F 62 6A 01` (`Obj` 1) | metadata with the schema, blocks of datums |
//! | bare | the length of the order id | the rest of the datum |
//!
//! The four are distinct: as the length of an order id, `C3` and `4F` are negative, and `00` is an empty id, which
//! generators do not write. Confluent's format takes precedence over it.
//!
//! Confluent's newer serializers write no prefix and name the schema in the header [`SCHEMA_ID_HEADER`]: the byte `01` and
//! the schema's GUID in 16 bytes, or `00` and its id in 4. A value with that header is a datum of that schema, whatever
//! its first bytes.

use std::{fmt, str::FromStr};

use crate::{DecodeError, PoisonKind};

const CONFLUENT_MAGIC: u8 = 0;
const SINGLE_OBJECT_MAGIC: [u8; 2] = [0xC3, 0x01];
const CONTAINER_MAGIC: [u8; 4] = *b"Obj\x01";

/// The header that names the schema of a record's value.
pub const SCHEMA_ID_HEADER: &str = "__value_schema_id";

/// The key of a schema in a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SchemaId {
    /// The number that the registry assigned.
    Number(u32),
    /// The GUID, which is the same in every registry.
    Guid([u8; 16]),
}

/// The accepted wire formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadFormat {
    /// The format of each value, from its leading bytes.
    #[default]
    Auto,
    /// Confluent's wire format only.
    Confluent,
    /// Avro's single-object encoding only.
    SingleObject,
    /// One object container file per value only.
    Container,
    /// Datums of [`ORDER_SCHEMA`](crate::ORDER_SCHEMA) without any header only.
    Bare,
}

/// An undecoded value of a known format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// A datum in Confluent's wire format or with Confluent's header; its schema is in the registry.
    Confluent {
        /// The schema's id in the registry.
        schema_id: SchemaId,
        /// The datum in that schema.
        datum: &'a [u8],
    },
    /// A datum in Avro's single-object encoding, for [`decode_single_object`](crate::decode_single_object).
    SingleObject {
        /// The CRC-64-AVRO fingerprint of the schema's Parsing Canonical Form.
        fingerprint: u64,
        /// The datum in that schema.
        datum: &'a [u8],
    },
    /// A whole object container file, for [`decode_container`](crate::decode_container).
    Container(&'a [u8]),
    /// A datum without a header, for [`WriterSchema::own`](crate::WriterSchema::own).
    Bare(&'a [u8]),
}

/// The error of a text that is not the name of a payload format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of auto, confluent, single-object, container, bare")]
pub struct ParsePayloadFormatError(String);

/// Finds the wire format of a value and removes its prefix.
///
/// `schema_header` is the value of the record's header [`SCHEMA_ID_HEADER`], if any. It takes precedence over `format`.
///
/// # Errors
/// [`PoisonKind::UnknownSchema`] for a header that names no schema. Without a header: [`PoisonKind::BadMagic`] for a value
/// without the magic bytes of the one expected format, [`PoisonKind::UnknownFormat`] for a value of none of the formats,
/// and [`PoisonKind::Truncated`] for a value that ends inside its prefix.
#[inline]
pub fn recognise<'a>(
    value: &'a [u8],
    schema_header: Option<&[u8]>,
    format: PayloadFormat,
) -> Result<Payload<'a>, DecodeError> {
    match schema_header {
        Some(header) => recognise_by_header(header, value),
        None => recognise_by_prefix(value, format),
    }
}

fn recognise_by_prefix(value: &[u8], format: PayloadFormat) -> Result<Payload<'_>, DecodeError> {
    match format {
        PayloadFormat::Auto => recognise_any(value),
        PayloadFormat::Confluent => {
            let rest = after_magic(value, &[CONFLUENT_MAGIC], "Confluent's wire format")?;
            let (id, datum) = header(rest)?;
            Ok(Payload::Confluent { schema_id: SchemaId::Number(u32::from_be_bytes(id)), datum })
        }
        PayloadFormat::SingleObject => {
            let rest = after_magic(value, &SINGLE_OBJECT_MAGIC, "the single-object encoding")?;
            let (fingerprint, datum) = header(rest)?;
            Ok(Payload::SingleObject { fingerprint: u64::from_le_bytes(fingerprint), datum })
        }
        PayloadFormat::Container => {
            after_magic(value, &CONTAINER_MAGIC, "an object container file")?;
            Ok(Payload::Container(value))
        }
        PayloadFormat::Bare => Ok(Payload::Bare(value)),
    }
}

fn recognise_by_header<'a>(header: &[u8], value: &'a [u8]) -> Result<Payload<'a>, DecodeError> {
    let schema_id = match header {
        [0, a, b, c, d, ..] => SchemaId::Number(u32::from_be_bytes([*a, *b, *c, *d])),
        [1, guid @ ..] if let Some(guid) = guid.first_chunk() => SchemaId::Guid(*guid),
        _ => {
            let shown = Hex(header);
            let detail = format!("the header {SCHEMA_ID_HEADER} names no schema: {shown}");
            return Err(DecodeError::new(PoisonKind::UnknownSchema, detail));
        }
    };
    Ok(Payload::Confluent { schema_id, datum: value })
}

/// Removes the magic bytes of an object container file.
pub(crate) fn after_container_magic(file: &[u8]) -> Result<&[u8], DecodeError> {
    after_magic(file, &CONTAINER_MAGIC, "an object container file")
}

fn recognise_any(value: &[u8]) -> Result<Payload<'_>, DecodeError> {
    let Some(first) = value.first() else {
        return Err(DecodeError::new(PoisonKind::UnknownFormat, "the value is empty"));
    };
    // The lowest bit of a zigzag number is its sign: an odd first byte cannot begin a length.
    let begins_with_a_length = first % 2 == 0;
    if *first == CONFLUENT_MAGIC {
        recognise_by_prefix(value, PayloadFormat::Confluent)
    } else if value.starts_with(&SINGLE_OBJECT_MAGIC) {
        recognise_by_prefix(value, PayloadFormat::SingleObject)
    } else if value.starts_with(&CONTAINER_MAGIC) {
        recognise_by_prefix(value, PayloadFormat::Container)
    } else if begins_with_a_length {
        Ok(Payload::Bare(value))
    } else {
        Err(DecodeError::new(
            PoisonKind::UnknownFormat,
            format!("a value that begins with {} is in no known format", Hex(value)),
        ))
    }
}

/// Returns the bytes after the magic bytes.
fn after_magic<'a>(value: &'a [u8], magic: &[u8], name: &str) -> Result<&'a [u8], DecodeError> {
    if let Some(rest) = value.strip_prefix(magic) {
        Ok(rest)
    } else if magic.starts_with(value) {
        Err(DecodeError::new(
            PoisonKind::Truncated,
            format!("the value ends inside the header of {name}"),
        ))
    } else {
        Err(DecodeError::new(
            PoisonKind::BadMagic,
            format!("{name} begins with {}, the value with {}", Hex(magic), Hex(value)),
        ))
    }
}

fn header<const N: usize>(rest: &[u8]) -> Result<([u8; N], &[u8]), DecodeError> {
    let (header, datum) = rest.split_first_chunk().ok_or_else(|| {
        DecodeError::new(PoisonKind::Truncated, "the value ends inside its schema's id")
    })?;
    Ok((*header, datum))
}

/// Displays the first bytes of a value in hexadecimal.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().take(4).enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{byte:02X}")?;
        }
        Ok(())
    }
}

impl SchemaId {
    /// Returns `id` or `GUID`.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Number(_) => "id",
            Self::Guid(_) => "GUID",
        }
    }
}

impl From<u32> for SchemaId {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Guid(guid) => {
                for (index, byte) in guid.iter().enumerate() {
                    let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
                    write!(f, "{hyphen}{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

impl PayloadFormat {
    /// Returns the format's name in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Confluent => "confluent",
            Self::SingleObject => "single-object",
            Self::Container => "container",
            Self::Bare => "bare",
        }
    }
}

impl fmt::Display for PayloadFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PayloadFormat {
    type Err = ParsePayloadFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Auto, Self::Confluent, Self::SingleObject, Self::Container, Self::Bare]
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| ParsePayloadFormatError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_bytes_distinguish_the_formats() {
        check(
            PayloadFormat::Auto,
            &[0, 1, 2, 3, 4, 8, b'1'],
            Ok(Payload::Confluent { schema_id: SchemaId::Number(0x0102_0304), datum: &[8, b'1'] }),
        );
        check(
            PayloadFormat::Auto,
            &[0xC3, 1, 8, 7, 6, 5, 4, 3, 2, 1, 9],
            Ok(Payload::SingleObject { fingerprint: 0x0102_0304_0506_0708, datum: &[9] }),
        );
        check(PayloadFormat::Auto, b"Obj\x01..", Ok(Payload::Container(b"Obj\x01..")));
        check(PayloadFormat::Auto, &[8, b'1'], Ok(Payload::Bare(&[8, b'1'])));
    }

    #[test]
    fn a_value_with_the_first_bytes_of_no_format_is_unknown() {
        for value in [&b""[..], b"{\"orderId\":1}", &[0xC3, 2], b"Obj\x02", &[0xFF; 20]] {
            check(PayloadFormat::Auto, value, Err(PoisonKind::UnknownFormat));
        }
    }

    #[test]
    fn a_value_that_ends_inside_its_header_is_truncated() {
        for value in [&[0][..], &[0, 1, 2, 3], &[0xC3, 1], &[0xC3, 1, 1, 2, 3, 4, 5, 6, 7]] {
            check(PayloadFormat::Auto, value, Err(PoisonKind::Truncated));
        }
        check(PayloadFormat::Container, b"Ob", Err(PoisonKind::Truncated));
        check(PayloadFormat::Confluent, b"", Err(PoisonKind::Truncated));
    }

    #[test]
    fn a_configured_format_refuses_the_magic_bytes_of_others() {
        let confluent = [0, 0, 0, 0, 1, 8, 8, 8, 8, 8, 8];
        check(PayloadFormat::SingleObject, &confluent, Err(PoisonKind::BadMagic));
        check(PayloadFormat::Container, &confluent, Err(PoisonKind::BadMagic));
        check(PayloadFormat::Confluent, &[8, b'1'], Err(PoisonKind::BadMagic));
        check(PayloadFormat::Bare, &confluent, Ok(Payload::Bare(&confluent)));
    }

    #[test]
    fn format_names_parse_as_displayed() {
        for name in ["auto", "confluent", "single-object", "container", "bare"] {
            assert_eq!(name.parse::<PayloadFormat>().map(|f| f.to_string()), Ok(name.to_owned()));
        }
        let error = "avro".parse::<PayloadFormat>().expect_err("no such format");
        assert_eq!(
            error.to_string(),
            r#""avro" is none of auto, confluent, single-object, container, bare"#
        );
    }

    #[test]
    fn a_header_names_a_schema_by_guid_or_id() {
        let guid = *b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef";
        let header = [&[1][..], &guid].concat();
        for value in [&b"\x08A-7"[..], b"\0\0\0\0\x01", b"Obj\x01", b""] {
            for (header, schema_id) in [
                (&header[..], SchemaId::Guid(guid)),
                (&[0, 0, 0, 1, 2], SchemaId::Number(258)),
                (&[0, 0, 0, 1, 2, 0], SchemaId::Number(258)),
            ] {
                let expected = Payload::Confluent { schema_id, datum: value };
                assert_eq!(recognise(value, Some(header), PayloadFormat::Auto), Ok(expected));
            }
            for header in [&header[..16], &[0, 0, 0, 1], &[2, 0, 0, 0, 1], b""] {
                let error =
                    recognise(value, Some(header), PayloadFormat::Auto).expect_err("no schema");
                assert_eq!(error.kind(), PoisonKind::UnknownSchema, "{error}");
            }
        }
        let shown = SchemaId::Guid(guid).to_string();
        assert_eq!(shown, "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(SchemaId::from(258).to_string(), "258");
    }

    fn check(format: PayloadFormat, value: &[u8], expected: Result<Payload<'_>, PoisonKind>) {
        let found = recognise(value, None, format).map_err(|error| error.kind());
        assert_eq!(found, expected, "{format}: {value:02X?}");
    }
}
