//! The registry and the services' client, over a real port.
#![expect(clippy::expect_used, reason = "a test ends where its premises do")]

use std::net::{Ipv4Addr, SocketAddr};

use embedded_kafka::registry::EmbeddedRegistry;
use order_avro::{ORDER_SCHEMA, SchemaId};
use schema_registry::{RegistryConfig, RegistryError, SchemaRegistry};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const WITHOUT_PRICE: &str = r#"{"type": "record", "name": "Order", "namespace": "com.kafka.orders",
    "fields": [{"name": "orderId", "type": "string"}]}"#;

#[tokio::test]
async fn a_client_finds_the_schemas_that_it_registered() {
    let registry = start().await;
    let client = client(&registry);
    assert_eq!(client.register("orders-value", ORDER_SCHEMA).await, Ok(1));
    assert_eq!(client.register("orders dlq/value", ORDER_SCHEMA).await, Ok(1));
    assert_eq!(client.register("other", WITHOUT_PRICE).await, Ok(2));
    assert!(client.schema_by_id(1).await.is_ok());
    let unknown = client.schema_by_id(3).await.expect_err("no such id");
    assert!(
        matches!(unknown, RegistryError::NotYetKnown { id: SchemaId::Number(3), .. }),
        "{unknown}"
    );
}

#[tokio::test]
async fn an_incompatible_schema_is_refused_with_a_reason() {
    let registry = start().await;
    let client = client(&registry);
    client.register("orders-value", WITHOUT_PRICE).await.expect("an id");
    let error = client.register("orders-value", ORDER_SCHEMA).await.expect_err("incompatible");
    assert!(matches!(error, RegistryError::Incompatible { .. }), "{error}");
    assert!(error.to_string().contains("Schema being registered is incompatible"), "{error}");
    assert!(error.to_string().contains("product"), "{error}");
}

#[tokio::test]
async fn the_page_of_another_site_cannot_register_a_schema() {
    let registry = start().await;
    let body = r#"{"schema": "\"string\""}"#;
    let json = "Content-Type: application/json\r\n";
    for (host, content_type, expected) in [
        ("localhost", json, "200 OK"),
        ("localhost", "", "415 Unsupported Media Type"),
        ("localhost", "Content-Type: text/plain\r\n", "415 Unsupported Media Type"),
        ("evil.example", json, "403 Forbidden"),
    ] {
        let request = format!(
            "POST /subjects/a/versions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{content_type}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(&registry, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}\r\n")), "{host}: {answer}");
    }
    let read = "GET /subjects HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let answer = exchange(&registry, read).await;
    assert!(answer.contains("does not answer to the host evil.example"), "{answer}");
}

async fn exchange(registry: &EmbeddedRegistry, request: &str) -> String {
    let mut connection = TcpStream::connect(registry.address()).await.expect("a connection");
    connection.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("an answer");
    answer
}

async fn start() -> EmbeddedRegistry {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    EmbeddedRegistry::start(any_port).await.expect("a port")
}

fn client(registry: &EmbeddedRegistry) -> SchemaRegistry {
    let config = RegistryConfig { attempts_max: 1, ..RegistryConfig::new(registry.url()) };
    SchemaRegistry::new(config).expect("a client")
}
