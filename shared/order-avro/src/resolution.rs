//! Reading an order field by field, from a datum of any writer's schema.
//!
//! The Avro library calls these visitors with what the writer's schema says comes next, so that an order is
//! built without an intermediate value. Which types may become which is Avro's: int and long become float,
//! bytes become string; [`WriterSchema::parse`](crate::WriterSchema::parse) has refused what never fits.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor},
};

use crate::Order;

/// An order read by the writer's schema.
pub(crate) struct Resolved(pub(crate) Order);

#[derive(Deserialize)]
#[serde(field_identifier)]
enum Field {
    #[serde(rename = "orderId")]
    OrderId,
    #[serde(rename = "product")]
    Product,
    #[serde(rename = "price")]
    Price,
    #[serde(other)]
    Other,
}

/// A string, or bytes that are one.
pub(crate) struct Text(pub(crate) String);

/// A float, or an integer that becomes one.
struct Price(f32);

/// Reads a value of any type and forgets it.
///
/// A datum of a few bytes can stand for values without end: nested as deep as it is long in a recursive
/// type, or counted in billions where a value takes no bytes. Hence two limits.
struct Skip<'a> {
    depth_left: u32,
    values_left: &'a mut u32,
}

/// How deep the values of fields that orders do not have may be nested.
const SKIPPED_DEPTH_MAX: u32 = 64;

/// How many values, nested ones included, the fields that orders do not have may hold.
const SKIPPED_VALUES_MAX: u32 = 100_000;

impl<'de> Deserialize<'de> for Resolved {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As a map, because reading a struct would insist on the record's name.
        deserializer.deserialize_map(OrderVisitor)
    }
}

struct OrderVisitor;

impl<'de> Visitor<'de> for OrderVisitor {
    type Value = Resolved;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an order")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Resolved, A::Error> {
        let (mut order_id, mut product, mut price) = (None, None, None);
        let mut values_left = SKIPPED_VALUES_MAX;
        while let Some(field) = fields.next_key()? {
            match field {
                Field::OrderId => order_id = Some(fields.next_value::<Text>()?.0),
                Field::Product => product = Some(fields.next_value::<Text>()?.0),
                Field::Price => price = Some(fields.next_value::<Price>()?.0),
                Field::Other => fields.next_value_seed(Skip {
                    depth_left: SKIPPED_DEPTH_MAX,
                    values_left: &mut values_left,
                })?,
            }
        }
        Ok(Resolved(Order {
            order_id: order_id.ok_or_else(|| de::Error::missing_field("orderId"))?,
            product: product.ok_or_else(|| de::Error::missing_field("product"))?,
            price: price.ok_or_else(|| de::Error::missing_field("price"))?,
        }))
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Text, E> {
        Ok(Text(text))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Text, E> {
        String::from_utf8(bytes).map(Text).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PriceVisitor)
    }
}

struct PriceVisitor;

impl Visitor<'_> for PriceVisitor {
    type Value = Price;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a price")
    }

    fn visit_f32<E: de::Error>(self, price: f32) -> Result<Price, E> {
        Ok(Price(price))
    }

    fn visit_i64<E: de::Error>(self, price: i64) -> Result<Price, E> {
        #[expect(
            clippy::as_conversions,
            clippy::cast_precision_loss,
            reason = "Avro promotes int and long to float, to the nearest one"
        )]
        Ok(Price(price as f32))
    }
}

impl Skip<'_> {
    /// Counts one more value, and returns what the values inside it may count on.
    fn enter<E: de::Error>(&mut self) -> Result<(), E> {
        let exhausted = || E::custom("the fields that orders do not have hold too much");
        *self.values_left = self.values_left.checked_sub(1).ok_or_else(exhausted)?;
        self.depth_left = self.depth_left.checked_sub(1).ok_or_else(exhausted)?;
        Ok(())
    }

    fn inner(&mut self) -> Skip<'_> {
        Skip { depth_left: self.depth_left, values_left: self.values_left }
    }
}

impl<'de> DeserializeSeed<'de> for Skip<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        self.enter()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Skip<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_bytes<E: de::Error>(self, _: &[u8]) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self.inner())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        while entries.next_key::<Field>()?.is_some() {
            entries.next_value_seed(self.inner())?;
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, symbol: A) -> Result<(), A::Error> {
        let (_, variant) = symbol.variant::<Field>()?;
        variant.unit_variant()
    }
}
