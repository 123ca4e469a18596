//! An outage of the broker, shared by the senders of all partitions.

use std::time::Duration;

use kafka_client::producer::Failures;
use service_runtime::{Check, Waiting};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

/// How often an outage that does not change is looked at, for the log.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Shows why batches wait in the log and in the readiness, until the sender of `failures` is gone.
pub(crate) async fn follow(mut failures: watch::Receiver<Failures>, check: Check) {
    let mut waiting: Option<Waiting> = None;
    loop {
        let cause = {
            let failures = failures.borrow_and_update();
            failures.first_key_value().map(|(target, failure)| format!("{target}: {failure}"))
        };
        match cause {
            Some(cause) => {
                debug!("batches wait: {cause}");
                waiting.get_or_insert_with(|| Waiting::new("Kafka", &check)).goes_on(cause);
            }
            None => {
                if let Some(waiting) = waiting.take() {
                    check.ready();
                    waiting.over();
                }
            }
        }
        if let Ok(Err(_ended)) = timeout(LOOK_INTERVAL, failures.changed()).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_core::TopicPartition;
    use service_runtime::Health;
    use tokio::task::JoinSet;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn readiness_shows_the_outage_until_an_acknowledgement() {
        let (told, failures) = watch::channel(Failures::new());
        let health = Health::default();
        let check = health.check("kafka");
        check.ready();
        let mut following = JoinSet::new();
        following.spawn(follow(failures, check));

        let target = TopicPartition::new("orders", 0);
        told.send(Failures::from([(target, "connection refused".to_owned())])).unwrap();
        sleep(Duration::from_millis(1)).await;
        let waiting = health.report()["kafka"].clone();
        told.send(Failures::new()).unwrap();
        sleep(Duration::from_millis(1)).await;

        assert_eq!(waiting.as_deref(), Some("waiting for Kafka: orders-0: connection refused"));
        assert_eq!(health.report()["kafka"], None);
    }
}
