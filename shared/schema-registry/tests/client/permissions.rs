//! Registries with read-only users and with redirects.

use order_avro::ORDER_SCHEMA;
use schema_registry::{Outage, RegistryError};

use crate::fake::{Fake, answer, found, ok, outage};

const UNKNOWN: &str = r#"{"error_code": 40403, "message": "Schema not found"}"#;
const NO_SUBJECT: &str = r#"{"error_code": 40401, "message": "Subject 's' not found."}"#;

#[tokio::test]
async fn a_registered_schema_is_not_registered_again() {
    let fake = Fake::start([ok(r#"{"subject": "s", "version": 3, "id": 7, "schema": ""}"#)]).await;
    assert_eq!(fake.client().ensure_registered("s", ORDER_SCHEMA, never).await, Ok(7));
    let request = fake.only_request();
    assert_eq!(request.line, "POST /subjects/s");
    assert_eq!(request.json()["schema"], ORDER_SCHEMA);
}

#[tokio::test]
async fn an_unregistered_schema_is_registered() {
    for answered in
        [answer(404, UNKNOWN), answer(404, NO_SUBJECT), answer(422, "{}"), answer(405, "")]
    {
        let fake = Fake::start([answered, ok(r#"{"id": 7}"#)]).await;
        assert_eq!(fake.client().ensure_registered("s", "{}", never).await, Ok(7));
        assert_eq!(fake.requests()[1].line, "POST /subjects/s/versions");
    }
}

#[tokio::test]
async fn a_registry_that_denies_the_registration_has_refused_it() {
    let read_only = r#"{"error_code": 42205, "message": "Subject s is in read-only mode"}"#;
    for (refused, status, error_code, message) in [
        (answer(422, read_only), 422, 42205, "Subject s is in read-only mode"),
        (answer(403, "Forbidden"), 403, 403, "Forbidden"),
        (answer(401, ""), 401, 401, "no message"),
    ] {
        let fake = Fake::start([answer(404, NO_SUBJECT), refused]).await;
        let client = fake.client_with(|config| config.attempts_max = 1);
        let error = client.ensure_registered("s", "{}", never).await.expect_err("refused");
        let message = message.to_owned();
        assert_eq!(error, RegistryError::Refused { status, error_code, message });
    }
    let fake = Fake::start([answer(404, UNKNOWN), answer(409, r#"{"error_code": 409}"#)]).await;
    let error = fake.client().ensure_registered("s", "{}", never).await.expect_err("refused");
    assert!(matches!(error, RegistryError::Incompatible { .. }), "{error}");
}

#[tokio::test]
async fn the_client_waits_for_a_registry_that_is_down_or_denies_the_lookup() {
    let found = || ok(r#"{"id": 4}"#);
    for (answers, expected) in [
        (vec![answer(503, ""), answer(401, ""), answer(403, ""), found()], 3),
        (vec![answer(404, UNKNOWN), answer(503, ""), answer(404, UNKNOWN), found()], 1),
        (vec![answer(301, "http://other/subjects/s"), answer(407, ""), found()], 2),
    ] {
        let fake = Fake::start(answers).await;
        let client = fake.client_with(|config| config.attempts_max = 1);
        let mut retries = 0;
        let registered = client.ensure_registered("s", "{}", |_error| retries += 1).await;
        assert_eq!((registered, retries), (Ok(4), expected));
    }
}

#[tokio::test]
async fn a_redirect_is_followed_within_its_origin_with_the_method_kept() {
    let fake = Fake::start([answer(308, "/apis/subjects/s/versions"), ok(r#"{"id": 7}"#)]).await;
    assert_eq!(fake.client().register("s", "{}").await, Ok(7));
    let request = fake.requests().remove(1);
    assert_eq!(request.line, "POST /apis/subjects/s/versions");
    assert_eq!(request.json()["schema"], "{}");
}

#[tokio::test]
async fn any_other_redirect_is_an_outage_that_names_its_target_and_sends_nothing_there() {
    let elsewhere = Fake::start([]).await;
    let url = elsewhere.url();
    for (status, location, target) in [
        (301, "/v2/subjects/s".to_owned(), "/v2/subjects/s:".to_owned()),
        (302, "/v2".to_owned(), "/v2:".to_owned()),
        (303, "/v2".to_owned(), "/v2:".to_owned()),
        (307, format!("{url}/v2?token=secret"), format!("{url}/v2:")),
        (308, url.replace("http://", "http://u:secret@"), format!("{url}/:")),
    ] {
        let fake = Fake::start([answer(status, &location), found(ORDER_SCHEMA)]).await;
        let client = fake.client_with(|config| {
            config.url = config.url.replace("http://", "http://user:secret@");
            config.attempts_max = 1;
        });
        let error = client.register("s", "{}").await.expect_err("an outage");
        assert_eq!(outage(&error), Some(Outage::Redirect(status)), "{error}");
        assert!(error.to_string().contains(&target), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(client.schema_by_id(5).await.is_ok(), "the client asks again");
    }
    assert_eq!(elsewhere.requests().len(), 0);
}

fn never(error: &RegistryError) {
    unreachable!("{error}");
}
