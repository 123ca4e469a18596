//! Compression of a batch's records.
//!
//! Decompression is bounded: what exceeds the caller's limit is refused before memory is allocated for it. Snappy has
//! two forms: a single block (librdkafka), and the stream of blocks of snappy-java's `SnappyOutputStream` (Java
//! producer).

use std::fmt;
use std::io::{self, BufRead, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::encoding::CompressionLevel;

/// The first bytes of snappy-java's stream; two version numbers of four bytes follow.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// Initial size of the buffer for decompressed records, as a multiple of the compressed size.
const EXPECTED_RATIO: usize = 4;

/// The codec of a batch's records: the lowest three bits of the batch's attributes.
///
/// Numbers: <https://kafka.apache.org/documentation/#recordbatch>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// The records are not compressed.
    None,
    /// Members of RFC 1952, one or more.
    Gzip,
    /// Snappy: a block or snappy-java's stream is read, the stream is written.
    Snappy,
    /// LZ4 frames, one or more.
    Lz4,
    /// Zstandard frames of RFC 8878, one or more.
    Zstd,
}

/// Why records could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecompressionError {
    /// The records exceed the caller's limit.
    #[error("the records decompress to more than {max} bytes")]
    TooLarge {
        /// The caller's limit in bytes.
        max: usize,
    },
    /// The bytes are not valid for the codec.
    #[error("the compressed bytes are damaged")]
    Damaged(#[source] io::Error),
}

impl Compression {
    /// Every codec, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// Returns the codec with this number in a batch's attributes; `None` for an unknown number.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Returns the codec's number in a batch's attributes.
    pub fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Decompresses `packed` to at most `max` bytes.
    ///
    /// # Errors
    /// When the result exceeds `max` bytes, or the input is not valid for the codec.
    pub fn decompress(self, packed: &[u8], max: usize) -> Result<Vec<u8>, DecompressionError> {
        let mut unpacked = Unpacked::new(packed.len(), max);
        match self {
            Self::None => unpacked.read(packed)?,
            Self::Gzip => unpacked.read(MultiGzDecoder::new(packed))?,
            Self::Snappy => match packed.strip_prefix(XERIAL_MAGIC) {
                Some(stream) => unpacked.xerial(stream)?,
                None => unpacked.snappy_block(packed)?,
            },
            Self::Lz4 => unpacked.lz4_frames(packed)?,
            Self::Zstd => unpacked.zstd_frames(packed)?,
        }
        Ok(unpacked.bytes)
    }

    /// Compresses `bytes`.
    ///
    /// # Errors
    /// When the codec fails; no input is known to cause that.
    pub fn compress(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut packed = Vec::new();
        self.compress_into(bytes, &mut packed)?;
        Ok(packed)
    }

    /// Compresses `bytes` and appends the result to `packed`.
    ///
    /// # Errors
    /// When the codec fails; no input is known to cause that.
    pub fn compress_into(self, bytes: &[u8], packed: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::None => packed.extend_from_slice(bytes),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(packed, flate2::Compression::default());
                encoder.write_all(bytes)?;
                encoder.finish()?;
            }
            Self::Snappy => {
                packed.extend_from_slice(XERIAL_MAGIC);
                packed.extend_from_slice(&XERIAL_VERSIONS);
                let mut encoder = snap::raw::Encoder::new();
                for block in bytes.chunks(XERIAL_BLOCK_BYTES) {
                    let packed_block = encoder.compress_vec(block)?;
                    let length = u32::try_from(packed_block.len()).map_err(io::Error::other)?;
                    packed.extend_from_slice(&length.to_be_bytes());
                    packed.extend_from_slice(&packed_block);
                }
            }
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(packed);
                encoder.write_all(bytes)?;
                encoder.finish().map_err(io::Error::from)?;
            }
            Self::Zstd => ruzstd::encoding::compress(bytes, packed, CompressionLevel::Fastest),
        }
        Ok(())
    }
}

/// Decompressed bytes and their limit.
struct Unpacked {
    bytes: Vec<u8>,
    max: usize,
}

impl Unpacked {
    fn new(packed_bytes: usize, max: usize) -> Self {
        let expected = packed_bytes.saturating_mul(EXPECTED_RATIO).min(max);
        Self { bytes: Vec::with_capacity(expected), max }
    }

    fn left(&self) -> usize {
        self.max.saturating_sub(self.bytes.len())
    }

    /// Appends all of `source`. One byte beyond the limit is read to find out whether there is more.
    fn read(&mut self, source: impl Read) -> Result<(), DecompressionError> {
        let mut source = source.take(u64::try_from(self.left()).unwrap_or(u64::MAX));
        source.read_to_end(&mut self.bytes).map_err(DecompressionError::Damaged)?;
        if source.limit() == 0 {
            let mut source = source.into_inner();
            if source.read(&mut [0]).map_err(DecompressionError::Damaged)? != 0 {
                return Err(DecompressionError::TooLarge { max: self.max });
            }
        }
        Ok(())
    }

    fn snappy_block(&mut self, block: &[u8]) -> Result<(), DecompressionError> {
        let length = snap::raw::decompress_len(block).map_err(snappy_damage)?;
        if self.left() < length {
            return Err(DecompressionError::TooLarge { max: self.max });
        }
        let start = self.bytes.len();
        self.bytes.resize(start + length, 0);
        let into = &mut self.bytes[start..];
        snap::raw::Decoder::new().decompress(block, into).map_err(snappy_damage)?;
        Ok(())
    }

