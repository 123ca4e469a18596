//! A scrape without a broker: what is shown, and what is not any more.

use std::collections::BTreeSet;

use order_ledger::aggregate::Aggregate;
use service_runtime::Metrics;

use super::*;

const NAME: &str = "a \"group\"\nof\\all";

/// What is scraped, without the workers.
#[derive(Debug)]
struct Bench {
    metrics: Metrics,
    instruments: Arc<Instruments>,
    reporter: Arc<Reporter>,
}

#[derive(Debug)]
struct Parts(Arc<Instruments>, Arc<Reporter>);

impl Collector for Parts {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families::new(encoder);
        let statuses = self.0.statuses();
        group(&mut families, &self.0, &statuses)?;
        partitions(&mut families, &self.0, &statuses)?;
        totals(&mut families, &self.1)
    }
}

impl Bench {
    fn new() -> Self {
        let metrics = Metrics::default();
        let instruments = Instruments::new(&metrics, NAME);
        let reporter = Arc::new(Reporter::new());
        let parts = Parts(Arc::clone(&instruments), Arc::clone(&reporter));
        metrics.register(|registry| registry.register_collector(Box::new(parts)));
        Self { metrics, instruments, reporter }
    }

    fn scrape(&self) -> String {
        self.metrics.encode().unwrap()
    }

    /// Works on a partition that holds so many orders, from the first that is not in `aggregate` on.
    fn work(&self, tp: &TopicPartition, aggregate: &mut Aggregate, orders: u64) {
        self.reporter.take_over(tp, aggregate);
        let status = self.instruments.take_over(tp, PartitionStatus::default());
        for _ in 0..orders {
            aggregate.add_order(1, 2.5);
            aggregate.add_dead_letter();
        }
        status.lock().delivered += 2 * orders;
        self.reporter.update(tp, aggregate);
    }

    fn give_up(&self, tp: &TopicPartition) {
        self.reporter.give_up(tp);
        self.instruments.give_up(tp);
    }
}

/// Returns the value of the only sample whose line contains all of these.
fn sample(text: &str, parts: &[&str]) -> Option<f64> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let line = lines.find(|line| parts.iter().all(|part| line.contains(part)))?;
    assert!(!lines.any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?}: {text}");
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn the_series_of_a_partition_go_with_it() {
    let bench = Bench::new();
    let [first, second] = [0, 1].map(|partition| TopicPartition::new("orders", partition));
    for tp in [&first, &second] {
        bench.work(tp, &mut Aggregate::default(), 1);
        bench.instruments.committed(tp, 1);
    }
    let of_second = |text: &str| {
        let lines = text
            .lines()
            .filter(|line| line.contains("partition=\"1\"") || line.contains("partition_id=\"1\""));
        lines.count()
    };
    let before = bench.scrape();
    assert_eq!(of_second(&before), 13, "{before}");

    bench.give_up(&second);

    let after = bench.scrape();
    assert_eq!(of_second(&after), 0, "{after}");
    assert_eq!(after.lines().count(), before.lines().count() - 13);
    bench.instruments.committed(&second, 5);
    assert_eq!(of_second(&bench.scrape()), 0, "a late answer does not bring them back");
}

#[test]
fn no_counter_goes_back_when_partitions_come_and_go() {
    let bench = Bench::new();
    let tp = TopicPartition::new("orders", 0);
    let mut aggregate = Aggregate::default();
    let counters = |text: &str| {
        ["processed", "dead_lettered"].map(|outcome| {
            sample(text, &["orders_records_total", &format!("outcome=\"{outcome}\"")])
                .unwrap()
                .to_string()
        })
    };
    bench.work(&tp, &mut aggregate, 3);
    assert_eq!(counters(&bench.scrape()), ["3", "3"]);

    bench.give_up(&tp);
    assert_eq!(counters(&bench.scrape()), ["3", "3"]);
    // Somebody else works on it meanwhile, which is none of this process's work.
    aggregate.add_order(1, 2.5);
    bench.work(&tp, &mut aggregate, 2);
    let text = bench.scrape();
    assert_eq!(counters(&text), ["5", "5"]);
    assert_eq!(sample(&text, &["messaging_client_consumed_messages_total"]), Some(10.0));
    assert_eq!(sample(&text, &["orders_price_count"]), Some(6.0));
}

