//! The prices of the latest orders.

use super::micros::Micros;
use super::price_bits::PriceBits;
use crate::packing::{Unpacker, rice_bytes_max, varint_bytes_max, write_rice, write_varint};

/// How many orders count as recent.
pub const RECENT_MAX: usize = 100;

/// Bits of a timestamp in milliseconds: they last until the year 2109.
const TIMESTAMP_BITS: usize = 42;
const TIMESTAMP_MAX: i64 = (1 << TIMESTAMP_BITS) - 1;

/// How many sales are collected before all but the recent ones are dropped. Inserting each in its place would cost
/// several times as much: at full speed hundreds of orders have the same millisecond.
const COLLECTED_MAX: usize = 4 * RECENT_MAX;

/// An order's rank: by time, and within a millisecond by scrambled price. So the set of recent orders does not depend
/// on the order of completion, and favours neither high nor low prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sale {
    timestamp_ms: u64,
    scrambled_price: u32,
    price: PriceBits,
}

impl Sale {
    /// Clamps the timestamp to the range from 1970 to [`TIMESTAMP_MAX`], which fits in a checkpoint.
    #[inline]
    pub(super) fn new(timestamp_ms: i64, price: PriceBits) -> Self {
        let timestamp_ms = timestamp_ms.clamp(0, TIMESTAMP_MAX).cast_unsigned();
        Self { timestamp_ms, scrambled_price: scramble(price), price }
    }
}

/// Maps prices to numbers that are not in their order. Every step is invertible, so different prices have different
/// numbers.
#[inline]
fn scramble(price: PriceBits) -> u32 {
    let mixed = (price.0 ^ (price.0 >> 16)).wrapping_mul(0x9e37_79b1);
    (mixed ^ (mixed >> 15)).wrapping_mul(0x85eb_ca6b)
}

/// The largest sales, at most [`RECENT_MAX`].
#[derive(Clone, Debug, Default)]
pub(super) struct RecentPrices {
    /// In any order; the largest ones count.
    collected: Vec<Sale>,
    /// Sales up to this one are too early to count.
    smallest: Option<Sale>,
}

impl RecentPrices {
    /// Adds a sale, unless [`RECENT_MAX`] others are later.
    #[inline]
    pub(super) fn insert(&mut self, sale: Sale) {
        if self.smallest.is_some_and(|smallest| sale <= smallest) {
            return;
        }
        self.collected.push(sale);
        if self.collected.len() == COLLECTED_MAX {
            self.drop_smaller();
        }
    }

    #[cold]
    fn drop_smaller(&mut self) {
        let (_, smallest, _) =
            self.collected.select_nth_unstable_by(RECENT_MAX - 1, |a, b| b.cmp(a));
        self.smallest = Some(*smallest);
        self.collected.truncate(RECENT_MAX);
    }

    /// Returns the recent sales in ascending order.
    pub(super) fn sales(&self) -> Vec<Sale> {
        let mut sales = self.collected.clone();
        sales.sort_unstable();
        sales.split_off(sales.len().saturating_sub(RECENT_MAX))
    }

    pub(super) fn len(&self) -> usize {
        self.collected.len().min(RECENT_MAX)
    }

    pub(super) fn average(&self) -> Option<Micros> {
        let sales = self.sales();
        let prices = sales.iter().map(|sale| Micros::of_price(sale.price.price()));
        let count = u64::try_from(sales.len()).unwrap_or(u64::MAX);
        prices.fold(Micros::default(), |sum, price| sum + price).divided_by(count)
    }

    /// The most bytes that [`Self::write`] appends: count, first timestamp, gaps to the next ones, prices.
    pub(super) const BYTES_MAX: usize = varint_bytes_max(7)
        + varint_bytes_max(TIMESTAMP_BITS)
        + rice_bytes_max(RECENT_MAX - 1, (1 << TIMESTAMP_BITS) - 1, 35)
        + RECENT_MAX * size_of::<u32>();

    pub(super) fn write(&self, into: &mut Vec<u8>) {
        let sales = self.sales();
        write_varint(u64::try_from(sales.len()).unwrap_or(u64::MAX), into);
        let Some(oldest) = sales.first() else { return };
        write_varint(oldest.timestamp_ms, into);
        let gaps: Vec<_> = sales
            .windows(2)
            .map(|pair| pair[0].timestamp_ms.abs_diff(pair[1].timestamp_ms))
            .collect();
        write_rice(&gaps, into);
        for sale in &sales {
            into.extend_from_slice(&sale.price.0.to_le_bytes());
        }
    }

    pub(super) fn read(from: &mut Unpacker<'_>) -> Option<Self> {
        let count: usize = from.varint()?;
        if count == 0 {
            return Some(Self::default());
        }
        if count > RECENT_MAX {
            return None;
        }
        let mut timestamp_ms: i64 = from.varint()?;
        let mut times = vec![timestamp_ms];
        for gap in from.rice(count - 1)? {
            timestamp_ms = timestamp_ms.checked_add_unsigned(gap)?;
            times.push(timestamp_ms);
        }
        if timestamp_ms > TIMESTAMP_MAX {
            return None;
        }
        let mut recent = Self::default();
        for timestamp_ms in times {
            let price = PriceBits(u32::from_le_bytes(from.array()?));
            if !price.is_valid() {
                return None;
            }
            recent.insert(Sale::new(timestamp_ms, price));
        }
        Some(recent)
    }
}

impl PartialEq for RecentPrices {
    fn eq(&self, other: &Self) -> bool {
        self.sales() == other.sales()
    }
}

impl Eq for RecentPrices {}
