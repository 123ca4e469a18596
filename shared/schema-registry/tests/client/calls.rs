//! Calls, outages, and lookups of plain schemas.

use std::time::Duration;

use futures_util::future::{join, join_all};
use order_avro::{ORDER_SCHEMA, SchemaId};
use schema_registry::{Outage, RegistryError, SchemaRegistry, SchemaStatus};

use crate::fake::{Fake, answer, found, ok, outage, quick, unused_address};

#[tokio::test]
async fn a_schema_is_registered_with_the_registrys_content_type() {
    let fake = Fake::start([ok(r#"{"id": 7, "version": 1, "guid": "new in some release"}"#)]).await;
    let id = fake.client().register("orders-value", ORDER_SCHEMA).await;
    assert_eq!(id, Ok(7));
    let request = fake.only_request();
    assert_eq!(request.line, "POST /subjects/orders-value/versions");
    assert_eq!(request.headers["content-type"], "application/vnd.schemaregistry.v1+json");
    assert_eq!(request.headers.get_all("content-type").iter().count(), 1);
    assert!(request.headers["accept"].to_str().expect("text").starts_with("application/vnd."));
    assert_eq!(request.json()["schema"], ORDER_SCHEMA);
}

#[tokio::test]
async fn subjects_are_percent_encoded_below_the_path_of_the_url() {
    let fake = Fake::start([ok(r#"{"id": 1}"#)]).await;
    let client = fake.client_with(|config| config.url = format!("{}/apis/ccompat/v7/", config.url));
    assert_eq!(client.register("a/b c%ü", "{}").await, Ok(1));
    let line = fake.only_request().line;
    assert_eq!(line, "POST /apis/ccompat/v7/subjects/a%2Fb%20c%25%C3%BC/versions");
}

#[tokio::test]
async fn credentials_in_the_url_are_sent_and_never_shown() {
    let fake = Fake::start([ok(r#"{"id": 1}"#), answer(401, "")]).await;
    let client = fake.client_with(|config| {
        config.url = config.url.replace("http://", "http://user:p%40ss@");
        config.attempts_max = 1;
    });
    assert_eq!(client.register("s", "{}").await, Ok(1));
    assert_eq!(fake.only_request().headers["authorization"], "Basic dXNlcjpwQHNz");
    let error = client.register("s", "{}").await.expect_err("denied");
    assert_eq!(outage(&error), Some(Outage::Denied(401)));
    assert!(!error.to_string().contains("ss@"), "{error}");
}

#[tokio::test]
async fn an_incompatible_schema_is_an_error_with_the_registrys_message() {
    for error_code in [409, 40901] {
        let body = format!(r#"{{"error_code": {error_code}, "message": "reader field 'a'"}}"#);
        let fake = Fake::start([answer(409, &body)]).await;
        let error = fake.client().register("s", "{}").await.expect_err("incompatible");
        let expected = RegistryError::Incompatible {
            subject: "s".to_owned(),
            message: "reader field 'a'".to_owned(),
        };
        assert_eq!(error, expected);
    }
}

#[tokio::test]
async fn a_refusal_has_the_registrys_message_in_any_form() {
    for (body, error_code, message) in [
        (r#"{"error_code": 42201, "message": "Invalid schema"}"#, 42201, "Invalid schema"),
        ("<h1>Unprocessable</h1>\n", 422, "<h1>Unprocessable</h1>"),
        ("", 422, "no message"),
    ] {
        let fake = Fake::start([answer(422, body)]).await;
        let error = fake.client().register("s", "{}").await.expect_err("refused");
        let message = message.to_owned();
        assert_eq!(error, RegistryError::Refused { status: 422, error_code, message });
    }
    let fake = Fake::start([answer(400, &"x".repeat(100_000))]).await;
    let error = fake.client().register("s", "{}").await.expect_err("refused");
    assert!(error.to_string().len() < 1200);
}

#[tokio::test]
async fn temporary_failures_are_retried_and_then_reported_as_an_outage() {
    for status in [401, 403, 408, 425, 429, 500, 502, 503, 504] {
        let body = r#"{"error_code": 50001, "message": "the store is away"}"#;
        let fake =
            Fake::start([answer(status, body), answer(status, body), ok(r#"{"id": 3}"#)]).await;
        assert_eq!(fake.client().register("s", "{}").await, Ok(3), "{status}");

        let fake =
            Fake::start([answer(status, body), answer(status, body), answer(status, body)]).await;
        let error = fake.client().register("s", "{}").await.expect_err("an outage");
        assert!(error.is_unavailable(), "{status}: {error}");
        assert!(error.to_string().contains("the store is away"), "{status}: {error}");
        assert_eq!(fake.requests().len(), 3, "{status}");
    }
}

#[tokio::test]
async fn an_unreachable_registry_is_an_outage() {
    let client =
        SchemaRegistry::new(quick(format!("http://{}", unused_address().await))).expect("a client");
    let error = client.schema_by_id(1).await.expect_err("an outage");
    assert_eq!(outage(&error), Some(Outage::Network), "{error}");
    assert!(client.requests()[&None] > 0, "requests without an answer are counted as such");
}

#[tokio::test]
async fn a_registry_that_does_not_answer_in_time_is_an_outage() {
    let fake = Fake::start([]).await;
    let client = fake.client_with(|config| {
        config.request_timeout = Duration::from_millis(20);
        config.attempts_max = 1;
    });
    let error = client.schema_by_id(1).await.expect_err("an outage");
    assert_eq!(outage(&error), Some(Outage::Timeout), "{error}");
}

#[tokio::test]
async fn a_successful_response_of_another_server_is_an_outage() {
    for body in ["", "{", "{}", "<html>Welcome</html>", r#"{"schema": 1}"#] {
        let fake = Fake::start([ok(body), ok(body), ok(body)]).await;
        let error = fake.client().schema_by_id(1).await.expect_err("an outage");
        assert_eq!(outage(&error), Some(Outage::Garbled), "{body}: {error}");
    }
}

#[tokio::test]
async fn the_next_url_is_tried_when_one_is_down_and_kept_while_it_answers() {
    let fake = Fake::start([ok(r#"{"id": 1}"#), ok(r#"{"id": 2}"#)]).await;
    let down = Fake::start([answer(503, "")]).await;
    let client = fake.client_with(|config| {
        config.url = format!("{}, {}", down.url(), config.url);
        config.attempts_max = 1;
    });
    assert_eq!(client.register("s", "{}").await, Ok(1));
    assert_eq!(client.register("s", "{}").await, Ok(2));
    assert_eq!(down.requests().len(), 1);
    let counted: Vec<_> = client.requests().into_iter().collect();
    assert_eq!(counted, [(Some(200), 2), (Some(503), 1)]);
}

#[tokio::test]
async fn a_schema_is_fetched_once() {
    let fake = Fake::start([found(ORDER_SCHEMA)]).await;
    let client = fake.client();
    assert!(client.cached(5).is_none());
    client.schema_by_id(5).await.expect("a schema");
    client.clone().schema_by_id(5).await.expect("a schema");
    assert!(client.cached(5).is_some());
    assert_eq!(fake.only_request().line, "GET /schemas/ids/5");
}

#[tokio::test]
async fn a_hundred_callers_make_one_request() {
    let fake = Fake::start([]).await;
    let client = fake.client();
    let lookups = join_all((0..100).map(|_| client.schema_by_id(5)));
    let (found, ()) = join(lookups, async {
        fake.arrived().await;
        fake.answer(found(ORDER_SCHEMA));
    })
    .await;
    assert_eq!(found.iter().filter(|found| found.is_ok()).count(), 100);
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn a_cancelled_caller_leaves_the_lookup_to_the_others() {
    let fake = Fake::start([]).await;
    let client = fake.client();
    let mut first = Box::pin(client.schema_by_id(5));
    tokio::select! {
        _ = &mut first => panic!("nothing has answered yet"),
        () = fake.arrived() => {}
    }
    let second = client.schema_by_id(5);
    let (found, ()) = join(second, async {
        drop(first);
        fake.answer(found(ORDER_SCHEMA));
    })
    .await;
    assert!(found.is_ok());
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn a_lookup_without_callers_begins_anew() {
    let fake = Fake::start([]).await;
    let client = fake.client();
    tokio::select! {
        _ = client.schema_by_id(5) => panic!("nothing has answered yet"),
        () = fake.arrived() => {}
    }
    fake.answer(found(ORDER_SCHEMA));
    fake.answer(found(ORDER_SCHEMA));
    assert!(client.schema_by_id(5).await.is_ok());
}

#[tokio::test]
async fn a_denied_id_is_not_unknown_at_once() {
    let unknown = r#"{"error_code": 40403, "message": "Schema 5 not found"}"#;
    let fake = Fake::start([answer(404, unknown), found(ORDER_SCHEMA)]).await;
    let minute = Duration::from_mins(1);
    let client = fake.client_with(|config| {
        (config.retry_backoff, config.retry_backoff_max) = (minute, minute);
    });
    let error = client.schema_by_id(5).await.expect_err("not there yet");
    assert!(matches!(error, RegistryError::NotYetKnown { id: SchemaId::Number(5), .. }), "{error}");
    assert_eq!(client.schema_by_id(5).await.expect_err("still not there"), error);
    assert_eq!(fake.requests().len(), 1, "it is not asked for again at once");
    assert!(matches!(client.status(5.into()), SchemaStatus::Awaited));

    let client = fake.client();
    assert!(client.schema_by_id(5).await.is_ok(), "another client asks the registry itself");
    assert!(matches!(client.status(5.into()), SchemaStatus::Usable(_)));
}

#[tokio::test]
async fn a_404_of_another_server_is_an_outage() {
    for body in
        ["", "<h1>Not Found</h1>", r#"{"error_code": 404, "message": "HTTP 404 Not Found"}"#]
    {
        let fake = Fake::start([answer(404, body), answer(404, body)]).await;
        let error = fake.client().schema_by_id(5).await.expect_err("an outage");
        assert_eq!(outage(&error), Some(Outage::Status(404)), "{body}: {error}");
    }
}

#[tokio::test]
async fn an_outage_is_not_cached() {
    let fake = Fake::start([answer(503, ""), found(ORDER_SCHEMA)]).await;
    let client = fake.client_with(|config| config.attempts_max = 1);
    assert!(client.schema_by_id(5).await.expect_err("an outage").is_unavailable());
    assert!(client.schema_by_id(5).await.is_ok());
}

#[tokio::test]
async fn schemas_that_are_not_avro_are_invalid() {
    for body in [
        r#"{"schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF"}"#,
        r#"{"schema": "\"string\"", "schemaType": "JSON"}"#,
        r#"{"schema": "no schema"}"#,
        r#"{"schema": ""}"#,
    ] {
        let fake = Fake::start([ok(body)]).await;
        let error = fake.client().schema_by_id(5).await.expect_err("invalid");
        assert!(
            matches!(error, RegistryError::InvalidSchema { id: SchemaId::Number(5), .. }),
            "{body}: {error}"
        );
    }
}
