//! Schemas that refer to others, and schemas that are asked for by their GUIDs.

use order_avro::{ORDER_SCHEMA, Order, SchemaId};
use schema_registry::{Outage, RegistryError, SchemaRegistry, SchemaStatus};

use crate::fake::{Fake, answer, found, ok, outage, referring};

const ORDER: &str = r#"{"type": "record", "name": "shop.Order", "fields": [{"name": "total", "type": "shop.Basket"},
    {"name": "orderId", "type": "string"}, {"name": "product", "type": "string"}, {"name": "price", "type": "float"}]}"#;
const BASKET: &str = r#"{"type": "record", "name": "shop.Basket", "fields": [{"name": "paid", "type": "Money"},
    {"name": "due", "type": "Money"}]}"#;
const MONEY: &str =
    r#"{"type": "record", "name": "shop.Money", "fields": [{"name": "cents", "type": "int"}]}"#;
const DATUM: &[u8] = b"\x02\x04\x06A-7\x08Desk\x00\x00\x28\x42";
const GUID: SchemaId = SchemaId::Guid([0xAB; 16]);

#[tokio::test]
async fn direct_and_indirect_references_are_fetched_once() {
    let fake = Fake::start([
        referring(ORDER, &[("shop.Basket", "basket/v", 2), ("shop.Money", "money", 1)]),
        referring(BASKET, &[("shop.Money", "money", 1)]),
        referring(MONEY, &[]),
    ])
    .await;
    let schema = fake.client().schema_by_id(5).await.expect("a schema");
    let order = Order { order_id: "A-7".into(), product: "Desk".into(), price: 42.0 };
    assert_eq!(schema.decode(DATUM), Ok(order));
    let lines: Vec<_> = fake.requests().into_iter().map(|request| request.line).collect();
    let expected = [
        "GET /schemas/ids/5",
        "GET /subjects/basket%2Fv/versions/2?deleted=true",
        "GET /subjects/money/versions/1?deleted=true",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn of_two_references_of_one_name_the_first_counts() {
    let fake = Fake::start([
        referring(ORDER, &[("shop.Basket", "basket", 2), ("shop.Money", "money", 9)]),
        referring(BASKET, &[("shop.Money", "money", 1)]),
        referring(MONEY, &[]),
    ])
    .await;
    let schema = fake.client().schema_by_id(5).await.expect("a schema");
    assert!(schema.decode(DATUM).is_ok());
}

#[tokio::test]
async fn references_in_a_circle_are_named() {
    for (answers, circle) in [
        (vec![("a", 1), ("a", 1)], r#""a" version 1 to "a" version 1"#),
        (vec![("a", 1), ("b", 2), ("a", 1)], r#""a" version 1 to "b" version 2 to "a" version 1"#),
    ] {
        let answers = answers
            .into_iter()
            .map(|(subject, version)| referring(MONEY, &[(subject, subject, version)]));
        let error = unusable(Fake::start(answers).await).await;
        assert!(error.ends_with(&format!("it refers in a circle: {circle}")), "{error}");
    }
}

#[tokio::test]
async fn too_many_references_are_refused() {
    let chain = (0..100).map(|number| {
        let subject = format!("s{number}");
        referring(r#""int""#, &[(&subject, &subject, 1)])
    });
    let error = unusable(Fake::start(chain).await).await;
    assert!(error.ends_with("it refers to more than 64 schemas"), "{error}");
}

#[tokio::test]
async fn a_missing_reference_may_come_later_and_an_unavailable_one_is_an_outage() {
    let missing = r#"{"error_code": 40402, "message": "Version 2 not found."}"#;
    let asked = || referring(ORDER, &[("shop.Basket", "basket", 2)]);
    let fake = Fake::start([asked(), answer(404, missing), asked(), answer(503, "")]).await;
    let client = fake.client_with(|config| config.attempts_max = 1);
    let error = client.schema_by_id(5).await.expect_err("no schema");
    assert!(matches!(error, RegistryError::NotYetKnown { .. }), "{error}");
    let error = client.schema_by_id(5).await.expect_err("no schema");
    assert_eq!(outage(&error), Some(Outage::Status(503)), "{error}");
}

#[tokio::test]
async fn references_of_another_type_and_unlisted_ones_are_named() {
    let protobuf = ok(r#"{"schema": "", "schemaType": "PROTOBUF"}"#);
    let asked = referring(ORDER, &[("shop.Basket", "basket", 2)]);
    let error = unusable(Fake::start([asked, protobuf]).await).await;
    assert!(error.ends_with("its type is PROTOBUF, not AVRO"), "{error}");
    let error = unusable(Fake::start([found(ORDER)]).await).await;
    assert!(error.ends_with(r#"field total: the type "shop.Basket" is not defined"#), "{error}");
}

#[tokio::test]
async fn a_schema_is_looked_up_by_its_guid() {
    let fake = Fake::start([found(ORDER_SCHEMA)]).await;
    let client = fake.client();
    assert!(client.schema_by_id(GUID).await.is_ok());
    assert!(matches!(client.status(GUID), SchemaStatus::Usable(_)));
    let line = fake.only_request().line;
    assert_eq!(line, "GET /schemas/guids/abababab-abab-abab-abab-abababababab");
}

#[tokio::test]
async fn an_unknown_guid_may_come_later() {
    let unknown = r#"{"error_code": 40403, "message": "Schema abab not found"}"#;
    let fake = Fake::start([answer(404, unknown)]).await;
    let error = fake.client().schema_by_id(GUID).await.expect_err("no schema");
    assert!(matches!(error, RegistryError::NotYetKnown { id: GUID, .. }), "{error}");
}

#[tokio::test]
async fn a_registry_without_guids_is_distinguished_from_an_outage() {
    let not_a_path = r#"{"error_code": 404, "message": "HTTP 404 Not Found"}"#;
    let unknown = r#"{"error_code": 40403, "message": "Schema 1 not found"}"#;
    for (without, there) in
        [(answer(404, not_a_path), answer(404, unknown)), (answer(404, ""), found(ORDER_SCHEMA))]
    {
        let fake = Fake::start([without, there]).await;
        let error = fake.client().schema_by_id(GUID).await.expect_err("no schema");
        assert!(matches!(error, RegistryError::NotYetKnown { id: GUID, .. }), "{error}");
        assert_eq!(fake.requests()[1].line, "GET /schemas/ids/1");
    }
    let away = [answer(404, ""), answer(404, "")];
    let error = Fake::start(away).await.client().schema_by_id(GUID).await.expect_err("no schema");
    assert_eq!(outage(&error), Some(Outage::Status(404)), "{error}");
    let words = RegistryError::NoGuids { id: GUID }.to_string();
    assert!(words.contains("looks up no GUIDs, such as abababab-"), "{words}");
}

/// Returns the reason why the schema 5 cannot be used.
async fn unusable(fake: Fake) -> String {
    let client: SchemaRegistry = fake.client();
    let error = client.schema_by_id(5).await.expect_err("no schema");
    assert!(matches!(error, RegistryError::InvalidSchema { .. }), "{error}");
    error.to_string()
}
