//! Mutations of inputs.

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};

const BYTES_MAX: usize = 32 * 1024;
/// The longest piece that is inserted, removed or repeated at a time.
const PIECE_MAX: usize = 64;

const EXTREMES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

const WORDS: [&str; 16] = [
    "0",
    "-1",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "1e999",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "\\u0000",
    "\u{fffd}",
    "/",
    "%",
];

/// Returns one of `inputs` with at least one change, or, rarely, random bytes.
pub(crate) fn next(inputs: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    if inputs.is_empty() || rng.random_ratio(1, 64) {
        return random(rng.random_range(0..=4 * PIECE_MAX), rng);
    }
    let mut bytes = inputs[rng.random_range(0..inputs.len())].clone();
    loop {
        change(&mut bytes, inputs, rng);
        if rng.random() {
            break;
        }
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, inputs: &[Vec<u8>], rng: &mut StdRng) {
    let at = rng.random_range(0..=bytes.len());
    let end = (at + rng.random_range(0..=PIECE_MAX)).min(bytes.len());
    let next = bytes.get_mut(at);
    match (rng.random_range(0..12), next) {
        (0 | 1, Some(byte)) => *byte ^= 1 << rng.random_range(0..8),
        (2, Some(byte)) => *byte = rng.random(),
        (3, Some(byte)) => *byte = byte.wrapping_add(if rng.random() { 1 } else { 255 }),
        (4, _) => insert(bytes, at, &random(rng.random_range(1..=8), rng)),
        (5, _) => drop(bytes.drain(at..end)),
        (6, _) => {
            let piece = bytes[at..end].to_vec();
            insert(bytes, rng.random_range(0..=bytes.len()), &piece);
        }
        (7, _) => bytes.truncate(at),
        (8, _) => {
            let other = &inputs[rng.random_range(0..inputs.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(&other[rng.random_range(0..=other.len())..]);
        }
        (9, _) => overwrite(bytes, at, &extreme(rng)),
        (10, _) => insert(bytes, at, &extreme(rng)),
        _ => {
            let word = WORDS[rng.random_range(0..WORDS.len())].as_bytes();
            // The mutation replaces the digits of a number.
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            bytes.splice(at..at + digits, word.iter().copied());
        }
    }
}

/// Returns a number at an end of its range.
fn extreme(rng: &mut StdRng) -> Vec<u8> {
    let number = EXTREMES[rng.random_range(0..EXTREMES.len())];
    let width = [1, 2, 4, 8][rng.random_range(0..4)];
    match rng.random_range(0..3) {
        0 => number.to_be_bytes()[8 - width..].to_vec(),
        1 => number.to_le_bytes()[..width].to_vec(),
        _ => varint(number),
    }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            bytes.push(low & 0x7f);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

fn overwrite(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let end = (at + piece.len()).min(bytes.len());
    bytes.splice(at..end, piece.iter().copied());
}

fn random(length: usize, rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill_bytes(&mut bytes);
    bytes
}
