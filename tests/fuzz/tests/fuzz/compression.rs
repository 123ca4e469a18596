use std::io::Write as _;

use fuzz::{Outcome, Target};
use kafka_core::compression::{Compression, DecompressionError};

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use crate::Pieces;

type Unpacked = Result<Vec<u8>, DecompressionError>;

/// The memory of a codec, independent of the input.
const CODEC_BYTES: usize = 12 << 20;

#[test]
fn compression() {
    let turn = fuzz::turn();
    let text = "an order, and another order, and one more order; ".repeat(60);
    let noise: Vec<u8> =
        (0_u32..4096).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let seeds = Compression::ALL.iter().flat_map(|codec| {
        [&b""[..], b"a", text.as_bytes(), &noise].map(|bytes| {
            let twice = [codec.compress(bytes).unwrap(), codec.compress(b"more").unwrap()].concat();
            [&[codec.code(), 16][..], &twice].concat()
        })
    });
    let block = snap::raw::Encoder::new().compress_vec(text.as_bytes()).unwrap();
    let others =
        [[&[2, 16][..], &block].concat()].into_iter().chain(lz4_blocks()).chain(zstd_windows());
    let target = Target {
        name: "compression",
        executions: 2_000,
        seeds: seeds.chain(others).collect(),
        memory: |input| 4 * input.len() + 4 * (1 << 16) + CODEC_BYTES,
        mend: None,
        decode: Box::new(decompress),
        check,
    };
    fuzz::run(&turn, target, crate::LEFT);
}

/// Returns LZ4 frames with each block size, and one of the old format.
fn lz4_blocks() -> impl Iterator<Item = Vec<u8>> {
    let sizes = [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB];
    let infos = sizes.into_iter().flat_map(|size| {
        [BlockMode::Independent, BlockMode::Linked]
            .map(|mode| FrameInfo::new().block_size(size).block_mode(mode).content_checksum(true))
    });
    infos.chain([FrameInfo::new().legacy_frame(true)]).map(|info| {
        let mut encoder = FrameEncoder::with_frame_info(info, vec![3, 16]);
        encoder.write_all(&b"abcdefgh".repeat(4000)).unwrap();
        encoder.finish().unwrap()
    })
}

/// Returns Zstandard frames with windows of each size and a block that repeats one byte 65,536 times.
fn zstd_windows() -> impl Iterator<Item = Vec<u8>> {
    (0_u8..32).map(|exponent| {
        let head = [4, 16, 0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3];
        [&head[..], &[0b011, 0, 0b1000, b'a']].concat()
    })
}

/// Returns the codec, the limit and the packed bytes.
fn parts(input: &[u8]) -> (Compression, usize, &[u8]) {
    let mut pieces = Pieces(input);
    let codec = Compression::ALL[usize::from(pieces.byte().unwrap_or(0)) % Compression::ALL.len()];
    let max = 1_usize << (pieces.byte().unwrap_or(0) % 17);
    (codec, max, pieces.0)
}

fn decompress(input: &[u8]) -> Unpacked {
    let (codec, max, packed) = parts(input);
    codec.decompress(packed, max)
}

fn check(input: &[u8], unpacked: &Unpacked) -> Outcome {
    let (codec, max, _) = parts(input);
    match unpacked {
        Ok(bytes) => {
            assert!(bytes.len() <= max, "{} bytes of {max}", bytes.len());
            let packed = codec.compress(bytes).unwrap();
            assert_eq!(codec.decompress(&packed, bytes.len()).as_ref().ok(), Some(bytes));
            if let Some(less) = bytes.len().checked_sub(1) {
                let refused = codec.decompress(&packed, less);
                assert!(matches!(refused, Err(DecompressionError::TooLarge { .. })), "{refused:?}");
            }
            Outcome::accepted(format!("{codec:?} {}", bytes.len().checked_ilog2().unwrap_or(0)))
        }
        Err(DecompressionError::TooLarge { max: told }) => {
            assert_eq!(*told, max);
            Outcome::refused(format!("{codec:?} too large"))
        }
        Err(DecompressionError::Damaged(error)) => {
            Outcome::refused(format!("{codec:?} {}", crate::words(&error.to_string())))
        }
    }
}
