//! Replays of unusual records: odd headers, dead letters of other programs, omitted values.

use std::collections::BTreeMap;

use anyhow::Result;
use end_to_end::{Scenario, topic};
use kafka_client::cluster::Cluster;
use kafka_client::config::BrokerConfig;
use kafka_client::retry::until_ok;
use kafka_client::topics::{NewTopic, ensure_topics};
use serde_json::{Value, json};

use super::{
    Header, dlq, dlq_ends_with, dlq_json, exported, failing_processor, stats_after_replays,
    write_exactly,
};

/// Null, repeated and unreadable headers, with a trace among them.
const ODD: &[Header] = &[
    (b"z", Some(b"1")),
    (b"sequence", Some(b"77")),
    (b"a", None),
    (b"z", Some(b"\xff")),
    (b"traceparent", Some(b"00-1-2-3")),
    (b"producer-id", Some(b"abc")),
    (b"\xfe", Some(b"")),
    (b"secret", Some(b"x")),
];

fn names_and_values(headers: &Value) -> Vec<(Value, Value)> {
    let headers = headers.as_array().cloned().unwrap_or_default();
    headers.into_iter().map(|header| (header[0].clone(), header[1].clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_restored_in_order_also_after_a_second_failure() -> Result<()> {
    let scenario = Scenario::open("replay-headers").await?.with("TOPIC_PARTITIONS", "1");
    let processor = failing_processor(&scenario)?;
    processor.line("partitions assigned").await?;
    let schema_id = scenario.register_order_schema().await?;
    let order = topic::order_value(schema_id, "1001", "Item1", 150.0)?;
    let orders = scenario.orders_topic();
    write_exactly(&scenario, orders, Some(b"k\xff"), Some(order.clone()), ODD).await?;
    scenario.stats_at_end(1).await?;
    for replays in 1..=2 {
        let sent = dlq_json(&scenario, &["replay", "--all"]).await?;
        assert_eq!(sent["sent"], 1, "{sent}");
        stats_after_replays(&scenario, replays).await?;
    }
    processor.drain().await?;
    let replay = ["replay", "--all", "--drop-header", "secret"];
    assert_eq!(dlq_json(&scenario, &replay).await?["sent"], 1);

    let replays = exported(&scenario, &scenario.replay_topic()).await?;
    assert_eq!(replays.len(), 3);
    for (index, replay) in replays.iter().enumerate() {
        let secret = json!(["secret", "x"]);
        let mut expected = json!([["z", "1"], ["sequence", "77"], ["a", null], ["z", {"base64": "/w=="}], ["traceparent", "00-1-2-3"], ["producer-id", "abc"], [{"base64": "/g=="}, ""], secret]);
        if index == 2 {
            expected.as_array_mut().map(Vec::pop);
        }
        let (mut expected, found) =
            (names_and_values(&expected), names_and_values(&replay["headers"]));
        let of = found.iter().find(|(name, _)| name == "dlq.replay.of").map(|(_, of)| of.clone());
        expected.extend([
            (json!("dlq.original.timestamp"), json!("2023-11-14T22:13:20.123Z")),
            (json!("dlq.replay.of"), of.unwrap_or_default()),
            (json!("dlq.replay.count"), json!((index + 1).to_string())),
        ]);
        assert_eq!(found, expected);
        let of = header(&found, "dlq.replay.of");
        assert!(
            of.as_str()
                .is_some_and(|of| of.starts_with(&format!("{orders}/")) && of.ends_with("/0/0")),
            "{of}"
        );
        assert_eq!(replay["key"], json!({"base64": "a/8="}));
    }

    let processor = scenario.processor("processor")?.start()?;
    let stats = stats_after_replays(&scenario, 3).await?;
    assert_eq!((stats.orders, stats.dead_letters), (1, 3));
    processor.drain().await
}

fn header(headers: &[(Value, Value)], name: &str) -> Value {
    headers
        .iter()
        .find(|(found, _)| found == name)
        .map(|(_, value)| value.clone())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_of_another_program_is_replayed_without_its_additions() -> Result<()> {
    let scenario = Scenario::open("replay-foreign").await?.with("TOPIC_PARTITIONS", "1");
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    let schema_id = scenario.register_order_schema().await?;
    let order = topic::order_value(schema_id, "1001", "Item1", 150.0)?;
    let headers: &[Header] = &[
        (b"note", Some(b"mine")),
        (b"kafka_dlt-original-topic", Some(b"orders")),
        (b"kafka_dlt-exception-fqcn", Some(b"org.example.BankAway")),
    ];
    write_exactly(&scenario, scenario.dead_letter_topic(), None, Some(order), headers).await?;
    assert_eq!(dlq_json(&scenario, &["replay", "--type", "BankAway"]).await?["sent"], 1);
    let stats = stats_after_replays(&scenario, 1).await?;
    assert_eq!((stats.orders, stats.dead_letters), (1, 0));
    assert_eq!(dlq_json(&scenario, &["replay", "--all"]).await?["sent"], 0);
    let replays = exported(&scenario, &scenario.replay_topic()).await?;
    let names: Vec<_> =
        names_and_values(&replays[0]["headers"]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["note", "dlq.replay.of", "dlq.replay.count"]);
    processor.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn omitted_values_are_fetched_from_the_source_of_the_order() -> Result<()> {
    let scenario = Scenario::open("replay-omitted").await?.with("TOPIC_PARTITIONS", "1");
    let servers = vec![scenario.platform().bootstrap_servers().to_owned()];
    let cluster = Cluster::new(BrokerConfig::new(servers, "tests"));
    // The limit fits a dead letter without its value, but not the order below.
    let narrow = BTreeMap::from([("max.message.bytes".to_owned(), "4096".to_owned())]);
    let dead_letters = NewTopic {
        name: scenario.dead_letter_topic().into(),
        partitions: 1,
        replication_factor: -1,
        configs: narrow,
    };
    until_ok(|| ensure_topics(&cluster, std::slice::from_ref(&dead_letters)), |_| {}).await?;
    let processor = failing_processor(&scenario)?;
    processor.line("partitions assigned").await?;

    let schema_id = scenario.register_later_schema().await?;
    let mut order = topic::order_value(schema_id, "1001", "Item1", 150.0)?;
    order.extend(long_text(8_000));
    let orders = scenario.orders_topic();
    write_exactly(&scenario, orders, Some(b"1001"), Some(order.clone()), &[]).await?;
    // The key and the headers exceed the limit as well.
    let headers: &[Header] = &[(b"large", Some(&[b'x'; 5_000])), (b"a", None)];
    write_exactly(&scenario, orders, Some(&[b'k'; 5_000]), Some(order.clone()), headers).await?;
    scenario.stats_at_end(2).await?;
    processor.drain().await?;
    let letters = exported(&scenario, scenario.dead_letter_topic()).await?;
    let values: Vec<_> = letters.iter().map(|letter| &letter["value"]).collect();
    assert_eq!(values, [&json!(null), &json!(null)]);
    assert_eq!((&letters[0]["key"], &letters[1]["key"]), (&json!("1001"), &json!(null)));
    let shown = dlq(&scenario, &["show", "0:1"]).await?;
    assert!(shown.contains("key           left out: 5000 bytes, SHA-256"), "{shown}");

    let processor = scenario.processor("processor")?.start()?;
    assert_eq!(dlq_json(&scenario, &["replay", "--all"]).await?["sent"], 2);
    let stats = stats_after_replays(&scenario, 2).await?;
    assert_eq!((stats.orders, stats.dead_letters), (2, 2));
    let replays = exported(&scenario, &scenario.replay_topic()).await?;
    assert_eq!(replays[1]["key"], "k".repeat(5_000));
    let restored = names_and_values(&replays[1]["headers"]);
    let large = (json!("large"), json!("x".repeat(5_000)));
    assert_eq!(restored[..2], [large, (json!("a"), json!(null))]);
    processor.drain().await
}

/// Returns an Avro string of this number of bytes.
fn long_text(bytes: usize) -> Vec<u8> {
    let mut zigzag = bytes * 2;
    let mut text = Vec::new();
    while zigzag >= 0x80 {
        text.push(u8::try_from(zigzag & 0x7f).unwrap_or_default() | 0x80);
        zigzag >>= 7;
    }
    text.push(u8::try_from(zigzag).unwrap_or_default());
    text.resize(text.len() + bytes, b'n');
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_values_are_reported_and_the_other_records_sent() -> Result<()> {
    let scenario = Scenario::open("replay-gone").await?.with("TOPIC_PARTITIONS", "1");
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    processor.drain().await?;
    let group: &'static str = scenario.group().to_owned().leak();
    let headers: &[Header] = &[
        (b"__dlq.errors.topic", Some(b"orders-that-were-deleted")),
        (b"__dlq.errors.partition", Some(b"0")),
        (b"__dlq.errors.offset", Some(b"7")),
        (b"__dlq.errors.group", Some(group.as_bytes())),
        (b"dlq.topic-id", Some(b"00000000-0000-0000-0000-00000000feed")),
        (b"dlq.replay.count", Some(b"0")),
        (b"dlq.error.type", Some(b"rejected")),
        (b"dlq.value", Some(b"omitted")),
    ];
    write_exactly(&scenario, scenario.dead_letter_topic(), None, None, headers).await?;
    let plain: &[Header] = &[(b"error_reason", Some(b"no price"))];
    write_exactly(&scenario, scenario.dead_letter_topic(), None, Some(vec![1]), plain).await?;
    let output = dlq_ends_with(&scenario, 1, &["replay", "--all"]).await?;
    for text in
        ["dead letter 0:0 cannot be sent", "is in no topic any more", "sent 1 of 2 dead letters"]
    {
        assert!(output.contains(text), "{text} is not in\n{output}");
    }
    let output = dlq_ends_with(&scenario, 1, &["replay", "--all"]).await?;
    assert!(output.contains("sent 0 of 1 dead letter to"), "{output}");
    Ok(())
}
