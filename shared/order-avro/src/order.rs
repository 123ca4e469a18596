//! The order: its fields, its Avro schema, and the valid prices.

use serde::{Deserialize, Serialize};

use crate::{DecodeError, PoisonKind};

/// The Avro schema of [`Order`] as JSON, which writers register and readers resolve to.
pub const ORDER_SCHEMA: &str = include_str!("../../../avro/order.avsc");

/// The highest valid price, in whole units of the currency.
///
/// In micro-units it fits 64 bits, which keeps sums in 128 bits exact.
pub const PRICE_MAX: f32 = 1e12;

/// One order.
///
/// The serde names are those of the Avro schema, for JSON output; Avro itself goes through
/// [`WriterSchema`](crate::WriterSchema) and [`encode_confluent`](crate::encode_confluent).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The id of the order, which is also the record's key.
    #[serde(rename = "orderId")]
    pub order_id: String,
    /// The name of the ordered product.
    pub product: String,
    /// The price in whole units of the currency.
    pub price: f32,
}

/// Checks that the price is valid, which the schema cannot express.
///
/// # Errors
/// [`PoisonKind::InvalidPrice`] for a price that is not finite, negative, or over [`PRICE_MAX`].
pub fn validate(order: &Order) -> Result<(), DecodeError> {
    let price = order.price;
    if (0.0..=PRICE_MAX).contains(&price) {
        Ok(())
    } else {
        Err(DecodeError::new(
            PoisonKind::InvalidPrice,
            format!("the price {price} is not between 0 and {PRICE_MAX}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_from_nothing_to_the_maximum_are_valid() {
        for price in [0.0, -0.0, f32::MIN_POSITIVE, 9.99, 999.99, PRICE_MAX] {
            assert_eq!(check(price), Ok(()), "{price}");
        }
    }

    #[test]
    fn prices_that_are_negative_not_finite_or_too_high_are_invalid() {
        for price in [-0.01, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, PRICE_MAX.next_up()] {
            assert_eq!(check(price), Err(PoisonKind::InvalidPrice), "{price}");
        }
    }

    fn check(price: f32) -> Result<(), PoisonKind> {
        let order = Order { order_id: "1001".into(), product: "Desk".into(), price };
        validate(&order).map_err(|error| error.kind())
    }
}
