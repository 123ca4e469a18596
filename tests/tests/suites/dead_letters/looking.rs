//! Lists, exports and dismissals of dead letters, also of other programs.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use end_to_end::{Scenario, topic};
use serde_json::{Value, json};

use super::{
    Header, dlq, dlq_ends_with, dlq_json, dlq_start, exported, replayed_once, with_dead_letters,
    write_exactly,
};

const SPRING: &[Header] = &[
    (b"kafka_dlt-original-topic", Some(b"orders")),
    (b"kafka_dlt-original-partition", Some(b"\x00\x00\x00\x02")),
    (b"kafka_dlt-original-offset", Some(b"\x00\x00\x00\x00\x00\x00\x04\xd2")),
    (b"kafka_dlt-exception-fqcn", Some(b"org.example.ListenerFailed")),
    (b"kafka_dlt-exception-cause-fqcn", Some(b"org.example.BankAway")),
    (b"kafka_dlt-exception-message", Some(b"the bank does not answer")),
];
const CONNECT: &[Header] = &[
    (b"__connect.errors.topic", Some(b"orders")),
    (b"__connect.errors.partition", Some(b"1")),
    (b"__connect.errors.offset", Some(b"77")),
    (b"__connect.errors.stage", Some(b"VALUE_CONVERTER")),
    (b"__connect.errors.exception.class.name", Some(b"org.example.DataException")),
    (b"__connect.errors.exception.message", None),
];
const STREAMS: &[Header] = &[
    (b"__streams.errors.exception", Some(b"org.example.StreamsException")),
    (b"__streams.errors.topic", Some(b"orders")),
];
const SHARE_GROUP: &[Header] = &[
    (b"__dlq.errors.topic", Some(b"orders")),
    (b"__dlq.errors.partition", Some(b"0")),
    (b"__dlq.errors.offset", Some(b"9")),
    (b"__dlq.errors.message", Some(b"Offset rejected by client.")),
];
const PLAIN: &[Header] = &[
    (b"error_reason", Some(b"ValueError: not a price")),
    (b"original_topic", Some(b"orders")),
    (b"original_partition", Some(b"0")),
    (b"original_offset", Some(b"3")),
];
const ODD: &[Header] =
    &[(b"z", Some(b"1")), (b"a", None), (b"z", Some(b"\xff")), (b"\xfe", Some(b""))];

