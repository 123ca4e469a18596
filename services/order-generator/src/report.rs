//! The outcomes of orders: log lines, metrics, and the final statistics.

use std::time::Duration;

use kafka_client::producer::ProduceError;
use kafka_core::TopicPartition;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use service_runtime::{LineLimit, Metrics, two_decimals};
use tokio_util::sync::CancellationToken;
use tracing::field::display;
use tracing::{error, info};

use crate::orders::DrawnOrder;
use crate::orders::faults::Fault;
use crate::senders::batch::PendingOrder;

/// The most log lines of deliveries and of failures in a second; the report counts the others.
const LINES_PER_SECOND: usize = 10;

/// Counts and logs the outcomes of orders.
#[derive(Debug)]
pub(crate) struct Report {
    sent: Counter,
    acknowledged: Counter,
    acknowledged_cents: Counter,
    /// Acknowledged faulty orders by kind.
    faulty: Family<[(&'static str, &'static str); 1], Counter>,
    failed: Counter,
    unknown: Counter,
    /// Cancelled when an order has failed or its outcome is unknown, so that the generator makes no more orders.
    enough: CancellationToken,
    deliveries: LineLimit,
    failures: LineLimit,
}

impl Report {
    /// Returns a report whose counters are registered metrics.
    pub(crate) fn new(metrics: &Metrics, enough: CancellationToken) -> Self {
        let report = Self {
            sent: Counter::default(),
            acknowledged: Counter::default(),
            acknowledged_cents: Counter::default(),
            faulty: Family::default(),
            failed: Counter::default(),
            unknown: Counter::default(),
            enough,
            deliveries: LineLimit::new("deliveries", LINES_PER_SECOND),
            failures: LineLimit::new("orders that were not acknowledged", LINES_PER_SECOND),
        };
        metrics.register(|registry| {
            for (name, help, counter) in [
                ("sent", "Orders handed over for sending", &report.sent),
                ("acknowledged", "Orders that all in-sync replicas have", &report.acknowledged),
                (
                    "acknowledged_price_cents",
                    "Sum of the prices of acknowledged orders that are not bad, in cents",
                    &report.acknowledged_cents,
                ),
                ("failed", "Orders that were not written", &report.failed),
                ("unknown", "Orders that may have been written or not", &report.unknown),
            ] {
                registry.register(format!("orders_{name}"), help, counter.clone());
            }
            let help = "Acknowledged orders that CORRUPT_RATE made faulty";
            registry.register("orders_corrupted", help, report.faulty.clone());
        });
        report
    }

    /// Counts a queued order.
    pub(crate) fn sent(&self) {
        self.sent.inc();
    }

    /// Counts and logs acknowledged orders; `base_offset` is that of the first, if it is known.
    pub(crate) fn acknowledged(
        &self,
        target: &TopicPartition,
        orders: &[PendingOrder],
        base_offset: Option<i64>,
    ) {
        self.acknowledged.inc_by(to_u64(orders.len()));
        let orders = orders.iter().map(|pending| &pending.order);
        let good = orders.clone().filter(|order| !order.is_bad());
        self.acknowledged_cents.inc_by(good.map(|order| u64::from(order.price.0)).sum());
        for fault in orders.clone().filter_map(|order| order.fault) {
            self.faulty.get_or_create(&label(fault)).inc();
        }
        let lines = self.deliveries.admit(orders.len());
        let partition = target.partition;
        for (delta, order) in (0..).zip(orders).take(lines) {
            let DrawnOrder { id, product, price, fault } = order;
            let offset = base_offset.map(|base_offset| base_offset + delta);
            let (price, fault) = (price.to_f64(), fault.map(display));
            info!(order_id = %id, product, price, fault, partition, offset, "acknowledged");
        }
    }

    /// Counts and logs failed orders, and stops the generator.
    pub(crate) fn failed(&self, orders: &[PendingOrder], error: &ProduceError) {
        self.failed.inc_by(to_u64(orders.len()));
        for DrawnOrder { id, product, price, fault } in self.worst(orders) {
            let (price, fault) = (price.to_f64(), fault.map(display));
            error!(order_id = %id, product, price, fault, "order failed: {error}");
        }
    }

