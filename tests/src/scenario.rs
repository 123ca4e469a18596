//! The topics and the consumer group of one test on a platform.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use embedded_kafka::EmbeddedKafka;
use schema_registry::{RegistryConfig, SchemaRegistry};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::outsiders;
use crate::platform::Platform;
use crate::proxy::{ApiKey, Proxy};
use crate::service::{PATIENCE, ServiceCommand, target_folder};
use crate::stats::Stats;
use crate::topic::{self, TopicRecord};
use crate::verdict::{ORDER_SCHEMA, Simulation, Verdict};

/// How often a test reads the group's statistics.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The refused connections after which clients have noticed an outage.
const REFUSALS_OF_AN_OUTAGE: u32 = 10;

/// The topics, the group, the services and the judges of a test.
#[derive(Debug)]
pub struct Scenario {
    platform: Platform,
    proxy: Option<Proxy>,
    orders_topic: String,
    dead_letter_topic: String,
    group: String,
    environment: BTreeMap<String, String>,
    log_folder: PathBuf,
}

impl Scenario {
    /// Opens a scenario whose names begin with `name`.
    ///
    /// # Errors
    /// When the platform is unavailable, or the folder for the logs cannot be created.
    pub async fn open(name: &str) -> Result<Self> {
        Self::open_on(Platform::start().await?, name)
    }