/// Opens a scenario with a dead letter of each program, and returns their values.
async fn with_foreign_letters(name: &str) -> Result<(Scenario, Vec<&'static [Header]>)> {
    let scenario = Scenario::open(name).await?;
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    processor.drain().await?;
    let letters = vec![SPRING, CONNECT, STREAMS, SHARE_GROUP, PLAIN, ODD];
    for (index, headers) in letters.iter().enumerate() {
        let value = vec![0xff, u8::try_from(index)?];
        write_exactly(
            &scenario,
            scenario.dead_letter_topic(),
            Some(b"k\xff"),
            Some(value),
            headers,
        )
        .await?;
    }
    Ok((scenario, letters))
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_other_programs_are_listed_with_their_causes() -> Result<()> {
    let (scenario, letters) = with_foreign_letters("dlq-foreign").await?;
    let listed = dlq_json(&scenario, &["list"]).await?;
    assert_eq!(listed["unresolved"], letters.len());
    let causes = listed["causes"].as_array().context("find the causes")?;
    let found: BTreeMap<&str, &str> = causes
        .iter()
        .filter_map(|cause| Some((cause["author"].as_str()?, cause["type"].as_str()?)))
        .collect();
    let expected = BTreeMap::from([
        ("Kafka Connect", "org.example.DataException"),
        ("Kafka Streams", "org.example.StreamsException"),
        ("Spring", "org.example.BankAway"),
        ("plain headers", "ValueError"),
        ("share group", "Offset rejected by client."),
        ("unknown", "no cause in its headers"),
    ]);
    assert_eq!(found, expected);

    let table = dlq(&scenario, &["list", "--type", "BankAway"]).await?;
    assert!(
        table.contains("the bank does not answer") && !table.contains("DataException"),
        "{table}"
    );
    let shown = dlq(&scenario, &["show", "--topic", "orders", "--partition", "2"]).await?;
    for text in [
        "failed in     orders, partition 2, offset 1234",
        "kafka_dlt-original-offset = 1234",
        "key           0x6bff",
    ] {
        assert!(shown.contains(text), "{text} is not in\n{shown}");
    }
    dlq_ends_with(&scenario, 1, &["show", "0:999"]).await?;
    dlq_ends_with(&scenario, 64, &["show"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_every_byte_of_every_dead_letter() -> Result<()> {
    let (scenario, letters) = with_foreign_letters("dlq-export").await?;
    let found = exported(&scenario, scenario.dead_letter_topic()).await?;
    let expected: Vec<Value> = letters
        .iter()
        .map(|headers| {
            let headers: Vec<Value> = headers
                .iter()
                .map(|(name, value)| json!([json_bytes(name), value.map(json_bytes)]))
                .collect();
            json!(headers)
        })
        .collect();
    assert_eq!(found.iter().map(|letter| letter["headers"].clone()).collect::<Vec<_>>(), expected);
    assert_eq!(
        found[5]["headers"],
        json!([["z", "1"], ["a", null], ["z", {"base64": "/w=="}], [{"base64": "/g=="}, ""]])
    );
    for (offset, letter) in found.iter().enumerate() {
        assert_eq!((&letter["partition"], &letter["offset"]), (&json!(0), &json!(offset)));
        assert_eq!(letter["key"], json!({"base64": "a/8="}));
        assert_eq!(letter["value"], json_bytes(&[0xff, u8::try_from(offset)?]));
        assert_eq!(letter["timestamp_ms"], 1_700_000_000_123_i64);
    }
    Ok(())
}

/// Converts bytes as documented: text is a string, other bytes are base64.
fn json_bytes(bytes: &[u8]) -> Value {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if let Ok(text) = str::from_utf8(bytes) {
        return json!(text);
    }
    let encoded: String = bytes
        .chunks(3)
        .flat_map(|chunk| {
            let bits = chunk.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
            let bits = bits << (8 * (3 - chunk.len()));
            (0..4).map(move |index| {
                if index <= chunk.len() {
                    char::from(DIGITS[bits >> (18 - 6 * index) & 63])
                } else {
                    '='
                }
            })
        })
        .collect();
    json!({ "base64": encoded })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_shown_with_its_order_also_without_the_registry() -> Result<()> {
    let scenario = with_dead_letters("dlq-show", 1, 0).await?;
    let letter = dlq_json(&scenario, &["show", "0:0"]).await?;
    let order = &letter["order"];
    assert_eq!(order["orderId"], letter["key"], "{letter}");
    assert_eq!(letter["cause"]["type"], "simulated");
    let shown = dlq(&scenario, &["show", "0:0"]).await?;
    assert!(shown.contains("Confluent's wire format, schema id"), "{shown}");

    let away = scenario.console("dlq")?.env("SCHEMA_REGISTRY_URL", "http://127.0.0.1:1");
    let shown = away.args(["dlq", "show", "0:0"]).output().await?;
    for text in ["not decoded", "unavailable", "000000  00 00 00"] {
        assert!(shown.contains(text), "{text} is not in\n{shown}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_dead_letters_are_printed_decoded() -> Result<()> {
    let scenario = with_dead_letters("dlq-watch", 3, 0).await?;
    let mut all = dlq_start(&scenario, "dlq-all", &["watch", "--from-beginning", "--limit", "3"])?;
    all.expect_exit(0).await?;
    assert_eq!(all.lines().len(), 3);
    let mut typed =
        dlq_start(&scenario, "dlq-typed", &["watch", "--from-beginning", "--type", "tombstone"])?;

    let processor = scenario.processor("processor")?.start()?;
    let servers = scenario.platform().bootstrap_servers();
    topic::write(servers, scenario.orders_topic(), 0, Some(b"key-1"), None).await?;
    let line = typed.line("tombstone").await?;
    assert!(line.contains("key=key-1") && line.contains("no value"), "{line}");
    typed.interrupt()?;
    typed.expect_exit(0).await?;
    assert_eq!(typed.lines().len(), 1, "{:?}", typed.lines());
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn dismissed_dead_letters_are_replayed_only_by_name() -> Result<()> {
    let scenario = with_dead_letters("dlq-dismiss", 10, 0).await?;
    dlq_ends_with(&scenario, 64, &["dismiss", "--reason", "x"]).await?;
    dlq_ends_with(&scenario, 64, &["dismiss", "--all"]).await?;
    let arguments = ["dismiss", "--all", "--limit", "4", "--reason", "a test order", "--by", "kim"];
    let output = dlq(&scenario, &arguments).await?;
    assert_eq!(output, "dismissed: 4 dead letters\n");
    let listed = dlq_json(&scenario, &["list"]).await?;
    assert_eq!((&listed["unresolved"], &listed["dismissed"]), (&json!(6), &json!(4)));
    let shown = dlq(&scenario, &["show", "0:0"]).await?;
    assert!(shown.contains("0:0: dismissed") && shown.contains("a test order (kim@"), "{shown}");

    let reopened = dlq(&scenario, &["dismiss", "0:1", "--undo"]).await?;
    assert_eq!(reopened, "reopened: 1 dead letter\n");
    let sent = dlq_json(&scenario, &["replay", "--all"]).await?;
    assert_eq!((&sent["sent"], &sent["left_alone"]), (&json!(7), &json!({"dismissed": 3})));
    assert_eq!(dlq_json(&scenario, &["replay", "0:0"]).await?["sent"], 1);
    assert_eq!(dlq_json(&scenario, &["replay", "0:0"]).await?["sent"], 0);
    assert_eq!(replayed_once(&scenario, &scenario.replay_topic()).await?, 8);
    let rest = dlq(&scenario, &["export", "--state", "dismissed"]).await?;
    assert_eq!(rest.lines().count(), 2, "{rest}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_in_the_actions_topic() -> Result<()> {
    let scenario = Scenario::open("dlq-release").await?;
    let output = dlq(&scenario, &["release", "--by", "kim"]).await?;
    assert_eq!(output, format!("released: group {}\n", scenario.group()));
    let actions = format!("{}.{}.dlq-actions", scenario.orders_topic(), scenario.group());
    let records = topic::read(scenario.platform().bootstrap_servers(), &actions).await?;
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(record.key.as_deref(), Some(&b"release"[..]));
    let value: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default())?;
    assert!(value["by"].as_str().is_some_and(|by| by.starts_with("kim@")), "{value}");
    assert!(value["at_ms"].as_i64().is_some_and(|at| at > 0), "{value}");
    Ok(())
}
