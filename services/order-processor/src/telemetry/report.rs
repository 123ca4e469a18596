//! Log lines about orders, and what this process has done since it started.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dead_letter::ErrorType;
use kafka_core::TopicPartition;
use order_avro::Order;
use order_ledger::aggregate::{Aggregate, Micros};
use service_runtime::trace_context::TraceId;
use service_runtime::{LineLimit, two_decimals};
use tracing::field::display;

use crate::telemetry::group_snapshot::GroupSnapshot;

/// Lines a second about processed orders.
const PROCESSED_LINES: usize = 10;
/// Lines a second about retries, and about dead letters.
const FAILURE_LINES: usize = 5;

/// Writes log lines about orders at a bounded rate, and keeps the numbers that they show.
#[derive(Debug)]
pub(crate) struct Reporter {
    processed: LineLimit,
    retries: LineLimit,
    dead_letters: LineLimit,
    view: Mutex<View>,
}

/// The record that a line is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub(crate) tp: &'a TopicPartition,
    pub(crate) offset: i64,
    pub(crate) order: Option<&'a Order>,
    /// The trace that the record is part of.
    pub(crate) trace_id: Option<TraceId>,
}

/// The group's numbers as this process knows them: its own partitions' from memory, the others' as last committed.
#[derive(Debug, Default)]
struct View {
    own: BTreeMap<TopicPartition, Aggregate>,
    others: BTreeMap<TopicPartition, Aggregate>,
    totals: Totals,
}

/// What this process has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) processed: u64,
    pub(crate) retries: u64,
    pub(crate) dead_letters: u64,
    pub(crate) revenue: Micros,
}

impl Totals {
    fn of(aggregate: &Aggregate) -> Self {
        Self {
            processed: aggregate.orders(),
            retries: aggregate.retries(),
            dead_letters: aggregate.dead_letters(),
            revenue: aggregate.sum(),
        }
    }

    fn add(&mut self, other: Self) {
        self.processed += other.processed;
        self.retries += other.retries;
        self.dead_letters += other.dead_letters;
        self.revenue += other.revenue;
    }

    fn since(self, start: Self) -> Self {
        Self {
            processed: self.processed.saturating_sub(start.processed),
            retries: self.retries.saturating_sub(start.retries),
            dead_letters: self.dead_letters.saturating_sub(start.dead_letters),
            revenue: self.revenue - start.revenue,
        }
    }

    /// Returns the number of completed records.
    pub(crate) fn received(&self) -> u64 {
        self.processed + self.dead_letters
    }
}

impl Reporter {
    pub(crate) fn new() -> Self {
        Self {
            processed: LineLimit::new("orders processed", PROCESSED_LINES),
            retries: LineLimit::new("retries", FAILURE_LINES),
            dead_letters: LineLimit::new("dead letters", FAILURE_LINES),
            view: Mutex::default(),
        }
    }

    /// Returns how many lines about at most `records` processed orders may be written.
    pub(crate) fn reserve(&self, records: usize) -> usize {
        self.processed.reserve(records)
    }

    /// Counts processed orders about which no line was written.
    pub(crate) fn withhold(&self, orders: usize) {
        self.processed.withhold(orders);
    }

    /// Reports an order that was processed, with the group-wide average so far.
    pub(crate) fn processed(&self, about: About<'_>, attempts: u32, aggregate: &Aggregate) {
        let About { tp, offset, order, trace_id } = about;
        self.update(tp, aggregate);
        let group = self.group();
        let average = group.average().map(shown);
        let recent_average = group.recent_average().map(shown);
        let partition = tp.partition;
        let order_id = order.map(|order| display(&order.order_id));
        let product = order.map(|order| order.product.as_str());
        let price = order.map(|order| two_decimals(f64::from(order.price)));
        let trace_id = trace_id.map(display);
        let attempts = Some(attempts).filter(|attempts| *attempts > 1);
        tracing::info!(
            order_id,
            product,
            price,
            partition,
            offset,
            average,
            recent_average,
            attempts,
            trace_id,
            "{}",
            if attempts.is_some() { "processed after a retry" } else { "processed" }
        );
    }

    /// Reports a transient failure and when the order is tried again.
    pub(crate) fn retrying(&self, about: About<'_>, attempts: u32, delay: Duration, reason: &str) {
        let About { tp, offset, order, trace_id } = about;
        if self.retries.admit(1) > 0 {
            let retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            let order_id = order.map(|order| display(&order.order_id));
            tracing::warn!(
                order_id,
                partition = tp.partition,
                offset,
                attempt = attempts,
                retry_in_ms,
                reason,
                trace_id = trace_id.map(display),
                "failed, will be tried again"
            );
        }
    }

