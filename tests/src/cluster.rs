//! A cluster of several brokers of `tests/kafka/kafka.py`, for tests that stop brokers, move leaders and set limits.
//!
//! All tests of such a suite share the cluster, so they run one after the other. Each starts with [`KafkaCluster::whole`].
//! One of Kafka's tools takes a second to start, so one call changes many partitions.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kafka_client::cluster::Cluster;
use kafka_client::config::BrokerConfig;
use kafka_core::NodeId;
use kafka_protocol::messages::MetadataRequest;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::outsiders::{CONFIGS, TOPICS};
use crate::platform::{Platform, repository, required};
use crate::scenario::Scenario;
use crate::service::{PATIENCE, ServiceCommand, target_folder};

/// Kafka's tool for elections.
const ELECTIONS: &str = "org.apache.kafka.tools.LeaderElectionCommand";

/// Kafka's tool for reassignments.
const REASSIGNMENTS: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";

/// How often a test looks for a change of the cluster.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How long a broker or a tool may take: longer than the deadlines of `kafka.py`, whose errors tell more.
const CONTROL_PATIENCE: Duration = Duration::from_mins(2);

/// The cluster that the environment names.
#[derive(Debug)]
pub struct KafkaCluster {
    bootstrap_servers: String,
    registry_url: String,
    data_folders: Vec<PathBuf>,
    control: ServiceCommand,
    scratch: PathBuf,
}

impl KafkaCluster {
    /// Finds the cluster, continues its paused brokers, starts the stopped ones, and waits until every replica is in sync.
    ///
    /// # Errors
    /// When the environment is not that of `KAFKA_BROKERS=3 tests/kafka/kafka.py run`, or a broker does not start.
    pub async fn whole() -> Result<Self> {
        let scratch = target_folder()?.join("end-to-end-logs");
        fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
        let script = repository().join("tests/kafka/kafka.py");
        let control =
            ServiceCommand::of_system(&script.to_string_lossy(), BTreeMap::new(), &scratch);
        required("KAFKA_INSTANCE")?;
        let cluster = Self {
            bootstrap_servers: required("BOOTSTRAP_SERVERS")?,
            registry_url: required("SCHEMA_REGISTRY_URL")?,
            data_folders: required("BROKER_DATAS")?.split(',').map(PathBuf::from).collect(),
            control: control.patience(CONTROL_PATIENCE),
            scratch,
        };
        cluster.kafka_py("resume", "broker").await?;
        cluster.kafka_py("start", "broker").await?;
        cluster.in_sync().await?;
        Ok(cluster)
    }

    /// Opens a scenario on this cluster.
    ///
    /// # Errors
    /// As [`Scenario::open_on`].
    pub fn scenario(&self, name: &str) -> Result<Scenario> {
        let platform = Platform::at(self.bootstrap_servers.clone(), self.registry_url.clone());
        Scenario::open_on(platform, name)
    }

