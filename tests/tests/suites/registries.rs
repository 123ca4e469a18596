//! Read-only registries, proxies in front of registries, schemas in headers, and schemas with references.

use anyhow::Result;
use end_to_end::verdict::Simulation;
use end_to_end::{LaggingRegistry, Scenario, topic};

/// The header that names the schema of a value.
const HEADER: &str = "__value_schema_id";

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_only_reads_schemas_needs_no_right_to_write_them() -> Result<()> {
    let scenario = Scenario::open("registry-read-only").await?.with("ORDER_COUNT", "100");
    let registry = LaggingRegistry::start(scenario.platform().registry_url()).await?;
    registry.forbid_writing();
    let scenario = scenario.with("SCHEMA_REGISTRY_URL", &registry.url());
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    assert_eq!(registry.writes(), 0, "a processor has written");

    let generator = |name| scenario.generator(name)?.env("ORDER_RATE", "0").start();
    let mut refused = generator("generator-1")?;
    refused.line("does not have the orders' schema, and the generator cannot register it").await?;
    refused.line("you may only read").await?;
    refused.expect_exit(1).await?;
    let writes = registry.writes();
    assert!(writes > 0);

    scenario.register_order_schema().await?;
    let mut generator = generator("generator-2")?;
    generator.expect_exit(0).await?;
    assert_eq!(registry.writes(), writes, "what is there is not registered");
    scenario.check_exact(100, Simulation::OFF).await?;
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_name_no_schema_need_no_registry() -> Result<()> {
    let scenario = Scenario::open("no-registry").await?;
    let scenario = scenario.with("SCHEMA_REGISTRY_URL", "http://127.0.0.1:1");
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    let order = topic::order_value(1, "1001", "Item1", 12.5)?;
    let servers = scenario.platform().bootstrap_servers();
    topic::write(servers, scenario.orders_topic(), 0, None, Some(&order[5..])).await?;
    let stats = scenario.stats_at_end(1).await?;
    assert_eq!((stats.orders, stats.dead_letters), (1, 0));
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_in_a_header_is_looked_up_and_never_replaced_by_ours() -> Result<()> {
    let scenario = Scenario::open("schema-header").await?.with("PAYLOAD_FORMAT", "bare");
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    let schema = r#"{"type": "record", "name": "Sale", "fields": [{"name": "price", "type": "int"},
        {"name": "orderId", "type": "string"}, {"name": "product", "type": "string"}]}"#;
    let subject = format!("{}-sale", scenario.orders_topic());
    let schema_id = scenario.register_schema(&subject, schema).await?;
    let (servers, orders) = (scenario.platform().bootstrap_servers(), scenario.orders_topic());
    let id = [&[0][..], &schema_id.to_be_bytes()].concat();
    topic::write_with_headers(
        servers,
        orders,
        &[b"\x54\x06A-7\x08Desk".to_vec()],
        &[(HEADER, &id)],
    )
    .await?;
    let stats = scenario.stats_at_end(1).await?;
    assert_eq!((stats.orders, stats.sum_micros()?), (1, 42_000_000));

    // No registry of the suites has GUIDs.
    let guid = [&[1][..], &[7; 16]].concat();
    let ours = topic::order_value(1, "1001", "Item1", 12.5)?;
    topic::write_with_headers(servers, orders, &[ours[5..].to_vec()], &[(HEADER, &guid)]).await?;
    let letter = scenario.letters(1).await?.remove(0);
    assert_eq!(letter.header_text("dlq.error.type").as_deref(), Some("unknown-schema"));
    let guid = "07070707-0707-0707-0707-070707070707";
    assert_eq!(letter.header_text("dlq.schema-id").as_deref(), Some(guid));
    let reason = letter.header_text("__dlq.errors.message").unwrap_or_default();
    assert!(reason.contains("looks up no GUIDs"), "{reason}");
    processor.drain().await
}

/// Needs a real registry: the embedded one has no references.
#[cfg(feature = "outsiders")]
#[tokio::test(flavor = "multi_thread")]
async fn orders_of_a_schema_with_references_are_read() -> Result<()> {
    let scenario = Scenario::open("references").await?;
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    let money =
        r#"{"type": "record", "name": "shop.Money", "fields": [{"name": "cents", "type": "int"}]}"#;
    let basket = r#"{"type": "record", "name": "shop.Basket", "fields": [{"name": "sum", "type": "shop.Money"}]}"#;
    let order = r#"{"type": "record", "name": "shop.Order", "fields": [{"name": "orderId", "type": "string"},
        {"name": "product", "type": "string"}, {"name": "price", "type": "float"}, {"name": "basket", "type": "shop.Basket"}]}"#;
    let subject = |name: &str| format!("{}-{name}", scenario.orders_topic());
    let reference = |name: &str, of: &str| serde_json::json!([{ "name": name, "subject": subject(of), "version": 1 }]);
    let (to_money, to_basket) =
        (reference("shop.Money", "money"), reference("shop.Basket", "basket"));
    register(&scenario, &subject("money"), money, serde_json::json!([])).await?;
    register(&scenario, &subject("basket"), basket, to_money).await?;
    let id = register(&scenario, &subject("value"), order, to_basket).await?;

    let mut value = topic::order_value(id, "1001", "Item1", 12.5)?;
    value.push(6);
    let servers = scenario.platform().bootstrap_servers();
    topic::write(servers, scenario.orders_topic(), 0, None, Some(&value)).await?;
    let stats = scenario.stats_at_end(1).await?;
    assert_eq!((stats.orders, stats.sum_micros()?), (1, 12_500_000));
    processor.drain().await
}

/// Registers a schema with references, and returns its id.
#[cfg(feature = "outsiders")]
async fn register(
    scenario: &Scenario,
    subject: &str,
    schema: &str,
    references: serde_json::Value,
) -> Result<u32> {
    let url = scenario.platform().registry_url().trim_end_matches('/');
    let body = serde_json::json!({ "schema": schema, "references": references });
    let client = http_client::builder(&[])?.build()?;
    let request = client.post(format!("{url}/subjects/{subject}/versions")).json(&body);
    let answer: serde_json::Value = request.send().await?.error_for_status()?.json().await?;
    Ok(serde_json::from_value(answer["id"].clone())?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_environment_is_logged_without_its_password() -> Result<()> {
    let scenario = Scenario::open("registry-proxy").await?;
    let generator = scenario.generator("generator")?.env("NO_PROXY", "");
    let mut generator = generator.env("HTTP_PROXY", "http://kim:secret@127.0.0.1:1").start()?;
    let line = generator.line("the environment names a proxy for the schema registry").await?;
    assert!(line.contains("http://127.0.0.1:1"), "{line}");
    let waiting = generator.line("waiting for the schema registry").await?;
    assert!(waiting.contains("(through the proxy http://127.0.0.1:1)"), "{waiting}");
    assert!(!generator.lines().iter().any(|line| line.contains("secret")));
    generator.terminate()?;
    generator.expect_exit(0).await
}
