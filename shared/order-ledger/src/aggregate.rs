//! The numbers about orders: exact, and independent of the order in which records complete.
//!
//! Every number is a function of the set of complete records: counts, an integer sum, minimum and maximum, and the 100
//! latest prices by record timestamp. So the numbers of several partitions can be merged, and records that are repeated
//! after a crash give the same numbers.

mod micros;
mod price_bits;
mod recent;

pub use self::micros::Micros;
pub use self::recent::RECENT_MAX;

use self::price_bits::PriceBits;
use self::recent::{RecentPrices, Sale};
use crate::packing::{Unpacker, varint_bytes_max, write_varint};

/// The largest count of a partition's records: no log has more offsets.
pub(crate) const COUNT_MAX: u64 = i64::MAX.unsigned_abs();

/// The numbers of one partition, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aggregate {
    orders: u64,
    dead_letters: u64,
    replayed: u64,
    retries: u64,
    sum: Micros,
    /// Minimum and maximum price; `None` without orders.
    extremes: Option<(PriceBits, PriceBits)>,
    recent: RecentPrices,
}

impl Aggregate {
    /// Counts a processed order with a valid price. The timestamp is in milliseconds since 1970.
    #[inline]
    pub fn add_order(&mut self, timestamp_ms: i64, price: f32) {
        let price = PriceBits::of(price);
        self.orders += 1;
        self.sum += Micros::of_price(price.price());
        self.extremes = Some(match self.extremes {
            Some((min, max)) => (min.min(price), max.max(price)),
            None => (price, price),
        });
        self.recent.insert(Sale::new(timestamp_ms, price));
    }

    /// Counts a record that became a dead letter.
    pub fn add_dead_letter(&mut self) {
        self.dead_letters += 1;
    }

    /// Counts that an order or dead letter was a replayed dead letter.
    pub fn add_replayed(&mut self) {
        self.replayed += 1;
    }

    /// Counts the attempts at a complete record after the first one.
    #[inline]
    pub fn add_retries(&mut self, retries: u32) {
        self.retries = self.retries.saturating_add(u64::from(retries));
    }

    /// Adds the numbers of other records.
    pub fn merge(&mut self, other: &Self) {
        let add = |count: &mut u64, others: u64| *count = count.saturating_add(others);
        add(&mut self.orders, other.orders);
        add(&mut self.dead_letters, other.dead_letters);
        add(&mut self.replayed, other.replayed);
        add(&mut self.retries, other.retries);
        self.sum += other.sum;
        self.extremes = match (self.extremes, other.extremes) {
            (Some((min, max)), Some((other_min, other_max))) => {
                Some((min.min(other_min), max.max(other_max)))
            }
            (ours, theirs) => ours.or(theirs),
        };
        for sale in other.recent.sales() {
            self.recent.insert(sale);
        }
    }

    /// Returns how many orders were processed.
    pub fn orders(&self) -> u64 {
        self.orders
    }

    /// Returns how many records became dead letters.
    pub fn dead_letters(&self) -> u64 {
        self.dead_letters
    }

    /// Returns how many of the orders and dead letters were replayed dead letters.
    pub fn replayed(&self) -> u64 {
        self.replayed
    }

    /// Returns how many attempts followed the first one at a record.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// Returns how many records are complete: each is an order or a dead letter.
    pub fn records(&self) -> u64 {
        self.orders.saturating_add(self.dead_letters)
    }

    /// Returns the sum of the prices of all orders.
    pub fn sum(&self) -> Micros {
        self.sum
    }

    /// Returns the lowest price; `None` without orders.
    pub fn min(&self) -> Option<f32> {
        self.extremes.map(|(min, _)| min.price())
    }

    /// Returns the highest price; `None` without orders.
    pub fn max(&self) -> Option<f32> {
        self.extremes.map(|(_, max)| max.price())
    }

    /// Returns the average price of all orders, rounded to millionths; `None` without orders.
    pub fn average(&self) -> Option<Micros> {
        self.sum.divided_by(self.orders)
    }

    /// Returns the average price of the latest orders, at most [`RECENT_MAX`], rounded to millionths; `None` without
    /// orders.
    pub fn recent_average(&self) -> Option<Micros> {
        self.recent.average()
    }

    /// Returns how many orders the recent average covers.
    pub fn recent_len(&self) -> usize {
        self.recent.len()
    }
}

