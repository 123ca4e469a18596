//! The senders of all partitions: the choice of a partition for each order, and new senders for new partitions.
//!
//! An order goes to the partition that Kafka's own clients choose for its key. New partitions change that choice for many
//! keys, and readers may then process a later order of a key before an earlier one. This is so with every producer. A pause
//! could not help, because no reader reads one partition after another. Each partition stays ordered: its sender keeps its
//! producer id and sequence, and a new partition gets a sender with its own producer id.

pub(crate) mod batch;
pub(crate) mod delivery;
#[cfg(test)]
mod fake_broker;
pub(crate) mod outage;
mod sender;
mod trace_sample;

use std::num::NonZeroU32;
use std::sync::Arc;

use anyhow::Context as _;
use kafka_core::TopicPartition;
use kafka_core::murmur2::partition_for_key;
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::orders::{DrawnOrder, ORDER_ID_BYTES_MAX};
use crate::report::Report;
use crate::senders::batch::{Encoder, PendingOrder};
use crate::senders::delivery::{DeliveryPolicy, Transport};
use crate::senders::outage::Outage;
use crate::senders::sender::Sender;
use crate::senders::trace_sample::TraceSample;

/// The most queued orders of a partition; beyond that the generator makes no orders.
const QUEUE_ORDERS_MAX: usize = 8192;

/// Shared by the senders of all partitions.
#[derive(Debug)]
pub(crate) struct Common<T> {
    pub(crate) transport: T,
    pub(crate) topic: Arc<str>,
    pub(crate) schema_id: u32,
    /// The share of traced orders, from 0 to 1.
    pub(crate) trace_ratio: f64,
    pub(crate) policy: DeliveryPolicy,
    pub(crate) outage: Arc<Outage>,
    pub(crate) report: Arc<Report>,
    /// When cancelled, the senders give up their batches in flight.
    pub(crate) abandon: CancellationToken,
}

/// One sender for each partition.
#[derive(Debug)]
pub(crate) struct Senders<T> {
    common: Common<T>,
    partitions: NonZeroU32,
    queues: Vec<mpsc::Sender<PendingOrder>>,
    tasks: JoinSet<()>,
}

impl<T: Transport> Senders<T> {
    /// Starts the senders of a topic.
    ///
    /// # Errors
    ///
    /// When the operating system has no random numbers.
    pub(crate) fn start(common: Common<T>, partitions: NonZeroU32) -> anyhow::Result<Self> {
        let (queues, tasks) = (Vec::new(), JoinSet::new());
        let mut senders = Self { common, partitions, queues, tasks };
        senders.grow(partitions)?;
        Ok(senders)
    }

    /// Starts senders for new partitions. Later orders go to all partitions.
    ///
    /// # Errors
    ///
    /// As [`Senders::start`]; orders then go to the old partitions only.
    pub(crate) fn grow(&mut self, partitions: NonZeroU32) -> anyhow::Result<()> {
        let Common { transport, topic, schema_id, trace_ratio, policy, outage, report, abandon } =
            &self.common;
        for partition in self.partition_count()..partitions.get().cast_signed() {
            let traces = TraceSample::new(*trace_ratio, random_number()?);
            let sender = Sender::new(
                transport.clone(),
                TopicPartition::new(Arc::clone(topic), partition),
                Encoder::new(*schema_id, random_number()?, traces),
                *policy,
                Arc::clone(outage),
                Arc::clone(report),
            );
            let (into_queue, queue) = mpsc::channel(QUEUE_ORDERS_MAX);
            self.queues.push(into_queue);
            self.tasks.spawn(sender.run(queue, abandon.clone()));
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
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use service_runtime::{Health, Metrics};

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
                let home = partition_for_key(record.key.as_deref().unwrap(), partitions);
                assert_eq!(request.target.partition, home);
                *used.entry((partitions, home)).or_insert(0) += 1;
            }
        }
        assert_eq!(used.len(), 2 + 5, "{used:?}");
        assert_eq!(used.values().sum::<u32>(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_keeps_its_producer_id_and_a_new_partition_gets_its_own() {
        let broker = FakeBroker::new([]);
        let mut senders = Senders::start(common(&broker), count(2)).unwrap();

        send(&senders, 2).await;
        senders.grow(count(5)).unwrap();
        send(&senders, 5).await;
        senders.close().join_all().await;

        let mut last: BTreeMap<_, u64> = BTreeMap::new();
        for request in broker.requests() {
            for record in request.records {
                let header =
                    |index: usize| String::from_utf8(record.headers[index].1.to_vec()).unwrap();
                let sequence = last.entry((request.target.partition, header(0))).or_default();
                *sequence += 1;
                assert_eq!(header(1), sequence.to_string());
            }
        }
        let partitions: Vec<_> = last.keys().map(|(partition, _)| *partition).collect();
        assert_eq!(partitions, [0, 1, 2, 3, 4], "one producer each: {last:?}");
        let producers: BTreeSet<_> = last.keys().map(|(_, producer)| producer).collect();
        assert_eq!(producers.len(), 5, "{producers:?}");
    }

    /// Sends orders whose timestamp is the number of partitions.
    async fn send(senders: &Senders<FakeBroker>, partitions: i64) {
        for number in 0..100 {
            let (id, price) = (OrderId::Number(number), Cents(1999));
            let order = DrawnOrder { id, product: "Yoga Mat", price, fault: None };
            let pending = PendingOrder { order, timestamp_ms: partitions };
            senders.queue_of(&order).send(pending).await.unwrap();
        }
    }

    fn common(broker: &FakeBroker) -> Common<FakeBroker> {
        Common {
            transport: broker.clone(),
            topic: "orders".into(),
            schema_id: 1,
            trace_ratio: 0.0,
            policy: DeliveryPolicy { retries_max: 2, timeout: Duration::from_mins(2) },
            outage: Arc::new(Outage::new(Health::default().check("kafka"))),
            report: Arc::new(Report::new(&Metrics::default(), CancellationToken::new())),
            abandon: CancellationToken::new(),
        }
    }

    fn count(partitions: u32) -> NonZeroU32 {
        NonZeroU32::new(partitions).unwrap()
    }
}
