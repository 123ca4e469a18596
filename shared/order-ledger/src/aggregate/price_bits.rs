//! A price in a form that has a total order.

/// The bits of a price. No price is negative, so the bits have the order of the prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PriceBits(pub(super) u32);

impl PriceBits {
    /// Returns the bits of a valid price. Adding 0.0 makes a negative zero positive.
    pub(super) fn of(price: f32) -> Self {
        debug_assert!(
            (0.0..=order_avro::PRICE_MAX).contains(&price),
            "the price is valid: {price}"
        );
        Self((price + 0.0).to_bits())
    }

    pub(super) fn price(self) -> f32 {
        f32::from_bits(self.0)
    }

    pub(super) fn is_valid(self) -> bool {
        self.price().is_sign_positive() && self.price() <= order_avro::PRICE_MAX
    }
}
