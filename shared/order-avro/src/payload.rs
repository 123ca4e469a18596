//! Which wire format a record's value is in, told from its leading bytes.
//!
//! | format | begins with | then |
//! |---|---|---|
//! | Confluent | `00` | schema id, 4 bytes big-endian; datum |
//! | single-object | `C3 01` | CRC-64-AVRO fingerprint of the schema, 8 bytes little-endian; datum |
//! | object container file | `4F 62 6A 01` (`Obj` 1) | metadata with the schema, blocks of datums |
//! | bare | the length of the order id | the rest of the datum |
//!
//! The four cannot be confused: read as the length of an order id, `C3` and `4F` are negative, and `00` is
//! an empty id, which no generator writes and which Confluent's format takes precedence over.

use std::{fmt, str::FromStr};

use crate::{DecodeError, PoisonKind};

const CONFLUENT_MAGIC: u8 = 0;
const SINGLE_OBJECT_MAGIC: [u8; 2] = [0xC3, 0x01];
const CONTAINER_MAGIC: [u8; 4] = *b"Obj\x01";

/// Which wire formats are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadFormat {
    /// Each value's own, told from its leading bytes.
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

/// A value whose format is known and whose content is not decoded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// A datum in Confluent's wire format; the registry has its schema.
    Confluent {
        /// The schema's id in the registry.
        schema_id: u32,
        /// The datum, in that schema.
        datum: &'a [u8],
    },
    /// A datum in Avro's single-object encoding, for [`decode_single_object`](crate::decode_single_object).
    SingleObject {
        /// The CRC-64-AVRO fingerprint of the schema's Parsing Canonical Form.
        fingerprint: u64,
        /// The datum, in that schema.
        datum: &'a [u8],
    },
    /// A whole object container file, for [`decode_container`](crate::decode_container).
    Container(&'a [u8]),
    /// A datum without a header, for [`WriterSchema::own`](crate::WriterSchema::own).
    Bare(&'a [u8]),
}

/// A text that names no payload format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of auto, confluent, single-object, container, bare")]
pub struct ParsePayloadFormatError(String);

/// Tells which wire format a value is in and takes its header off.
///
/// # Errors
/// [`PoisonKind::BadMagic`] if one format is expected and the value does not begin as it must,
/// [`PoisonKind::UnknownFormat`] if it begins as none of them, and [`PoisonKind::Truncated`] if it ends inside
/// the header.
pub fn recognise(value: &[u8], format: PayloadFormat) -> Result<Payload<'_>, DecodeError> {
    match format {
        PayloadFormat::Auto => recognise_any(value),
        PayloadFormat::Confluent => {
            let rest = after_magic(value, &[CONFLUENT_MAGIC], "Confluent's wire format")?;
            let (id, datum) = header(rest)?;
            Ok(Payload::Confluent { schema_id: u32::from_be_bytes(id), datum })
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

/// Takes an object container file's magic off.
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
        recognise(value, PayloadFormat::Confluent)
    } else if value.starts_with(&SINGLE_OBJECT_MAGIC) {
        recognise(value, PayloadFormat::SingleObject)
    } else if value.starts_with(&CONTAINER_MAGIC) {
        recognise(value, PayloadFormat::Container)
    } else if begins_with_a_length {
        Ok(Payload::Bare(value))
    } else {
        Err(DecodeError::new(
            PoisonKind::UnknownFormat,
            format!("a value that begins with {} is in no known format", Hex(value)),
        ))
    }
}

/// Returns what follows the magic bytes.
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

/// Shows the first bytes of a value in hexadecimal.
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

impl PayloadFormat {
    /// Returns the format's name as configuration spells it.
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
    fn leading_bytes_tell_the_formats_apart() {
        check(
            PayloadFormat::Auto,
            &[0, 1, 2, 3, 4, 8, b'1'],
            Ok(Payload::Confluent { schema_id: 0x0102_0304, datum: &[8, b'1'] }),
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
    fn what_begins_as_no_format_is_unknown() {
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
    fn a_forced_format_refuses_the_others_by_their_magic() {
        let confluent = [0, 0, 0, 0, 1, 8, 8, 8, 8, 8, 8];
        check(PayloadFormat::SingleObject, &confluent, Err(PoisonKind::BadMagic));
        check(PayloadFormat::Container, &confluent, Err(PoisonKind::BadMagic));
        check(PayloadFormat::Confluent, &[8, b'1'], Err(PoisonKind::BadMagic));
        check(PayloadFormat::Bare, &confluent, Ok(Payload::Bare(&confluent)));
    }

    #[test]
    fn format_names_are_read_as_they_are_shown() {
        for name in ["auto", "confluent", "single-object", "container", "bare"] {
            assert_eq!(name.parse::<PayloadFormat>().map(|f| f.to_string()), Ok(name.to_owned()));
        }
        let error = "avro".parse::<PayloadFormat>().expect_err("no such format");
        assert_eq!(
            error.to_string(),
            r#""avro" is none of auto, confluent, single-object, container, bare"#
        );
    }

    fn check(format: PayloadFormat, value: &[u8], expected: Result<Payload<'_>, PoisonKind>) {
        let found = recognise(value, format).map_err(|error| error.kind());
        assert_eq!(found, expected, "{format}: {value:02X?}");
    }
}
