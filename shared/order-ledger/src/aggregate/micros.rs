//! Amounts of money in millionths of the currency's unit, added exactly.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

const PER_UNIT: u128 = 1_000_000;

/// An amount of money in millionths of a unit.
///
/// Displays as a decimal number with at most six places, without trailing zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(i128);

impl Micros {
    /// Returns a price in millionths, rounded half to even. The price must be finite and at most 10<sup>12</sup>.
    ///
    /// The product is exact in an `f64`, which has 53 bits: the price has 24, and 1,000,000 = 15,625 × 2<sup>6</sup> has 14
    /// that count.
    #[inline]
    #[expect(clippy::as_conversions, reason = "a float becomes an integer in no other way")]
    #[expect(clippy::cast_possible_truncation, reason = "the result is below 2^60")]
    pub fn of_price(price: f32) -> Self {
        let millionths = f64::from(price) * 1_000_000.0;
        Self(i128::from(millionths.round_ties_even() as i64))
    }

    /// Returns the amount in millionths.
    pub fn millionths(self) -> i128 {
        self.0
    }

    /// Returns the amount divided by `count`, rounded half to even; `None` if `count` is 0.
    pub fn divided_by(self, count: u64) -> Option<Self> {
        if count == 0 {
            return None;
        }
        let count = i128::from(count);
        let (quotient, remainder) = (self.0.div_euclid(count), self.0.rem_euclid(count));
        let rounds_up = match (2 * remainder).cmp(&count) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => quotient % 2 != 0,
            std::cmp::Ordering::Greater => true,
        };
        Some(Self(quotient + i128::from(rounds_up)))
    }

    /// Returns the amount in units as the nearest float, for gauges and JSON numbers.
    pub fn as_f64(self) -> f64 {
        // The text is exact, so parsing it rounds only once.
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    pub(crate) fn to_zigzag(self) -> u128 {
        ((self.0 << 1) ^ (self.0 >> 127)).cast_unsigned()
    }

    pub(crate) fn from_zigzag(zigzag: u128) -> Self {
        Self((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }
}

impl Sub for Micros {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Add for Micros {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Micros {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let places = format!("{:06}", magnitude % PER_UNIT);
        let places = places.trim_end_matches('0');
        let sign = if self.0 < 0 { "-" } else { "" };
        let point = if places.is_empty() { "" } else { "." };
        f.pad(&format!("{sign}{}{point}{places}", magnitude / PER_UNIT))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rounds price × 10⁶ by comparing decimal digits. 160 places hold the decimal expansion of any `f32`.
    fn by_long_decimals(price: f32) -> i128 {
        let text = format!("{price:.160}");
        let (whole, places) = text.split_once('.').unwrap();
        let (kept, rest) = places.split_at(6);
        let truncated: i128 = format!("{whole}{kept}").parse().unwrap();
        let half = format!("5{}", "0".repeat(rest.len() - 1));
        let rounds_up = rest > half.as_str() || (rest == half && truncated % 2 != 0);
        truncated + i128::from(rounds_up)
    }

    fn check(price: f32) {
        assert_eq!(Micros::of_price(price).millionths(), by_long_decimals(price), "{price:e}");
    }

    #[test]
    fn prices_are_rounded_half_to_even_whatever_their_size() {
        for exponent in 0..167_u32 {
            for fraction in [0, 1, 2, 0x40_0000, 0x40_0001, 0x7f_fffe, 0x7f_ffff] {
                let price = f32::from_bits((exponent << 23) | fraction);
                if price <= 1e12 {
                    check(price);
                }
            }
        }
        // Ties: odd multiples of half a millionth that a float can hold exactly.
        for price in [0.007_812_5_f32, 0.023_437_5, 5.960_464_5e-8, 0.5, 1.5, 1e12, 9.99, 999.99] {
            check(price);
        }
        let tie =
            |millionths_twice: u32| f32::from_bits(0x3c00_0000) * f32::from_bits(millionths_twice);
        for odd in [1.0_f32, 3.0, 5.0, 7.0, 101.0] {
            check(tie(odd.to_bits()));
        }
    }

    #[test]
    fn known_prices_have_the_known_amounts() {
        for (price, millionths) in [
            (0.0, 0),
            (-0.0, 0),
            (1.0, 1_000_000),
            (9.99, 9_990_000),     // The float is 9.9899997711…
            (999.99, 999_989_990), // The float is 999.989990234…
            (0.1, 100_000),
            (0.007_812_5, 7_812),  // 2^-7: a tie, down to even.
            (0.023_437_5, 23_438), // 3 × 2^-7: a tie, up to even.
            (1e12, 999_999_995_904_000_000),
            (f32::from_bits(1), 0),
        ] {
            assert_eq!(Micros::of_price(price).millionths(), millionths, "{price}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn every_price_is_rounded_half_to_even(bits in 0..=1e12_f32.to_bits()) {
            check(f32::from_bits(bits));
        }

        #[test]
        fn zigzag_keeps_every_amount(amount: i128) {
            prop_assert_eq!(Micros::from_zigzag(Micros(amount).to_zigzag()), Micros(amount));
        }

        #[test]
        fn an_average_is_off_by_half_a_millionth_at_most(
            amount in -(1_i128 << 100)..(1_i128 << 100),
            count in 1_u64..,
        ) {
            let average = Micros(amount).divided_by(count).unwrap().millionths();
            let error = amount - average * i128::from(count);
            prop_assert!(2 * error.abs() <= i128::from(count));
            prop_assert!(2 * error.abs() < i128::from(count) || average % 2 == 0);
        }
    }

    #[test]
    fn amounts_are_shown_with_as_few_places_as_they_have() {
        for (millionths, text) in [
            (0, "0"),
            (1, "0.000001"),
            (12_500_000, "12.5"),
            (-1_230_000, "-1.23"),
            (-1, "-0.000001"),
            (1_000_000, "1"),
            (i128::MAX, "170141183460469231731687303715884.105727"),
            (i128::MIN, "-170141183460469231731687303715884.105728"),
        ] {
            assert_eq!(Micros(millionths).to_string(), text);
        }
        assert_eq!(format!("{:>8}", Micros(1_500_000)), "     1.5");
        assert_eq!(Micros(12_500_000).as_f64().to_bits(), 12.5_f64.to_bits());
    }

    #[test]
    fn averages_round_half_to_even_and_need_a_count() {
        assert_eq!(Micros(5).divided_by(0), None);
        assert_eq!(Micros(5).divided_by(2), Some(Micros(2)));
        assert_eq!(Micros(7).divided_by(2), Some(Micros(4)));
        assert_eq!(Micros(-5).divided_by(2), Some(Micros(-2)));
    }
}