    /// Reports a record that goes to the dead-letter topic.
    pub(crate) fn dead_letter(&self, about: About<'_>, error_type: ErrorType, message: &str) {
        let About { tp, offset, order, trace_id } = about;
        if self.dead_letters.admit(1) > 0 {
            let error_type = error_type.as_str();
            let order_id = order.map(|order| display(&order.order_id));
            tracing::warn!(
                order_id, partition = tp.partition, offset, %error_type, reason = message,
                trace_id = trace_id.map(display),
                "goes to the dead-letter topic"
            );
        }
    }

    /// Adds a partition with the numbers of its checkpoint.
    pub(crate) fn take_over(&self, tp: &TopicPartition, aggregate: &Aggregate) {
        let mut view = self.view();
        view.others.remove(tp);
        view.own.insert(tp.clone(), aggregate.clone());
    }

    /// Sets the numbers of an own partition.
    pub(crate) fn update(&self, tp: &TopicPartition, aggregate: &Aggregate) {
        let View { own, totals, .. } = &mut *self.view();
        if let Some(own) = own.get_mut(tp) {
            totals.add(Totals::of(aggregate).since(Totals::of(own)));
            own.clone_from(aggregate);
        }
    }

    pub(crate) fn give_up(&self, tp: &TopicPartition) {
        let mut view = self.view();
        if let Some(own) = view.own.remove(tp) {
            view.others.insert(tp.clone(), own);
        }
    }

    /// Sets the committed numbers of the partitions of other members. Partitions that have vanished, or whose committed
    /// offset was deleted, do not count.
    pub(crate) fn committed(&self, numbers: GroupSnapshot) {
        let mut view = self.view();
        view.others.retain(|tp, _| numbers.is_unknown(tp));
        for (tp, aggregate) in numbers.into_known() {
            if !view.own.contains_key(&tp) {
                view.others.insert(tp, aggregate);
            }
        }
    }

    /// Returns the numbers of the whole group.
    pub(crate) fn group(&self) -> Aggregate {
        let view = self.view();
        let mut group = Aggregate::default();
        for aggregate in view.own.values().chain(view.others.values()) {
            group.merge(aggregate);
        }
        group
    }

    /// Returns what this process has done since it started.
    pub(crate) fn totals(&self) -> Totals {
        self.view().totals
    }

    /// Writes the counts of withheld lines; the session calls it once a second.
    pub(crate) fn tick(&self) {
        self.processed.tick();
        self.retries.tick();
        self.dead_letters.tick();
    }

    /// Writes the final statistics of this process and of the group.
    pub(crate) fn finish(&self) {
        self.processed.flush();
        self.retries.flush();
        self.dead_letters.flush();
        let totals = self.totals();
        let group = self.group();
        tracing::info!(
            received = totals.received(),
            processed = totals.processed,
            retried = totals.retries,
            dead_lettered = totals.dead_letters,
            revenue = %totals.revenue,
            average_order_value = totals.revenue.divided_by(totals.processed).map(shown),
            "final statistics of this replica"
        );
        tracing::info!(
            orders = group.orders(),
            revenue = %group.sum(),
            average = group.average().map(shown),
            recent_average = group.recent_average().map(shown),
            dead_letters = group.dead_letters(),
            "final statistics of the group, as far as this replica knows"
        );
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns an average with two decimals.
fn shown(average: Micros) -> f64 {
    two_decimals(average.as_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_have_vanished_do_not_count_any_more_and_unknown_ones_stay() {
        let reporter = Reporter::new();
        let one = || Some(one_order());
        reporter.committed(GroupSnapshot::of(&[(0, one()), (1, one()), (2, one())], "orders"));
        assert_eq!(reporter.group().orders(), 3);
        reporter.committed(GroupSnapshot::of(&[(0, one()), (1, None)], "orders"));
        assert_eq!(reporter.group().orders(), 2);
        reporter.committed(GroupSnapshot::of(&[], "orders"));
        assert_eq!(reporter.group().orders(), 0);
    }

    fn one_order() -> Aggregate {
        let mut aggregate = Aggregate::default();
        aggregate.add_order(0, 1.0);
        aggregate
    }
}