    /// Opens a scenario on a platform that may start later.
    ///
    /// # Errors
    /// When the folder for the logs cannot be created.
    pub fn open_on(platform: Platform, name: &str) -> Result<Self> {
        let id = format!("{name}-{}", Uuid::new_v4().simple());
        let log_folder = target_folder()?.join("end-to-end-logs").join(&id);
        std::fs::create_dir_all(&log_folder)
            .with_context(|| format!("create {}", log_folder.display()))?;
        let (dead_letter_topic, group) = (format!("{id}-dlq"), format!("{id}-group"));
        let control_topic = format!("{id}-control");
        let environment = [
            ("BOOTSTRAP_SERVERS", platform.bootstrap_servers()),
            ("SCHEMA_REGISTRY_URL", platform.registry_url()),
            ("ORDERS_TOPIC", &id),
            ("ORDERS_DLQ_TOPIC", &dead_letter_topic),
            ("CONTROL_TOPIC", &control_topic),
            ("CONSUMER_GROUP_ID", &group),
            ("HTTP_ADDR", "off"),
            ("LOG_FORMAT", "json"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Self {
            platform,
            proxy: None,
            orders_topic: id,
            dead_letter_topic,
            group,
            environment: environment.into(),
            log_folder,
        })
    }

    /// Opens a scenario whose services reach the broker through a fault proxy only.
    ///
    /// # Errors
    /// As [`Scenario::open`].
    pub async fn open_behind_proxy(name: &str) -> Result<Self> {
        let scenario = Self::open(name).await?;
        let proxy = Proxy::start(scenario.platform.bootstrap_servers()).await?;
        let scenario = scenario.with("BOOTSTRAP_SERVERS", &proxy.address());
        Ok(Self { proxy: Some(proxy), ..scenario })
    }

    /// Opens a scenario whose broker [`Scenario::restart_broker`] can restart.
    ///
    /// # Errors
    /// As [`Scenario::open`].
    pub async fn open_restartable(name: &str) -> Result<Self> {
        let scenario = Self::open(name).await?;
        match &scenario.platform {
            // Other tests use the same broker, so it becomes unreachable instead.
            Platform::Kafka(_) => Self::open_behind_proxy(name).await,
            Platform::Embedded(_) => Ok(scenario),
        }
    }

    /// Stops the embedded broker and starts it again. A real one becomes unreachable until its clients have noticed; the suite
    /// `own_broker` kills it.
    ///
    /// # Errors
    /// When the broker does not start again.
    pub async fn restart_broker(&mut self) -> Result<()> {
        if let Some(proxy) = &self.proxy {
            proxy.close();
            proxy.refused(REFUSALS_OF_AN_OUTAGE).await;
            proxy.open();
            return Ok(());
        }
        match &mut self.platform {
            Platform::Embedded(embedded) => embedded.restart_broker().await,
            Platform::Kafka(_) => bail!("the broker belongs to all tests"),
        }
    }

    /// Adds partitions to the topic of orders, up to `count`; on a real Kafka with Kafka's own tool.
    ///
    /// # Errors
    /// When the broker refuses the request.
    pub async fn grow_orders_topic(&self, count: u32) -> Result<()> {
        match self.platform {
            Platform::Embedded(_) => {
                let servers = self.platform.bootstrap_servers();
                topic::grow(servers, self.orders_topic(), i32::try_from(count)?).await
            }
            Platform::Kafka(_) => {
                let command = outsiders::kafka_tool(self, outsiders::TOPICS);
                let count = count.to_string();
                let alter = ["--alter", "--topic", self.orders_topic(), "--partitions", &count];
                command.args(alter).output().await.map(drop)
            }
        }
    }

    /// Sets a variable for all services of this scenario.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Returns the platform of the scenario.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Returns the embedded broker.
    ///
    /// # Errors
    /// When the scenario runs on a real Kafka.
    pub fn embedded_broker(&self) -> Result<&EmbeddedKafka> {
        match &self.platform {
            Platform::Embedded(embedded) => embedded.broker(),
            Platform::Kafka(_) => bail!("the broker is not in this process"),
        }
    }

    /// Opens a scenario on the embedded broker, whatever `TEST_PLATFORM` names.
    ///
    /// # Errors
    /// As [`Scenario::open`].
    pub async fn open_embedded(name: &str) -> Result<Self> {
        Self::open_nodes(name, 1).await
    }

    /// Opens a scenario on the embedded broker with so many nodes, whatever `TEST_PLATFORM` names.
    ///
    /// # Errors
    /// As [`Scenario::open`].
    pub async fn open_nodes(name: &str, nodes: u16) -> Result<Self> {
        Self::open_on(Platform::embedded(nodes).await?, name)
    }

    /// Returns the proxy in front of the broker.
    ///
    /// # Errors
    /// When the scenario was opened without one.
    pub fn proxy(&self) -> Result<&Proxy> {
        self.proxy.as_ref().context("this scenario has no proxy")
    }

    /// Returns the name of the topic of orders.
    pub fn orders_topic(&self) -> &str {
        &self.orders_topic
    }

    /// Returns the name of the dead-letter topic.
    pub fn dead_letter_topic(&self) -> &str {
        &self.dead_letter_topic
    }

    /// Returns the name of the topic with the group's replayed orders.
    pub fn replay_topic(&self) -> String {
        format!("{}.{}.replay", self.orders_topic, self.group)
    }

    /// Returns the name of the topic with the operators' actions on the group's dead letters.
    pub fn actions_topic(&self) -> String {
        format!("{}.{}.dlq-actions", self.orders_topic, self.group)
    }

    /// Returns the name of the control topic, which pauses and resumes the services.
    pub fn control_topic(&self) -> String {
        format!("{}-control", self.orders_topic)
    }

    /// Returns the name of the consumer group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Returns the command of a generator, named `name` in failures and logs.
    ///
    /// # Errors
    /// When the binary was not built.
    pub fn generator(&self, name: &str) -> Result<ServiceCommand> {
        self.service("order-generator", name)
    }

    /// Returns the command of a processor, named `name` in failures and logs.
    ///
    /// # Errors
    /// When the binary was not built.
    pub fn processor(&self, name: &str) -> Result<ServiceCommand> {
        self.service("order-processor", name)
    }

    /// Returns a command of the operators' tools, named `name` in failures and logs.
    ///
    /// # Errors
    /// When the binary was not built.
    pub fn console(&self, name: &str) -> Result<ServiceCommand> {
        self.service("order-console", name)
    }

    /// Returns the command of a processor with the handler of `src/bin/odd-handler.rs`.
    ///
    /// # Errors
    /// When the binary was not built.
    pub fn odd_processor(&self, name: &str) -> Result<ServiceCommand> {
        self.service("odd-handler", name)
    }

    /// Returns the command of an `order-console top` with a panicking task, from `src/bin/odd-top.rs`.
    ///
    /// # Errors
    /// When the binary was not built.
    pub fn odd_top(&self, name: &str) -> Result<ServiceCommand> {
        self.service("odd-top", name)
    }

    fn service(&self, binary: &str, name: &str) -> Result<ServiceCommand> {
        Ok(ServiceCommand::of_workspace(binary, self.environment.clone(), &self.log_folder)?
            .named(name))
    }

    /// Returns the command of a program outside the product, in this scenario's environment.
    pub fn outsider(&self, program: &str, name: &str) -> ServiceCommand {
        ServiceCommand::of_system(program, self.environment.clone(), &self.log_folder).named(name)
    }

    /// Returns the group's statistics from `order-console stats --json`.
    ///
    /// The command bypasses the proxy.
    ///
    /// # Errors
    /// When the command fails or prints other JSON.
    pub async fn stats(&self) -> Result<Stats> {
        let command =
            self.console("stats")?.env("BOOTSTRAP_SERVERS", self.platform.bootstrap_servers());
        Stats::parse(&command.args(["stats", "--json"]).output().await?)
    }

    /// Waits until `is_reached` accepts the statistics, and returns them; `what` names the condition in the error.
    ///
    /// # Errors
    /// When the statistics have not changed for [`PATIENCE`]; the error has the last ones.
    pub async fn stats_when(
        &self,
        what: &str,
        is_reached: impl Fn(&Stats) -> bool + Send + Sync,
    ) -> Result<Stats> {
        let mut last = None;
        let mut last_change = Instant::now();
        loop {
            let looked = self.stats().await;
            if let Ok(stats) = &looked
                && is_reached(stats)
            {
                return looked;
            }
            let seen = format!("{looked:?}");
            if last.as_ref() != Some(&seen) {
                last = Some(seen);
                last_change = Instant::now();
            }
            if last_change.elapsed() > PATIENCE {
                bail!(
                    "{what} was not reached, the last look was {looked:#?}; the logs are in {}",
                    self.log_folder.display()
                );
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Waits until the group has accounted for `records` records and has no lag.
    ///
    /// # Errors
    /// As [`Scenario::stats_when`].
    pub async fn stats_at_end(&self, records: u64) -> Result<Stats> {
        let what = format!("the end of {records} records");
        self.stats_when(&what, |stats| (stats.lag == Some(0)) && (stats.accounted() >= records))
            .await
    }

    /// Waits until the group has accounted for `records` records and has no lag, and compares its statistics with the verdict.
    ///
    /// # Errors
    /// As [`Scenario::stats_when`], and when a number differs.
    pub async fn check_exact(
        &self,
        records: u64,
        simulation: Simulation,
    ) -> Result<(Stats, Verdict)> {
        let stats = self.stats_at_end(records).await?;
        let verdict = self.verdict(simulation).await?;
        verdict
            .check(&stats)
            .with_context(|| format!("the logs are in {}", self.log_folder.display()))?;
        Ok((stats, verdict))
    }

    /// Waits for `count` dead letters, and returns all of them.
    ///
    /// # Errors
    /// When there are fewer after [`PATIENCE`], or the topic cannot be read.
    pub async fn letters(&self, count: usize) -> Result<Vec<TopicRecord>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let servers = self.platform.bootstrap_servers();
            let letters = topic::read(servers, self.dead_letter_topic()).await?;
            if letters.len() >= count {
                return Ok(letters);
            }
            if Instant::now() > deadline {
                bail!("there are only {} dead letters instead of {count}", letters.len());
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Checks that an idle processor leaves its fetches waiting at the broker. Heartbeats, one a second, are the clock.
    ///
    /// # Errors
    /// When it sends more fetches, or the scenario has no proxy.
    pub async fn fetches_are_calm(&self) -> Result<()> {
        const HEARTBEATS: u64 = 3;
        const FETCHES_PER_HEARTBEAT: u64 = 10;
        let proxy = self.proxy()?;
        let before = proxy.requests(ApiKey::Fetch);
        proxy.more_requests(ApiKey::Heartbeat, HEARTBEATS).await;
        let fetches = proxy.requests(ApiKey::Fetch) - before;
        ensure!(
            fetches <= HEARTBEATS * FETCHES_PER_HEARTBEAT,
            "{fetches} fetches in {HEARTBEATS} heartbeats"
        );
        Ok(())
    }

    /// Returns the folder of the logs of this scenario's services.
    pub fn log_folder(&self) -> &Path {
        &self.log_folder
    }

    /// Registers the orders' schema, as the services do, and returns its id.
    ///
    /// # Errors
    /// When the registry refuses the schema.
    pub async fn register_order_schema(&self) -> Result<u32> {
        self.register_schema(&format!("{}-value", self.orders_topic()), ORDER_SCHEMA).await
    }

    /// Registers a later version of the orders' schema, with a string field `note` at the end, and returns its id.
    ///
    /// # Errors
    /// When the registry refuses the schema.
    pub async fn register_later_schema(&self) -> Result<u32> {
        let mut schema: Value = serde_json::from_str(ORDER_SCHEMA)?;
        let fields = schema.get_mut("fields").and_then(Value::as_array_mut);
        let note = json!({"name": "note", "type": "string", "default": ""});
        fields.context("find the schema's fields")?.push(note);
        self.register_schema(&format!("{}-value", self.orders_topic()), &schema.to_string()).await
    }

    /// Registers a schema and returns its id.
    ///
    /// # Errors
    /// When the registry refuses the schema.
    pub async fn register_schema(&self, subject: &str, schema: &str) -> Result<u32> {
        let registry = SchemaRegistry::new(RegistryConfig::new(self.platform.registry_url()))?;
        Ok(registry.register(subject, schema).await?)
    }

    /// Computes the group's expected statistics.
    ///
    /// # Errors
    /// When the judge cannot read or decode the topics.
    pub async fn verdict(&self, simulation: Simulation) -> Result<Verdict> {
        match self.platform {
            Platform::Embedded(_) => {
                let servers = self.platform.bootstrap_servers();
                let schema_id = self.register_order_schema().await?;
                Verdict::of_topics(
                    servers,
                    self.orders_topic(),
                    self.dead_letter_topic(),
                    schema_id,
                    simulation,
                )
                .await
            }
            Platform::Kafka(_) => outsiders::verdict(self, simulation).await,
        }
    }
}
