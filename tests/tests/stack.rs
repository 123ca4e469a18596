//! The container stack: `make up`, replicas that join, leave and crash, containers that restart.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use end_to_end::platform::repository;
use end_to_end::service::{PATIENCE, ServiceCommand, field};
use end_to_end::verdict::Simulation;
use end_to_end::{Platform, Scenario, Stats};
use tokio::time::{Duration, Instant, sleep};

const SIMULATION: Simulation = Simulation { rate: 0.1, retries_max: 3 };

/// Pause between two checks of the containers.
const LOOK_INTERVAL: Duration = Duration::from_millis(300);

/// The orders between two events.
const ORDERS_BETWEEN: u64 = 2_000;

/// `deploy/wait.sh` gives up after 180 s; `make` builds the images before that.
const MAKE_PATIENCE: Duration = Duration::from_mins(8);

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_exact_through_scaling_crashes_and_restarts_of_the_stack() -> Result<()> {
    let stack = Stack::new("stack")?;
    let outcome = live_through_everything(&stack).await;
    stack.keep_logs().await?;
    stack.make(["clean"]).await?;
    ensure!(stack.containers().await?.is_empty(), "make clean left containers behind");
    outcome.with_context(|| format!("the logs are in {}", stack.scenario.log_folder().display()))
}

async fn live_through_everything(stack: &Stack) -> Result<()> {
    stack.make(["up"]).await?;
    let processors = stack.compose(["logs", "--follow", "--no-log-prefix", "processor"]).start()?;
    let processed = processors.line("\"message\":\"processed\"").await?;
    let average = field(&processed, "average")?.as_f64().context("find an average")?;
    ensure!(average > 0.0, "no average in {processed}");
    ensure!(
        stack
            .compose(["exec", "-T", "schema-registry", "curl", "-s", "localhost:8081/subjects"])
            .output()
            .await?
            .contains(&format!("{}-value", stack.scenario.orders_topic())),
        "the registry does not know the subject of the orders"
    );

    stack.make(["scale", "N=3"]).await?;
    stack.members(3).await?;
    stack.more_orders("after three processors").await?;
    stack.make(["scale", "N=2"]).await?;
    stack.members(2).await?;
    stack.more_orders("after two processors").await?;
    operate(stack).await?;

    let crashed = stack.crash_a_processor().await?;
    stack.restarted(&crashed).await?;
    stack.more_orders("after a crash").await?;
    stack.compose(["restart", "kafka"]).output().await?;
    stack.more_orders("after the broker's restart").await?;
    stack.compose(["restart", "schema-registry"]).output().await?;
    stack.more_orders("while the registry comes back").await?;
    stack.command("deploy/wait.sh", []).output().await?;

    stack.compose(["stop", "generator"]).output().await?;
    let said = stack.compose(["logs", "--no-log-prefix", "generator"]).output().await?;
    let last = said.lines().rfind(|line| line.contains("final statistics"));
    let acknowledged = field(last.context("find the generator's statistics")?, "acknowledged")?;
    let acknowledged = acknowledged.as_u64().context("read what was acknowledged")?;
    let (stats, _) = stack.scenario.check_exact(acknowledged, SIMULATION).await?;
    assert_eq!(stats.orders + stats.dead_letters, acknowledged);

    let output = stack.make(["stats", "ARGS=--json"]).await?;
    let output =
        output.lines().rfind(|line| line.starts_with('{')).context("find the JSON object")?;
    assert_eq!(Stats::parse(output)?.sum_micros()?, stats.sum_micros()?);
    stack.compose(["stop", "processor"]).output().await?;
    for container in stack.containers().await?.iter().filter(|it| it.is_ours()) {
        ensure!(container.state == "exited 0", "{container:?} has not drained");
    }
    Ok(())
}

