//! Consumes a topic of orders to its end, as a careful user of rdkafka and apache-avro would: one consumer in a group,
//! every order decoded and added up, progress committed twice a second and at the end.
//!
//! `rdkafka-peer BOOTSTRAP_SERVERS TOPIC GROUP ORDERS [SETTING=VALUE...]`, with settings of librdkafka, prints one JSON
//! object: the orders, their sum, and the seconds from the assignment to the last commit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::{ClientContext, Message};
use serde::Deserialize;

const ORDER_SCHEMA: &str = include_str!("../../../../avro/order.avsc");

/// Magic byte and schema id.
const WIRE_HEADER_BYTES: usize = 5;

const COMMIT_INTERVAL: Duration = Duration::from_millis(500);
const POLL_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    #[expect(dead_code, reason = "decoded as any application would")]
    order_id: String,
    product: String,
    price: f32,
}

/// Notes when the partitions were assigned.
struct Clock;

static ASSIGNED: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();

impl ClientContext for Clock {}

impl ConsumerContext for Clock {
    fn post_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            ASSIGNED.get_or_init(Instant::now);
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, topic, group, orders, tuning @ ..] = arguments.as_slice() else {
        anyhow::bail!(
            "usage: rdkafka-peer BOOTSTRAP_SERVERS TOPIC GROUP ORDERS [SETTING=VALUE...]"
        );
    };
    let expected: u64 = orders.parse().context("read the number of orders")?;
    let mut config = ClientConfig::new();
    for setting in tuning {
        let (name, value) = setting.split_once('=').context("read a setting of the client")?;
        config.set(name, value);
    }
    let consumer: BaseConsumer<Clock> = config
        .set("bootstrap.servers", servers)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create_with_context(Clock)?;
    consumer.subscribe(&[topic])?;

    let schema = Schema::parse_str(ORDER_SCHEMA)?;
    let reader = GenericDatumReader::builder(&schema).build()?;
    let mut count = 0_u64;
    let mut sum = 0.0_f64;
    let mut products: BTreeMap<usize, u64> = BTreeMap::new();
    let mut committed = Instant::now();
    while count < expected {
        // Also nothing when it has served a rebalance.
        let Some(message) = consumer.poll(POLL_TIMEOUT).transpose()? else { continue };
        let value = message.payload().context("an order has no value")?;
        ensure!(value.first() == Some(&0), "an order is not in Confluent's wire format");
        let mut datum = value.get(WIRE_HEADER_BYTES..).context("an order is too short")?;
        let order: Order = reader.read_deser(&mut datum)?;
        sum += f64::from(order.price);
        *products.entry(order.product.len()).or_default() += 1;
        count += 1;
        if committed.elapsed() >= COMMIT_INTERVAL {
            consumer.commit_consumer_state(CommitMode::Async)?;
            committed = Instant::now();
        }
    }
    consumer.commit_consumer_state(CommitMode::Sync)?;
    let seconds = ASSIGNED.get().context("nothing was assigned")?.elapsed().as_secs_f64();
    println!("{{\"orders\": {count}, \"sum\": {sum}, \"seconds\": {seconds:.3}}}");
    Ok(())
}