#[test]
fn every_family_is_there_once_and_labels_are_escaped() {
    let bench = Bench::new();
    bench.work(&TopicPartition::new("orders", 0), &mut Aggregate::default(), 1);
    bench.instruments.dead_letter(dead_letter::ErrorType::Tombstone);
    let text = bench.scrape();
    let families: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let names: BTreeSet<_> = families.iter().map(|family| family.split(' ').next()).collect();
    assert_eq!(names.len(), families.len(), "{families:#?}");
    let escaped = r#"consumergroup="a \"group\"\nof\\all""#;
    assert_eq!(sample(&text, &["kafka_consumergroup_lag{", escaped]), Some(0.0), "{text}");
    let letters = ["orders_dlq_records_total", "error_type=\"tombstone\""];
    assert_eq!(sample(&text, &letters), Some(1.0));
    let others = ["orders_dlq_records_total", "error_type=\"oversize\""];
    assert_eq!(sample(&text, &others), Some(0.0), "they are there before they count");
}

#[test]
fn a_partition_is_paused_by_letters_only_if_it_has_some_and_they_cannot_be_written() {
    let bench = Bench::new();
    bench.instruments.dlq_partitions(2);
    let statuses = [0, 1, 2].map(|partition| {
        let tp = TopicPartition::new("orders", partition);
        bench
            .instruments
            .take_over(&tp, PartitionStatus { letters: 1, ..PartitionStatus::default() })
    });
    statuses[0].lock().letters = 0;
    let target = TopicPartition::new("orders-dlq", 0);
    let cause = "nobody is there".to_owned();
    let error = kafka_client::producer::ProduceError::NotSent { target: target.clone(), cause };
    let took = std::time::Duration::from_millis(3);
    let paused = |text: &str| {
        [0, 1, 2].map(|partition| {
            let partition = format!("partition=\"{partition}\"");
            sample(text, &["orders_partition_paused", &partition, "reason=\"dlq\""])
        })
    };

    bench.instruments.wrote(&target, 1, took, Some(&error));
    let text = bench.scrape();
    assert_eq!(paused(&text), [Some(0.0), Some(0.0), Some(1.0)], "{text}");
    assert_eq!(sample(&text, &["orders_dlq_publish_failures_total"]), Some(1.0));
    let sent = ["messaging_client_sent_messages_total", "error_type=\"not_sent\""];
    assert_eq!(sample(&text, &sent), Some(1.0));

    bench.instruments.wrote(&target, 1, took, None);
    assert_eq!(paused(&bench.scrape()), [Some(0.0); 3]);
}

#[test]
fn a_commit_fails_once_for_each_kind_of_error_and_is_fenced_only_by_the_group() {
    use kafka_protocol::ResponseError::{IllegalGeneration, RebalanceInProgress};
    let bench = Bench::new();
    let took = std::time::Duration::from_millis(3);
    let failures = ["commit_failures_total", "error_type=\"rebalance_in_progress\""];
    assert_eq!(sample(&bench.scrape(), &failures), Some(0.0), "its first increase would not show");
    bench.instruments.commit(took, false, &[RebalanceInProgress, RebalanceInProgress]);
    assert_eq!(sample(&bench.scrape(), &["kafka_consumer_fenced_commits_total"]), Some(0.0));
    bench.instruments.commit(took, false, &[IllegalGeneration]);
    bench.instruments.commit(took, true, &[]);
    bench.instruments.commit(took, false, &[]);
    let text = bench.scrape();
    assert_eq!(sample(&text, &["kafka_consumer_fenced_commits_total"]), Some(1.0));
    for error in ["rebalance_in_progress", "illegal_generation", "unreachable"] {
        let label = format!("error_type=\"{error}\"");
        assert_eq!(sample(&text, &["commit_failures_total", &label]), Some(1.0), "{text}");
        let timed = sample(&text, &["operation_duration_seconds_count", "\"commit\"", &label]);
        assert_eq!(timed, Some(1.0));
    }
}
