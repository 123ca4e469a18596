//! The prices of the latest orders.

use std::cmp::Ordering;
use std::collections::VecDeque;

use kafka_group::packing::{Unpacker, rice_bytes_max, varint_bytes_max, write_rice, write_varint};

use super::{Micros, PriceBits};

/// How many orders count as recent.
pub const RECENT_MAX: usize = 100;

/// Bits of a timestamp, which last until the year 2109.
const TIMESTAMP_BITS: usize = 42;
const TIMESTAMP_MAX: i64 = (1 << TIMESTAMP_BITS) - 1;

/// An order's place among the others: by time, and within a millisecond by a scramble of the price. Which orders are
/// recent then depends on no order of completion, and neither high nor low prices are favoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sale {
    timestamp_ms: u64,
    price: PriceBits,
}

impl Sale {
    /// Timestamps before 1970 or beyond [`TIMESTAMP_MAX`] count as those: only their place matters, and they have to fit.
    #[inline]
    pub(super) fn new(timestamp_ms: i64, price: PriceBits) -> Self {
        Self { timestamp_ms: timestamp_ms.clamp(0, TIMESTAMP_MAX).cast_unsigned(), price }
    }
}

impl Ord for Sale {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        let by_time = self.timestamp_ms.cmp(&other.timestamp_ms);
        by_time.then_with(|| scramble(self.price).cmp(&scramble(other.price)))
    }
}

impl PartialOrd for Sale {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Maps prices to numbers without any order among them. Two prices never share a number, because every step can be
/// undone: equal places are equal sales.
fn scramble(price: PriceBits) -> u32 {
    let mixed = (price.0 ^ (price.0 >> 16)).wrapping_mul(0x9e37_79b1);
    (mixed ^ (mixed >> 15)).wrapping_mul(0x85eb_ca6b)
}

/// The largest sales, at most [`RECENT_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RecentPrices {
    /// Rising.
    sales: VecDeque<Sale>,
}

impl RecentPrices {
    /// Puts a sale among the recent ones, unless it is older than all of them.
    #[inline]
    pub(super) fn insert(&mut self, sale: Sale) {
        if self.sales.len() == RECENT_MAX {
            if self.sales.front().is_some_and(|oldest| sale <= *oldest) {
                return;
            }
            self.sales.pop_front();
        }
        match self.sales.back() {
            Some(newest) if sale < *newest => {
                let place = self.sales.partition_point(|earlier| *earlier <= sale);
                self.sales.insert(place, sale);
            }
            Some(_) | None => self.sales.push_back(sale),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Sale> {
        self.sales.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.sales.len()
    }

    pub(super) fn average(&self) -> Option<Micros> {
        let prices = self.sales.iter().map(|sale| Micros::of_price(sale.price.price()));
        let count = u64::try_from(self.len()).unwrap_or(u64::MAX);
        prices.fold(Micros::default(), |sum, price| sum + price).divided_by(count)
    }

    /// The most bytes that [`Self::write`] appends: a count, the first timestamp, the gaps to the others, the prices.
    pub(super) const BYTES_MAX: usize = varint_bytes_max(7)
        + varint_bytes_max(TIMESTAMP_BITS)
        + rice_bytes_max(RECENT_MAX - 1, (1 << TIMESTAMP_BITS) - 1, 35)
        + RECENT_MAX * size_of::<u32>();

    pub(super) fn write(&self, into: &mut Vec<u8>) {
        write_varint(u64::try_from(self.len()).unwrap_or(u64::MAX), into);
        let Some(oldest) = self.sales.front() else { return };
        write_varint(oldest.timestamp_ms, into);
        let times = self.sales.iter().map(|sale| sale.timestamp_ms);
        let gaps: Vec<_> =
            times.clone().zip(times.skip(1)).map(|(time, next)| next - time).collect();
        write_rice(&gaps, into);
        for sale in &self.sales {
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
        let mut timestamp_ms: u64 = from.varint()?;
        let mut times = vec![timestamp_ms];
        for gap in from.rice(count - 1)? {
            timestamp_ms = timestamp_ms.checked_add(gap)?;
            times.push(timestamp_ms);
        }
        let mut recent = Self::default();
        for timestamp_ms in times {
            let price = PriceBits(u32::from_le_bytes(from.array()?));
            recent.sales.push_back(Sale { timestamp_ms, price });
        }
        let is_valid = timestamp_ms <= TIMESTAMP_MAX.cast_unsigned()
            && recent.sales.iter().all(|sale| sale.price.is_valid())
            && recent.sales.iter().is_sorted();
        is_valid.then_some(recent)
    }
}
