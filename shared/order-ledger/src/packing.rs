//! Dense encoding of whole numbers, for the small space beside a committed offset.
//!
//! There are three codes: varints ([LEB128](https://en.wikipedia.org/wiki/LEB128)) for single numbers, a fixed number
//! of bits for lists of small numbers, and [Rice codes](https://en.wikipedia.org/wiki/Golomb_coding) for the gaps of an
//! ascending sequence. Rice codes have a bound: `n` gaps with the sum `t` never take more than [`rice_bytes_max`],
//! however they are distributed.

const BYTE_BITS: usize = 8;
/// The largest parameter of a Rice code. With it every gap has a quotient of 0 or 1.
const RICE_PARAMETER_MAX: u8 = 63;

/// Appends `value` as a varint: seven bits a byte, lowest first.
pub(crate) fn write_varint(value: impl Into<u128>, into: &mut Vec<u8>) {
    let mut rest = value.into();
    while rest >= 0x80 {
        into.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    into.push(rest.to_le_bytes()[0]);
}

/// Returns the size in bytes of the longest varint of a number below 2<sup>`bits`</sup>.
pub(crate) const fn varint_bytes_max(bits: usize) -> usize {
    let bytes = bits.div_ceil(7);
    if bytes == 0 { 1 } else { bytes }
}

/// Appends the gaps of an ascending sequence as Rice codes, with the parameter that makes them shortest.
///
/// The number of gaps is not written. For no gaps nothing is written.
pub(crate) fn write_rice(gaps: &[u64], into: &mut Vec<u8>) {
    if gaps.is_empty() {
        return;
    }
    let parameter = best_rice_parameter(gaps);
    into.push(parameter);
    let mut bits = BitWriter::new(into);
    for gap in gaps {
        for _ in 0..(gap >> parameter) {
            bits.push(true);
        }
        bits.push(false);
        bits.push_lowest(*gap, parameter);
    }
}

/// Returns the most bytes that [`write_rice`] appends for `count` gaps whose sum is at most `total`.
///
/// It is the worst size with `parameter`, which must be below 32; the best parameter never takes more.
pub(crate) const fn rice_bytes_max(count: usize, total: usize, parameter: usize) -> usize {
    if count == 0 {
        return 0;
    }
    // Each gap takes a stop bit and a remainder. All quotients together take at most this many bits.
    let quotients = total >> parameter;
    1 + (count * (1 + parameter) + quotients).div_ceil(BYTE_BITS)
}

/// Returns how many gaps always fit in `bits` bits as Rice codes, if their sum is at most `total` and each takes
/// `bits_beside` bits besides.
pub(crate) const fn rice_count_max(bits: usize, total: usize, bits_beside: usize) -> usize {
    let mut count_max = 0;
    let mut parameter = 0;
    while parameter < 32 {
        let count = bits.saturating_sub(total >> parameter) / (1 + parameter + bits_beside);
        if count > count_max {
            count_max = count;
        }
        parameter += 1;
    }
    count_max
}

fn best_rice_parameter(gaps: &[u64]) -> u8 {
    let bits = |parameter: &u8| {
        gaps.iter()
            .map(|gap| u128::from(gap >> parameter) + 1 + u128::from(*parameter))
            .sum::<u128>()
    };
    // With a larger parameter every quotient is 0, and each remainder takes more bits.
    let widest = gaps.iter().copied().max().map_or(0, bit_width);
    (0..=widest.min(RICE_PARAMETER_MAX)).min_by_key(bits).unwrap_or_default()
}

/// Appends the lowest `width` bits of each value, back to back.
pub(crate) fn write_fixed(values: &[u64], width: u8, into: &mut Vec<u8>) {
    let mut bits = BitWriter::new(into);
    for value in values {
        bits.push_lowest(*value, width);
    }
}

/// Returns how many bits `value` takes without leading zeros.
pub(crate) fn bit_width(value: u64) -> u8 {
    let bits = u64::BITS - value.leading_zeros();
    bits.to_le_bytes()[0]
}

/// Appends bits, highest first. The last byte is padded with zeros.
#[derive(Debug)]
struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    /// The mask of the next bit in the last byte; 0 if that byte is full.
    place: u8,
}

