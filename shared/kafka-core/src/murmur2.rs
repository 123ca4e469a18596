//! Kafka's murmur2, the hash by which clients choose the partition of a record with a key.
//!
//! It equals `org.apache.kafka.common.utils.Utils.murmur2`, so a key gets the partition that Java's default partitioner
//! gives it. The seed is Kafka's, and the input is read in little-endian words of 32 bits.

use std::num::NonZeroU32;

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;
const SHIFT: u32 = 24;
const POSITIVE: u32 = 0x7fff_ffff;

/// Returns the hash of `data`: the bits of Java's signed result.
fn murmur2(data: &[u8]) -> u32 {
    // Java's length is an `int`; no record has a key that long.
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, tail) = data.as_chunks::<4>();

    let mut hash = SEED ^ length;
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        mixed ^= mixed >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ mixed.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        let bytes = tail.iter().rev();
        hash ^= bytes.fold(0, |rest, &byte| (rest << 8) | u32::from(byte));
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// Returns the hash of `data` without its sign bit, as Java's `Utils.toPositive`: partitioners divide this number.
pub fn positive_murmur2(data: &[u8]) -> u32 {
    murmur2(data) & POSITIVE
}

/// Returns the partition, from 0 and below `partitions`, that Java's default partitioner chooses for `key`.
pub fn partition_for_key(key: &[u8], partitions: NonZeroU32) -> i32 {
    (positive_murmur2(key) % partitions).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key, hash, and partition of 3 and of 7, as printed by Kafka 4.3.1's `Utils.murmur2` and `Utils.toPositive`.
    const JAVA: &[(&[u8], i32, i32, i32)] = &[
        (b"", 275_646_681, 0, 2),
        (b"\0", 375_494_588, 2, 0),
        (b"\xff", -311_467_685, 0, 5),
        (b"a", -1_563_381_124, 1, 5),
        (b"ab", 316_155_434, 2, 0),
        (b"abc", 479_470_107, 0, 4),
        (b"abcd", -1_323_649_548, 2, 5),
        (b"21", -973_932_308, 0, 3),
        (b"foobar", -790_332_482, 0, 0),
        (b"a-little-bit-long-string", -985_981_536, 2, 1),
        (b"a-little-bit-longer-string", -1_486_304_829, 2, 0),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971, 2, 3),
        ("Grüße aus Köln".as_bytes(), 2_123_417_415, 0, 0),
        (b"\x80\x81\xfe\xff\x90", -269_545_180, 1, 0),
        (b"1001", 1_456_459_188, 0, 2),
    ];

    #[test]
    fn hashes_and_partitions_are_those_of_the_java_client() {
        let (three, seven) = (NonZeroU32::new(3).unwrap(), NonZeroU32::new(7).unwrap());
        for &(key, hash, of_three, of_seven) in JAVA {
            assert_eq!(murmur2(key).cast_signed(), hash, "{key:?}");
            assert_eq!(partition_for_key(key, three), of_three, "{key:?}");
            assert_eq!(partition_for_key(key, seven), of_seven, "{key:?}");
        }
    }

    #[test]
    fn every_length_up_to_257_hashes_as_in_java() {
        let bytes: Vec<u8> = (0..257_u32).map(|i| (i * 31 + 7).to_le_bytes()[0]).collect();
        let sum = (0..=bytes.len()).fold(0_u32, |sum, length| {
            sum.wrapping_mul(31).wrapping_add(murmur2(&bytes[..length]))
        });
        assert_eq!(sum.cast_signed(), -37_507_023);
    }
}
