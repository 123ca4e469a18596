//! Random orders and faulty records, which are the same for the same seed. This module has no IO.

pub(crate) mod catalogue;
pub(crate) mod faults;

use std::fmt::{self, Display};
use std::io::Write;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::{Builder, Uuid};

use crate::orders::catalogue::PRODUCTS;
use crate::orders::faults::{Fault, HOT_KEY};

/// The first id of numbered orders.
const FIRST_NUMBER: u64 = 1001;

/// The longest id, in bytes: a UUID's.
pub(crate) const ORDER_ID_BYTES_MAX: usize = uuid::fmt::Hyphenated::LENGTH;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OrderIdFormat {
    Uuid,
    /// Consecutive numbers from 1001.
    Sequential,
}

impl Display for OrderIdFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uuid => "uuid",
            Self::Sequential => "sequential",
        })
    }
}

/// A price in whole cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cents(pub(crate) u32);

impl Cents {
    /// Returns the price nearest to an amount in whole units; a negative amount becomes 0.
    #[expect(clippy::as_conversions, reason = "a float becomes an integer in no other way")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    pub(crate) fn nearest(amount: f64) -> Self {
        Self((amount * 100.0).round_ties_even().max(0.0) as u32)
    }

    /// Returns the price in whole units, for an order.
    #[expect(clippy::as_conversions, reason = "the nearest f32 to a decimal is what is meant")]
    #[expect(clippy::cast_possible_truncation, reason = "a u32 of cents is far below f32::MAX")]
    pub(crate) fn to_f32(self) -> f32 {
        self.to_f64() as f32
    }

    /// Returns the price in whole units, for log lines.
    pub(crate) fn to_f64(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OrderId {
    Uuid(Uuid),
    Number(u64),
}

impl OrderId {
    /// Writes the id into `buffer` and returns the text.
    pub(crate) fn write_to(self, buffer: &mut [u8; ORDER_ID_BYTES_MAX]) -> &str {
        match self {
            Self::Uuid(uuid) => uuid.hyphenated().encode_lower(buffer),
            Self::Number(number) => {
                let mut rest = buffer.as_mut_slice();
                let room = rest.len();
                // The longest u64 has 20 digits.
                write!(rest, "{number}").unwrap_or_default();
                let written = room - rest.len();
                str::from_utf8(&buffer[..written]).unwrap_or_default()
            }
        }
    }
}

impl Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.write_to(&mut [0; ORDER_ID_BYTES_MAX]))
    }
}

/// An order before its encoding. It is small and owns no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DrawnOrder {
    pub(crate) id: OrderId,
    pub(crate) product: &'static str,
    pub(crate) price: Cents,
    pub(crate) fault: Option<Fault>,
}

impl DrawnOrder {
    /// Returns the key of its record; `id` is the text of its own id.
    pub(crate) fn key(self, id: &str) -> &str {
        if self.fault == Some(Fault::HotKey) { HOT_KEY } else { id }
    }

    /// Returns whether no processor can process its record.
    pub(crate) fn is_bad(self) -> bool {
        self.fault.is_some_and(Fault::is_bad)
    }
}

/// Draws orders and faulty records.
#[derive(Debug)]
pub(crate) struct Orders {
    good: Draw,
    /// Bad records, and the decision for them, have a random stream of their own: the good orders do not depend on them.
    bad: Draw,
    fault_rate: f64,
    fault_kinds: Vec<Fault>,
}

/// A random stream and the orders from it.
#[derive(Debug)]
struct Draw {
    rng: StdRng,
    id_format: OrderIdFormat,
    next_number: u64,
    cheapest: Cents,
    dearest: Cents,
}