impl<'a> BitWriter<'a> {
    fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes, place: 0 }
    }

    fn push(&mut self, bit: bool) {
        if self.place == 0 {
            self.place = 0x80;
            self.bytes.push(0);
        }
        if bit && let Some(last) = self.bytes.last_mut() {
            *last |= self.place;
        }
        self.place >>= 1;
    }

    fn push_lowest(&mut self, value: u64, width: u8) {
        for shift in (0..width).rev() {
            self.push((value >> shift) & 1 == 1);
        }
    }
}

/// Reads packed bytes from the front. Every method returns `None` if the bytes are cut off or malformed.
#[derive(Clone, Debug)]
pub(crate) struct Unpacker<'a> {
    rest: &'a [u8],
}

impl<'a> Unpacker<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    /// Reads a varint that fits in `T`.
    pub(crate) fn varint<T: TryFrom<u128>>(&mut self) -> Option<T> {
        let mut value = 0_u128;
        for shift in (0..u128::BITS).step_by(7) {
            let [byte] = self.array()?;
            let bits = u128::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return T::try_from(value).ok();
            }
        }
        None
    }

    /// Reads `count` gaps that [`write_rice`] wrote.
    pub(crate) fn rice(&mut self, count: usize) -> Option<Vec<u64>> {
        if count == 0 {
            return Some(Vec::new());
        }
        let [parameter] = self.array()?;
        // Every gap takes at least one bit. A higher count is refused before anything is allocated for it.
        if parameter > RICE_PARAMETER_MAX || count.div_ceil(BYTE_BITS) > self.rest.len() {
            return None;
        }
        let mut bits = BitReader::new(self.rest);
        let mut gaps = Vec::with_capacity(count);
        for _ in 0..count {
            let mut quotient = 0_u64;
            while bits.next()? {
                quotient += 1;
            }
            if quotient > (u64::MAX >> parameter) {
                return None;
            }
            gaps.push((quotient << parameter) | bits.lowest(parameter)?);
        }
        self.bytes(bits.bytes_begun())?;
        Some(gaps)
    }

    /// Reads `count` values of `width` bits that [`write_fixed`] wrote.
    pub(crate) fn fixed(&mut self, count: usize, width: u8) -> Option<Vec<u64>> {
        let bits_needed = count.checked_mul(usize::from(width))?;
        if width == 0 || u32::from(width) > u64::BITS {
            return None;
        }
        let mut bits = BitReader::new(self.bytes(bits_needed.div_ceil(BYTE_BITS))?);
        (0..count).map(|_| bits.lowest(width)).collect()
    }
}

#[derive(Debug)]
struct BitReader<'a> {
    bytes: &'a [u8],
    bits_read: usize,
}

