//! An [object container file](https://avro.apache.org/docs/1.12.0/specification/#object-container-files) per
//! record: one schema, one block, one order.
//!
//! The file is taken apart here and not by the Avro library's `Reader`, which neither sees what a block holds
//! besides the counted orders nor tells a file that was cut from one that ended.

use std::{collections::BTreeMap, str::FromStr as _, sync::LazyLock};

use apache_avro::{Codec, Schema, error::Details, reader::datum::GenericDatumReader};
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;

use crate::{DecodeError, Order, PoisonKind, WriterSchema, error, payload, writer_schema};

type Metadata = BTreeMap<String, ByteBuf>;

const SYNC_MARKER_BYTES: usize = 16;

/// Decodes an object container file that holds exactly one order.
///
/// Understands the codecs `null`, `deflate` and `snappy`.
///
/// # Errors
/// [`PoisonKind::BadMagic`] if it is no such file, [`PoisonKind::UnknownFormat`] if its codec is not known,
/// [`PoisonKind::Truncated`] if it ends early or holds no order, [`PoisonKind::TrailingBytes`] if it holds
/// anything after the first order, [`PoisonKind::SchemaMismatch`] if its content is damaged or its schema is
/// not one of orders.
pub fn decode_container(file: &[u8]) -> Result<Order, DecodeError> {
    let mut rest = payload::after_container_magic(file)?;
    let metadata: Metadata = read(&METADATA, &mut rest)?;
    let sync_marker = take(&mut rest, SYNC_MARKER_BYTES)?;
    let count: i64 = read(&LONG, &mut rest)?;
    let length: i64 = read(&LONG, &mut rest)?;
    let length = usize::try_from(length).map_err(|_| damaged("a block's length is negative"))?;
    let block = take(&mut rest, length)?;
    if take(&mut rest, SYNC_MARKER_BYTES)? != sync_marker {
        return Err(damaged("a block does not end with the file's sync marker"));
    }
    if (count < 1) || (length == 0) {
        return Err(DecodeError::new(PoisonKind::Truncated, "the file's first block is empty"));
    }
    if (count > 1) || !rest.is_empty() {
        return Err(DecodeError::new(
            PoisonKind::TrailingBytes,
            "the file goes on after one order",
        ));
    }
    let mut datum = block.to_vec();
    codec(&metadata)?.decompress(&mut datum).map_err(|error| {
        if matches!(error.details(), Details::MemoryAllocation { .. }) {
            damaged("a block decompresses to more than any order takes")
        } else {
            DecodeError::from_avro(&error)
        }
    })?;
    schema(&metadata)?.decode(&datum)
}

static METADATA: LazyLock<GenericDatumReader<'static>> = LazyLock::new(|| {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::map(Schema::Bytes).build());
    reader(&SCHEMA)
});

static LONG: LazyLock<GenericDatumReader<'static>> = LazyLock::new(|| reader(&Schema::Long));

fn reader(schema: &'static Schema) -> GenericDatumReader<'static> {
    // The first use of the Avro library sets its allocation limit.
    writer_schema::own_schema();
    #[expect(clippy::expect_used, reason = "the two schemas are part of the program, and tested")]
    GenericDatumReader::builder(schema)
        .human_readable(false)
        .build()
        .expect("a schema without names refers to no other")
}

fn read<T: DeserializeOwned>(
    reader: &GenericDatumReader<'_>,
    rest: &mut &[u8],
) -> Result<T, DecodeError> {
    reader.read_deser(rest).map_err(|error| DecodeError::from_avro(&error))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], DecodeError> {
    rest.split_off(..length).ok_or_else(|| {
        DecodeError::new(PoisonKind::Truncated, "the file ends before its first block does")
    })
}

fn codec(metadata: &Metadata) -> Result<Codec, DecodeError> {
    let Some(name) = metadata.get("avro.codec") else { return Ok(Codec::Null) };
    let name = String::from_utf8_lossy(name);
    Codec::from_str(&name).map_err(|_| {
        DecodeError::new(
            PoisonKind::UnknownFormat,
            format!("the file's codec {:?} is not known", error::cut(&name)),
        )
    })
}

fn schema(metadata: &Metadata) -> Result<WriterSchema, DecodeError> {
    let json = metadata.get("avro.schema").map(|json| std::str::from_utf8(json));
    let Some(Ok(json)) = json else {
        return Err(damaged("the file's metadata has no schema"));
    };
    WriterSchema::parse(json).map_err(|error| damaged(&error.to_string()))
}

fn damaged(detail: &str) -> DecodeError {
    DecodeError::new(PoisonKind::SchemaMismatch, detail)
}