impl Orders {
    /// Returns the orders of `seed`, with prices from `cheapest` to `dearest`, both included.
    ///
    /// Every price is `cheapest` if `dearest` is lower.
    pub(crate) fn new(
        seed: u64,
        id_format: OrderIdFormat,
        cheapest: Cents,
        dearest: Cents,
    ) -> Self {
        let draw = |seed, id_format| Draw {
            rng: StdRng::seed_from_u64(seed),
            id_format,
            next_number: FIRST_NUMBER,
            cheapest,
            dearest: dearest.max(cheapest),
        };
        Self {
            good: draw(seed, id_format),
            bad: draw(!seed, OrderIdFormat::Uuid),
            fault_rate: 0.0,
            fault_kinds: Vec::new(),
        }
    }

    /// Gives a share of the records, `rate` from 0 to 1, faults of `kinds`, all equally often.
    pub(crate) fn with_faults(mut self, rate: f64, kinds: &[Fault]) -> Self {
        self.fault_rate = if kinds.is_empty() { 0.0 } else { rate };
        self.fault_kinds = kinds.to_vec();
        self
    }

    /// Returns the next order, or a bad record before it.
    pub(crate) fn draw(&mut self) -> DrawnOrder {
        let fault = self.draw_fault();
        let is_bad = fault.is_some_and(Fault::is_bad);
        let draw = if is_bad { &mut self.bad } else { &mut self.good };
        DrawnOrder { fault, ..draw.draw() }
    }

    fn draw_fault(&mut self) -> Option<Fault> {
        if self.fault_rate <= 0.0 {
            return None;
        }
        let is_faulty = self.bad.rng.random::<f64>() < self.fault_rate;
        is_faulty.then(|| self.fault_kinds[self.bad.rng.random_range(0..self.fault_kinds.len())])
    }
}

