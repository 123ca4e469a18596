//! The dashboard's API: its answers match its `OpenAPI` description and the numbers of `stats`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use end_to_end::Scenario;
use end_to_end::service::{PATIENCE, Service, ServiceCommand, field};
use kafka_client::cluster::Cluster;
use kafka_client::config::BrokerConfig;
use kafka_client::offsets::{GroupOffsets, OffsetCommit};
use kafka_core::TopicPartition;
use kafka_core::member::CommitIdentity;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

const ORDERS: u64 = 200;

#[tokio::test(flavor = "multi_thread")]
async fn every_path_answers_as_the_openapi_document_says() -> Result<()> {
    let scenario = failing("dashboard-api").await?;
    let processor = scenario.processor("processor")?.start()?;
    scenario.generator("generator")?.start()?.expect_exit(0).await?;
    let stats = scenario.stats_at_end(ORDERS).await?;
    ensure!(stats.dead_letters >= 4, "{} dead letters are too few", stats.dead_letters);
    let mut api = Api::of(&scenario).await?;

    for path in ["/", "/style.css", "/app.js", "/icon.svg", "/api/openapi.json"] {
        api.get(path, StatusCode::OK).await?;
    }
    for path in ["/api/session", "/api/stats", "/api/history", "/api/group", "/api/control"] {
        api.get(path, StatusCode::OK).await?;
    }
    let orders = api.get("/api/orders", StatusCode::OK).await?;
    assert_eq!(orders["orders"].as_array().map(Vec::len), Some(50));
    let orders = api.get("/api/orders?limit=7", StatusCode::OK).await?;
    assert_eq!(orders["orders"].as_array().map(Vec::len), Some(7));

    let letters = api.get("/api/dlq?type=simulated&limit=3", StatusCode::OK).await?;
    assert_eq!(letters["letters"], stats.dead_letters);
    let newest = letters["newest"].as_array().context("read the newest letters")?;
    assert_eq!(newest.len(), 3);
    assert_eq!(api.get("/api/dlq?type=nothing", StatusCode::OK).await?["newest"], json!([]));
    api.get("/api/dlq?state=gone", StatusCode::BAD_REQUEST).await?;
    let place = newest[0]["place"].as_str().context("read a place")?.replace(':', "/");
    let letter = api.get(&format!("/api/dlq/{place}"), StatusCode::OK).await?;
    assert_eq!(letter["type"], newest[0]["type"]);
    api.get("/api/dlq/0/999999", StatusCode::NOT_FOUND).await?;

    let all = json!({"filter": {}, "dry_run": true});
    let counted = api.post("/api/dlq/replay", &all, StatusCode::OK).await?;
    assert_eq!((&counted["matching"], &counted["sent"]), (&letters["letters"], &json!(0)));
    let one = json!({"places": [newest[0]["place"]], "dry_run": false});
    let sent = api.post("/api/dlq/replay", &one, StatusCode::OK).await?;
    assert_eq!((&sent["chosen"], &sent["sent"]), (&json!(1), &json!(1)));
    // It fails again by the simulation: the letter is resolved, and there is a new one.
    scenario
        .stats_when("the replayed order", |stats| {
            stats.dead_letters > counted["matching"].as_u64().unwrap_or(u64::MAX)
        })
        .await?;
    let again = api.post("/api/dlq/replay", &one, StatusCode::OK).await?;
    assert_eq!(again["sent"], 0, "{again}");
    let other = json!({"places": [newest[1]["place"]], "dry_run": false, "reason": "seen"});
    let dismissed = api.post("/api/dlq/dismiss", &other, StatusCode::OK).await?;
    assert_eq!(dismissed["dismissed"], 1);
    let without_reason = json!({"places": [newest[2]["place"]], "dry_run": false});
    api.post("/api/dlq/dismiss", &without_reason, StatusCode::BAD_REQUEST).await?;
    api.post("/api/dlq/replay", &json!({"dry_run": true}), StatusCode::BAD_REQUEST).await?;

    let paused = api
        .post("/api/control", &json!({"target": "all", "action": "pause"}), StatusCode::OK)
        .await?;
    assert_eq!(
        (&paused["generator"]["desired"], &paused["processor"]["desired"]),
        (&json!("paused"), &json!("paused"))
    );
    api.post("/api/control", &json!({"target": "all", "action": "resume"}), StatusCode::OK).await?;
    api.post("/api/session", &json!({"token": "none is needed"}), StatusCode::NO_CONTENT).await?;
    api.call(&Method::DELETE, "/api/session", None, StatusCode::NO_CONTENT).await?;
    api.events(&["stats", "orders", "group", "control"]).await?;

    assert_eq!(api.asked, api.described(), "the paths of the OpenAPI file and the tried ones");
    api.stop().await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_are_those_of_stats_also_after_a_restart() -> Result<()> {
    let scenario = failing("dashboard-numbers").await?;
    let processor = scenario.processor("processor")?.start()?;
    scenario.generator("generator")?.start()?.expect_exit(0).await?;
    let stats = scenario.stats_at_end(ORDERS).await?;
    for _start in 0..2 {
        let mut api = Api::of(&scenario).await?;
        let shown = api.get("/api/stats", StatusCode::OK).await?;
        assert_eq!(shown["produced"]["total"], ORDERS);
        assert_eq!(shown["consumed"]["total"], ORDERS);
        assert_eq!(
            (&shown["orders"], &shown["dead_letters"]),
            (&json!(stats.orders), &json!(stats.dead_letters))
        );
        assert_eq!(shown["revenue"].as_str(), Some(stats.sum.as_str()));
        assert_eq!(
            (&shown["retries"], &shown["lag"], &shown["lag_seconds"]),
            (&json!(stats.retries), &json!(0), &json!(0.0))
        );
        let orders = api.get("/api/orders?limit=100", StatusCode::OK).await?;
        let orders = orders["orders"].as_array().context("read the orders")?;
        let statuses: BTreeSet<&str> =
            orders.iter().filter_map(|order| order["status"].as_str()).collect();
        assert_eq!(statuses, BTreeSet::from(["dead-lettered", "processed"]));
        api.stop().await?;
    }
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_fail_after_a_dry_run_are_not_replayed() -> Result<()> {
    let scenario = failing("dashboard-before").await?;
    let processor = scenario.processor("processor")?.start()?;
    scenario.generator("generator-1")?.start()?.expect_exit(0).await?;
    let first = scenario.stats_at_end(ORDERS).await?.dead_letters;
    let mut api = Api::of(&scenario).await?;
    let all = json!({"filter": {}, "dry_run": true});
    let counted = api.post("/api/dlq/dismiss", &all, StatusCode::OK).await?;
    assert_eq!(counted["chosen"], first);

    scenario.generator("generator-2")?.env("SEED", "2").start()?.expect_exit(0).await?;
    let both = scenario.stats_at_end(2 * ORDERS).await?.dead_letters;
    ensure!(both > first, "nothing has failed after the dry run");
    let deed =
        json!({"filter": {}, "dry_run": false, "before": counted["before"], "reason": "seen"});
    let dismissed = api.post("/api/dlq/dismiss", &deed, StatusCode::OK).await?;
    assert_eq!(dismissed["dismissed"], first);
    let letters = api.get("/api/dlq", StatusCode::OK).await?;
    assert_eq!(letters["unresolved"], both - first);
    api.stop().await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_unknown_and_not_zero_before_the_cluster_has_answered() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let scenario = Scenario::open("dashboard-silent").await?;
    let command = scenario.console("dashboard")?;
    let command = command.env("BOOTSTRAP_SERVERS", &silent.local_addr()?.to_string());
    let mut api = Api::start(command).await?;
    let stats = api.get("/api/stats", StatusCode::OK).await?;
    assert_eq!((&stats["at"], &stats["complete"]), (&Value::Null, &json!(true)));
    assert_eq!(api.get("/api/group", StatusCode::OK).await?["state"], "Unknown");
    api.events(&["stats", "orders", "group", "control"]).await?;
    api.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_group_is_reported_as_failing() -> Result<()> {
    let scenario = failing("dashboard-fails").await?;
    let processor = scenario.processor("processor")?.start()?;
    scenario.generator("generator")?.start()?.expect_exit(0).await?;
    scenario.stats_at_end(ORDERS).await?;
    processor.drain().await?;
    let servers = scenario.platform().bootstrap_servers().to_owned();
    let cluster = Cluster::new(BrokerConfig::new(vec![servers], "dashboard-test"));
    let newer = OffsetCommit {
        partition: TopicPartition::new(scenario.orders_topic(), 0),
        offset: 1,
        leader_epoch: None,
        metadata: "oc9:of a later release".to_owned(),
    };
    let nobody = CommitIdentity { member_id: String::new(), generation: -1 };
    let committed =
        GroupOffsets::new(&cluster, scenario.group()).commit(&nobody, None, &[newer]).await?;
    ensure!(committed.values().all(Option::is_none), "{committed:?}");

    let mut api = Api::of(&scenario).await?;
    let broker = loop {
        let stats = api.get("/api/stats", StatusCode::OK).await?;
        let broker = stats["connections"]["broker"].clone();
        if broker["state"] != "unknown" {
            break broker;
        }
    };
    assert_eq!(broker["state"], "failing");
    let detail = broker["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains("checkpoint"), "{detail}");
    api.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_leader_is_named_and_the_others_have_their_numbers() -> Result<()> {
    let scenario = Scenario::open_embedded("dashboard-leaders").await?;
    let scenario = scenario.with("TOPIC_PARTITIONS", "2").with("ORDER_COUNT", "200");
    let scenario = scenario.with("ORDER_RATE", "0");
    let processor = scenario.processor("processor")?.start()?;
    scenario.generator("generator")?.start()?.expect_exit(0).await?;
    let stats = scenario.stats_at_end(ORDERS).await?;
    processor.drain().await?;
    let (broker, topic) = (scenario.embedded_broker()?, scenario.orders_topic());
    let mut api = Api::of(&scenario).await?;

    broker.lose_leader(topic, 1)?;
    let shown = api.stats_when_broker_is("failing").await?;
    let detail = shown["connections"]["broker"]["detail"].as_str().unwrap_or_default();
    assert_eq!(detail, format!("{topic}-1: no leader"));
    let missing = json!([{"topic": topic, "partition": 1, "reason": "no leader"}]);
    assert_eq!(shown["unavailable"], missing);
    assert_eq!(
        (&shown["orders"], &shown["consumed"]["total"], &shown["lag"], &shown["lag_seconds"]),
        (&json!(stats.orders), &json!(ORDERS), &Value::Null, &Value::Null)
    );
    let lags: Vec<&Value> =
        (0..2).map(|partition| &shown["partitions"][partition]["lag"]).collect();
    assert_eq!(lags, [&json!(0), &Value::Null], "of the orders' partitions");

    broker.elect_leader(topic, 1)?;
    let shown = api.stats_when_broker_is("connected").await?;
    assert_eq!((&shown["unavailable"], &shown["lag"]), (&json!([]), &json!(0)));
    assert_eq!(shown["produced"]["total"], ORDERS);
    api.stop().await
}

async fn failing(name: &str) -> Result<Scenario> {
    Ok(Scenario::open(name)
        .await?
        .with("ORDER_COUNT", &ORDERS.to_string())
        .with("ORDER_RATE", "0")
        .with("ERROR_SIMULATION_RATE", "0.2")
        .with("RETRY_BACKOFF_SECONDS", "0.01"))
}

/// A dashboard, asked by HTTP; its answers are checked against the description that it serves.
struct Api {
    dashboard: Service,
    url: String,
    client: Client,
    openapi: Value,
    /// Methods and paths that were asked for.
    asked: BTreeSet<(String, String)>,
}

impl Api {
    async fn of(scenario: &Scenario) -> Result<Self> {
        Self::start(scenario.console("dashboard")?).await
    }

    async fn start(command: ServiceCommand) -> Result<Self> {
        let command = command.args(["dashboard"]);
        let dashboard = command.env("DASHBOARD_ADDR", "127.0.0.1:0").start()?;
        let line = dashboard.line("serving the dashboard").await?;
        let url = field(&line, "url")?.as_str().context("read the URL")?.to_owned();
        let client = http_client::builder(&[])?.build()?;
        let openapi = client.get(format!("{url}/api/openapi.json")).send().await?;
        let openapi = openapi.error_for_status()?.json().await?;
        Ok(Self { dashboard, url, client, openapi, asked: BTreeSet::new() })
    }

    async fn stop(mut self) -> Result<()> {
        self.dashboard.terminate()?;
        self.dashboard.expect_exit(0).await
    }

    async fn get(&mut self, path: &str, status: StatusCode) -> Result<Value> {
        self.call(&Method::GET, path, None, status).await
    }

    /// Asks for the numbers until the broker's connection is in a state.
    async fn stats_when_broker_is(&mut self, state: &str) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.get("/api/stats", StatusCode::OK).await?;
            if shown["connections"]["broker"]["state"] == state {
                return Ok(shown);
            }
            ensure!(Instant::now() < deadline, "the broker is not {state}: {shown:#}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn post(&mut self, path: &str, body: &Value, status: StatusCode) -> Result<Value> {
        self.call(&Method::POST, path, Some(body), status).await
    }

    /// Asks for a path, and checks status, content type and body.
    async fn call(
        &mut self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        status: StatusCode,
    ) -> Result<Value> {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        assert_eq!(response.status(), status, "{method} {path}");
        let policy =
            response.headers().get("content-security-policy").context("find the policy")?;
        ensure!(policy.to_str()?.starts_with("default-src 'none'"), "{policy:?}");
        let content_type = response.headers().get(CONTENT_TYPE).cloned();
        let content_type =
            content_type.map(|value| value.to_str().map(str::to_owned)).transpose()?;
        let text = response.text().await?;
        let described = self.operation(method, path)?["responses"][status.as_str()].clone();
        let described = self.resolved(&described);
        ensure!(described.is_object(), "{method} {path}: {status} is not described");
        let media = content_type.as_deref().map(|media| media.split(';').next().unwrap_or(media));
        let Some(media) = media else {
            ensure!(described["content"].is_null(), "{method} {path}: an answer without a body");
            return Ok(Value::Null);
        };
        let schema = &described["content"][media]["schema"];
        ensure!(schema.is_object(), "{method} {path}: {media} is not described");
        if media != "application/json" {
            return Ok(Value::String(text));
        }
        let found = serde_json::from_str(&text)?;
        self.check(schema, &found).with_context(|| format!("{method} {path}"))?;
        Ok(found)
    }

    /// Returns the description of a path, and notes that it was asked for.
    fn operation(&mut self, method: &Method, path: &str) -> Result<Value> {
        let path = path.split('?').next().unwrap_or(path);
        let paths = self.openapi["paths"].as_object().context("read the paths")?;
        let is_like = |pattern: &str| {
            let (pattern, path): (Vec<_>, Vec<_>) =
                (pattern.split('/').collect(), path.split('/').collect());
            pattern.len() == path.len()
                && pattern
                    .iter()
                    .zip(&path)
                    .all(|(one, other)| one == other || one.starts_with('{'))
        };
        let pattern = paths.keys().find(|pattern| pattern.as_str() == path);
        let pattern = pattern.or_else(|| paths.keys().find(|pattern| is_like(pattern)));
        let pattern = pattern.with_context(|| format!("{path} is not described"))?;
        let name = method.as_str().to_ascii_lowercase();
        let operation = paths[pattern][&name].clone();
        self.asked.insert((name, pattern.clone()));
        Ok(operation)
    }

    fn resolved(&self, value: &Value) -> Value {
        let reference = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        let target = reference.and_then(|pointer| self.openapi.pointer(pointer));
        target.unwrap_or(value).clone()
    }

    /// Checks a body against a schema of the description.
    fn check(&self, schema: &Value, body: &Value) -> Result<()> {
        let mut whole = schema.clone();
        whole["components"] = self.openapi["components"].clone();
        let validator =
            jsonschema::validator_for(&whole).map_err(|error| anyhow::anyhow!("{error}"))?;
        let errors: Vec<String> = validator
            .iter_errors(body)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        ensure!(errors.is_empty(), "{errors:#?}");
        Ok(())
    }

    /// Reads the stream of events until one of each kind has come, and checks them.
    async fn events(&mut self, kinds: &[&str]) -> Result<()> {
        let mut response = self.client.get(format!("{}/api/events", self.url)).send().await?;
        self.operation(&Method::GET, "/api/events")?;
        let mut missing: BTreeSet<&str> = kinds.iter().copied().collect();
        let mut text = String::new();
        while !missing.is_empty() {
            let chunk = response.chunk().await?.context("the stream ended")?;
            text.push_str(str::from_utf8(&chunk)?);
            while let Some((event, rest)) = text.split_once("\n\n") {
                let lines: Vec<&str> = event.lines().collect();
                let part = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name));
                if let (Some(kind), Some(data)) = (part("event: "), part("data: ")) {
                    let path = if kind == "point" { "history" } else { kind };
                    let described =
                        &self.openapi["paths"][format!("/api/{path}")]["get"]["responses"]["200"];
                    let mut schema = described["content"]["application/json"]["schema"].clone();
                    if kind == "point" {
                        schema = json!({"$ref": "#/components/schemas/Point"});
                    }
                    self.check(&schema, &serde_json::from_str(data)?)
                        .with_context(|| kind.to_owned())?;
                    missing.remove(kind);
                }
                text = rest.to_owned();
            }
        }
        Ok(())
    }

    /// Returns every method and path of the description.
    fn described(&self) -> BTreeSet<(String, String)> {
        let paths = self.openapi["paths"].as_object().into_iter().flatten();
        paths
            .flat_map(|(path, operations)| {
                let names = operations.as_object().into_iter().flat_map(|o| o.keys());
                names
                    .filter(|name| ["get", "post", "delete"].contains(&name.as_str()))
                    .map(|name| (name.clone(), path.clone()))
            })
            .collect()
    }
}
