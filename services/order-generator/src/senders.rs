//! The senders of all partitions: the choice of a partition for each order, and new senders for new partitions.
//!
//! An order goes to the partition that Kafka's own clients choose for its key. New partitions change that choice for many
//! keys, and readers may then process a later order of a key before an earlier one. This is so with every producer. A pause
//! could not help, because no reader reads one partition after another. Each partition stays ordered: it has one sender.

pub(crate) mod batch;
pub(crate) mod delivery;
#[cfg(test)]
mod fake_broker;
pub(crate) mod outage;
#[cfg(feature = "rskafka")]
pub(crate) mod rskafka;
mod sender;
mod trace_sample;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kafka_core::TopicPartition;
use kafka_core::murmur2::partition_for_key;
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::metrics::Measures;
use crate::orders::{DrawnOrder, ORDER_ID_BYTES_MAX};
use crate::report::Report;
use crate::senders::batch::{BatchLimits, Encoder, PendingOrder};
use crate::senders::delivery::Transport;
use crate::senders::sender::Sender;
use crate::senders::trace_sample::TraceSample;

/// The most queued orders of a partition; beyond that the generator makes no orders.
const QUEUE_ORDERS_MAX: usize = 8192;

/// Shared by the senders of all partitions.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) topic: Arc<str>,
    pub(crate) schema_id: u32,
    pub(crate) limits: BatchLimits,
    /// The share of traced orders, from 0 to 1.
    pub(crate) trace_ratio: f64,
    pub(crate) delivery_timeout: Duration,
    pub(crate) measures: Measures,
    pub(crate) report: Arc<Report>,
    /// When cancelled, the senders give up their batches in flight.
    pub(crate) abandon: CancellationToken,
}

/// One sender for each partition.
#[derive(Debug)]
pub(crate) struct Senders {
    common: Common,
    partitions: NonZeroU32,
    queues: Vec<mpsc::Sender<PendingOrder>>,
    tasks: JoinSet<()>,
}

impl Senders {
    /// Starts the senders of a topic.
    ///
    /// # Errors
    ///
    /// When the operating system has no random numbers.
    pub(crate) fn start(common: Common, partitions: NonZeroU32) -> anyhow::Result<Self> {
        let (queues, tasks) = (Vec::new(), JoinSet::new());
        let mut senders = Self { common, partitions, queues, tasks };
        senders.add(partitions)?;
        Ok(senders)
    }

    /// Starts senders for new partitions. Later orders go to all partitions.
    ///
    /// # Errors
    ///
    /// As [`Senders::start`]; orders then go to the old partitions only.
    pub(crate) fn grow(&mut self, partitions: NonZeroU32) -> anyhow::Result<()> {
        self.common.transport.has_grown();
        self.add(partitions)
    }

    fn add(&mut self, partitions: NonZeroU32) -> anyhow::Result<()> {
        let common = &self.common;
        for partition in self.partition_count()..partitions.get().cast_signed() {
            let traces = TraceSample::new(common.trace_ratio, random_number()?);
            let sender = Sender {
                transport: Arc::clone(&common.transport),
                target: TopicPartition::new(Arc::clone(&common.topic), partition),
                encoder: Encoder::new(common.schema_id, common.limits, traces),
                is_limit_known: common.limits.is_known,
                delivery_timeout: common.delivery_timeout,
                measures: common.measures.clone(),
                report: Arc::clone(&common.report),
                abandon: common.abandon.clone(),
            };
            let (into_queue, queue) = mpsc::channel(QUEUE_ORDERS_MAX);
            self.queues.push(into_queue);
            self.tasks.spawn(sender.run(queue));
        }
        self.partitions = partitions;
        Ok(())
    }

    /// Returns the queue of the order's partition.
    pub(crate) fn queue_of(&self, order: &DrawnOrder) -> &mpsc::Sender<PendingOrder> {
        let mut id = [0; ORDER_ID_BYTES_MAX];
        let key = order.key(order.id.write_to(&mut id));
        let partition = partition_for_key(key.as_bytes(), self.partitions);
        &self.queues[usize::try_from(partition).unwrap_or_default()]
    }

    /// Closes the queues, and returns tasks that end once every queued order has an outcome.
    pub(crate) fn close(self) -> JoinSet<()> {
        self.tasks
    }

    fn partition_count(&self) -> i32 {
        i32::try_from(self.queues.len()).unwrap_or(i32::MAX)
    }
}

/// Returns a random number from the operating system, independent of `SEED`.
pub(crate) fn random_number() -> anyhow::Result<u64> {
    SysRng.try_next_u64().context("draw a random number")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kafka_core::compression::Compression;
    use service_runtime::Metrics;

    use super::*;
    use crate::orders::{Cents, OrderId};
    use crate::senders::fake_broker::FakeBroker;

    #[tokio::test(start_paused = true)]
    async fn orders_go_to_kafkas_partition_of_their_key_also_with_new_partitions() {
        let broker = FakeBroker::new([]);
        let mut senders = Senders::start(common(&broker), count(2)).unwrap();

        send(&senders, 2).await;
        senders.grow(count(5)).unwrap();
        send(&senders, 5).await;
        senders.close().join_all().await;

        let mut used = BTreeMap::new();
        for request in broker.requests() {
            for record in request.records {
                let partitions = count(u32::try_from(record.timestamp_ms).unwrap());
                let home = partition_for_key(&record.key, partitions);
                assert_eq!(request.target.partition, home);
                *used.entry((partitions, home)).or_insert(0) += 1;
            }
        }
        assert_eq!(used.len(), 2 + 5, "{used:?}");
        assert_eq!(used.values().sum::<u32>(), 200);
    }

    /// Sends orders whose timestamp is the number of partitions.
    async fn send(senders: &Senders, partitions: i64) {
        for number in 0..100 {
            let (id, price) = (OrderId::Number(number), Cents(1999));
            let order = DrawnOrder { id, product: "Yoga Mat", price, fault: None };
            let pending = PendingOrder { order, timestamp_ms: partitions };
            senders.queue_of(&order).send(pending).await.unwrap();
        }
    }

    fn common(broker: &FakeBroker) -> Common {
        Common {
            transport: Arc::new(broker.clone()),
            topic: "orders".into(),
            schema_id: 1,
            limits: BatchLimits::new(None, Compression::None),
            trace_ratio: 0.0,
            delivery_timeout: Duration::from_mins(2),
            measures: Measures::default(),
            report: Arc::new(Report::new(&Metrics::default(), CancellationToken::new())),
            abandon: CancellationToken::new(),
        }
    }

    fn count(partitions: u32) -> NonZeroU32 {
        NonZeroU32::new(partitions).unwrap()
    }
}