impl Draw {
    fn draw(&mut self) -> DrawnOrder {
        let id = match self.id_format {
            OrderIdFormat::Uuid => {
                let random = Builder::from_random_bytes(self.rng.random());
                OrderId::Uuid(random.into_uuid())
            }
            OrderIdFormat::Sequential => {
                let number = self.next_number;
                self.next_number += 1;
                OrderId::Number(number)
            }
        };
        let product = PRODUCTS[self.rng.random_range(0..PRODUCTS.len())];
        let price = Cents(self.rng.random_range(self.cheapest.0..=self.dearest.0));
        DrawnOrder { id, product, price, fault: None }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_orders() {
        for format in [OrderIdFormat::Uuid, OrderIdFormat::Sequential] {
            let first = draw(42, format, 1000);

            assert_eq!(first, draw(42, format, 1000));
            assert_ne!(first, draw(43, format, 1000));
        }
    }

    #[test]
    fn a_seed_gives_these_orders_in_every_build() {
        let described = |order: &DrawnOrder| {
            let DrawnOrder { id, product, price, .. } = order;
            format!("{id} {product} {}", price.to_f32())
        };
        let orders: Vec<_> = draw(42, OrderIdFormat::Uuid, 3).iter().map(described).collect();

        assert_eq!(
            orders,
            [
                "a2637d13-d171-4278-aadf-a8a3fbe8379b Portable Projector 139.95",
                "1e1f3739-092e-4243-9a17-fc8090ebca7c Cast Iron Skillet 524.05",
                "e47a1fc9-bfd0-42ab-831b-253f5063521f Cast Iron Skillet 796.43",
            ]
        );
    }

    #[test]
    fn numbered_orders_begin_at_1001() {
        let orders = draw(1, OrderIdFormat::Sequential, 3);

        let ids: Vec<_> = orders.iter().map(|order| order.id.to_string()).collect();
        assert_eq!(ids, ["1001", "1002", "1003"]);
    }

    #[test]
    fn uuids_are_distinct_and_of_version_4() {
        let orders = draw(1, OrderIdFormat::Uuid, 1000);

        let ids: BTreeSet<_> = orders.iter().map(|order| order.id.to_string()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert_eq!(Uuid::parse_str(&id).unwrap().get_version_num(), 4, "{id}");
        }
    }

    #[test]
    fn prices_cover_their_range_and_orders_every_product() {
        let mut orders = Orders::new(7, OrderIdFormat::Sequential, Cents(999), Cents(1002));
        let drawn: Vec<_> = (0..1000).map(|_| orders.draw()).collect();

        let prices: BTreeSet<_> = drawn.iter().map(|order| order.price.0).collect();
        let products: BTreeSet<_> = drawn.iter().map(|order| order.product).collect();
        assert_eq!(prices, BTreeSet::from([999, 1000, 1001, 1002]));
        assert_eq!(products.len(), PRODUCTS.len());
    }

    #[test]
    fn faults_add_bad_records_and_change_no_order() {
        let orders = draw(42, OrderIdFormat::Sequential, 1000);
        for (rate, kinds) in [(0.2, &Fault::ALL[..]), (0.9, &[Fault::Tombstone, Fault::HotKey])] {
            let mut good = Vec::new();
            let mut faulty = faulty(42, OrderIdFormat::Sequential, rate, kinds);
            while good.len() < orders.len() {
                let order = faulty.draw();
                if !order.is_bad() {
                    good.push(DrawnOrder { fault: None, ..order });
                }
            }

            assert_eq!(good, orders);
        }
    }

    #[test]
    fn the_share_of_faults_is_the_rate_and_every_kind_is_as_frequent() {
        let mut orders = faulty(7, OrderIdFormat::Uuid, 0.4, &Fault::ALL);
        let drawn: Vec<_> = (0..20_000).map(|_| orders.draw()).collect();

        for kind in Fault::ALL {
            let count = drawn.iter().filter(|order| order.fault == Some(kind)).count();
            // 1,000 are expected of each, with a standard deviation of 31.
            assert!((850..1150).contains(&count), "{kind}: {count}");
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_faults() {
        let drawn = |seed| {
            let mut orders = faulty(seed, OrderIdFormat::Uuid, 0.5, &Fault::ALL);
            (0..100).map(|_| orders.draw()).collect::<Vec<_>>()
        };

        assert_eq!(drawn(42), drawn(42));
        assert_ne!(drawn(42), drawn(43));
    }

    #[test]
    fn bad_records_have_ids_of_their_own() {
        let orders: BTreeSet<_> = draw(7, OrderIdFormat::Uuid, 1000).iter().map(id).collect();
        let mut faulty = faulty(7, OrderIdFormat::Uuid, 1.0, &[Fault::Truncated]);
        let bad: BTreeSet<_> = (0..1000).map(|_| id(&faulty.draw())).collect();

        assert_eq!(bad.len(), 1000);
        assert!(orders.is_disjoint(&bad));
    }

    #[test]
    fn prices_are_the_nearest_f32_to_whole_cents() {
        assert_eq!(Cents(999).to_f32().to_string(), "9.99");
        assert_eq!(Cents(99_999).to_f32().to_string(), "999.99");
        assert_eq!(Cents(0).to_f32().to_string(), "0");
        assert_eq!(Cents::nearest(9.99), Cents(999));
        assert_eq!(Cents::nearest(-1.0), Cents(0));
    }

    #[test]
    fn the_longest_number_fits_into_an_id() {
        assert_eq!(OrderId::Number(u64::MAX).to_string(), u64::MAX.to_string());
    }

    fn faulty(seed: u64, format: OrderIdFormat, rate: f64, kinds: &[Fault]) -> Orders {
        Orders::new(seed, format, Cents(999), Cents(99_999)).with_faults(rate, kinds)
    }

    fn id(order: &DrawnOrder) -> String {
        order.id.to_string()
    }

    fn draw(seed: u64, format: OrderIdFormat, count: usize) -> Vec<DrawnOrder> {
        let mut orders = Orders::new(seed, format, Cents(999), Cents(99_999));
        (0..count).map(|_| orders.draw()).collect()
    }
}
