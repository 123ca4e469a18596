//! The actions topic: reads and writes of it.

use anyhow::Context as _;
use bytes::Bytes;
use dead_letter::Identity;
use dead_letter::actions::Action;
use kafka_client::cluster::Cluster;
use kafka_client::producer::{Appended, Producer, ProducerRecord};
use kafka_client::topics::{NewTopic, ensure_topics};
use kafka_core::TopicPartition;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::decisions::OperatorDecisions;
use super::lock_table::LockTable;
use super::reading::Scan;
use super::topic_log::TopicLog;
use crate::group_snapshot::refuse_earlier_topics;
use crate::settings::ConsoleSettings;
use kafka_client::retry::while_retriable;
use service_runtime::now_ms;

/// How long a write is tried until it is acknowledged.
const WRITE_MAX: Duration = Duration::from_secs(40);
/// Actions that are written at once.
const BATCH_MAX: usize = 500;
const PARTITION: i32 = 0;

/// The actions topic of one group, read up to a position.
#[derive(Debug)]
pub(crate) struct ActionLog {
    cluster: Cluster,
    producer: Producer,
    topic: String,
    position: i64,
    decisions: OperatorDecisions,
    interrupt: CancellationToken,
}

impl ActionLog {
    /// Reads the actions topic; one that does not exist counts as empty.
    pub(crate) async fn open(
        cluster: &Cluster,
        settings: &ConsoleSettings,
        interrupt: &CancellationToken,
    ) -> anyhow::Result<Self> {
        refuse_earlier_topics(cluster, settings).await?;
        let mut log = Self {
            cluster: cluster.clone(),
            producer: Producer::start(cluster.clone(), None),
            topic: settings.group_topics.actions.clone(),
            position: 0,
            decisions: OperatorDecisions::default(),
            interrupt: interrupt.clone(),
        };
        log.catch_up().await?;
        Ok(log)
    }

    /// Creates the actions topic if it does not exist.
    pub(crate) async fn create(&self, settings: &ConsoleSettings) -> anyhow::Result<()> {
        let topics = [NewTopic::compacted(&self.topic, settings.topics.replication_factor)];
        while_retriable(|| ensure_topics(&self.cluster, &topics))
            .await
            .with_context(|| format!("create topic {}", self.topic))?;
        Ok(())
    }

    /// Returns the producer of the actions, which can write to other topics, too.
    pub(crate) fn producer(&self) -> &Producer {
        &self.producer
    }

    pub(crate) fn decisions(&self) -> &OperatorDecisions {
        &self.decisions
    }

    pub(crate) fn locks(&self) -> &LockTable {
        &self.decisions.locks
    }

    pub(crate) fn interrupt(&self) -> &CancellationToken {
        &self.interrupt
    }

    /// Reads what was written since the last read: at least every write that was acknowledged before.
    pub(crate) async fn catch_up(&mut self) -> anyhow::Result<()> {
        let found = TopicLog::of(&self.cluster, &self.topic).await?;
        let Some(log) = found else { return Ok(()) };
        let Some(part) = log.ranges.get(&PARTITION) else { return Ok(()) };
        let part = self.position.max(part.start)..part.end;
        let end = part.end;
        let mut scan = Scan::new(&self.cluster, log.only(PARTITION, part), &self.interrupt);
        while let Some(chunk) = scan.next().await.context("read the actions topic")? {
            for record in chunk.records() {
                let action = record.key.and_then(|key| Action::parse(key, record.value));
                if let Some(action) = action {
                    self.decisions.apply(record.offset, action);
                }
            }
        }
        self.position = self.position.max(end);
        Ok(())
    }

    /// Records that letters were replayed to the orders' own topic.
    pub(crate) async fn record_replayed(&mut self, letters: &[Identity]) -> anyhow::Result<()> {
        let at_ms = now_ms();
        let replayed =
            |identity: &Identity| Action::ReplayedToSource { identity: identity.clone(), at_ms };
        self.write_all(&letters.iter().map(replayed).collect::<Vec<_>>()).await
    }

    pub(crate) async fn write_all(&mut self, actions: &[Action]) -> anyhow::Result<()> {
        for batch in actions.chunks(BATCH_MAX) {
            self.write(batch).await?;
        }
        Ok(())
    }

    /// Writes actions until they are acknowledged, and returns the offset of the first one. The topic has to exist
    /// ([`Self::create`]). Where the offset stays unknown they are written twice, which means the same.
    pub(crate) async fn write(&mut self, actions: &[Action]) -> anyhow::Result<i64> {
        let records: Vec<ProducerRecord> = actions.iter().map(record).collect();
        let target = TopicPartition::new(self.topic.as_str(), PARTITION);
        let give_up = Instant::now() + WRITE_MAX;
        loop {
            let produced = self.producer.produce(&target, &records, give_up).await;
            if let Appended { base_offset: Some(offset) } =
                produced.context("write to the actions topic")?
            {
                return Ok(offset);
            }
        }
    }
}

fn record(action: &Action) -> ProducerRecord {
    ProducerRecord {
        timestamp_ms: now_ms(),
        key: Some(Bytes::from(action.key())),
        value: action.value().map(Bytes::from),
        headers: Vec::new(),
    }
}
