//! Answers and schemas that are too long.

use order_avro::{ORDER_SCHEMA, SCHEMA_BYTES_MAX};
use schema_registry::{RegistryError, SchemaRegistry};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::fake::{Fake, found, ok, quick, referring};

#[tokio::test]
async fn a_schema_over_the_limit_is_invalid_and_no_outage() {
    let long = |bytes: usize| ORDER_SCHEMA.to_owned() + &" ".repeat(bytes - ORDER_SCHEMA.len());
    let fake = Fake::start([found(&long(SCHEMA_BYTES_MAX))]).await;
    assert!(fake.client().schema_by_id(5).await.is_ok());
    for (schema, reason) in [
        (long(SCHEMA_BYTES_MAX + 1), "it has 1048577 bytes, and 1048576 are read"),
        (long(4 * SCHEMA_BYTES_MAX), "the registry's answer has more than 2097152 bytes"),
    ] {
        let fake = Fake::start([found(&schema)]).await;
        let error = fake.client().schema_by_id(5).await.expect_err("too long");
        assert!(matches!(error, RegistryError::InvalidSchema { .. }), "{error}");
        assert!(error.to_string().ends_with(reason), "{error}");
    }
}

#[tokio::test]
async fn a_response_without_a_length_is_read_up_to_the_same_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let answered = async {
        let (mut stream, _client) = listener.accept().await.expect("a client");
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).await.expect("a request") > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("room for a head");
        // It has no end: that the client reads no more of it ends it.
        while stream.write_all(&[b' '; 1024]).await.is_ok() {}
    };
    let client = SchemaRegistry::new(quick(format!("http://{address}"))).expect("a client");
    let (found, ()) = tokio::join!(client.schema_by_id(5), answered);
    let error = found.expect_err("too long");
    let reason = "the registry's answer has more than 2097152 bytes";
    assert!(error.to_string().ends_with(reason), "{error}");
}

#[tokio::test]
async fn a_schema_can_exceed_the_limit_with_its_references() {
    let half = r#""int""#.to_owned() + &" ".repeat(700_000);
    let fake = Fake::start([referring(&half, &[("a", "a", 1)]), referring(&half, &[])]).await;
    let error = fake.client().schema_by_id(5).await.expect_err("too long");
    let reason = "with what it refers to it has more than 1048576 bytes";
    assert!(error.to_string().ends_with(reason), "{error}");
}

#[tokio::test]
async fn an_error_response_over_the_limit_is_an_outage() {
    let fake = Fake::start([ok(&"x".repeat(3 * SCHEMA_BYTES_MAX))]).await;
    let client = fake.client_with(|config| config.attempts_max = 1);
    let error = client.probe("s").await.expect_err("an outage");
    assert!(error.is_unavailable(), "{error}");
}
