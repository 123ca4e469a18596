//! A processor with its own handler, which misbehaves for some order ids.

use std::process::ExitCode;
use std::time::Duration;

use order_avro::Order;
use order_processor::handler::{Attempt, Handler, Outcome};
use order_processor::service;

struct Odd;

impl Handler for Odd {
    async fn handle(&self, order: &Order, attempt: Attempt<'_>) -> Outcome {
        match order.order_id.as_str() {
            #[expect(clippy::panic, reason = "behaving badly is what it is for")]
            "panics" => panic!("this order makes the handler panic"),
            "hangs-once" if attempt.number == 1 => std::future::pending().await,
            "blocks" => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
            _ => Outcome::Done,
        }
    }
}

fn main() -> ExitCode {
    service_runtime::run("odd-handler", |settings, context| {
        service::run_with(Odd, settings, context)
    })
}
