use fuzz::{Outcome, Target};
use kafka_core::compression::{Compression, DecompressionError};

use crate::Pieces;

type Unpacked = Result<Vec<u8>, DecompressionError>;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// What a codec takes for itself, whatever it unpacks.
const CODEC_BYTES: usize = 12 << 20;

#[test]
fn compression() {
    let text = "an order, and another order, and one more order; ".repeat(60);
    let noise: Vec<u8> =
        (0_u32..4096).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let seeds = CODECS.iter().flat_map(|codec| {
        [&b""[..], b"a", text.as_bytes(), &noise].map(|bytes| {
            let twice = [codec.compress(bytes).unwrap(), codec.compress(b"more").unwrap()].concat();
            [&[codec.code(), 16][..], &twice].concat()
        })
    });
    let block = snap::raw::Encoder::new().compress_vec(text.as_bytes()).unwrap();
    let target = Target {
        name: "compression",
        executions: 2_000,
        seeds: seeds.chain([[&[2, 16][..], &block].concat()]).collect(),
        memory: |input| 4 * input + 4 * (1 << 16) + CODEC_BYTES,
        mend: None,
        decode: Box::new(decompress),
        check,
    };
    fuzz::run(target, crate::LEFT);
}

/// Returns codec, bound and packed bytes.
fn parts(input: &[u8]) -> (Compression, usize, &[u8]) {
    let mut pieces = Pieces(input);
    let codec = CODECS[usize::from(pieces.byte().unwrap_or(0)) % CODECS.len()];
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