impl<'a> BitReader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, bits_read: 0 }
    }

    fn next(&mut self) -> Option<bool> {
        let byte = *self.bytes.get(self.bits_read / BYTE_BITS)?;
        let bit = (byte << (self.bits_read % BYTE_BITS)) & 0x80 != 0;
        self.bits_read += 1;
        Some(bit)
    }

    fn lowest(&mut self, width: u8) -> Option<u64> {
        let mut value = 0;
        for _ in 0..width {
            value = (value << 1) | u64::from(self.next()?);
        }
        Some(value)
    }

    fn bytes_begun(&self) -> usize {
        self.bits_read.div_ceil(BYTE_BITS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rice(gaps: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_rice(gaps, &mut bytes);
        bytes
    }

    fn varint(value: u128) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_varint(value, &mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn numbers_are_read_back_one_after_the_other(
            long in (0_u32..=127).prop_flat_map(|bits| 0..=(u128::MAX >> (127 - bits))),
            gaps in proptest::collection::vec(0_u64..5_000_000, 0..80),
            width in 1_u8..=64,
            fixed in proptest::collection::vec(any::<u64>(), 0..80),
        ) {
            let fixed: Vec<_> = fixed.iter().map(|value| value >> (64 - width)).collect();
            let mut bytes = varint(long);
            write_rice(&gaps, &mut bytes);
            write_fixed(&fixed, width, &mut bytes);
            write_varint(7_u8, &mut bytes);
            let mut unpacker = Unpacker::new(&bytes);
            prop_assert_eq!(unpacker.varint(), Some(long));
            prop_assert_eq!(unpacker.rice(gaps.len()), Some(gaps));
            prop_assert_eq!(unpacker.fixed(fixed.len(), width), Some(fixed));
            prop_assert_eq!(unpacker.varint(), Some(7_u8));
            prop_assert!(unpacker.is_empty());
        }

        #[test]
        fn gaps_take_no_more_than_the_bound_however_they_are_distributed(
            cuts in proptest::collection::vec(0_usize..3_000_000, 1..60),
            clustered: bool,
            parameter in 0_usize..30,
        ) {
            let total = if clustered { 50 } else { 3_000_000 };
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % total).collect();
            cuts.sort_unstable();
            let gaps: Vec<_> = cuts
                .iter()
                .scan(0, |last, cut| Some(cut - std::mem::replace(last, *cut)))
                .map(|gap| u64::try_from(gap).unwrap())
                .collect();
            let bytes = rice(&gaps).len();
            prop_assert!(bytes <= rice_bytes_max(gaps.len(), total, parameter));
            let bits = (rice_bytes_max(gaps.len(), total, parameter) - 1) * BYTE_BITS;
            prop_assert!(gaps.len() <= rice_count_max(bits, total, 0));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, count in 0_usize..200, width: u8) {
            let mut unpacker = Unpacker::new(&bytes);
            if let Some(gaps) = unpacker.rice(count) {
                prop_assert_eq!(gaps.len(), count);
            }
            if let Some(values) = unpacker.fixed(count, width) {
                prop_assert_eq!(values.len(), count);
            }
            prop_assert!(unpacker.varint::<u128>().is_some() || unpacker.rest.len() < 19
                || unpacker.rest[18] >= 0x04);
        }
    }

    #[test]
    fn as_many_gaps_fit_as_the_arithmetic_says() {
        for (bytes, total) in [(2, 0), (20, 100), (1_700, 2_097_151)] {
            let count = rice_count_max((bytes - 1) * BYTE_BITS, total, 0);
            let size = |count| (0..32).map(|p| rice_bytes_max(count, total, p)).min();
            assert!(size(count) <= Some(bytes));
            assert!(size(count + 1) > Some(bytes));
        }
        assert_eq!(rice_count_max(0, 0, 0), 0);
        assert_eq!(rice_count_max(16, 1 << 62, 0), 0);
        assert_eq!((rice_count_max(60, 0, 0), rice_count_max(60, 0, 2)), (60, 20));
    }

    #[test]
    fn varints_take_the_predicted_number_of_bytes() {
        for (value, bytes) in
            [(0, 1), (0x7f, 1), (0x80, 2), (u128::from(u64::MAX), 10), (u128::MAX, 19)]
        {
            assert_eq!(varint(value).len(), bytes);
        }
        for bits in 1..=128_usize {
            let largest = u128::MAX >> (128 - bits);
            assert_eq!(varint(largest).len(), varint_bytes_max(bits));
        }
        assert_eq!(varint_bytes_max(0), 1);
    }

    #[test]
    fn varints_that_are_cut_off_or_too_large_are_refused() {
        assert_eq!(Unpacker::new(&[]).varint::<u64>(), None);
        assert_eq!(Unpacker::new(&[0x80]).varint::<u64>(), None);
        assert_eq!(Unpacker::new(&varint(256)).varint::<u8>(), None);
        assert_eq!(Unpacker::new(&[0xff; 30]).varint::<u128>(), None);
        assert_eq!(
            Unpacker::new(&[[0xff; 18].as_slice(), &[0x04]].concat()).varint::<u128>(),
            None
        );
        assert_eq!(Unpacker::new(&varint(u128::MAX)).varint(), Some(u128::MAX));
    }

    #[test]
    fn an_impossible_count_is_refused_before_anything_is_allocated() {
        assert_eq!(Unpacker::new(&[0, 0]).rice(usize::MAX), None);
        assert_eq!(Unpacker::new(&[0, 0]).fixed(usize::MAX, 3), None);
        assert_eq!(Unpacker::new(&[64, 0]).rice(1), None);
    }
}