    /// Counts and logs orders of unknown outcome, and stops the generator.
    pub(crate) fn unknown(&self, orders: &[PendingOrder], error: &ProduceError) {
        self.unknown.inc_by(to_u64(orders.len()));
        for DrawnOrder { id, product, price, fault } in self.worst(orders) {
            let (price, fault) = (price.to_f64(), fault.map(display));
            error!(order_id = %id, product, price, fault, "order may be lost: {error}");
        }
    }

    /// Counts orders that the sender gave up before sending.
    pub(crate) fn never_sent(&self, target: &TopicPartition, orders: usize) {
        if orders > 0 {
            self.enough.cancel();
            self.failed.inc_by(to_u64(orders));
            error!(%target, orders, "orders not sent, because earlier orders have no acknowledgement");
        }
    }

    /// Stops the generator, and returns the orders to log.
    fn worst<'a>(&self, orders: &'a [PendingOrder]) -> impl Iterator<Item = &'a DrawnOrder> {
        self.enough.cancel();
        orders.iter().take(self.failures.admit(orders.len())).map(|pending| &pending.order)
    }

    /// Returns how many queued orders have no outcome yet.
    pub(crate) fn in_flight(&self) -> u64 {
        let concluded = self.acknowledged.get() + self.failed.get() + self.unknown.get();
        self.sent.get().saturating_sub(concluded)
    }

    /// Returns the number of acknowledged orders without bad records.
    pub(crate) fn acknowledged_orders(&self) -> u64 {
        let bad = Fault::ALL.into_iter().filter(|fault| fault.is_bad());
        // The counters may rise between the two reads.
        self.acknowledged.get().saturating_sub(bad.map(|fault| self.faulty_orders(fault)).sum())
    }

    fn faulty_orders(&self, fault: Fault) -> u64 {
        self.faulty.get(&label(fault)).map_or(0, |counter| counter.get())
    }

    /// Logs the number of omitted lines of the last second.
    pub(crate) fn tick(&self) {
        self.deliveries.tick();
        self.failures.tick();
    }

    /// Logs the final statistics, and returns the orders that failed or have an unknown outcome.
    pub(crate) fn conclude(&self, elapsed: Duration) -> Shortfall {
        self.deliveries.flush();
        self.failures.flush();
        let acknowledged = self.acknowledged.get();
        let shortfall = Shortfall { failed: self.failed.get(), unknown: self.unknown.get() };
        info!(
            sent = self.sent.get(),
            acknowledged,
            failed = shortfall.failed,
            unknown = shortfall.unknown,
            seconds = two_decimals(elapsed.as_secs_f64()),
            orders_per_second = two_decimals(per(acknowledged, elapsed.as_secs_f64())),
            average_price = two_decimals(self.average_price()),
            "final statistics"
        );
        self.log_faults();
        shortfall
    }

    /// Logs the number of acknowledged orders with each fault, if any.
    fn log_faults(&self) {
        if Fault::ALL.into_iter().all(|fault| self.faulty_orders(fault) == 0) {
            return;
        }
        info!(
            bad_magic = self.faulty_orders(Fault::BadMagic),
            unknown_schema = self.faulty_orders(Fault::UnknownSchema),
            truncated = self.faulty_orders(Fault::Truncated),
            trailing_bytes = self.faulty_orders(Fault::TrailingBytes),
            tombstone = self.faulty_orders(Fault::Tombstone),
            invalid_price = self.faulty_orders(Fault::InvalidPrice),
            oversize = self.faulty_orders(Fault::Oversize),
            hot_key = self.faulty_orders(Fault::HotKey),
            "acknowledged faults by kind"
        );
    }

    fn average_price(&self) -> f64 {
        per(self.acknowledged_cents.get(), 100.0 * to_f64(self.acknowledged_orders()))
    }
}

/// The orders without an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shortfall {
    /// Orders that the broker has not written.
    pub(crate) failed: u64,
    /// Orders that the broker may have written.
    pub(crate) unknown: u64,
}

fn label(fault: Fault) -> [(&'static str, &'static str); 1] {
    [("kind", fault.as_str())]
}

/// Returns a quotient for log lines, 0 for a divisor of 0.
fn per(amount: u64, by: f64) -> f64 {
    if by > 0.0 { to_f64(amount) / by } else { 0.0 }
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "figures for people")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
