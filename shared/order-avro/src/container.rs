//! An [object container file](https://avro.apache.org/docs/1.12.0/specification/#object-container-files) per
//! record: one schema, one block, one order.
//!
//! This module parses the file itself. The Avro library's `Reader` ignores bytes of a block after its counted orders,
//! does not distinguish a truncated file from a complete one, and unpacks blocks of any size.

use std::io::Read as _;

use flate2::bufread::DeflateDecoder;

use crate::{
    DecodeError, Order, PoisonKind, WriterSchema,
    datum::{Datum, mismatch},
    error, payload,
};

const SYNC_MARKER_BYTES: usize = 16;

/// The metadata of a file.
#[derive(Default)]
struct Metadata<'a> {
    schema: Option<&'a [u8]>,
    codec: Option<&'a [u8]>,
}

/// Decodes an object container file that holds exactly one order, of at most `datum_bytes_max` bytes.
///
/// Understands the codecs `null`, `deflate` and `snappy`.
///
/// # Errors
/// [`PoisonKind::BadMagic`] for other files, [`PoisonKind::UnknownFormat`] for an unknown codec,
/// [`PoisonKind::Truncated`] for a file that ends early or has no order, [`PoisonKind::TrailingBytes`] for bytes after the
/// first order, [`PoisonKind::Oversize`] for a block that unpacks to more than `datum_bytes_max`,
/// [`PoisonKind::SchemaMismatch`] for damaged content or a schema that does not resolve to orders.
pub fn decode_container(file: &[u8], datum_bytes_max: usize) -> Result<Order, DecodeError> {
    let mut rest = Datum::new(payload::after_container_magic(file)?);
    let metadata = Metadata::read(&mut rest)?;
    let sync_marker = rest.take(SYNC_MARKER_BYTES)?;
    let count = rest.long()?;
    let block = rest.bytes()?;
    if rest.take(SYNC_MARKER_BYTES)? != sync_marker {
        return Err(mismatch("a block does not end with the file's sync marker"));
    }
    if (count < 1) || block.is_empty() {
        return Err(DecodeError::new(PoisonKind::Truncated, "the file's first block is empty"));
    }
    if (count > 1) || !rest.rest().is_empty() {
        return Err(DecodeError::new(
            PoisonKind::TrailingBytes,
            "the file goes on after one order",
        ));
    }
    match metadata.codec {
        None | Some(b"null") => metadata.schema()?.decode(block),
        Some(b"deflate") => metadata.schema()?.decode(&inflate(block, datum_bytes_max)?),
        Some(b"snappy") => metadata.schema()?.decode(&unsnap(block, datum_bytes_max)?),
        Some(codec) => {
            let codec = String::from_utf8_lossy(codec);
            let detail = format!("the file's codec {:?} is not known", error::cut(&codec));
            Err(DecodeError::new(PoisonKind::UnknownFormat, detail))
        }
    }
}

impl<'a> Metadata<'a> {
    fn read(rest: &mut Datum<'a>) -> Result<Self, DecodeError> {
        let mut metadata = Self::default();
        loop {
            let (count, _bytes) = rest.block()?;
            if count == 0 {
                return Ok(metadata);
            }
            for _ in 0..count {
                let (key, value) = (rest.bytes()?, rest.bytes()?);
                match key {
                    b"avro.schema" => metadata.schema = Some(value),
                    b"avro.codec" => metadata.codec = Some(value),
                    _ => {}
                }
            }
        }
    }

    fn schema(&self) -> Result<WriterSchema, DecodeError> {
        let Some(Ok(json)) = self.schema.map(str::from_utf8) else {
            return Err(mismatch("the file's metadata has no schema"));
        };
        WriterSchema::parse(json).map_err(|error| mismatch(error.to_string()))
    }
}

fn inflate(block: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
    let mut datum = Vec::new();
    // Python's fastavro leaves a part of zlib's checksum after the packed bytes, so the bytes after them are ignored.
    let mut unpacked = DeflateDecoder::new(block).take(one_more_than(bytes_max));
    unpacked
        .read_to_end(&mut datum)
        .map_err(|error| mismatch(format!("the block cannot be unpacked: {error}")))?;
    if datum.len() > bytes_max {
        return Err(oversize(bytes_max));
    }
    Ok(datum)
}

/// Unpacks a block with a checksum at its end.
fn unsnap(block: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecodeError> {
    let damaged = |error: snap::Error| mismatch(format!("the block cannot be unpacked: {error}"));
    let (packed, checksum) =
        block.split_last_chunk().ok_or_else(|| mismatch("a block has no checksum"))?;
    if snap::raw::decompress_len(packed).map_err(damaged)? > bytes_max {
        return Err(oversize(bytes_max));
    }
    let datum = snap::raw::Decoder::new().decompress_vec(packed).map_err(damaged)?;
    if crc32fast::hash(&datum) != u32::from_be_bytes(*checksum) {
        return Err(mismatch("a block does not have its checksum"));
    }
    Ok(datum)
}

fn oversize(bytes_max: usize) -> DecodeError {
    let detail = format!("the file unpacks to more than {bytes_max} bytes");
    DecodeError::new(PoisonKind::Oversize, detail)
}

fn one_more_than(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(1)
}