    /// Returns the brokers.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        1..=NodeId::try_from(self.data_folders.len()).unwrap_or(NodeId::MAX)
    }

    /// Returns the text that a broker has logged.
    ///
    /// # Errors
    /// When there is no such broker.
    pub fn log(&self, node: NodeId) -> Result<String> {
        let folder = self.data_folders.first().and_then(|data| data.parent());
        let path = folder.context("find the instance's folder")?.join(format!("broker-{node}.log"));
        let log = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    /// Stops a broker with SIGKILL.
    ///
    /// # Errors
    /// When there is no such broker.
    pub async fn kill(&self, node: NodeId) -> Result<()> {
        self.kafka_py("kill", &format!("broker-{node}")).await
    }

    /// Stops a broker, which first gives its leaders to others.
    ///
    /// # Errors
    /// When there is no such broker.
    pub async fn stop(&self, node: NodeId) -> Result<()> {
        self.kafka_py("stop", &format!("broker-{node}")).await
    }

    /// Starts a broker and waits until it serves requests. It needs most of the other brokers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(&self, node: NodeId) -> Result<()> {
        self.kafka_py("start", &format!("broker-{node}")).await
    }

    /// Stops a broker with SIGSTOP: its connections stay open, and it answers nothing.
    ///
    /// # Errors
    /// When there is no such broker.
    pub async fn pause(&self, node: NodeId) -> Result<()> {
        self.kafka_py("pause", &format!("broker-{node}")).await
    }

    /// Continues a paused broker.
    ///
    /// # Errors
    /// When there is no such broker.
    pub async fn resume(&self, node: NodeId) -> Result<()> {
        self.kafka_py("resume", &format!("broker-{node}")).await
    }

    async fn kafka_py(&self, verb: &str, part: &str) -> Result<()> {
        self.control.clone().args([verb, part]).output().await.map(drop)
    }

    /// Waits until every replica of every partition is in sync, and every partition has a leader.
    ///
    /// # Errors
    /// When that is not so within [`PATIENCE`].
    pub async fn in_sync(&self) -> Result<()> {
        let is_in_sync = |partition: &MetadataResponsePartition| {
            partition.leader_id.0 >= 0 && partition.isr_nodes.len() == partition.replica_nodes.len()
        };
        self.when("all replicas in sync", |topics| topics.values().flatten().all(is_in_sync)).await
    }

    /// Returns the leader of each partition of `topic` that has one.
    ///
    /// # Errors
    /// When no broker answers, or the topic does not exist.
    pub async fn leaders(&self, topic: &str) -> Result<BTreeMap<i32, NodeId>> {
        let cluster = self.client();
        cluster.describe(&[topic]).await?;
        let known = cluster.known();
        let leaders = &known.topic(topic).context("find the topic")?.leaders;
        Ok(leaders.iter().filter_map(|(index, leader)| Some((*index, (*leader)?.node))).collect())
    }

    /// Returns the id of `topic`.
    ///
    /// # Errors
    /// When no broker answers, or the topic does not exist.
    pub async fn topic_id(&self, topic: &str) -> Result<Uuid> {
        let topics = self.client().metadata(&[topic]).await?;
        Ok(topics.get(topic).context("find the topic")?.topic_id)
    }

    /// Returns the coordinator of a consumer group.
    ///
    /// # Errors
    /// When no broker answers, or the group has no coordinator yet.
    pub async fn coordinator(&self, group: &str) -> Result<NodeId> {
        let cluster = self.client();
        let address = cluster.coordinator(group).find().await?;
        cluster.describe(&[]).await?;
        cluster.known().node(&address).with_context(|| format!("find the broker at {address}"))
    }

    /// Makes the first replica of every partition of the cluster its leader; no connection is closed.
    ///
    /// # Errors
    /// When the controller refuses an election.
    pub async fn elect_preferred(&self) -> Result<()> {
        let arguments = ["--election-type", "preferred", "--all-topic-partitions"];
        self.tool(ELECTIONS, &arguments).await.map(drop)
    }

    /// Makes a replica that is not in sync the leader of these partitions of `topic`. They must have none.
    ///
    /// # Errors
    /// When the controller refuses an election.
    pub async fn elect_unclean(&self, topic: &str, partitions: &[i32]) -> Result<()> {
        let entry = |partition: &i32| json!({"topic": topic, "partition": partition});
        let entries: Vec<Value> = partitions.iter().map(entry).collect();
        let file = self.file(&json!({"partitions": entries}))?;
        let arguments = ["--election-type", "unclean", "--path-to-json-file", &file];
        self.tool(ELECTIONS, &arguments).await.map(drop)
    }

    /// Gives partitions of `topic` other replicas, the preferred leader first, and waits until they have them. Leaders that
    /// remain replicas stay leaders.
    ///
    /// # Errors
    /// When the controller refuses the change, or it is not complete within [`PATIENCE`].
    pub async fn reassign(&self, topic: &str, replicas: &BTreeMap<i32, Vec<NodeId>>) -> Result<()> {
        let entry =
            |(partition, nodes)| json!({"topic": topic, "partition": partition, "replicas": nodes});
        let entries: Vec<Value> = replicas.iter().map(entry).collect();
        let file = self.file(&json!({"version": 1, "partitions": entries}))?;
        self.tool(REASSIGNMENTS, &["--execute", "--reassignment-json-file", &file]).await?;
        self.when("the reassignment", |topics| {
            let found = topics.get(topic).into_iter().flatten();
            found.into_iter().all(|found| {
                let nodes: Vec<NodeId> = found.replica_nodes.iter().map(|node| node.0).collect();
                replicas.get(&found.partition_index).is_none_or(|wanted| *wanted == nodes)
            })
        })
        .await
    }

    /// Adds partitions to `topic`, up to `count`.
    ///
    /// # Errors
    /// When the controller refuses them, also because they are there.
    pub async fn grow(&self, topic: &str, count: u32) -> Result<()> {
        let alter = ["--alter", "--topic", topic, "--partitions", &count.to_string()];
        self.tool(TOPICS, &alter).await.map(drop)
    }

    /// Sets configurations (`name=value,name=value`) of an entity: `topics`, `clients` (quotas by client id), `brokers` or
    /// `broker-loggers`.
    ///
    /// # Errors
    /// When the controller refuses them.
    pub async fn set(&self, entity_type: &str, name: &str, configs: &str) -> Result<()> {
        self.alter(entity_type, name, ["--add-config", configs]).await
    }

    /// Removes configurations (`name,name`) of an entity.
    ///
    /// # Errors
    /// When the controller refuses that.
    pub async fn unset(&self, entity_type: &str, name: &str, configs: &str) -> Result<()> {
        self.alter(entity_type, name, ["--delete-config", configs]).await
    }

    async fn alter(&self, entity_type: &str, name: &str, change: [&str; 2]) -> Result<()> {
        let entity = ["--alter", "--entity-type", entity_type, "--entity-name", name];
        self.tool(CONFIGS, &[&entity[..], &change].concat()).await.map(drop)
    }

    /// Runs one of Kafka's tools and returns its output.
    ///
    /// # Errors
    /// When it fails.
    pub async fn tool(&self, main_class: &str, arguments: &[&str]) -> Result<String> {
        let servers = ["tool", main_class, "--bootstrap-server", &self.bootstrap_servers];
        self.control.clone().args(servers).args(arguments.iter().copied()).output().await
    }

    /// Waits until `is_reached` accepts the partitions of all topics; `what` names the condition in the error.
    async fn when(
        &self,
        what: &str,
        is_reached: impl Fn(&BTreeMap<String, Vec<MetadataResponsePartition>>) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let cluster = self.client();
        loop {
            let response = cluster.call_any(&MetadataRequest::default().with_topics(None)).await?;
            let topics = response.topics.into_iter().map(|topic| {
                let name = topic.name.map(|name| name.0.to_string());
                (name.unwrap_or_default(), topic.partitions)
            });
            let topics = topics.collect();
            if is_reached(&topics) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{what} was not reached: {topics:#?}");
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Returns a client that knows nothing yet.
    fn client(&self) -> Cluster {
        let servers = self.bootstrap_servers.split(',').map(str::to_owned).collect();
        Cluster::new(BrokerConfig::new(servers, "tests"))
    }

    fn file(&self, content: &Value) -> Result<String> {
        let path = self.scratch.join(format!("{}.json", Uuid::new_v4().simple()));
        fs::write(&path, content.to_string())
            .with_context(|| format!("write {}", path.display()))?;
        path.to_str().map(str::to_owned).context("the target folder has no name in UTF-8")
    }
}
