//! The registry and the product's client of one, over a real port.
#![expect(clippy::expect_used, reason = "a test ends where its premises do")]

use std::net::{Ipv4Addr, SocketAddr};

use embedded_kafka::registry::EmbeddedRegistry;
use order_avro::ORDER_SCHEMA;
use schema_registry::{Compatibility, RegistryConfig, RegistryError, SchemaRegistry};

const WITHOUT_PRICE: &str = r#"{"type": "record", "name": "Order", "namespace": "com.kafka.orders",
    "fields": [{"name": "orderId", "type": "string"}]}"#;

#[tokio::test]
async fn what_a_client_registers_it_finds_again() {
    let registry = start().await;
    let client = client(&registry);
    assert_eq!(client.register("orders-value", ORDER_SCHEMA).await, Ok(1));
    assert_eq!(client.register("orders dlq/value", ORDER_SCHEMA).await, Ok(1));
    assert_eq!(client.register("other", WITHOUT_PRICE).await, Ok(2));
    assert!(client.schema_by_id(1).await.is_ok());
    let unknown = client.schema_by_id(3).await.expect_err("no such id");
    assert!(matches!(unknown, RegistryError::NotYetKnown { id: 3, .. }), "{unknown}");
}

#[tokio::test]
async fn an_incompatible_schema_is_refused_with_a_reason() {
    let registry = start().await;
    let client = client(&registry);
    client.register("orders-value", WITHOUT_PRICE).await.expect("an id");
    let error = client.register("orders-value", ORDER_SCHEMA).await.expect_err("incompatible");
    assert!(matches!(error, RegistryError::Incompatible { .. }), "{error}");
    assert!(error.to_string().contains("Schema being registered is incompatible"), "{error}");
    let Compatibility::Incompatible { messages } =
        client.is_compatible("orders-value", ORDER_SCHEMA).await.expect("a verdict")
    else {
        panic!("it is incompatible");
    };
    assert!(messages[0].contains("product"), "{messages:?}");
    let unknown = client.is_compatible("nobody's", ORDER_SCHEMA).await;
    assert_eq!(unknown, Ok(Compatibility::Compatible));
}

#[tokio::test]
async fn a_registry_that_is_started_again_is_where_it_was_with_what_it_had() {
    let registry = start().await;
    let client = client(&registry);
    client.register("orders-value", ORDER_SCHEMA).await.expect("an id");
    let url = registry.url();
    let stopped = registry.stop().await;
    assert!(client.schema_by_id(1).await.expect_err("nobody there").is_unavailable());
    let registry = stopped.start().await.expect("the same port");
    assert_eq!(registry.url(), url);
    assert!(client.schema_by_id(1).await.is_ok());
}

async fn start() -> EmbeddedRegistry {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    EmbeddedRegistry::start(any_port).await.expect("a port")
}

fn client(registry: &EmbeddedRegistry) -> SchemaRegistry {
    let config = RegistryConfig { attempts_max: 1, ..RegistryConfig::new(registry.url()) };
    SchemaRegistry::new(config).expect("a client")
}