    /// Reads snappy-java's stream after its magic: two versions, then blocks with their lengths. Other streams, each
    /// with its magic, may follow.
    fn xerial(&mut self, stream: &[u8]) -> Result<(), DecompressionError> {
        let too_short = || damaged("a snappy stream ends early");
        let mut rest = stream.get(XERIAL_VERSIONS.len()..).ok_or_else(too_short)?;
        while !rest.is_empty() {
            if let Some(appended) = rest.strip_prefix(XERIAL_MAGIC) {
                rest = appended.get(XERIAL_VERSIONS.len()..).ok_or_else(too_short)?;
                continue;
            }
            let (length, after) = rest.split_first_chunk::<4>().ok_or_else(too_short)?;
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| too_short())?;
            let (block, after) = after.split_at_checked(length).ok_or_else(too_short)?;
            self.snappy_block(block)?;
            rest = after;
        }
        Ok(())
    }

    /// Reads each frame with its own decoder, because a decoder's buffers are sized by its first frame.
    fn lz4_frames(&mut self, mut packed: &[u8]) -> Result<(), DecompressionError> {
        while !packed.is_empty() {
            self.read(lz4_flex::frame::FrameDecoder::new(&mut packed))?;
        }
        Ok(())
    }

    fn zstd_frames(&mut self, mut packed: &[u8]) -> Result<(), DecompressionError> {
        while !packed.is_empty() {
            match StreamingDecoder::new(&mut packed) {
                Ok(decoder) => self.read(decoder)?,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped = usize::try_from(length).unwrap_or(usize::MAX);
                    packed.consume(skipped.min(packed.len()));
                }
                Err(error) => return Err(DecompressionError::Damaged(io::Error::other(error))),
            }
        }
        Ok(())
    }
}

fn snappy_damage(error: snap::Error) -> DecompressionError {
    DecompressionError::Damaged(error.into())
}

fn damaged(what: &'static str) -> DecompressionError {
    DecompressionError::Damaged(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// Kafka's name of the codec, as in `compression.type`.
impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Compression; 5] = Compression::ALL;
    const PACKED: [Compression; 4] =
        [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    fn is_too_large(result: &Result<Vec<u8>, DecompressionError>) -> bool {
        matches!(result, Err(DecompressionError::TooLarge { .. }))
    }

    #[test]
    fn every_code_names_one_codec() {
        for codec in ALL {
            assert_eq!(Compression::from_code(codec.code()), Some(codec));
        }
        assert_eq!((5..=u8::MAX).find_map(Compression::from_code), None);
    }

    #[test]
    fn the_limit_is_exact() {
        let bytes = vec![7; 100_000];
        for codec in ALL {
            let packed = codec.compress(&bytes).unwrap();
            assert_eq!(codec.decompress(&packed, bytes.len()).unwrap(), bytes, "{codec:?}");
            assert!(is_too_large(&codec.decompress(&packed, bytes.len() - 1)), "{codec:?}");
            assert!(is_too_large(&codec.decompress(&packed, 0)), "{codec:?}");
        }
    }

    #[test]
    fn no_bytes_are_read_back_as_no_bytes() {
        for codec in PACKED {
            let packed = codec.compress(&[]).unwrap();
            assert_eq!(codec.decompress(&packed, 10).unwrap(), Vec::<u8>::new(), "{codec:?}");
        }
    }

    #[test]
    fn snappy_is_read_with_and_without_the_stream_around_it() {
        let bytes: Vec<u8> = b"a block of text, ".repeat(5_000);
        let block = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
        let stream = Compression::Snappy.compress(&bytes).unwrap();
        assert!(stream.starts_with(XERIAL_MAGIC));
        for packed in [block, stream] {
            assert_eq!(Compression::Snappy.decompress(&packed, 1 << 20).unwrap(), bytes);
        }
    }

    #[test]
    fn concatenated_frames_are_one_text() {
        for codec in PACKED {
            let packed = [codec.compress(b"one ").unwrap(), codec.compress(b"two").unwrap()];
            let unpacked = codec.decompress(&packed.concat(), 100).unwrap();
            assert_eq!(unpacked, b"one two", "{codec:?}");
        }
    }

    #[test]
    fn a_skippable_zstd_frame_is_skipped() {
        let frame = Compression::Zstd.compress(b"text").unwrap();
        let packed = [b"\x50\x2a\x4d\x18\x03\0\0\0abc", &frame[..]].concat();
        assert_eq!(Compression::Zstd.decompress(&packed, 100).unwrap(), b"text");
    }

    #[test]
    fn a_snappy_block_that_declares_gigabytes_is_refused_before_it_is_allocated() {
        let claim = b"\xff\xff\xff\xff\x0f rest";
        assert!(is_too_large(&Compression::Snappy.decompress(claim, 1 << 20)));
    }

    proptest! {
        #[test]
        fn compressed_bytes_are_read_back(bytes in proptest::collection::vec(0_u8..4, 0..5_000)) {
            for codec in ALL {
                let packed = codec.compress(&bytes).unwrap();
                prop_assert_eq!(&codec.decompress(&packed, bytes.len()).unwrap(), &bytes);
            }
        }

        #[test]
        fn damaged_input_is_an_error_or_text_within_the_limit(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            for codec in PACKED {
                let mut packed = codec.compress(&bytes.repeat(20)).unwrap();
                for (at, to) in &flips {
                    let at = at.index(packed.len());
                    packed[at] = *to;
                }
                packed.truncate(cut.index(packed.len() + 1));
                for packed in [&packed, &bytes] {
                    if let Ok(unpacked) = codec.decompress(packed, 4_000) {
                        prop_assert!(unpacked.len() <= 4_000);
                    }
                }
            }
        }
    }
}
