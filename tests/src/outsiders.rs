//! Programs outside the product: Kafka's own tools, and clients on librdkafka.

use anyhow::{Context, Result};

use crate::platform::{repository, variable};
use crate::scenario::Scenario;
use crate::service::ServiceCommand;
use crate::verdict::{Simulation, Verdict};

/// Kafka's tool for consumer groups.
pub const CONSUMER_GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

/// Kafka's tool for the configuration of topics.
pub const CONFIGS: &str = "kafka.admin.ConfigCommand";

/// Kafka's tool for topics.
pub const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";

/// Returns the command of one of the Python programs in `tests/outsiders`.
///
/// # Errors
/// When `TEST_PYTHON` does not name a Python with their libraries.
pub fn python(scenario: &Scenario, program: &str) -> Result<ServiceCommand> {
    let python = variable("TEST_PYTHON");
    let python = python
        .context("TEST_PYTHON is not set: `make test-kafka` prepares a Python and sets it")?;
    let script = repository().join("tests/outsiders").join(program);
    Ok(scenario.outsider(&python, program).args([script.to_string_lossy()]))
}

/// Returns the command of one of Kafka's own tools, with the broker's address.
pub fn kafka_tool(scenario: &Scenario, main_class: &str) -> ServiceCommand {
    let servers = scenario.platform().bootstrap_servers();
    control(scenario).args(["tool", main_class, "--bootstrap-server", servers])
}

/// Returns the command of `tests/kafka/kafka.py`, which controls the broker and runs Kafka's tools.
pub fn control(scenario: &Scenario) -> ServiceCommand {
    let script = repository().join("tests/kafka/kafka.py");
    scenario.outsider(&script.to_string_lossy(), "kafka.py")
}

/// Runs `oracle.py` to compute the group's expected statistics.
///
/// # Errors
/// When `oracle.py` fails.
pub async fn verdict(scenario: &Scenario, simulation: Simulation) -> Result<Verdict> {
    let rate = simulation.rate.to_string();
    let retries_max = simulation.retries_max.to_string();
    let command = python(scenario, "oracle.py")?
        .env("BOOTSTRAP_SERVERS", scenario.platform().bootstrap_servers())
        .env("SCHEMA_REGISTRY_URL", scenario.platform().registry_url())
        .args(["verdict", "--orders", scenario.orders_topic()])
        .args(["--dead-letters", scenario.dead_letter_topic()])
        .args(["--simulation-rate", &rate, "--max-retries", &retries_max]);
    let output = command.output().await?;
    serde_json::from_str(&output).with_context(|| format!("read this verdict: {output}"))
}