impl Aggregate {
    /// The most bytes that [`Self::write`] appends.
    pub(crate) const BYTES_MAX: usize = 4 * varint_bytes_max(64)
        + varint_bytes_max(128)
        + 2 * size_of::<u32>()
        + RecentPrices::BYTES_MAX;

    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        for count in [self.orders, self.dead_letters, self.replayed, self.retries] {
            write_varint(count, into);
        }
        write_varint(self.sum.to_zigzag(), into);
        if let Some((min, max)) = self.extremes {
            into.extend_from_slice(&min.0.to_le_bytes());
            into.extend_from_slice(&max.0.to_le_bytes());
        }
        self.recent.write(into);
    }

    /// Reads the form that [`Self::write`] appends; `None` for other bytes, and for numbers that no records have.
    pub(crate) fn read(from: &mut Unpacker<'_>) -> Option<Self> {
        let orders = from.varint()?;
        let dead_letters = from.varint()?;
        let replayed = from.varint()?;
        let retries = from.varint()?;
        let counts = [orders, dead_letters, replayed, retries];
        counts.iter().all(|count| *count <= COUNT_MAX).then_some(())?;
        let sum = Micros::from_zigzag(from.varint()?);
        let extremes = if orders == 0 {
            None
        } else {
            let min = PriceBits(u32::from_le_bytes(from.array()?));
            let max = PriceBits(u32::from_le_bytes(from.array()?));
            (min <= max && max.is_valid()).then_some(Some((min, max)))?
        };
        let (min, max) = extremes.map_or((0.0, 0.0), |(min, max)| (min.price(), max.price()));
        let total = |price| Micros::of_price(price).millionths() * i128::from(orders);
        (total(min)..=total(max)).contains(&sum.millionths()).then_some(())?;
        let recent = RecentPrices::read(from)?;
        Some(Self { orders, dead_letters, replayed, retries, sum, extremes, recent })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn orders() -> impl Strategy<Value = Vec<(i64, f32)>> {
        let price = prop_oneof![4 => 5.0_f32..1500.0, 1 => Just(-0.0), 1 => 0.0_f32..=1e12];
        let timestamp =
            prop_oneof![6 => 1_700_000_000_000_i64..1_700_000_001_000, 1 => any::<i64>()];
        proptest::collection::vec((timestamp, price), 0..900)
    }

    fn aggregate(orders: &[(i64, f32)]) -> Aggregate {
        let mut aggregate = Aggregate::default();
        for (timestamp_ms, price) in orders {
            aggregate.add_order(*timestamp_ms, *price);
        }
        aggregate
    }

    /// Computes the recent average from all orders: they are sorted by time, and within a millisecond by scrambled
    /// price.
    fn plain_recent_average(orders: &[(i64, f32)]) -> Option<Micros> {
        let clamp = |timestamp_ms: i64| timestamp_ms.clamp(0, (1 << 42) - 1);
        let mut sorted: Vec<_> = orders.iter().map(|(ts, price)| (clamp(*ts), *price)).collect();
        let scramble = |price: f32| {
            let bits = (price + 0.0).to_bits();
            let mixed = (bits ^ (bits >> 16)).wrapping_mul(2_654_435_761);
            (mixed ^ (mixed >> 15)).wrapping_mul(2_246_822_507)
        };
        sorted.sort_by_key(|(timestamp_ms, price)| (*timestamp_ms, scramble(*price)));
        let recent = &sorted[sorted.len().saturating_sub(100)..];
        let mut sum = Micros::default();
        for (_, price) in recent {
            sum += Micros::of_price(*price);
        }
        sum.divided_by(u64::try_from(recent.len()).unwrap())
    }

    fn written(aggregate: &Aggregate) -> Vec<u8> {
        let mut bytes = Vec::new();
        aggregate.write(&mut bytes);
        bytes
    }

    #[test]
    fn no_price_is_favoured_among_orders_of_the_same_millisecond() {
        let orders: Vec<_> = (0..10_000_u16).map(|cents| (5, f32::from(cents) / 100.0)).collect();
        let recent_average = aggregate(&orders).recent_average().unwrap().as_f64();
        assert!(
            (40.0..60.0).contains(&recent_average),
            "of prices from 0 to 100: {recent_average}"
        );
    }

    #[test]
    fn an_order_counts_as_recent_by_its_time_whenever_it_completes() {
        for count in [99, 100, 400, 401] {
            // 457 is prime, so the times are all different, and in no order.
            let times = (1..=count).map(|index| 2 * (index * 171 % 457));
            let orders: Vec<_> = times.map(|time| (time, 1.0)).collect();
            for time in (1..915).step_by(2) {
                let with_another = [orders.as_slice(), &[(time, 2.0)]].concat();
                let recent_average = aggregate(&with_another).recent_average();
                assert_eq!(recent_average, plain_recent_average(&with_another), "{count} {time}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_order_in_which_records_complete_changes_nothing(
            (orders, shuffled) in orders().prop_flat_map(|o| (Just(o.clone()), Just(o).prop_shuffle())),
            cut: prop::sample::Index,
        ) {
            let all = aggregate(&orders);
            prop_assert_eq!(&all, &aggregate(&shuffled));
            prop_assert_eq!(written(&all), written(&aggregate(&shuffled)));
            let (one, other) = shuffled.split_at(cut.index(shuffled.len() + 1));
            let mut merged = aggregate(one);
            merged.merge(&aggregate(other));
            prop_assert_eq!(&all, &merged);
        }

        #[test]
        fn the_numbers_are_those_of_the_plain_list_of_orders(orders in orders()) {
            let aggregate = aggregate(&orders);
            let prices = || orders.iter().map(|(_, price)| *price);
            let mut sum = Micros::default();
            prices().for_each(|price| sum += Micros::of_price(price));
            prop_assert_eq!(aggregate.orders(), u64::try_from(orders.len()).unwrap());
            prop_assert_eq!(aggregate.sum(), sum);
            prop_assert_eq!(aggregate.min(), prices().reduce(f32::min));
            prop_assert_eq!(aggregate.max(), prices().reduce(f32::max));
            prop_assert_eq!(aggregate.recent_len(), orders.len().min(100));
            prop_assert_eq!(aggregate.recent_average(), plain_recent_average(&orders));
        }

        #[test]
        fn written_numbers_are_read_back_and_fit(
            orders in orders(),
            counts in [0..COUNT_MAX, 0..COUNT_MAX, 0..COUNT_MAX / 2],
            retries: u32,
        ) {
            let mut aggregate = aggregate(&orders);
            [aggregate.dead_letters, aggregate.replayed, aggregate.retries] = counts;
            aggregate.add_retries(retries);
            let bytes = written(&aggregate);
            prop_assert!(bytes.len() <= Aggregate::BYTES_MAX);
            let mut unpacker = Unpacker::new(&bytes);
            prop_assert_eq!(Aggregate::read(&mut unpacker), Some(aggregate));
            prop_assert!(unpacker.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Some(aggregate) = Aggregate::read(&mut Unpacker::new(&bytes)) {
                prop_assert!(aggregate.recent_len() <= RECENT_MAX);
            }
        }
    }

    #[test]
    fn numbers_that_no_records_have_are_refused() {
        let read = |aggregate: &Aggregate| Aggregate::read(&mut Unpacker::new(&written(aggregate)));
        let usual = aggregate(&[(5, 2.0), (6, 4.0)]);
        assert_eq!(read(&usual).as_ref(), Some(&usual));
        for count in [COUNT_MAX + 1, u64::MAX] {
            assert_eq!(read(&Aggregate { retries: count, ..usual.clone() }), None);
            assert_eq!(read(&Aggregate { dead_letters: count, ..Aggregate::default() }), None);
        }
        for millions in [3, 9] {
            let sum = Micros::from_zigzag(2 * millions * 1_000_000);
            assert_eq!(read(&Aggregate { sum, ..usual.clone() }), None, "{sum} of 2.0 and 4.0");
            assert_eq!(read(&Aggregate { sum, ..Aggregate::default() }), None);
        }
    }

    #[test]
    fn the_largest_numbers_of_all_fit() {
        let mut aggregate = Aggregate::default();
        for index in 0..100 {
            aggregate.add_order(index * ((1 << 42) / 100), 1e12);
        }
        aggregate.orders = u64::MAX;
        aggregate.dead_letters = u64::MAX;
        aggregate.replayed = u64::MAX;
        aggregate.retries = u64::MAX;
        aggregate.sum = Micros::from_zigzag(u128::MAX);
        let bytes = written(&aggregate);
        assert!(bytes.len() <= Aggregate::BYTES_MAX, "{} bytes", bytes.len());
        assert!(bytes.len() > Aggregate::BYTES_MAX - 10, "the bound is not far off");
    }

    #[test]
    fn an_empty_aggregate_has_no_average() {
        let aggregate = Aggregate::default();
        assert_eq!((aggregate.average(), aggregate.recent_average()), (None, None));
        assert_eq!((aggregate.min(), aggregate.max()), (None, None));
        assert_eq!(aggregate.sum().to_string(), "0");
    }

    #[test]
    fn extremes_that_are_not_prices_are_refused() {
        let mut aggregate = Aggregate::default();
        aggregate.add_order(0, 1.0);
        for (min, max) in
            [(2.0, 1.0), (1.0, f32::NAN), (1.0, f32::INFINITY), (-2.0, -1.0), (1.0, 2e12)]
        {
            aggregate.extremes = Some((PriceBits(f32::to_bits(min)), PriceBits(f32::to_bits(max))));
            assert_eq!(
                Aggregate::read(&mut Unpacker::new(&written(&aggregate))),
                None,
                "{min} {max}"
            );
        }
    }
}