/// Runs the targets that operators use beside `up`, `scale` and `stats`, and looks for what each is to show.
async fn operate(stack: &Stack) -> Result<()> {
    let topic = stack.scenario.orders_topic();
    for (target, arguments, shown) in [
        ("ps", "", "processor"),
        ("topics", "", topic),
        ("lag", "", topic),
        ("control", "pause", "paused"),
        ("control", "resume", "running"),
        ("dlq", "list", "dead letters"),
    ] {
        let output = stack.make([target, &format!("ARGS={arguments}")]).await?;
        ensure!(
            output.contains(shown),
            "make {target} {arguments} does not show {shown}: {output}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_run_is_not_restarted_and_bad_settings_end_the_container() -> Result<()> {
    let stack = Stack::new("finished")?.with("ORDER_RATE", "0").with("ORDER_COUNT", "1000");
    let outcome = finish_and_fail(&stack).await;
    stack.keep_logs().await?;
    stack.make(["clean"]).await?;
    outcome.with_context(|| format!("the logs are in {}", stack.scenario.log_folder().display()))
}

async fn finish_and_fail(stack: &Stack) -> Result<()> {
    stack.make(["up"]).await?;
    stack.scenario.check_exact(1_000, SIMULATION).await?;
    let is_finished = |it: &Container| it.service == "generator" && it.state == "exited 0";
    let finished = async || Ok(stack.containers().await?.iter().any(is_finished));
    stack.until("the end of the generator's run", finished).await?;

    let refused = stack.command("make", ["up"]).env("MAX_RETRIES", "many").output().await;
    let complaint = format!("{:#}", refused.err().context("bad settings were taken")?);
    ensure!(complaint.contains("MAX_RETRIES"), "the setting is not named: {complaint}");
    Ok(())
}

/// A stack with its own project name, ports, topics and group.
struct Stack {
    scenario: Scenario,
    project: String,
}

/// A container of the stack.
#[derive(Debug)]
struct Container {
    name: String,
    service: String,
    /// The state by the engine's name, and the exit code.
    state: String,
}

impl Container {
    fn is_ours(&self) -> bool {
        ["generator", "processor"].contains(&self.service.as_str())
    }
}

impl Stack {
    fn new(name: &str) -> Result<Self> {
        let (kafka, registry) = (free_port()?, free_port()?);
        let platform =
            Platform::at(format!("localhost:{kafka}"), format!("http://localhost:{registry}"));
        let scenario = Scenario::open_on(platform, name)?
            .with("KAFKA_PORT", &kafka.to_string())
            .with("SCHEMA_REGISTRY_PORT", &registry.to_string())
            .with("TOPIC_PARTITIONS", "6")
            .with("ORDER_RATE", "500")
            .with("ERROR_SIMULATION_RATE", &SIMULATION.rate.to_string())
            .with("MAX_RETRIES", &SIMULATION.retries_max.to_string())
            .with("RETRY_BACKOFF_SECONDS", "0.1")
            .with("SESSION_TIMEOUT_MS", "6000");
        Ok(Self { project: scenario.orders_topic().to_lowercase(), scenario })
    }

    fn with(self, name: &str, value: &str) -> Self {
        Self { scenario: self.scenario.with(name, value), ..self }
    }

    /// Returns the command of a program with the stack's settings as its environment; the compose file sets the addresses.
    fn command<'a>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> ServiceCommand {
        let command = self.scenario.outsider(program, program).args(arguments);
        ["BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL", "HTTP_ADDR"]
            .into_iter()
            .fold(command, |command, name| command.env(name, ""))
            .env("COMPOSE_PROJECT_NAME", &self.project)
            .in_folder(&repository())
    }

    async fn make<'a>(&self, targets: impl IntoIterator<Item = &'a str>) -> Result<String> {
        self.command("make", targets).patience(MAKE_PATIENCE).output().await
    }

    fn compose<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> ServiceCommand {
        self.command("docker", ["compose"].into_iter().chain(arguments))
    }

    async fn containers(&self) -> Result<Vec<Container>> {
        let format = "{{.Name}} {{.Service}} {{.State}} {{.ExitCode}}";
        let listed = self.compose(["ps", "--all", "--format", format]).output().await?;
        listed
            .lines()
            .map(|line| {
                let mut words = line.splitn(3, ' ').map(str::to_owned);
                let mut word = || words.next().with_context(|| format!("read this line: {line}"));
                Ok(Container { name: word()?, service: word()?, state: word()? })
            })
            .collect()
    }

    /// Waits until Kafka's own tool lists this number of members with partitions.
    async fn members(&self, count: usize) -> Result<()> {
        let tool = "/opt/kafka/bin/kafka-consumer-groups.sh";
        let group = self.scenario.group();
        let arguments = ["exec", "-T", "kafka", tool, "--bootstrap-server", "localhost:9092"];
        let what = ["--describe", "--members", "--group", group];
        let command = self.compose(arguments.into_iter().chain(what));
        self.until(&format!("{count} members with partitions"), async || {
            let described = command.output().await?;
            let assigned = described.lines().filter(|line| line.starts_with(group));
            let counts = assigned.map(|line| line.split_whitespace().last().unwrap_or("0"));
            let counts: Vec<&str> = counts.collect();
            Ok(counts.len() == count && !counts.contains(&"0"))
        })
        .await
    }

    /// Waits until the group has made progress.
    async fn more_orders(&self, when: &str) -> Result<()> {
        let before = self.scenario.stats_when("the group's statistics", |_| true).await?.orders;
        self.scenario.stats_when(when, |stats| stats.orders > before + ORDERS_BETWEEN).await?;
        Ok(())
    }

    /// Kills a processor with a signal from the host, which the engine treats as a crash, and returns the container's name.
    async fn crash_a_processor(&self) -> Result<String> {
        let containers = self.containers().await?;
        let processor = containers.iter().find(|container| container.service == "processor");
        let name = &processor.context("find a processor")?.name;
        let inspect = self.command("docker", ["inspect", "--format", "{{.State.Pid}}", name]);
        let pid = inspect.output().await?;
        let kafka = self.compose(["images", "--format", "json", "kafka"]).output().await?;
        let image: serde_json::Value = serde_json::from_str(&kafka)?;
        let image = image[0]["ID"].as_str().context("find the broker's image")?;
        self.command("docker", ["run", "--rm", "--pid=host", "--user=0", "--network=none"])
            .args(["--entrypoint=bash", image, "-c", &format!("kill -KILL {pid}")])
            .output()
            .await?;
        Ok(name.clone())
    }

    async fn restarted(&self, name: &str) -> Result<()> {
        let inspect = ["inspect", "--format", "{{.RestartCount}} {{.State.Running}}", name];
        let command = self.command("docker", inspect);
        self.until("the restart", async || Ok(command.output().await?.trim() == "1 true")).await
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let started = Instant::now();
        while !is_so().await? {
            ensure!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
            sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    async fn keep_logs(&self) -> Result<()> {
        let logs = self.compose(["logs", "--timestamps", "--no-color"]).output().await?;
        let path: &Path = self.scenario.log_folder();
        std::fs::write(path.join("stack.log"), logs).context("write the stack's log")
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?.port())
}
