//! OpenTelemetry's metrics of messaging, as far as both services have them.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::durations::Durations;
use super::service_metrics::Metrics;

/// What the clients of a service do; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Messaging {
    /// How long requests take.
    pub operations: Family<MessagingLabels, Durations>,
    /// Records sent to a broker, with or without success.
    pub sent: Family<MessagingLabels, Counter>,
}

impl Messaging {
    /// Returns the families of a service that has done nothing yet, among its metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let messaging = Self::default();
        metrics.register(|registry| {
            registry.register(
                "messaging_client_operation_duration_seconds",
                "How long requests to the broker took: send, poll (with the time the broker waits for news), commit",
                messaging.operations.clone(),
            );
            registry.register(
                "messaging_client_sent_messages",
                "Records that were handed to the broker; with an error_type those that it did not acknowledge",
                messaging.sent.clone(),
            );
        });
        messaging
    }
}

/// The labels of one of these metrics. None of them is taken from a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MessagingLabels(Vec<(&'static str, Cow<'static, str>)>);

impl MessagingLabels {
    /// Returns the labels of an operation: send, poll, process, commit.
    pub fn of(operation: &'static str) -> Self {
        Self(vec![
            ("messaging_system", Cow::Borrowed("kafka")),
            ("messaging_operation_name", Cow::Borrowed(operation)),
        ])
    }

    /// Adds the topic.
    #[must_use]
    pub fn destination(self, topic: &str) -> Self {
        self.with("messaging_destination_name", topic.to_owned())
    }

    /// Adds the consumer group.
    #[must_use]
    pub fn group(self, group_id: &str) -> Self {
        self.with("messaging_consumer_group_name", group_id.to_owned())
    }

    /// Adds the partition.
    #[must_use]
    pub fn partition(self, partition: i32) -> Self {
        self.with("messaging_destination_partition_id", partition.to_string())
    }

    /// Adds how it failed, if it did.
    #[must_use]
    pub fn error(self, error_type: Option<&'static str>) -> Self {
        match error_type {
            Some(error_type) => self.with("error_type", error_type),
            None => self,
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.0.push((name, value.into()));
        self
    }
}

impl EncodeLabelSet for MessagingLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            (*name, value.as_ref()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn labels_are_escaped_and_an_error_is_one_only_on_failure() {
        let metrics = Metrics::default();
        let messaging = Messaging::new(&metrics);
        let labels = || MessagingLabels::of("send").destination("a\"b\\c\nd").partition(3);
        messaging.sent.get_or_create(&labels().error(None)).inc_by(7);
        messaging.sent.get_or_create(&labels().error(Some("refused"))).inc();
        let poll = MessagingLabels::of("poll").group("g");
        messaging.operations.get_or_create(&poll).observe(Duration::from_secs(1));

        let text = metrics.encode().unwrap();

        let shared = r#"{messaging_system="kafka",messaging_operation_name="send",messaging_destination_name="a\"b\\c\nd",messaging_destination_partition_id="3""#;
        for end in ["} 7\n", ",error_type=\"refused\"} 1\n"] {
            let line = format!("messaging_client_sent_messages_total{shared}{end}");
            assert!(text.contains(&line), "{line}: {text}");
        }
        let line = r#"messaging_client_operation_duration_seconds_count{messaging_system="kafka",messaging_operation_name="poll",messaging_consumer_group_name="g"} 1"#;
        assert!(text.contains(line), "{text}");
    }
}
