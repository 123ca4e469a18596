//! Measures the time of decoding and encoding an order: `cargo run --release -p order-avro --example codec_speed`.
#![expect(clippy::print_stdout, reason = "the numbers are the program's output")]
#![expect(clippy::disallowed_methods, reason = "measuring needs a clock")]

use std::{
    error::Error,
    hint::black_box,
    time::{Duration, Instant},
};

use order_avro::{
    Order, WriterSchema, decode_container, encode_bare, encode_confluent, encode_container,
};

const ROUNDS: u32 = 5;
const ORDERS_PER_ROUND: u32 = 1_000_000;

/// Another name and sequence of the fields, so that decoding needs schema resolution.
const FOREIGN_SCHEMA: &str = r#"{"type": "record", "name": "Sale", "fields": [
    {"name": "orderId", "type": "string"}, {"name": "product", "type": "string"},
    {"name": "price", "type": ["null", "float"]}]}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let order = Order {
        order_id: "9f1c2b7e-1111-4222-8333-0123456789ab".into(),
        product: "Wireless Keyboard".into(),
        price: 129.95,
    };
    let mut datum = Vec::new();
    encode_bare(&order, &mut datum);
    let mut foreign_datum = datum.clone();
    foreign_datum.splice(datum.len() - 4..datum.len() - 4, [2]);
    let foreign = WriterSchema::parse(FOREIGN_SCHEMA)?;
    let file = encode_container(&order);
    foreign.decode(&foreign_datum)?;

    measure("decode, writer's schema equal", 1, || WriterSchema::own().decode(black_box(&datum)));
    measure("decode, writer's schema resolved", 1, || foreign.decode(black_box(&foreign_datum)));
    measure("decode, object container file", 10, || decode_container(black_box(&file), 1 << 20));
    let mut value = Vec::new();
    measure("encode, Confluent's wire format", 1, || {
        value.clear();
        encode_confluent(1, black_box(&order), &mut value);
        value.len()
    });
    Ok(())
}

/// Prints the best of some rounds, each a share of the usual number of orders.
fn measure<T>(what: &str, share: u32, mut work: impl FnMut() -> T) {
    let orders = ORDERS_PER_ROUND / share;
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..orders {
            black_box(work());
        }
        best = best.min(start.elapsed());
    }
    println!("{what:<35} {:>7.1} ns", best.as_secs_f64() * 1e9 / f64::from(orders));
}
