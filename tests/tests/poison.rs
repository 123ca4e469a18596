//! What is no order goes to the dead-letter topic with the reason, byte for byte, and holds up nothing.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use end_to_end::{Scenario, topic};

/// A schema that no order can be read with.
const OTHER_SCHEMA: &str =
    r#"{"type":"record","name":"Parcel","fields":[{"name":"weight","type":"long"}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_poison_is_dead_lettered_with_its_reason() -> Result<()> {
    let scenario = Scenario::open("poison")
        .await?
        .with("TOPIC_PARTITIONS", "1")
        .with("PAYLOAD_FORMAT", "confluent");
    let processor = scenario.processor("processor")?.start()?;
    processor.line("partitions assigned").await?;
    let schema_id = scenario.register_order_schema().await?;
    let other_id = scenario
        .register_schema(&format!("{}-parcels", scenario.orders_topic()), OTHER_SCHEMA)
        .await?;
    let order = |price: f32| topic::order_value(schema_id, "1001", "Item1", price);
    let good = order(12.5)?;
    let mut other = vec![0];
    other.extend(other_id.to_be_bytes());
    other.push(2);

    let poison = [
        ("bad-magic", Some(b"not an order".to_vec())),
        ("truncated", Some(good[..good.len() - 1].to_vec())),
        ("trailing-bytes", Some([good.as_slice(), b"!"].concat())),
        ("unknown-schema", Some(topic::order_value(0x7fff_ffff, "1001", "Item1", 12.5)?)),
        ("schema-mismatch", Some(other)),
        ("invalid-price", Some(order(f32::NAN)?)),
        ("invalid-price", Some(order(-1.0)?)),
        ("invalid-price", Some(order(f32::INFINITY)?)),
        ("tombstone", None),
    ];
    let servers = scenario.platform().bootstrap_servers();
    let orders = scenario.orders_topic();
    let mut expected = BTreeMap::new();
    for (reason, value) in poison {
        let key = format!("key of {reason}").into_bytes();
        let offset = topic::write(servers, orders, 0, Some(&key), value.as_deref()).await?;
        topic::write(servers, orders, 0, None, Some(&good)).await?;
        expected.insert(offset.to_string(), (reason.to_owned(), Some(key), value));
    }
    let written = u64::try_from(expected.len())?;
    let stats = scenario.stats_at_end(2 * written).await?;
    assert_eq!((stats.orders, stats.dead_letters), (written, written));
    assert_eq!(stats.sum_micros()?, 12_500_000 * i128::from(written));

    let mut found = BTreeMap::new();
    for letter in topic::read(servers, scenario.dead_letter_topic()).await? {
        let header = |name| letter.header_text(name).with_context(|| format!("find header {name}"));
        assert_eq!(
            (header("original_topic")?.as_str(), header("dlq.error.class")?.as_str()),
            (orders, "poison")
        );
        let (offset, reason) = (header("original_offset")?, header("dlq.error.type")?);
        found.insert(offset, (reason, letter.key, letter.value));
    }
    assert_eq!(found, expected);
    processor.drain().await
}
